package pages

import (
	"bytes"
	"errors"
	"fmt"
)

// layout goes through the elements of a page in a tree, and compares the page with
// what bbolt writes: no gap between anything, keys in order, no overflow page too many.
type layout struct {
	*walker
	page   page
	bounds bounds
	end    uint64 // of the element before
	err    error  // the first thing wrong
}

func (w *walker) layout(p page, b bounds) layout {
	w.last = w.last[:0]
	return layout{walker: w, page: p, bounds: b, end: headerSize + uint64(p.count)*elementSize}
}

// next returns element i with its pair, or why the pair cannot be had.
func (l *layout) next(i int) (e element, key, value []byte, err error) {
	e, ok := l.page.element(i)
	if !ok {
		l.note(i, errOutside)
		return e, nil, nil, errOutside
	}
	if key, value, err = l.pair(l.page, i, e); err == nil {
		l.note(i, l.compare(e, key, value))
		l.last = append(l.last[:0], key...)
	}
	l.note(i, err)
	l.end = e.end
	return e, key, value, err
}

func (l *layout) compare(e element, key, value []byte) error {
	low, high := l.bounds.low, l.bounds.high
	switch {
	case e.start != l.end:
		return errors.New("does not follow the one before")
	case len(l.last) > 0 && bytes.Compare(l.last, key) >= 0,
		low != nil && bytes.Compare(low, key) > 0,
		high != nil && bytes.Compare(high, key) <= 0:
		return errors.New("key out of order")
	case e.flags > flagBucket:
		return fmt.Errorf("flags %#x", e.flags)
	case e.flags == flagBucket:
		if _, ok := l.f.parseBucket(value); !ok {
			return errors.New("is no bucket")
		}
	}
	return nil
}

func (l *layout) note(i int, err error) {
	if err != nil && l.err == nil {
		l.err = fmt.Errorf("element %d: %w", i, err)
	}
}

// wrong returns the first thing wrong, after the last element. Overflow pages that are
// not needed do no harm to who reads, but bbolt frees them together with the page.
func (l *layout) wrong() error {
	if l.err == nil && l.end < uint64(l.page.overflow)*uint64(l.f.pageSize) {
		return fmt.Errorf("needs less than %d pages more", l.page.overflow)
	}
	return l.err
}
