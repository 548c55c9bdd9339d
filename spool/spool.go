package spool

import (
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// DefaultSegmentBytes is the size at which a segment is full.
const DefaultSegmentBytes = 64 << 20

// Options configure a Spool.
type Options struct {
	// Dir is the SpoolDir. Required. It is created with mode 0700, and may be
	// shared with other processes and other targets.
	Dir string

	// Target names where the records are meant to go. Only dead owners of the
	// same target are adopted. It is written to disk: no passwords.
	Target string

	// SegmentBytes is the size at which a segment is full and a new one begins.
	// Zero or negative means DefaultSegmentBytes.
	SegmentBytes int64

	// AdoptOnly opens a Spool without a share of its own: it creates nothing,
	// Append returns ErrAdoptOnly, and Dir must exist.
	AdoptOnly bool

	// Logger gets what needs a person's attention. Nil means slog.Default().
	Logger *slog.Logger
}

// mmapBytes is the initial size of bbolt's memory map: twice the size of a
// segment, so that it need not grow. Windows would make the file that large, and
// 32-bit address spaces are too small.
func (o Options) mmapBytes() int {
	if runtime.GOOS == "windows" || bits.UintSize == 32 {
		return 0
	}
	return int(2 * o.SegmentBytes)
}

// Spool is an open SpoolDir: a share of its own to append to, and the shares of
// dead owners that it has adopted. All methods are safe for concurrent use.
type Spool struct {
	opts   Options
	own    *owner  // nil with AdoptOnly
	writer *writer // nil with AdoptOnly

	// active guards the segment that takes records: held over every append, and
	// to retire the segment.
	active struct {
		sync.Mutex
		seg *segment
	}
	nextSeq uint64 // of the next record; guarded by active

	// reading is held over Read, Settle, Adopt and Close: one reader at a time.
	reading sync.Mutex
	closed  bool // guarded by reading

	mu      sync.Mutex // guards adopted, foreign and each owner's segs and bad
	adopted []*owner   // oldest first
	foreign int

	appended  atomic.Int64
	adoptions atomic.Int64 // records found pending in adopted owners
	settled   [outcomes]atomic.Int64
}

// Open opens the spool in opts.Dir, creating the directory and a share of its
// own, which it locks. It adopts nothing yet: see [Spool.Adopt]. Nothing that an
// earlier owner left in the directory makes Open fail.
func Open(opts Options) (*Spool, error) {
	if opts.Dir == "" {
		return nil, errors.New("spool: Options.Dir is empty")
	}
	if opts.SegmentBytes <= 0 {
		opts.SegmentBytes = DefaultSegmentBytes
	}
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	s := &Spool{opts: opts, nextSeq: 1}
	if opts.AdoptOnly {
		if fi, err := os.Stat(opts.Dir); err != nil {
			return nil, fmt.Errorf("spool: %w", err)
		} else if !fi.IsDir() {
			return nil, fmt.Errorf("spool: %s is not a directory", opts.Dir)
		}
		return s, nil
	}
	if err := makeDir(opts.Dir); err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	own, err := createOwner(opts.Dir, opts.Target, time.Now())
	if err != nil {
		return nil, fmt.Errorf("spool: new owner: %w", err)
	}
	s.own = own
	s.writer = startWriter(s.commit)
	return s, nil
}

// makeDir creates dir and what is missing above it, durably.
func makeDir(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if parent := filepath.Dir(dir); parent != dir {
		if err := makeDir(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, dirMode); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return syncDir(filepath.Dir(dir))
}

// owner returns a share that this Spool holds, or nil.
func (s *Spool) owner(name string) *owner {
	for _, o := range s.owners() {
		if o.name == name {
			return o
		}
	}
	return nil
}

// owners returns the shares this Spool holds, in the order they are replayed:
// adopted ones by age, then its own.
func (s *Spool) owners() []*owner {
	s.mu.Lock()
	defer s.mu.Unlock()
	owners := slices.Clone(s.adopted)
	if s.own != nil {
		owners = append(owners, s.own)
	}
	return owners
}

func (s *Spool) segments(o *owner) []*segment {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(o.segs)
}

// Read returns the oldest pending records, adopted ones first, at most count and,
// but for the first, at most size bytes. All come from one segment. They stay
// pending until settled: the next Read returns them again. The entries are
// copies and belong to the caller. No entries and no error: nothing is pending.
func (s *Spool) Read(count, size int) ([]Entry, error) {
	s.reading.Lock()
	defer s.reading.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	for _, o := range s.owners() {
		for _, seg := range s.segments(o) {
			for seg.meta.Load().pending() > 0 {
				entries, damaged, err := seg.read(o.name, count, size)
				if err != nil {
					s.giveUp(o, seg, err)
					break
				}
				if len(damaged) > 0 {
					if err := s.settle(o, damaged); err != nil {
						return nil, err
					}
				}
				if len(entries) > 0 {
					return entries, nil
				}
			}
		}
	}
	return nil, nil
}

// giveUp stops reading a segment that fails. It stays on disk as it is.
func (s *Spool) giveUp(o *owner, seg *segment, cause error) {
	s.active.Lock()
	if s.active.seg == seg {
		s.active.seg = nil
	}
	s.active.Unlock()
	s.mu.Lock()
	o.segs = slices.DeleteFunc(o.segs, func(other *segment) bool { return other == seg })
	text := o.addBad(seg.path, errors.Join(cause, seg.close()))
	s.mu.Unlock()
	s.reportBad(text)
}

func (s *Spool) reportBad(text string) {
	s.opts.Logger.Error("spool: a segment cannot be read, its records are kept and not replayed", "segment", text)
}

// dropIfEmpty unlinks a segment that holds nothing any more.
func (s *Spool) dropIfEmpty(o *owner, seg *segment) error {
	s.active.Lock() // no append while we look
	defer s.active.Unlock()
	if !seg.meta.Load().empty() {
		return nil
	}
	return s.dropLocked(o, seg)
}

// dropLocked unlinks a segment; active is held.
func (s *Spool) dropLocked(o *owner, seg *segment) error {
	if s.active.seg == seg {
		s.active.seg = nil
	}
	s.mu.Lock()
	o.segs = slices.DeleteFunc(o.segs, func(other *segment) bool { return other == seg })
	s.mu.Unlock()
	if err := seg.remove(); err != nil {
		return fmt.Errorf("spool: remove segment: %w", err)
	}
	return nil
}

// releaseIfEmpty removes the directory of an adopted owner that holds nothing
// any more.
func (s *Spool) releaseIfEmpty(o *owner) error {
	s.mu.Lock()
	if o == s.own || o.hasSegments() {
		s.mu.Unlock()
		return nil
	}
	s.adopted = slices.DeleteFunc(s.adopted, func(other *owner) bool { return other == o })
	s.mu.Unlock()
	if err := o.remove(); err != nil {
		return fmt.Errorf("spool: remove owner: %w", err)
	}
	return nil
}

// Close waits for running calls, stops, and gives up the locks. Pending records
// stay on disk for the next Spool on the directory to adopt; a share without
// records is removed. Close is idempotent.
func (s *Spool) Close() error {
	s.reading.Lock()
	defer s.reading.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	if s.writer != nil {
		s.writer.close()
	}
	var err error
	for _, o := range s.owners() {
		if o == s.own && !o.hasSegments() {
			err = errors.Join(err, o.remove())
			continue
		}
		err = errors.Join(err, o.close())
	}
	return err
}
