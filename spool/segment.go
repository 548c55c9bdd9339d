package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"
)

const (
	// fillPercent packs pages: records only ever arrive at the end.
	fillPercent = 0.95

	// lockWait bounds the wait for bbolt's own lock on the file. The owner's
	// LOCK keeps writers apart, so only a tool that is reading can hold it.
	lockWait = 2 * time.Second
)

// The buckets of a segment, and the keys of the first; see doc.go.
const (
	bucketMeta    = "meta"
	bucketRecords = "records"
	bucketHeld    = "held"
	bucketDead    = "dead"
	bucketTwins   = "twins" // in segments that have had a record with a key or a lock

	keyHeader = "header"
	keyState  = "state"
)

func key(seq uint64) []byte { return binary.BigEndian.AppendUint64(nil, seq) }

// segment is one bbolt file. Its methods are safe for concurrent use; the file
// is opened when first needed.
type segment struct {
	path    string
	opening opening

	update sync.Mutex            // one write transaction at a time, and with it the order of states
	state  atomic.Pointer[state] // as of the last commit
	claims claims                // of the pending records; has its own lock
	index  *index                // nil: to be made; used on the reading lane only

	use    sync.RWMutex // held shared while the file is used, exclusively to open or close it
	db     *bolt.DB     // nil while closed
	file   *os.File     // db's own
	header header       // as first read
	blocks blocks       // of file; changed under update as well
	tail   tail         // guarded by Spool.active
}

// opening is how the file of a segment is opened.
type opening struct {
	mmapBytes int
	noSync    bool
}

// newSegment returns a segment that counts in claiming for as long as it has claims.
func newSegment(path string, opening opening, claiming *atomic.Int64) *segment {
	first, _ := firstOf(path)
	return &segment{path: path, opening: opening, claims: claims{some: claiming, first: first}, blocks: blocks{plain: opening.noSync}}
}

// createSegment makes an empty segment in dir and opens it. It appears there whole
// or not at all: a crash inside bbolt's first write can leave a file that never opens.
func createSegment(dir string, h header, opening opening, claiming *atomic.Int64, room *room) (*segment, error) {
	s := newSegment(filepath.Join(dir, segmentName(h.First)), opening, claiming)
	if _, err := os.Lstat(s.path); !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("segment %s: %w", segmentName(h.First), errors.Join(err, os.ErrExist)) // never over another
	}
	if err := room.check(minStep); err != nil {
		return nil, err
	}
	b, err := newBuilder(s.path, h)
	if err != nil {
		return nil, err
	}
	b.noSync = opening.noSync
	if err = b.finish(newState(h.First)); err == nil {
		err = b.publish(s.path)
	}
	if err != nil { // the name is needed for the next try
		return nil, errors.Join(err, b.discard(), removeAll(s.path))
	}
	if err := s.withDB(func(*bolt.DB) error { return nil }); err != nil {
		return nil, errors.Join(err, s.remove())
	}
	return s, nil
}

// openSegment reads the counters of an existing segment and leaves it closed: few
// files are open at a time. The segment it returns with an error is good for salvage
// only.
func openSegment(path string, opening opening, claiming *atomic.Int64) (*segment, error) {
	s := newSegment(path, opening, claiming)
	return s, errors.Join(s.withDB(func(*bolt.DB) error { return nil }), s.close())
}

// withDB runs fn with the open file. An error retires the handle: after a failed write
// bbolt would carry on with what it has in memory. After a panic it may even hold its
// own locks, so then the handle is abandoned, not closed.
func (s *segment) withDB(fn func(*bolt.DB) error) error {
	panicked, err := guarded(func() error { return s.useDB(fn) })
	if err != nil && !errors.Is(err, ErrFull) {
		s.use.Lock()
		defer s.use.Unlock()
		err = errors.Join(err, s.closeLocked(panicked))
	}
	return err
}

func (s *segment) useDB(fn func(*bolt.DB) error) error {
	s.use.RLock()
	if s.db == nil {
		s.use.RUnlock()
		if err := s.open(); err != nil {
			return err
		}
		s.use.RLock()
	}
	defer s.use.RUnlock()
	if s.db == nil {
		return ErrClosed
	}
	if err := s.blocks.check(s.file); err != nil {
		return err
	}
	return fn(s.db)
}

func (s *segment) open() (err error) {
	s.use.Lock()
	defer s.use.Unlock()
	if s.db != nil {
		return nil
	}
	// bbolt faults where pages are missing, and takes an empty file for a new one.
	if err := checkPages(s.path); err != nil {
		return err
	}
	panicked, err := guarded(func() (err error) {
		s.db, err = bolt.Open(s.path, fileMode, &bolt.Options{
			Timeout:         lockWait,
			FreelistType:    bolt.FreelistMapType,
			NoSync:          s.opening.noSync,
			InitialMmapSize: s.opening.mmapBytes, // growing the map would wait for readers
			NoStatistics:    true,
			OpenFile: func(path string, flag int, mode os.FileMode) (*os.File, error) {
				f, err := os.OpenFile(path, flag&^os.O_CREATE, mode)
				s.file = f
				return f, err
			},
		})
		return err
	})
	if panicked {
		unlockFile(s.file)
		return errors.Join(err, s.file.Close())
	}
	if err != nil {
		return err
	}
	s.db.AllocSize = minStep // used only where reserve was too modest
	if panicked, err = guarded(func() error { return s.db.View(s.load) }); err != nil {
		err = errors.Join(err, s.closeLocked(panicked))
	}
	return err
}

// load reads what the segment counts. A state that another program wrote last, or
// that a failed commit of our own left behind, is the truth from now on.
func (s *segment) load(tx *bolt.Tx) error {
	b := tx.Bucket([]byte(bucketMeta))
	for _, name := range []string{bucketRecords, bucketHeld, bucketDead} {
		if b == nil || tx.Bucket([]byte(name)) == nil {
			return fmt.Errorf("%w: segment without its buckets", ErrDamaged)
		}
	}
	h, err := decodeHeader(b.Get([]byte(keyHeader)))
	if err != nil {
		return err
	}
	if first, ok := firstOf(s.path); !ok || first != h.First {
		return fmt.Errorf("%w: segment %d is named %s", ErrDamaged, h.First, filepath.Base(s.path))
	}
	st, err := decodeState(b.Get([]byte(keyState)), h.ties())
	if err != nil {
		return err
	}
	fi, err := s.file.Stat()
	if err != nil {
		return err
	}
	if s.header == (header{}) {
		s.header = h
	}
	s.blocks.used, s.blocks.zeroed = tx.Size(), fi.Size()
	s.blocks.size.Store(fi.Size())
	if old := s.state.Load(); old == nil || old.Commits != st.Commits {
		s.loadClaims(tx, st)
	}
	s.state.Store(st)
	return nil
}

// guarded runs fn and turns a panic of bbolt's, or a fault in its memory map, into an
// error: a damaged file must not take the host program down.
func guarded(fn func() error) (panicked bool, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			panicked, err = true, fmt.Errorf("%w: bbolt panicked: %v", ErrDamaged, r)
		}
	}()
	return false, fn()
}

// view runs fn with a read transaction, which begins while no other runs that writes:
// where the meta pages are gone, bbolt panics there with a lock held that a commit under way
// would wait for, for ever.
func (s *segment) view(fn func(*bolt.Tx) error) error {
	begun := false
	begin := func(db *bolt.DB) (*bolt.Tx, error) {
		tx, err := db.Begin(false)
		begun = true
		s.update.Unlock()
		return tx, err
	}
	s.update.Lock()
	defer func() {
		if !begun {
			s.update.Unlock()
		}
	}()
	return s.withDB(func(db *bolt.DB) error {
		tx, err := begin(db)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }()
		return fn(tx)
	})
}

// commit runs fn, which changes the state it is given, as one durable transaction.
// size is how many bytes the change adds to the file at most; room bounds it. An
// error before bbolt is asked to write is errNotTaken.
func (s *segment) commit(size int64, room *room, fn func(*bolt.Tx, *state) error) error {
	s.update.Lock()
	defer s.update.Unlock()
	asked := false
	var st *state
	err := s.withDB(func(db *bolt.DB) error {
		if err := s.blocks.reserve(s.file, size, room); err != nil {
			return err
		}
		asked = true
		err := db.Update(func(tx *bolt.Tx) error {
			st = s.state.Load().clone()
			st.moves = s.claims.moves()
			if err := fn(tx, st); err != nil {
				return err
			}
			st.Commits++
			return tx.Bucket([]byte(bucketMeta)).Put([]byte(keyState), st.encode(s.header.ties()))
		})
		if err != nil {
			return err
		}
		return db.View(func(tx *bolt.Tx) error {
			s.blocks.now(tx.Size())
			return nil
		})
	})
	if err != nil && !asked {
		return fmt.Errorf("%w: %w", errNotTaken, err)
	}
	if err == nil {
		s.claims.apply(st.moves, st.Flows)
		st.moves = nil
		s.state.Store(st)
	}
	return err
}

// inPlace reports whether the open file still has its name. Where somebody has removed
// it, what it holds can be read, but nothing is durable that is added.
func (s *segment) inPlace() bool {
	s.use.RLock()
	defer s.use.RUnlock()
	if s.file == nil {
		return true // opening it will tell
	}
	open, err := s.file.Stat()
	there, terr := os.Stat(s.path)
	return err == nil && terr == nil && os.SameFile(open, there)
}

// isNew reports whether the segment has never had a record.
func (s *segment) isNew() bool {
	first, _ := firstOf(s.path)
	return s.state.Load().Next == first
}

// usedBytes is the length of what bbolt uses of the file.
func (s *segment) usedBytes() int64 {
	s.update.Lock()
	defer s.update.Unlock()
	s.use.RLock()
	defer s.use.RUnlock()
	return s.blocks.used
}

// trim gives back the blocks that were reserved for records still to come.
func (s *segment) trim() error {
	s.update.Lock()
	defer s.update.Unlock()
	return s.withDB(func(*bolt.DB) error { return s.blocks.trim(s.file) })
}

func (s *segment) close() error {
	s.use.Lock()
	defer s.use.Unlock()
	return s.closeLocked(false)
}

// closeLocked closes the file; use is held. A handle that is abandoned leaves its memory
// map behind.
func (s *segment) closeLocked(abandon bool) error {
	if s.db == nil {
		return nil
	}
	db, file := s.db, s.file
	s.db, s.file = nil, nil
	if abandon {
		unlockFile(file) // which the memory map would hold on to
		return file.Close()
	}
	_, err := guarded(db.Close)
	return err
}

// remove closes the segment and unlinks it.
func (s *segment) remove() error {
	return errors.Join(s.close(), os.Remove(s.path))
}
