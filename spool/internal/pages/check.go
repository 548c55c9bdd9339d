package pages

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Check returns why bbolt must not open the file, or nil. It reads the meta pages
// and the freelist only, which bbolt takes at their word:
//
//   - a meta page cannot be read, or neither is valid;
//   - the file is shorter than it should be: touching what is missing is a fault;
//   - the root or the freelist is not in the file;
//   - the freelist is none, or names pages that cannot be free: bbolt would hand
//     them out.
//
// It does not look at the trees; Walk does.
func (f *File) Check() error {
	for i, m := range f.metas {
		var unread *readError
		if errors.As(m.err, &unread) {
			return damaged(pageName(uint64(i)), m.err)
		}
	}
	m, err := f.newest()
	if err != nil {
		return err
	}
	if whole := uint64(f.size / f.pageSize); whole < m.Pages {
		return fmt.Errorf("%w: %d pages of %d are there", ErrDamaged, whole, m.Pages)
	}
	if m.Root < 2 || m.Root >= m.Pages {
		return fmt.Errorf("%w: root at page %d of %d", ErrDamaged, m.Root, m.Pages)
	}
	if m.Freelist == noFreelist {
		return nil
	}
	if err := f.checkFreelist(m); err != nil {
		return damaged(fmt.Sprintf("freelist at page %d of %d", m.Freelist, m.Pages), err)
	}
	return nil
}

// Stale returns an error if a meta page is not valid. bbolt would go by the other one
// without a word, and so may Walk: the last commit would be as if it had never been.
func (f *File) Stale() error {
	for i, m := range f.metas {
		if m.err != nil {
			return damaged(pageName(uint64(i)), m.err)
		}
	}
	return nil
}

func (f *File) checkFreelist(m meta) error {
	if m.Freelist < 2 || m.Freelist >= m.Pages {
		return errors.New("not in the file")
	}
	p, err := f.readPage(m.Freelist, make([]byte, f.pageSize))
	if err != nil {
		return err
	}
	switch {
	case p.id != m.Freelist:
		return fmt.Errorf("says it is page %d", p.id)
	case p.flags != flagFreelist:
		return fmt.Errorf("flags %#x", p.flags)
	case uint64(p.overflow) >= m.Pages-m.Freelist:
		return fmt.Errorf("%d pages more", p.overflow)
	}
	ids, err := f.freelistIDs(p, m.Pages)
	if err != nil {
		return err
	}
	return checkFree(ids, p, m)
}

// freelistIDs returns the page numbers in the freelist. A count that its field cannot
// hold stands in place of the first.
func (f *File) freelistIDs(p page, pages uint64) ([]uint64, error) {
	start, count := uint64(headerSize), uint64(p.count)
	if p.count == maxCount {
		start, count = start+8, binary.NativeEndian.Uint64(p.data[headerSize:])
	}
	space := (1 + uint64(p.overflow)) * uint64(f.pageSize)
	if count > pages || start+8*count > space {
		return nil, fmt.Errorf("%d numbers", count)
	}
	b := make([]byte, 8*count)
	if err := f.readAt(b, p.at+int64(start)); err != nil {
		return nil, err
	}
	ids := make([]uint64, count)
	for i := range ids {
		ids[i] = binary.NativeEndian.Uint64(b[8*i:])
	}
	return ids, nil
}

func checkFree(ids []uint64, list page, m meta) error {
	seen := set{}
	for _, id := range ids {
		switch {
		case id < 2 || id >= m.Pages:
			return fmt.Errorf("names page %d", id)
		case id == m.Root || id >= list.id && id <= list.id+uint64(list.overflow):
			return fmt.Errorf("names page %d, which is in use", id)
		case !seen.add(id):
			return fmt.Errorf("names page %d twice", id)
		}
	}
	return nil
}

// set is a set of page numbers, 64 to a word.
type set map[uint64]uint64

// add reports whether n is new.
func (s set) add(n uint64) bool {
	word, bit := n/64, uint64(1)<<(n%64)
	if s[word]&bit != 0 {
		return false
	}
	s[word] |= bit
	return true
}
