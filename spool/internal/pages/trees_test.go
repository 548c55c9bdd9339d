package pages_test

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/jobspool/jobspool/spool/internal/pages"
)

// TestTrees has damage that bbolt would follow to where nobody can recover.
func TestTrees(t *testing.T) {
	s := newSample(t, 1<<10, 1000)
	list, leaf := s.of("freelist")[0], s.leafOf(3)
	branch := s.parentOf(leaf)
	child := func(to int) func(*sample) {
		return func(s *sample) { binary.NativeEndian.PutUint64(s.page(branch)[16+8:], uint64(to)) }
	}
	for _, tc := range []struct {
		name string
		do   func(*sample)
		want bool
	}{
		{name: "nothing", do: func(*sample) {}},
		{name: "a leaf of the bulky bucket", do: zero(s.leafOf(500))},
		{name: "root zeroed", do: zero(s.root), want: true},
		{name: "branch zeroed", do: zero(branch), want: true},
		{name: "branch of junk", do: junk(branch), want: true},
		{name: "branch that is its own child", do: child(branch), want: true},
		{name: "branch that leads to the top", do: child(s.top), want: true},
		{name: "branch that leads to the end", do: child(1 << 40), want: true},
		{name: "two ways to one leaf", do: child(s.child(branch, 1)), want: true},
		{name: "a page in use that is free", want: true, do: func(s *sample) {
			binary.NativeEndian.PutUint64(s.page(list)[16:], uint64(leaf))
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			damaged := s.clone()
			tc.do(damaged)
			err := open(damaged.b).Trees("records")
			if (err != nil) != tc.want || err != nil && !errors.Is(err, pages.ErrDamaged) {
				t.Errorf("got %v", err)
			}
		})
	}
}
