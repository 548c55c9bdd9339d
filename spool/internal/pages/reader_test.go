package pages_test

import (
	"errors"
	"slices"
	"syscall"
	"testing"

	"github.com/jobspool/jobspool/spool/internal/pages"
)

func TestUnreadablePages(t *testing.T) {
	s := newSample(t, 1<<10, 500)
	first, big := s.leafOf(3), s.leafOf(bigSeq)
	for _, tc := range []struct {
		name       string
		bad        []int
		walk, scan []pair // lost
		check      bool
	}{
		{name: "both metas", bad: []int{0, 1}, walk: s.pairs, check: true}, // pages of 1 KiB, see below
		{name: "meta 0", bad: []int{0}, check: true},
		{name: "meta 1", bad: []int{1}, check: true},
		{name: "freelist", bad: s.of("freelist"), check: true},
		{name: "a leaf", bad: []int{first}, walk: s.in(first), scan: s.in(first)},
		{name: "overflow", bad: []int{big + 2}, walk: s.pairs[inlinePairs+bigSeq:][:1], scan: s.pairs[inlinePairs+bigSeq:][:1]},
		{name: "all branches", bad: s.of("branch"), walk: s.pairs[inlinePairs:]},
		{name: "root", bad: []int{s.root}, walk: s.pairs, scan: s.pairs[:inlinePairs]},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := pages.Open(&faulty{b: s.b, pageSize: s.pageSize, bad: tc.bad}, int64(len(s.b)))
			err := f.Check()
			if (err != nil) != tc.check || err != nil && !errors.Is(err, syscall.EIO) {
				t.Errorf("Check: %v", err)
			}
			got, errs := walk(f, buckets()...)
			if lost := s.lost(found(got)); !slices.Equal(lost, tc.walk) {
				t.Errorf("Walk lost %d pairs, want %d", len(lost), len(tc.walk))
			}
			if len(errs) == 0 && f.Stale() == nil && tc.name != "freelist" {
				t.Error("neither Walk nor Stale reports an error")
			}
			allDamaged(t, append(errs, err)...)
			if tc.name == "both metas" {
				return // the page size is lost, too
			}
			all, errs := scan(f)
			if lost := s.lost(all); !slices.Equal(lost, tc.scan) {
				t.Errorf("Scan lost %d pairs, want %d", len(lost), len(tc.scan))
			}
			if len(errs) != len(tc.bad) || !errors.Is(errs[0], syscall.EIO) {
				t.Errorf("Scan reports %v", errs)
			}
		})
	}
}
