package main

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/jobspool/jobspool/queue/redistest"
)

func TestMain(m *testing.M) {
	redis.SetLogger(silent{})
	os.Exit(m.Run())
}

// TestRun has a short outage with a real server, and looks at the picture of it.
func TestRun(t *testing.T) {
	const short = 500 * time.Millisecond
	p := plan{rate: 100, healthy: short, frozen: short, killed: 2 * short, after: 2 * short}
	runs, err := p.run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	plain, producer := runs[0], runs[1]
	if len(plain.calls) != len(producer.calls) || len(plain.calls) == 0 {
		t.Errorf("%d and %d calls", len(plain.calls), len(producer.calls))
	}
	if producer.lost != 0 || producer.failed() != 0 {
		t.Error(producer.summary())
	}
	image, err := draw(p, runs)
	if err != nil {
		t.Fatal(err)
	}
	texts := svgTexts(t, image)
	for _, want := range []string{plain.summary(), producer.summary(), "Redis is frozen", "killed", "returned nil", "1 s"} {
		if !strings.Contains(texts, want) {
			t.Errorf("no %q in the picture; it has %q", want, texts)
		}
	}
}

// TestLost tells that a job that is not in Redis is counted as lost.
func TestLost(t *testing.T) {
	opt := asynq.RedisClientOpt{Addr: redistest.Run(t, redistest.Options{}).Addr()}
	c := asynq.NewClient(opt)
	defer c.Close()
	r := &record{queue: "q"}
	for n := range 1500 { // more than a page
		r.add(call{})
		if n == 7 {
			continue
		}
		if _, err := c.Enqueue(asynq.NewTask("job", fmt.Append(nil, n)), asynq.Queue("q")); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.lookFor(opt); err != nil || r.lost != 1 {
		t.Errorf("%d lost, %v", r.lost, err)
	}
}

// TestSmall tells that a long run makes a small file.
func TestSmall(t *testing.T) {
	p := plan{rate: 200, healthy: 5 * time.Second, frozen: 12 * time.Second, killed: 8 * time.Second, after: 10 * time.Second}
	r := &record{name: "made up"}
	for at := time.Duration(0); at < p.length(); at += 5 * time.Millisecond {
		r.add(call{at: at, took: time.Duration(rand.ExpFloat64() * 1e6), failed: rand.IntN(10) == 0})
	}
	image, err := draw(p, []*record{r, r})
	if err != nil {
		t.Fatal(err)
	}
	if len(image) > 100_000 {
		t.Errorf("%d bytes", len(image))
	}
}

func TestLines(t *testing.T) {
	want := map[cell]bool{}
	var cells []cell
	for range 1000 {
		c := cell{rand.IntN(20), rand.IntN(40)}
		want[c] = true
		cells = append(cells, c)
	}
	for _, l := range lines(cells) {
		for i := range l.rows {
			c := cell{l.column, l.row + i}
			if !want[c] {
				t.Fatalf("%v is covered without a call, or twice", c)
			}
			delete(want, c)
		}
	}
	if len(want) > 0 {
		t.Errorf("not covered: %v", want)
	}
}

// svgTexts are all texts of a picture; the test fails if it is not XML.
func svgTexts(t *testing.T, image []byte) string {
	t.Helper()
	var texts strings.Builder
	d := xml.NewDecoder(strings.NewReader(string(image)))
	for {
		token, err := d.Token()
		switch {
		case errors.Is(err, io.EOF):
			return texts.String()
		case err != nil:
			t.Fatal(err)
		}
		if text, ok := token.(xml.CharData); ok {
			texts.Write(text)
		}
	}
}
