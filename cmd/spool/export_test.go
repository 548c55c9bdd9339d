package main

import (
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
)

// TestExportLeavesOutWhatCannotBeSaid exports a job with a deadline in a year of five digits,
// which JSON's times cannot have.
func TestExportLeavesOutWhatCannotBeSaid(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := spooled(t, dir, "127.0.0.1:1", 1)
	for _, at := range []int64{1 << 40, -1 << 40} {
		if _, err := p.Enqueue(asynq.NewTask("far", nil), asynq.Deadline(time.Unix(at, 0))); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // living, then dead
		code, stdout, stderr := spoolCommand(t.Context(), "export", "--dir", dir)
		if code != exitLeft || strings.Count(stdout, "\n") != 1 || !strings.Contains(stderr, "deadline is in the year 36812") ||
			!strings.Contains(stderr, "left out: 2 jobs that this version cannot read") {
			t.Errorf("%d\n%s%s", code, stdout, stderr)
		}
		closeProducer(t, p)
	}
}
