package queue

import (
	"math/bits"

	"github.com/jobspool/jobspool/spool"
)

// bitset says which jobs of a blob need no guarding any more.
type bitset struct{ words []uint64 }

func (s *bitset) set(i int) {
	for len(s.words) <= i/64 {
		s.words = append(s.words, 0)
	}
	s.words[i/64] |= 1 << (i % 64)
}

// has is false of all for nil.
func (s *bitset) has(i int) bool {
	return s != nil && i/64 < len(s.words) && s.words[i/64]&(1<<(i%64)) != 0
}

func (s *bitset) count() (n int) {
	if s == nil {
		return 0
	}
	for _, w := range s.words {
		n += bits.OnesCount64(w)
	}
	return n
}

// noteDone notes that a job of a blob needs no guarding any more.
func (g *lossGuard) noteDone(blob spool.Position, index int) {
	s := g.done[blob]
	if s == nil {
		s = &bitset{}
		g.done[blob] = s
	}
	if !s.has(index) {
		s.set(index)
		g.finished.Add(1)
	}
}

// forget drops what is known of a blob that is let go of.
func (g *lossGuard) forget(blob spool.Position) {
	g.finished.Add(-int64(g.done[blob].count()))
	delete(g.done, blob)
	delete(g.lost, blob)
}
