package spool_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/jobspool/jobspool/spool"
)

func tempDir() string {
	dir, err := os.MkdirTemp("", "spool-example-")
	if err != nil {
		log.Fatal(err)
	}
	return dir
}

func Example() {
	dir := tempDir()
	defer os.RemoveAll(dir)
	s, err := spool.Open(spool.Options{Dir: dir, Target: "redis://db1:6379/0"})
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Adopt(); err != nil { // what dead processes left
		log.Print(err)
	}

	err = s.Append(spool.Record{ID: "1", Class: "mail", At: time.Now(), Data: []byte("hello")})
	switch {
	case err == nil: // durable
	case errors.Is(err, spool.ErrMaybeStored):
		log.Print("it may be replayed all the same: ", err)
	default:
		log.Print("not stored: ", err)
	}

	entries, err := s.Read(500, 512<<10)
	if err != nil {
		log.Fatal(err)
	}
	var done []spool.Settlement
	for _, e := range entries {
		fmt.Printf("%s: %s\n", e.ID, e.Data)
		done = append(done, spool.Settlement{Position: e.Position, Outcome: spool.Delivered})
	}
	if err := s.Settle(done...); err != nil {
		log.Fatal(err)
	}
	fmt.Println(s.Stats().Pending, "pending")
	// Output:
	// 1: hello
	// 0 pending
}

func ExampleSpool_DeadLetters() {
	dir := tempDir()
	defer os.RemoveAll(dir)
	s, err := spool.Open(spool.Options{Dir: dir})
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	if err := s.Append(spool.Record{ID: "1"}, spool.Record{ID: "2"}); err != nil {
		log.Fatal(err)
	}
	entries, err := s.Read(2, 1<<20)
	if err != nil {
		log.Fatal(err)
	}
	for _, e := range entries {
		if err := s.Settle(spool.Settlement{Position: e.Position, Outcome: spool.Dead, Reason: "refused"}); err != nil {
			log.Fatal(err)
		}
	}

	for after := spool.Cursor(""); ; {
		letters, next, err := s.DeadLetters(after, 100)
		if err != nil {
			log.Fatal(err)
		}
		for _, l := range letters {
			fmt.Println(l.ID, l.Reason)
			if _, err := s.RetryDead(l.Position); err != nil { // or RemoveDead
				log.Fatal(err)
			}
		}
		if after = next; after == "" {
			break
		}
	}
	fmt.Println(s.Stats().Pending, "pending")
	// Output:
	// 1 refused
	// 2 refused
	// 2 pending
}

func ExampleSpool_Backup() {
	dir := tempDir()
	defer os.RemoveAll(dir)
	s, err := spool.Open(spool.Options{Dir: filepath.Join(dir, "spool")})
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	if err := s.Append(spool.Record{ID: "1"}); err != nil {
		log.Fatal(err)
	}
	backup := filepath.Join(dir, "backup")
	if err := s.Backup(context.Background(), backup); err != nil {
		log.Fatal(err)
	}

	reports, err := spool.Verify(backup)
	if err != nil {
		log.Fatal(err)
	}
	for _, r := range reports {
		fmt.Println(r.Pending, "pending,", len(r.Problems), "problems")
	}
	// Output: 1 pending, 0 problems
}

// Two flows are read in turn, and the next batch while the one before is not settled yet.
func ExampleSpool_Reader() {
	dir := tempDir()
	defer os.RemoveAll(dir)
	s, err := spool.Open(spool.Options{Dir: dir})
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	for i := range 3 {
		err := s.Append(
			spool.Record{ID: fmt.Sprint("large ", i), Class: "large\x00video"},
			spool.Record{ID: fmt.Sprint("small ", i), Class: "small\x00mail"},
		)
		if err != nil {
			log.Fatal(err)
		}
	}

	fmt.Println(s.Flows())
	small, large := s.Reader("small"), s.Reader("large")
	for range 2 {
		for _, r := range []*spool.Reader{small, large} {
			entries, err := r.Read(2, 1<<20)
			if err != nil {
				log.Fatal(err)
			}
			for _, e := range entries {
				fmt.Println(e.ID)
			}
		}
	}
	fmt.Println(s.Stats().Pending, "pending") // none is settled
	// Output:
	// map[large:3 small:3]
	// small 0
	// small 1
	// large 0
	// large 1
	// small 2
	// large 2
	// 6 pending
}
