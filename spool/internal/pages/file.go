// Package pages reads bbolt files (v1.5, format version 2) page by page, to tell
// whether bbolt may open one, and to save what can be read of one it must not.
//
// bbolt trusts what it reads: pages carry no checksums, and a wrong number in one
// is a panic, a fault in the memory map, or a wrong answer. This package uses
// none of its code and no memory map. It believes no number before it has compared
// it with the file's length, so any bytes at all give an error in bounded time.
//
// Keys and values come out as they lie there. Only the caller can tell whether
// they are what was put: by its own checksums.
package pages

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// ErrDamaged is wrapped by all errors of this package. Where a read failed, they
// wrap the reader's error as well.
var ErrDamaged = errors.New("damaged bbolt file")

// File is a bbolt file seen page by page. It keeps nothing but the two meta pages,
// and is safe for concurrent use if its reader is; nobody may write to the file.
type File struct {
	r        io.ReaderAt
	size     int64
	pageSize int64
	metas    [2]metaPage
}

// Open reads the meta pages of the file of size bytes behind r. It never fails:
// without a valid meta page, Check and Walk say so, and Scan takes the system's page
// size, as bbolt does.
func Open(r io.ReaderAt, size int64) *File {
	f := &File{r: r, size: max(size, 0)}
	f.pageSize = f.findPageSize()
	for i := range f.metas {
		f.metas[i].meta, f.metas[i].err = f.readMeta(int64(i) * f.pageSize)
	}
	return f
}

// findPageSize looks where the second meta page would be for each size if the first
// is no help: the size is written nowhere else.
func (f *File) findPageSize() int64 {
	if m, err := f.readMeta(0); err == nil {
		return int64(m.PageSize)
	}
	for size := int64(minPageSize); size <= maxPageSize; size *= 2 {
		if m, err := f.readMeta(size); err == nil && int64(m.PageSize) == size {
			return size
		}
	}
	return int64(os.Getpagesize())
}

// pages is the number of pages that the file has at least the beginning of.
func (f *File) pages() uint64 {
	n := f.size / f.pageSize
	if f.size%f.pageSize > 0 {
		n++
	}
	return uint64(n)
}

// readPage reads the page with this number into buf, which has room for one. A page
// that the file's end cuts short comes back short.
func (f *File) readPage(id uint64, buf []byte) (page, error) {
	if id >= f.pages() {
		return page{}, fmt.Errorf("beyond the end of the file at %d bytes", f.size)
	}
	at := int64(id) * f.pageSize
	b := buf[:min(f.pageSize, f.size-at)]
	if err := f.readAt(b, at); err != nil {
		return page{}, err
	}
	p, ok := parsePage(b)
	if !ok {
		return page{}, errors.New("cut off in its header")
	}
	p.at = at
	return p, nil
}

// readAt fills b or fails.
func (f *File) readAt(b []byte, at int64) error {
	if int64(len(b)) > f.size-at {
		return io.ErrUnexpectedEOF
	}
	n, err := f.r.ReadAt(b, at)
	if n == len(b) {
		return nil // ReadAt may add io.EOF to the last bytes
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF // the file is shorter than we were told
	}
	return &readError{err}
}

// readError is an error of the reader's, as opposed to bytes that make no sense.
type readError struct{ err error }

func (e *readError) Error() string { return e.err.Error() }
func (e *readError) Unwrap() error { return e.err }

func damaged(where string, err error) error {
	return fmt.Errorf("%w: %s: %w", ErrDamaged, where, err)
}

func pageName(id uint64) string { return fmt.Sprintf("page %d", id) }
