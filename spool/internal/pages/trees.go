package pages

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
)

// Trees returns the first thing wrong with the pages that bbolt follows from one to the
// next, or nil. It reads all buckets, but of those named bulky the branches only.
//
// bbolt believes them, and some of what then happens nobody can recover from: a branch
// that leads back to itself overflows the stack. A bucket inside another is copied to the
// heap, where a wrong number in it makes a pointer that the garbage collector chokes on.
// And a page that is both free and in use would be overwritten by a later commit.
func (f *File) Trees(bulky ...string) error {
	m, err := f.newest()
	if err != nil {
		return err
	}
	w := &walker{reader: newReader(f), meta: m, page: make([]byte, f.pageSize), seen: set{}}
	var names []string
	var headers [][]byte
	w.tree(m.Root, bounds{}, 0, func(e element, key, value []byte) bool {
		if e.flags&flagBucket != 0 {
			names, headers = append(names, string(key)), append(headers, bytes.Clone(value))
		}
		return true
	})
	for i, name := range names {
		if b, ok := f.parseBucket(headers[i]); ok { // else the walk has said so
			w.check(name, b, slices.Contains(bulky, name))
		}
	}
	w.checkFree()
	if len(w.errs) > 0 {
		return w.errs[0]
	}
	return nil
}

func (w *walker) check(name string, b bucket, bulky bool) {
	every := func(element, []byte, []byte) bool { return true }
	switch {
	case b.inline:
		if err := w.inline(b, every); err != nil {
			w.fail(fmt.Sprintf("bucket %q", name), err)
		}
	case bulky:
		depth, err := w.depth(b.root)
		if err != nil {
			w.fail(fmt.Sprintf("bucket %q", name), err)
			return
		}
		w.branches(b.root, bounds{}, 0, depth)
	default:
		w.tree(b.root, bounds{}, 0, every)
	}
}

// depth is how far below a page its first leaf is. All leaves of a tree are at the same
// depth.
func (w *walker) depth(id uint64) (int, error) {
	for depth := range maxDepth {
		p, err := w.f.readPage(id, w.page)
		switch {
		case err != nil:
			return 0, err
		case p.flags == flagLeaf:
			return depth, nil
		}
		e, ok := p.element(0)
		if !ok || p.flags != flagBranch {
			return 0, fmt.Errorf("page %d is neither a leaf nor a branch", id)
		}
		id = e.child
	}
	return 0, errors.New("deeper than any tree")
}

// branches walks a tree down to its leaves, which it does not read.
func (w *walker) branches(id uint64, b bounds, depth, leaves int) {
	if depth == leaves {
		if id < 2 || id >= w.meta.Pages || !w.seen.add(id) {
			w.fail(pageName(id), errors.New("named in a tree twice, or not in the file"))
		}
		return
	}
	p, err := w.load(id, depth)
	var children []child
	if err == nil && p.flags != flagBranch {
		err = errors.New("a leaf where a branch should be")
	}
	if err == nil {
		children, err = w.branch(p, b)
	}
	if err != nil {
		w.fail(pageName(id), err)
	}
	for _, c := range children {
		w.branches(c.id, c.bounds, depth+1, leaves)
	}
}

// checkFree looks for free pages that a tree leads to. What else may be wrong with the
// freelist, Check tells.
func (w *walker) checkFree() {
	if w.meta.Freelist == noFreelist {
		return
	}
	p, err := w.f.readPage(w.meta.Freelist, w.page)
	var ids []uint64
	if err == nil {
		ids, err = w.f.freelistIDs(p, w.meta.Pages)
	}
	for _, id := range ids {
		if err == nil && !w.seen.add(id) {
			err = fmt.Errorf("names page %d, which is in use", id)
		}
	}
	if err != nil {
		w.fail("freelist", err)
	}
}
