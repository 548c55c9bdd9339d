package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/jobspool/jobspool/queue"
)

// filterFlags are the flags that pick jobs. All that are given must be true of a job.
type filterFlags struct {
	queue     string
	typename  string
	reason    string // of dead letters
	olderThan time.Duration
	inDoubt   bool
}

// addFlags adds them, for dead letters with one more.
func (f *filterFlags) addFlags(cmd *cobra.Command, dead bool) {
	f.addKeptFlags(cmd)
	fs := cmd.Flags()
	fs.BoolVar(&f.inDoubt, "in-doubt", false, "only jobs that Redis may have, since an attempt got no reply")
	if dead {
		fs.StringVar(&f.reason, "reason", "", "only dead letters whose reason begins with this `text`")
	}
}

// addKeptFlags adds those that make sense also for jobs that Redis has acknowledged.
func (f *filterFlags) addKeptFlags(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVar(&f.queue, "queue", "", "only jobs of this `queue`")
	fs.StringVar(&f.typename, "type", "", "only jobs of this `type`")
	fs.DurationVar(&f.olderThan, "older-than", 0, "only jobs that were enqueued longer ago than this `duration`, for example 36h")
}

// check complains about what makes no sense.
func (f *filterFlags) check() error {
	if f.olderThan < 0 {
		return usageError{"--older-than must not be negative"}
	}
	return nil
}

// given reports whether there is any.
func (f *filterFlags) given() bool { return *f != filterFlags{} }

// filter returns what picks those jobs, of the ids if there are any.
func (f *filterFlags) filter(ids []string, dead bool) queue.Filter {
	return queue.Filter{
		IDs: ids, Queue: f.queue, Type: f.typename, OlderThan: f.olderThan, InDoubt: f.inDoubt, Dead: dead, Reason: f.reason,
	}
}
