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

	"github.com/jobspool/jobspool/spool/latency"
)

// Defaults of Options.
const (
	DefaultSegmentBytes = 64 << 20
	DefaultMaxBytes     = 1 << 30
	DefaultMinFreeBytes = 64 << 20
	DefaultTimeout      = 5 * time.Second

	// minFreePercent bounds DefaultMinFreeBytes on a small file system.
	minFreePercent = 5
)

// Options configure a Spool.
type Options struct {
	// Dir is the SpoolDir. Required. It is created with mode 0700, and may be
	// shared with other processes and other targets.
	Dir string

	// Target names where the records are meant to go. It is written to disk: no
	// passwords.
	Target string

	// SameTarget reports whether a dead owner's Target is one whose records may be
	// adopted; all other owners are foreign. It must be a pure function, and is called
	// for each owner that Adopt finds. Nil means equality with Target.
	SameTarget func(target string) bool

	// SegmentBytes is the size at which a segment is full and a new one begins.
	// Zero or negative means DefaultSegmentBytes.
	SegmentBytes int64

	// MaxBytes bounds the disk blocks of everything under Dir, other owners' and what
	// lies in quarantine included. Append returns ErrFull rather than exceed it;
	// all else goes on. Blocks are reserved in steps of 256 KiB to 8 MiB, and the
	// bound is checked with each. Zero means DefaultMaxBytes, negative no bound.
	MaxBytes int64

	// MinFreeBytes is what Append leaves free on the file system. Zero means
	// DefaultMinFreeBytes, but at most 5 % of the file system. Negative means none.
	MinFreeBytes int64

	// MaxRecordBytes bounds an encoded record: its Data and some ten bytes more than
	// its strings. Zero means DefaultMaxRecordBytes. Negative means no bound but
	// bbolt's of 2 GiB.
	MaxRecordBytes int

	// Timeout bounds the wait for an operation on the disk, such as one commit. What
	// takes longer goes on without anybody waiting. Zero means DefaultTimeout,
	// negative no bound.
	Timeout time.Duration

	// NoSync leaves it to the kernel when what is appended and settled reaches the disk: it
	// survives the end of the process, but not that of the machine, after which a segment
	// may be damaged. For what only guards against a loss elsewhere.
	NoSync bool

	// AdoptOnly opens a Spool without a share of its own: it creates nothing,
	// Append returns ErrAdoptOnly, and Dir must exist.
	AdoptOnly bool

	// Logger gets what needs a person's attention. Nil means slog.Default().
	Logger *slog.Logger
}

func (o Options) withDefaults() Options {
	if o.SameTarget == nil {
		own := o.Target
		o.SameTarget = func(target string) bool { return target == own }
	}
	if o.SegmentBytes <= 0 {
		o.SegmentBytes = DefaultSegmentBytes
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	if o.MaxRecordBytes == 0 {
		o.MaxRecordBytes = DefaultMaxRecordBytes
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o
}

// opening says how segments are opened. The initial size of bbolt's memory map is twice the
// size of a segment, so that it need not grow. Windows would make the file that large, and
// 32-bit address spaces are too small.
func (o Options) opening() opening {
	mmapBytes := int(2 * o.SegmentBytes)
	if runtime.GOOS == "windows" || bits.UintSize == 32 {
		mmapBytes = 0
	}
	return opening{mmapBytes: mmapBytes, noSync: o.NoSync}
}

// Spool is an open SpoolDir: a share of its own to append to, and the shares of
// dead owners that it has adopted. All methods are safe for concurrent use.
type Spool struct {
	opts   Options
	room   *room
	own    *owner  // nil with AdoptOnly
	writer *writer // nil with AdoptOnly

	// All that touches the disk runs on one of two lanes: appending is the writer's,
	// reading everything else's.
	appending, reading *lane
	closed             atomic.Bool // set on reading

	// active guards the segment that takes records: held over every append, and
	// to retire the segment.
	active struct {
		sync.Mutex
		seg *segment
	}
	released bool          // the locks are given up; guarded by active
	nextSeq  atomic.Uint64 // of the next record; changed with active held
	growth   meter         // of the segments; has its own lock

	twins twins // which names pending records have; has its own lock

	heads []*segment // those that are being read, the last one first; used on reading only

	mu      sync.Mutex // guards adopted, foreign and each owner's segs and bad
	adopted []*owner   // oldest first
	foreign int

	appended    atomic.Int64
	adoptions   atomic.Int64 // records found pending in adopted owners
	retried     atomic.Int64 // dead letters made pending again
	quarantined atomic.Int64
	settled     [outcomes]atomic.Int64

	appends, commits latency.Histogram // see Latencies
}

// Open opens the spool in opts.Dir, creating the directory and a share of its
// own, which it locks. It adopts nothing yet: see [Spool.Adopt]. Nothing that an
// earlier owner left in the directory makes Open fail.
//
// A file system that does not keep what a spool promises gets a warning in the log.
func Open(opts Options) (*Spool, error) {
	if opts.Dir == "" {
		return nil, errors.New("spool: Options.Dir is empty")
	}
	s := &Spool{opts: opts.withDefaults()}
	s.room = &room{dir: s.opts.Dir, maxBytes: s.opts.MaxBytes, minFree: s.opts.MinFreeBytes}
	s.appending, s.reading = newLane(s.opts.Timeout), newLane(s.opts.Timeout)
	s.nextSeq.Store(1)
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
	if text := fsWarning(opts.Dir); text != "" {
		s.opts.Logger.Warn("spool: not a good place for a spool", "dir", opts.Dir, "reason", text)
	}
	own, err := createOwner(opts.Dir, opts.Target, time.Now())
	if err != nil {
		return nil, fmt.Errorf("spool: new owner: %w", orFull(err))
	}
	s.own = own
	s.writer = &writer{lane: s.appending, commit: s.commit}
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

// segment returns the segment of an owner that begins with a sequence number, or nil.
func (s *Spool) segment(o *owner, first uint64) *segment {
	for _, seg := range s.segments(o) {
		if n, _ := firstOf(seg.path); n == first {
			return seg
		}
	}
	return nil
}

// exclusively runs fn on the reading lane of an open Spool.
func exclusively[T any](s *Spool, fn func() (T, error)) (T, error) {
	value, _, err := run(s.reading, func() (T, error) {
		if s.closed.Load() {
			var none T
			return none, ErrClosed
		}
		return fn()
	})
	return value, err
}

// alone is exclusively for what has no value.
func (s *Spool) alone(fn func() error) error {
	_, err := exclusively(s, func() (struct{}, error) { return struct{}{}, fn() })
	return err
}

// retire takes a segment from the writer.
func (s *Spool) retire(seg *segment) {
	s.active.Lock()
	defer s.active.Unlock()
	if s.active.seg == seg {
		s.active.seg = nil
	}
}

// closeIdle closes a segment that is neither read in turn nor appended to.
func (s *Spool) closeIdle(seg *segment) {
	s.active.Lock()
	defer s.active.Unlock()
	if seg != s.active.seg && !slices.Contains(s.heads, seg) {
		s.tidy(seg.close())
	}
}

// forget removes a segment from its owner's list.
func (s *Spool) forget(o *owner, seg *segment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o.segs = slices.DeleteFunc(o.segs, func(other *segment) bool { return other == seg })
	seg.claims.clear()
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
//
// It waits for a disk that does not answer no longer than Options.Timeout for each of
// reading and appending, and then returns ErrStalled: what is under way goes on, and
// the lock is held until the process ends.
func (s *Spool) Close() error {
	_, err := s.reading.do(func() error {
		if s.closed.Swap(true) {
			return nil
		}
		if s.writer != nil {
			s.writer.close()
		}
		_, err := s.appending.do(s.release)
		return err
	})
	if errors.Is(err, ErrStalled) {
		err = fmt.Errorf("spool: close: %w", err)
	}
	return err
}

// release closes every share this Spool holds.
func (s *Spool) release() error {
	var err error
	s.active.Lock()
	defer s.active.Unlock()
	s.released = true
	if seg := s.active.seg; seg != nil {
		err = seg.trim()
	}
	for _, o := range s.owners() {
		if o == s.own && !o.hasSegments() {
			err = errors.Join(err, o.remove())
			continue
		}
		err = errors.Join(err, o.close())
	}
	return err
}
