package spool

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"
)

const (
	segmentSuffix = ".seg"

	// fillPercent packs pages: records only ever arrive at the end.
	fillPercent = 0.95

	// growBytes is how far bbolt extends the file when it is full.
	growBytes = 4 << 20

	// lockWait bounds the wait for bbolt's own lock on the file. The owner's
	// LOCK keeps writers apart, so only a tool that is reading can hold it.
	lockWait = 2 * time.Second
)

// The buckets and the one key of a segment; see doc.go.
func bucketMeta() []byte    { return []byte("meta") }
func bucketRecords() []byte { return []byte("records") }
func bucketHeld() []byte    { return []byte("held") }
func bucketDead() []byte    { return []byte("dead") }

func key(seq uint64) []byte { return binary.BigEndian.AppendUint64(nil, seq) }

// segment is one bbolt file. Its methods are safe for concurrent use; the file
// is opened when first needed.
type segment struct {
	path      string
	mmapBytes int
	readOnly  bool

	update sync.Mutex           // one write transaction at a time, and with it the order of meta
	meta   atomic.Pointer[meta] // as of the last commit

	use    sync.RWMutex // held shared while db is used, exclusively to open or close it
	db     *bolt.DB     // nil while closed
	broken error        // why the file must not be touched again; guarded by use
}

func segmentName(first uint64) string { return fmt.Sprintf("%016x%s", first, segmentSuffix) }

// createSegment makes an empty segment in dir. It appears there whole or not at
// all: a crash inside bbolt's first write can leave a file that never opens.
func createSegment(dir string, first uint64, mmapBytes int) (*segment, error) {
	s := &segment{path: filepath.Join(dir, segmentName(first)), mmapBytes: mmapBytes}
	if _, err := os.Lstat(s.path); !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("segment %s: %w", segmentName(first), cmp.Or(err, os.ErrExist)) // never over another
	}
	tmp := filepath.Join(dir, "."+segmentName(first))
	if err := os.Remove(tmp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if _, err := guarded(func() error { return initSegment(tmp, first) }); err != nil {
		return nil, errors.Join(err, os.Remove(tmp))
	}
	if err := os.Rename(tmp, s.path); err != nil {
		return nil, errors.Join(err, os.Remove(tmp))
	}
	if err := errors.Join(syncDir(dir), s.load()); err != nil {
		return nil, errors.Join(err, s.remove())
	}
	return s, nil
}

func initSegment(path string, first uint64) error {
	db, err := bolt.Open(path, fileMode, &bolt.Options{Timeout: lockWait, FreelistType: bolt.FreelistMapType})
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, name := range [][]byte{bucketMeta(), bucketRecords(), bucketHeld(), bucketDead()} {
			if _, err := tx.CreateBucket(name); err != nil {
				return err
			}
		}
		return writeMeta(tx, meta{Format: segmentFormat, First: first, Next: first, Watermark: first})
	})
	return errors.Join(err, db.Close())
}

// openSegment reads the counters of an existing segment and leaves it closed: few
// files are open at a time.
func openSegment(path string, mmapBytes int) (*segment, error) {
	s := &segment{path: path, mmapBytes: mmapBytes}
	return s, errors.Join(s.load(), s.close())
}

func (s *segment) load() error {
	return s.view(func(tx *bolt.Tx) error {
		m, err := readMeta(tx)
		if err == nil {
			s.meta.Store(&m)
		}
		return err
	})
}

// withDB runs fn with the open file. After a panic bbolt may still hold its own
// locks, so the handle is abandoned, not closed (H26).
func (s *segment) withDB(fn func(*bolt.DB) error) error {
	panicked, err := guarded(func() error { return s.useDB(fn) })
	if panicked {
		s.use.Lock()
		defer s.use.Unlock()
		s.db, s.broken = nil, err
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
	return fn(s.db)
}

func (s *segment) open() (err error) {
	s.use.Lock()
	defer s.use.Unlock()
	if s.db != nil || s.broken != nil {
		return s.broken
	}
	// bbolt creates what is missing and takes an empty file for a new database.
	if fi, err := os.Stat(s.path); err != nil {
		return err
	} else if fi.Size() == 0 {
		return fmt.Errorf("%w: empty file", ErrDamaged)
	}
	s.db, err = bolt.Open(s.path, fileMode, &bolt.Options{
		Timeout:         lockWait,
		FreelistType:    bolt.FreelistMapType,
		InitialMmapSize: s.mmapBytes, // growing the map would wait for readers (H30)
		NoStatistics:    true,
		ReadOnly:        s.readOnly,
	})
	if err == nil {
		s.db.AllocSize = growBytes
	}
	return err
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

func (s *segment) view(fn func(*bolt.Tx) error) error {
	return s.withDB(func(db *bolt.DB) error { return db.View(fn) })
}

// commit runs fn, which changes meta in place, as one durable transaction.
func (s *segment) commit(fn func(*bolt.Tx, *meta) error) error {
	s.update.Lock()
	defer s.update.Unlock()
	var m meta
	err := s.withDB(func(db *bolt.DB) error {
		return db.Update(func(tx *bolt.Tx) error {
			var err error
			if m, err = readMeta(tx); err != nil {
				return err
			}
			if err := fn(tx, &m); err != nil {
				return err
			}
			return writeMeta(tx, m)
		})
	})
	if err == nil {
		s.meta.Store(&m)
	}
	return err
}

// append adds encoded records in one commit and returns the size of the file.
func (s *segment) append(records [][]byte) (size int64, err error) {
	err = s.commit(func(tx *bolt.Tx, m *meta) error {
		b := tx.Bucket(bucketRecords())
		b.FillPercent = fillPercent
		for _, r := range records {
			if err := b.Put(key(m.Next), r); err != nil {
				return err
			}
			m.Next++
			m.PendingBytes += uint64(len(r))
		}
		size = tx.Size()
		return nil
	})
	return size, err
}

// has reports whether the record is visible, after a commit that failed.
func (s *segment) has(seq uint64) (found bool, err error) {
	err = s.view(func(tx *bolt.Tx) error {
		found = tx.Bucket(bucketRecords()).Get(key(seq)) != nil
		return nil
	})
	return found, err
}

// read returns copies of the oldest pending records, held ones first, at most
// count and, but for the first, at most size bytes. What cannot be decoded comes
// back as settlements that set it aside.
func (s *segment) read(owner string, count, size int) (entries []Entry, damaged []Settlement, err error) {
	err = s.view(func(tx *bolt.Tx) error {
		m, err := readMeta(tx)
		if err != nil {
			return err
		}
		records := tx.Bucket(bucketRecords()).Cursor()
		take := func(k, v []byte, attempts int) bool {
			if len(k) != 8 {
				return true
			}
			size -= len(v)
			if len(entries) == count || (size < 0 && len(entries) > 0) {
				return false
			}
			at := Position{owner: owner, segment: m.First, seq: binary.BigEndian.Uint64(k), size: len(v)}
			r, err := decodeRecord(v)
			if err != nil {
				damaged = append(damaged, Settlement{Position: at, Outcome: Dead, Reason: err.Error()})
				return true
			}
			entries = append(entries, Entry{Record: r, Position: at, Attempts: attempts})
			return true
		}
		if m.Held > 0 {
			held := tx.Bucket(bucketHeld()).Cursor()
			for k, v := held.First(); k != nil; k, v = held.Next() {
				rk, rv := records.Seek(k)
				if !bytes.Equal(rk, k) {
					return fmt.Errorf("%w: held record %x is missing", ErrDamaged, k)
				}
				if !take(k, rv, decodeAttempts(v)) {
					return nil
				}
			}
		}
		for k, v := records.Seek(key(m.Watermark)); k != nil && take(k, v, 0); k, v = records.Next() {
		}
		return nil
	})
	return entries, damaged, err
}

func (s *segment) close() error {
	s.use.Lock()
	defer s.use.Unlock()
	if s.db == nil {
		return nil
	}
	_, err := guarded(s.db.Close)
	s.db = nil
	return err
}

// remove closes the segment and unlinks it.
func (s *segment) remove() error {
	return errors.Join(s.close(), os.Remove(s.path))
}

// listSegments returns the paths of the segments in an owner's directory, oldest
// first: the names are numbers of fixed width.
func listSegments(dir string) ([]string, error) {
	files, err := os.ReadDir(dir) // sorted by name
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, f := range files {
		if strings.HasSuffix(f.Name(), segmentSuffix) && !strings.HasPrefix(f.Name(), ".") {
			paths = append(paths, filepath.Join(dir, f.Name()))
		}
	}
	return paths, nil
}
