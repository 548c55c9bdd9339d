package spool

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	bolt "go.etcd.io/bbolt"
)

// Cursor is a place in a list, as text that can be handed on. Empty is the beginning.
type Cursor string

// Cursor is the place in a list behind a record.
func (p Position) Cursor() Cursor { return Cursor(fmt.Sprintf("%s/%d", p.owner, p.seq)) }

func (c Cursor) parse() (owner string, seq uint64, err error) {
	if c == "" {
		return "", 0, nil
	}
	owner, number, _ := strings.Cut(string(c), "/")
	if seq, err = strconv.ParseUint(number, 10, 64); err != nil {
		return "", 0, fmt.Errorf("spool: %q is no cursor", string(c))
	}
	return owner, seq, nil
}

// List returns pending records, by owner and then in order: at most count of those
// behind the cursor and, but for the last, 8 MiB, and the cursor for the next call. An empty cursor begins; an empty
// one is returned at the end. Records settled between two calls are not in the list;
// all others come once. What it returns are copies that belong to the caller.
func (s *Spool) List(after Cursor, count int) (entries []Entry, next Cursor, err error) {
	return page(s, after, count, (*segment).list, func(e Entry) Position { return e.Position })
}

// Find returns the pending records and the dead letters with an ID, oldest first. It
// reads the whole spool, in small steps: replay and Append go on.
func (s *Spool) Find(id string) (pending []Entry, dead []DeadLetter, err error) {
	pending, err = filter(s.List, func(e Entry) bool { return e.ID == id })
	if err != nil {
		return nil, nil, err
	}
	dead, err = filter(s.DeadLetters, func(d DeadLetter) bool { return d.ID == id })
	return pending, dead, err
}

// pageRecords is how many records Find and Backup take at a time: no read transaction
// is open for long, which would make a commit wait that needs a larger memory map.
const pageRecords = 1000

// pageBytes is from how many bytes on a page of a list takes no more.
const pageBytes = 8 << 20

// filter returns those items of a whole list that fn picks.
func filter[T any](list func(Cursor, int) ([]T, Cursor, error), pick func(T) bool) (picked []T, err error) {
	for at := Cursor(""); ; {
		items, next, err := list(at, pageRecords)
		if err != nil {
			return nil, err
		}
		for _, item := range items {
			if pick(item) {
				picked = append(picked, item)
			}
		}
		if at = next; at == "" {
			return picked, nil
		}
	}
}

// page returns one page of a list that goes through all owners, by name.
func page[T any](s *Spool, after Cursor, count int, read func(seg *segment, owner string, from uint64, count, size int) ([]T, error), at func(T) Position) (items []T, next Cursor, err error) {
	name, seq, err := after.parse()
	if err != nil || count <= 0 {
		return nil, after, err
	}
	size := pageBytes
	items, err = exclusively(s, func() (items []T, err error) {
		owners := s.owners()
		slices.SortFunc(owners, func(a, b *owner) int { return cmp.Compare(a.name, b.name) })
		for _, o := range owners {
			from := uint64(0)
			if o.name == name {
				from = seq + 1
			}
			for _, seg := range s.segments(o) {
				if o.name < name || len(items) == count || size <= 0 || seg.state.Load().Next <= from {
					continue
				}
				more, err := mending(s, o, seg, func() ([]T, error) { return read(seg, o.name, from, count-len(items), size) })
				s.closeIdle(seg)
				if err != nil {
					return nil, err
				}
				for _, item := range more {
					size -= at(item).size
				}
				items = append(items, more...)
			}
		}
		return items, nil
	})
	if err == nil && (len(items) == count || size <= 0) {
		next = at(items[len(items)-1]).Cursor()
	}
	return items, next, err
}

// list returns copies of at most count pending records from a sequence number on, up to the
// one with which they have a size.
func (s *segment) list(owner string, from uint64, count, size int) (entries []Entry, err error) {
	st := s.state.Load() // before the transaction: that may know more, never less
	err = s.view(func(tx *bolt.Tx) error {
		t, size := newTaker(s, owner, tx, count, math.MaxInt), size
		err := s.walk(tx, st, from, func(k, v []byte, attempts int) (more bool, err error) {
			size -= len(v)
			more, err = t.take(k, v, attempts)
			return more && size > 0, err
		})
		entries = t.entries
		return err
	})
	return entries, err
}
