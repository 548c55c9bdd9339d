package queue

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"github.com/jobspool/jobspool/spool"
)

// KindsOf returns what the classes of a spool are to people, those with the most jobs first.
func KindsOf(classes map[string]spool.ClassStats) []Kind {
	kinds := make([]Kind, 0, len(classes))
	for _, class := range slices.Sorted(maps.Keys(classes)) {
		c := classes[class]
		kinds = append(kinds, Kind{Queue: queueOf(class), Type: typeOf(class), Pending: c.Pending, Bytes: c.Bytes, Oldest: c.Oldest})
	}
	slices.SortStableFunc(kinds, func(a, b Kind) int { return cmp.Compare(b.Pending, a.Pending) })
	return kinds
}

// Add returns the sum of two kinds of the same queue and type.
func (k Kind) Add(more Kind) Kind {
	k.Pending, k.Bytes = k.Pending+more.Pending, k.Bytes+more.Bytes
	if k.Oldest.IsZero() || !more.Oldest.IsZero() && more.Oldest.Before(k.Oldest) {
		k.Oldest = more.Oldest
	}
	return k
}

// Verified is what a look at every byte of one segment found.
type Verified struct {
	Owner       string   `json:"owner"`
	Segment     string   `json:"segment"`
	Appended    int64    `json:"appended"`
	Pending     int64    `json:"pending"`
	DeadLetters int64    `json:"dead_letters"`
	Problems    []string `json:"problems"` // empty: nothing is wrong
}

// VerifiedOf returns the reports of spool.Verify as a document.
func VerifiedOf(reports []spool.SegmentReport) []Verified {
	found := make([]Verified, 0, len(reports))
	for _, r := range reports {
		v := Verified{
			Owner: r.Owner, Segment: r.Segment, Appended: r.Appended, Pending: r.Pending,
			DeadLetters: r.Settled[spool.Dead], Problems: []string{},
		}
		for _, p := range r.Problems {
			v.Problems = append(v.Problems, p.Error())
		}
		found = append(found, v)
	}
	return found
}

func (c *control) verify(ctx context.Context) ([]Verified, error) {
	reports, err := c.spool.VerifyContext(ctx)
	return VerifiedOf(reports), err
}
