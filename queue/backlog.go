package queue

import (
	"maps"
	"slices"

	"github.com/jobspool/jobspool/spool"
)

// backlog reads what is spooled ahead of its settling, in turns by queue: a million jobs
// of one do not hold up ten of another. Within a queue the oldest come first. Not safe for
// concurrent use.
type backlog struct {
	spool   *spool.Spool
	weights map[string]int
	readers map[string]*spool.Reader // by flow: a queue, or spool.OtherFlow
	last    string                   // the flow that had its turn last

	met map[spool.Position]bool // records that were passed over since the last rewind
}

func newBacklog(s *spool.Spool, weights map[string]int) *backlog {
	return &backlog{spool: s, weights: weights, readers: map[string]*spool.Reader{}, met: map[spool.Position]bool{}}
}

// read returns records that it has not returned since the last rewind, of queues that are
// not stopped: each queue's share of count by its weight, and what others leave of theirs.
// Their size is about the one given at most, but for the first.
func (b *backlog) read(count, size int, stopped func(queue string) bool) (entries []spool.Entry, err error) {
	for turn := b.turn(stopped); len(turn) > 0; {
		free, weights := count-len(entries), b.weightOf(turn...)
		more := turn[:0]
		for _, flow := range turn {
			share := min(max(free*b.weightOf(flow)/weights, 1), count-len(entries))
			if share == 0 || size <= 0 {
				return entries, nil
			}
			got, err := b.reader(flow).Read(share, size)
			if err != nil {
				return nil, err
			}
			for _, e := range got {
				size -= len(e.Data)
			}
			if b.last = flow; len(got) > 0 {
				more = append(more, flow)
			}
			if entries == nil { // with one queue, no copy
				entries = got
			} else {
				entries = append(entries, got...)
			}
		}
		turn = more
	}
	return entries, nil
}

// turn returns the flows that have records, beginning behind the one that was last.
func (b *backlog) turn(stopped func(queue string) bool) []string {
	flows := b.spool.Flows()
	maps.DeleteFunc(b.readers, func(flow string, _ *spool.Reader) bool { return flows[flow] == 0 })
	turn := slices.DeleteFunc(slices.Sorted(maps.Keys(flows)), stopped)
	next, found := slices.BinarySearch(turn, b.last)
	if found {
		next++
	}
	return slices.Concat(turn[next:], turn[:next])
}

func (b *backlog) weightOf(flows ...string) (sum int) {
	for _, flow := range flows {
		sum += max(b.weights[flow], 1)
	}
	return sum
}

func (b *backlog) reader(flow string) *spool.Reader {
	r := b.readers[flow]
	if r == nil {
		r = b.spool.Reader(flow)
		b.readers[flow] = r
	}
	return r
}

// rewind makes read return again what is not settled.
func (b *backlog) rewind() {
	clear(b.readers)
	clear(b.met)
}

// heads returns the oldest records of the first queue that is not stopped.
func (b *backlog) heads(count int, stopped func(queue string) bool) ([]spool.Entry, error) {
	for _, flow := range b.turn(stopped) {
		entries, err := b.spool.Reader(flow).Read(count, batchBytes)
		entries = slices.DeleteFunc(entries, func(e spool.Entry) bool { return stopped(queueOf(e.Class)) })
		if len(entries) > 0 || err != nil {
			return entries, err
		}
	}
	return nil, nil
}
