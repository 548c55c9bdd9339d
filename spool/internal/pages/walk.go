package pages

import (
	"bytes"
	"errors"
	"fmt"
)

// maxDepth is more than any tree has: with two children to a page, 2^32 pages.
const maxDepth = 32

// Walk calls fn for each key and value of a top-level bucket as the newest valid meta
// page has it, in the order of the pages, which is that of the keys. Buckets inside
// the bucket are passed over. The slices are fn's until it returns; false ends the
// walk.
//
// It returns one error for each page on the way that is not as bbolt writes it, and
// for each page that another names although it cannot be that one. A bucket that is not
// there counts; whether the newest meta page is among the valid ones, Stale tells. What
// lies inside a leaf reaches fn even if something else in that leaf is wrong; what is
// below a lost branch is left to Scan.
func (f *File) Walk(bucket string, fn func(key, value []byte) bool) []error {
	m, err := f.newest()
	if err != nil {
		return []error{err}
	}
	w := &walker{reader: newReader(f), meta: m, page: make([]byte, f.pageSize), seen: set{}}
	w.bucket(bucket, func(e element, key, value []byte) bool {
		if _, ok := f.parseBucket(value); ok && e.flags&flagBucket != 0 {
			return true
		}
		return fn(key, value)
	})
	return w.errs
}

// Has reports whether there is such a top-level bucket, as far as the root can be read.
func (f *File) Has(bucket string) (found bool) {
	m, err := f.newest()
	if err != nil {
		return false
	}
	w := &walker{reader: newReader(f), meta: m, page: make([]byte, f.pageSize), seen: set{}}
	w.tree(m.Root, bounds{}, 0, func(_ element, key, _ []byte) bool {
		found = found || string(key) == bucket
		return true
	})
	return found
}

type walker struct {
	reader
	meta    meta
	page    []byte // the one being looked at
	seen    set    // pages that were: a page has one parent
	last    []byte // the key before, in the same page
	stopped bool
	errs    []error
}

// visit is given the pairs of a tree, and returns false to end the walk.
type visit func(e element, key, value []byte) bool

// bounds are what the parent says about the keys in a page: low <= key < high. nil is
// no bound.
type bounds struct{ low, high []byte }

func (w *walker) fail(where string, err error) { w.errs = append(w.errs, damaged(where, err)) }

// bucket looks for the name in all of the root's tree, since a damaged one would lead
// a search astray, and walks the bucket's own.
func (w *walker) bucket(name string, fn visit) {
	var header []byte
	w.tree(w.meta.Root, bounds{}, 0, func(_ element, key, value []byte) bool {
		if header == nil && string(key) == name {
			header = bytes.Clone(value)
		}
		return true
	})
	where := fmt.Sprintf("bucket %q", name)
	if header == nil {
		w.fail(where, errors.New("is not there"))
		return
	}
	b, ok := w.f.parseBucket(header)
	switch {
	case !ok:
		w.fail(where, errors.New("is none"))
	case !b.inline:
		w.tree(b.root, bounds{}, 0, fn)
	default:
		if err := w.inline(b, fn); err != nil {
			w.fail(where, err)
		}
	}
}

func (w *walker) inline(b bucket, fn visit) error {
	p := b.page
	if b.root != 0 || p.id != 0 || p.flags != flagLeaf || p.overflow != 0 {
		return errors.New("inline page with a wrong header")
	}
	return w.leaf(p, bounds{}, fn)
}

// tree walks the page with this number and what is below it.
func (w *walker) tree(id uint64, b bounds, depth int, fn visit) {
	p, err := w.load(id, depth)
	var children []child
	switch {
	case err != nil:
	case p.flags == flagLeaf:
		err = w.leaf(p, b, fn)
	default:
		children, err = w.branch(p, b)
	}
	if err != nil {
		w.fail(pageName(id), err)
	}
	for _, c := range children {
		if w.stopped {
			return
		}
		w.tree(c.id, c.bounds, depth+1, fn)
	}
}

// load reads a page that belongs in the tree, or says why it does not.
func (w *walker) load(id uint64, depth int) (page, error) {
	if id >= w.meta.Pages {
		return page{}, fmt.Errorf("named in a tree, but not among %d pages", w.meta.Pages)
	}
	if depth == maxDepth || !w.seen.add(id) {
		return page{}, errors.New("named in a tree twice, or too deep in one")
	}
	p, err := w.f.readPage(id, w.page)
	switch {
	case err != nil:
		return page{}, err
	case p.id != id:
		return page{}, fmt.Errorf("says it is page %d", p.id)
	case p.flags != flagLeaf && p.flags != flagBranch:
		return page{}, fmt.Errorf("flags %#x in a tree", p.flags)
	case p.count == 0 && (depth > 0 || p.flags == flagBranch):
		return page{}, errors.New("has no elements")
	}
	p.size = min(uint64(w.f.size-p.at), (1+uint64(p.overflow))*uint64(w.f.pageSize))
	return p, nil
}

// leaf hands all pairs to fn that can be had, and returns the first thing wrong.
func (w *walker) leaf(p page, b bounds, fn visit) error {
	l := w.layout(p, b)
	for i := range int(p.count) {
		e, key, value, err := l.next(i)
		if err == nil && !fn(e, key, value) {
			w.stopped = true
			return l.err
		}
	}
	return l.wrong()
}

// child is a page below a branch.
type child struct {
	id     uint64
	bounds bounds
}

// branch returns copies: the children need the page's buffer. A child whose key is
// lost is there all the same, without the bound.
func (w *walker) branch(p page, b bounds) ([]child, error) {
	l := w.layout(p, b)
	var children []child
	for i := range min(int(p.count), p.room()) {
		e, key, _, _ := l.next(i)
		key = bytes.Clone(key)
		if i > 0 {
			children[i-1].bounds.high = key
		}
		children = append(children, child{id: e.child, bounds: bounds{low: key, high: b.high}})
	}
	return children, l.wrong()
}
