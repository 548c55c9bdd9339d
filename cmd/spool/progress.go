package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/jobspool/jobspool/queue"
)

// progress shows how far a drain is: a bar on a terminal, elsewhere a line now and
// then.
type progress struct {
	end, ended chan struct{}
}

// startProgress begins to show on w what stats tells.
func startProgress(w io.Writer, stats func() queue.Stats) progress {
	p := progress{end: make(chan struct{}), ended: make(chan struct{})}
	show, every := lines(w), time.Second
	if terminal(w) != nil {
		show, every = bar(w), 100*time.Millisecond
	}
	go func() {
		defer close(p.ended)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				show(stats(), false)
			case <-p.end:
				show(stats(), true)
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

// bar shows a progress bar over the adopted jobs.
func bar(w io.Writer) func(queue.Stats, bool) {
	b := progressbar.NewOptions(1, progressbar.OptionSetWriter(w), progressbar.OptionShowCount(), progressbar.OptionShowIts(),
		progressbar.OptionSetItsString("jobs"), progressbar.OptionSetPredictTime(true), progressbar.OptionFullWidth(),
		progressbar.OptionSetDescription("draining"))
	return func(st queue.Stats, last bool) {
		b.Describe(phase(st))
		if st.Adopted > 0 {
			b.ChangeMax64(st.Adopted)
			_ = b.Set64(st.Adopted - int64(st.Pending)) // nobody is left to tell
		}
		if last {
			_ = b.Exit()
			fmt.Fprintln(w)
		}
	}
}

func lines(w io.Writer) func(queue.Stats, bool) {
	return func(st queue.Stats, _ bool) {
		fmt.Fprintf(w, "%s: %d of %s\n", phase(st), st.Adopted-int64(st.Pending), plural(int(st.Adopted), "job"))
	}
}

func phase(st queue.Stats) string {
	switch st.State {
	case queue.StateOutage:
		return "waiting for Redis"
	case queue.StatePartial:
		return fmt.Sprintf("draining, %s waiting for Redis", plural(len(st.Queues), "queue"))
	}
	return "draining"
}
