package pages

// chunkBytes is how much Scan reads at once.
const chunkBytes = 1 << 20

// Scan calls fn for each key and value in every leaf of the file, in order of the
// pages, whether a tree leads there or not: so it also sees what was there before a
// later commit changed it, many times over, and what only looks like a leaf. bucket is
// the name of the inline bucket that holds the pair, nil for a leaf with a page of its
// own. Where a bucket is not inline, no pair stands for it. The slices are fn's until
// it returns; false ends the scan.
//
// Damage is passed over, and costs no more than the pairs it is in: any one field of
// a page's header may be wrong. So what is in one pair can be made to look like
// others: a caller believes a tree before it believes Scan, and Scan only for what a
// tree must have held.
//
// It returns one error for each page that could not be read.
func (f *File) Scan(fn func(bucket, key, value []byte) bool) []error {
	s := &scanner{reader: newReader(f), fn: fn}
	buf := make([]byte, min(f.size, max(chunkBytes, f.pageSize)))
	for at := int64(0); at < f.size && !s.stopped; at += int64(len(buf)) {
		s.chunk(buf[:min(int64(len(buf)), f.size-at)], at)
	}
	return s.errs
}

type scanner struct {
	reader
	fn      func(bucket, key, value []byte) bool
	stopped bool
	errs    []error
}

// chunk reads many pages at once or, if one of them cannot be read, each by itself.
func (s *scanner) chunk(buf []byte, at int64) {
	whole := s.f.readAt(buf, at) == nil
	for len(buf) > 0 && !s.stopped {
		b := buf[:min(s.f.pageSize, int64(len(buf)))]
		if whole || s.reread(b, at) {
			s.page(b, at)
		}
		buf, at = buf[len(b):], at+int64(len(b))
	}
}

func (s *scanner) reread(b []byte, at int64) bool {
	err := s.f.readAt(b, at)
	if err != nil {
		s.errs = append(s.errs, damaged(pageName(uint64(at/s.f.pageSize)), err))
	}
	return err == nil
}

// page lets the elements reach to the end of the file: their own sizes tell the number
// of overflow pages once more.
func (s *scanner) page(b []byte, at int64) {
	p, ok := parsePage(b)
	if ok && p.leafLike(uint64(at/s.f.pageSize)) {
		p.at, p.size = at, uint64(s.f.size-at)
		s.elements(nil, p)
	}
}

func (s *scanner) elements(bucket []byte, p page) {
	for i := range p.elements() {
		e, ok := p.element(i)
		if !ok {
			return
		}
		key, value, err := s.pair(p, i, e)
		if err != nil {
			continue
		}
		if s.stopped = !s.emit(bucket, e, key, value); s.stopped {
			return
		}
	}
}

// emit looks into buckets, but not into buckets inside inline ones: bbolt makes none,
// and forged ones could be nested without an end.
func (s *scanner) emit(bucket []byte, e element, key, value []byte) bool {
	if e.flags&flagBucket == 0 || bucket != nil {
		return s.fn(bucket, key, value)
	}
	b, ok := s.f.parseBucket(value)
	switch {
	case !ok:
		return s.fn(nil, key, value)
	case b.inline:
		s.elements(key, b.page)
	}
	return !s.stopped
}

// elements is how many elements to look for. Where the first key begins tells the
// count once more; if one of the two is too high, what is read as elements beyond
// the table is most unlikely to make sense.
func (p page) elements() int {
	first, ok := p.element(0)
	if !ok {
		return 0
	}
	return max(int(p.count), int((first.start-headerSize)/elementSize))
}
