package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// progress shows how far a drain is: a bar on a terminal, elsewhere a line now and
// then.
type progress struct {
	end, ended chan struct{}
}

// progressNow is how far something is.
type progressNow struct {
	phase       string
	done, total int64 // jobs
}

// startProgress begins to show on w what now tells.
func startProgress(w io.Writer, now func() progressNow) progress {
	p := progress{end: make(chan struct{}), ended: make(chan struct{})}
	show, every := lines(w), time.Second
	if terminal(w) != nil {
		show, every = bar(w), 200*time.Millisecond
	}
	go func() {
		defer close(p.ended)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				show(now(), false)
			case <-p.end:
				show(now(), true)
				return
			}
		}
	}()
	return p
}

// stop shows the last state and waits until that is done.
func (p progress) stop() {
	close(p.end)
	<-p.ended
}

// terminal returns w if it is a terminal, else nil.
func terminal(w io.Writer) *os.File {
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return f
	}
	return nil
}

// bar shows a progress bar.
func bar(w io.Writer) func(progressNow, bool) {
	b := progressbar.NewOptions(1, progressbar.OptionSetWriter(w), progressbar.OptionShowCount(), progressbar.OptionShowIts(),
		progressbar.OptionSetItsString("jobs"), progressbar.OptionSetPredictTime(true), progressbar.OptionFullWidth(),
		progressbar.OptionSetDescription("draining"))
	return func(p progressNow, last bool) {
		b.Describe(p.phase)
		if p.total > 0 {
			b.ChangeMax64(p.total)
			_ = b.Set64(p.done) // nobody is left to tell
		}
		if last {
			_ = b.Exit()
			fmt.Fprintln(w)
		}
	}
}

func lines(w io.Writer) func(progressNow, bool) {
	return func(p progressNow, _ bool) {
		fmt.Fprintf(w, "%s: %s of %s\n", p.phase, count(p.done), plural(int(p.total), "job"))
	}
}
