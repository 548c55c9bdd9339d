package spool_test

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/jobspool/jobspool/spool"
	"github.com/jobspool/jobspool/spool/crashtest"
)

// childDir makes the test binary a child that works on the spool it names and says what
// it has been promised, until it is killed.
const childDir = "SPOOL_TEST_CHILD_DIR"

// child says, a word and an id in each line, what it was told: "stored" after an Append;
// "try" before it settles; and then what the outcome of a Settle was.
type child struct {
	s  *spool.Spool
	mu sync.Mutex
}

func runChild() {
	s, err := spool.Open(spool.Options{Dir: os.Getenv(childDir), SegmentBytes: 64 << 10})
	if err != nil {
		crashtest.Fail(err)
	}
	if _, err := s.Adopt(); err != nil {
		crashtest.Fail(err)
	}
	c := &child{s: s}
	for w := range 3 {
		go c.append(w)
	}
	for {
		c.settle()
	}
}

func (c *child) say(word string, ids ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range ids {
		fmt.Println(word, id)
	}
}

func (c *child) append(worker int) {
	for i := worker; ; i += 3 {
		r := record(i)
		r.ID = fmt.Sprintf("%d-%d", os.Getpid(), i)
		if err := c.s.Append(r); err != nil {
			crashtest.Fail(err)
		}
		c.say("stored", r.ID)
	}
}

// settle delivers most of what it reads, keeps some, makes some dead letters, and
// retries some of those.
func (c *child) settle() {
	entries, err := c.s.Read(20, 1<<20)
	if err != nil {
		crashtest.Fail(err)
	}
	batch := settlements(entries, spool.Delivered)
	ids := map[spool.Outcome][]string{}
	var all []string
	for i, e := range entries {
		switch {
		case i%7 == 3 && e.Attempts < 2:
			batch[i].Outcome = spool.Kept
		case i%7 == 5:
			batch[i].Outcome = spool.Dead
		}
		ids[batch[i].Outcome] = append(ids[batch[i].Outcome], e.ID)
		all = append(all, e.ID)
	}
	c.say("try", all...)
	if err := c.s.Settle(batch...); err != nil {
		crashtest.Fail(err)
	}
	c.say("delivered", ids[spool.Delivered]...)
	c.say("dead", ids[spool.Dead]...)
	letters, _, err := c.s.DeadLetters("", 1)
	if err != nil {
		crashtest.Fail(err)
	}
	for _, l := range letters {
		c.say("try", l.ID)
		if _, err := c.s.RetryDead(l.Position); err != nil {
			crashtest.Fail(err)
		}
	}
}

// told is what the children have said, by id.
type told struct {
	stored, tried, delivered map[string]bool
}

func (o *told) hear(lines []string) {
	for _, line := range lines {
		word, id, _ := strings.Cut(line, " ")
		switch word {
		case "stored":
			o.stored[id] = true
		case "try":
			o.tried[id] = true
		case "delivered":
			o.delivered[id] = true
		}
	}
}

// TestKilledOwnersKeepTheirWord kills one process after the other, each of which adopts
// what those before have left.
func TestKilledOwnersKeepTheirWord(t *testing.T) {
	dir := t.TempDir()
	o := told{stored: map[string]bool{}, tried: map[string]bool{}, delivered: map[string]bool{}}
	for round := range 6 {
		o.hear(crashtest.KillAfter(t, 500*(round+1), childDir+"="+dir))
		there := lookInto(t, dir)
		for id := range o.stored {
			if there[id] == 0 && !o.tried[id] {
				t.Errorf("round %d: %s is lost", round, id)
			}
		}
		for id := range o.delivered {
			if there[id] > 0 {
				t.Errorf("round %d: %s has come back", round, id)
			}
		}
		for id, n := range there {
			if n > 1 {
				t.Errorf("round %d: %s is there %d times", round, id, n)
			}
		}
		if t.Failed() {
			return
		}
	}
}

// lookInto counts what is pending and dead, by id, and leaves it there.
func lookInto(t *testing.T, dir string) map[string]int {
	t.Helper()
	reports, err := spool.Verify(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range reports {
		if len(r.Problems) > 0 {
			t.Fatalf("%+v", r)
		}
	}
	s := open(t, spool.Options{Dir: dir, AdoptOnly: true, SameTarget: func(string) bool { return true }})
	defer closeSpool(t, s)
	if _, err := s.Adopt(); err != nil {
		t.Fatal(err)
	}
	there := map[string]int{}
	for at := spool.Cursor(""); ; {
		entries, next, err := s.List(at, 1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			there[e.ID]++
		}
		if at = next; at == "" {
			break
		}
	}
	for at := spool.Cursor(""); ; {
		letters, next, err := s.DeadLetters(at, 1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range letters {
			there[l.ID]++
		}
		if at = next; at == "" {
			return there
		}
	}
}
