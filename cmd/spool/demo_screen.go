package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
)

// demoScreen shows the progress of a run: lines that stay, and a row of numbers,
// which on a terminal is rewritten in place. One goroutine writes, from
// startDemoScreen until close. Until then all methods are safe for concurrent use.
type demoScreen struct {
	out      io.Writer
	terminal *os.File // nil if out is none
	began    time.Time

	lines chan string
	rows  chan func() string
	stop  chan struct{}
	ended chan struct{}
}

func startDemoScreen(out io.Writer) *demoScreen {
	s := &demoScreen{
		out: out, terminal: terminal(out), began: time.Now(),
		lines: make(chan string), rows: make(chan func() string),
		stop: make(chan struct{}), ended: make(chan struct{}),
	}
	go s.run()
	return s
}

// say shows a line that stays.
func (s *demoScreen) say(line string) { s.lines <- line }

// tell is say with the time in front.
func (s *demoScreen) tell(line string) { s.say(s.clock() + "  " + line) }

// show shows what row returns, again and again.
func (s *demoScreen) show(row func() string) { s.rows <- row }

// close shows the row a last time and ends the goroutine. It is to be called once.
func (s *demoScreen) close() {
	close(s.stop)
	<-s.ended
}

// Write shows a line of a log.
func (s *demoScreen) Write(line []byte) (int, error) {
	s.tell("log: " + strings.TrimSuffix(string(line), "\n"))
	return len(line), nil
}

// logger returns a logger that writes to the screen, which has a clock of its own.
func (s *demoScreen) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(s, &slog.HandlerOptions{
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	}))
}

func (s *demoScreen) run() {
	defer close(s.ended)
	every := time.Second
	if s.terminal != nil {
		every = 200 * time.Millisecond
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	var row func() string // nil until show
	for {
		select {
		case row = <-s.rows:
		case line := <-s.lines:
			s.print(line)
		case <-tick.C:
			if row != nil {
				s.refresh(s.clock() + row())
			}
		case <-s.stop:
			if row != nil {
				s.print(s.clock() + row())
			}
			return
		}
	}
}

// refresh shows the row: in place on a terminal, else as one more line.
func (s *demoScreen) refresh(row string) {
	if s.terminal == nil {
		fmt.Fprintln(s.out, row)
		return
	}
	if width, _, err := term.GetSize(int(s.terminal.Fd())); err == nil && len(row) >= width {
		row = row[:max(width-1, 0)] // a row that wraps could not be rewritten
	}
	fmt.Fprint(s.out, "\r"+row)
}

// print shows a line that stays, in the row's place.
func (s *demoScreen) print(line string) {
	if s.terminal != nil {
		fmt.Fprint(s.out, "\r\x1b[K") // erases the row
	}
	fmt.Fprintln(s.out, line)
}

func (s *demoScreen) clock() string { return fmt.Sprintf("%5.1fs", time.Since(s.began).Seconds()) }
