package spool

import (
	"cmp"
	"errors"
	"os"
	"path/filepath"
	"slices"

	bolt "go.etcd.io/bbolt"
)

// builder makes the file of a segment under a hidden name, to be published when it is
// whole: an empty one, or one that takes over what is worth keeping of another.
type builder struct {
	path   string
	header header
	db     *bolt.DB
	noSync bool // see Options
}

// newBuilder makes the file that is to become the segment at path.
func newBuilder(path string, h header) (*builder, error) {
	b := &builder{path: filepath.Join(filepath.Dir(path), hiddenPrefix+filepath.Base(path)), header: h}
	if err := os.Remove(b.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var err error
	b.db, err = bolt.Open(b.path, fileMode, &bolt.Options{
		Timeout: lockWait, FreelistType: bolt.FreelistMapType,
		NoSync: true, NoGrowSync: true, // finish syncs
	})
	if err == nil {
		err = b.db.Update(func(tx *bolt.Tx) error {
			for _, name := range []string{bucketMeta, bucketRecords, bucketHeld, bucketDead} {
				if _, err := tx.CreateBucket([]byte(name)); err != nil {
					return err
				}
			}
			return tx.Bucket([]byte(bucketMeta)).Put([]byte(keyHeader), h.encode())
		})
	}
	if err != nil {
		return nil, errors.Join(orFull(err), b.discard())
	}
	return b, nil
}

// add copies values, sealed as they are, into a bucket. It sorts them. The bucket of twins
// is made where there is something to go into it.
func (b *builder) add(bucket string, values []keyValue) error {
	if len(values) == 0 {
		return nil
	}
	slices.SortFunc(values, func(a, b keyValue) int { return cmp.Compare(a.seq, b.seq) })
	return orFull(b.db.Update(func(tx *bolt.Tx) error {
		to, err := tx.CreateBucketIfNotExists([]byte(bucket))
		if err != nil {
			return err
		}
		to.FillPercent = fillPercent
		for _, v := range values {
			if err := to.Put(key(v.seq), v.value); err != nil {
				return err
			}
		}
		return nil
	}))
}

// keyValue is a value of one of the numbered buckets.
type keyValue struct {
	seq   uint64
	value []byte
}

// finish makes the file durable, with blocks left for settling.
func (b *builder) finish(st *state) error {
	size := int64(0)
	err := b.db.Update(func(tx *bolt.Tx) error {
		return tx.Bucket([]byte(bucketMeta)).Put([]byte(keyState), st.encode(b.header.ties()))
	})
	if err == nil {
		err = b.db.View(func(tx *bolt.Tx) error {
			size = tx.Size()
			return nil
		})
	}
	if err = errors.Join(err, b.sync(b.db), b.close()); err != nil {
		return orFull(err)
	}
	f, err := os.OpenFile(b.path, os.O_RDWR, fileMode)
	if err != nil {
		return err
	}
	blocks := blocks{used: size}
	if fi, serr := f.Stat(); serr == nil {
		blocks.size.Store(fi.Size())
	}
	err = errors.Join(blocks.reserve(f, slack(), nil), blocks.trim(f), b.sync(f))
	return errors.Join(err, f.Close())
}

func (b *builder) sync(f interface{ Sync() error }) error {
	if b.noSync {
		return nil
	}
	return f.Sync()
}

// publish gives the file its name, in place of what had it.
func (b *builder) publish(path string) error {
	if err := os.Rename(b.path, path); err != nil {
		return err
	}
	if b.noSync {
		return nil
	}
	return syncDir(filepath.Dir(path))
}

func (b *builder) close() error {
	if b.db == nil {
		return nil
	}
	db := b.db
	b.db = nil
	return db.Close()
}

// discard removes a file that was not published.
func (b *builder) discard() error {
	err := errors.Join(b.close(), os.Remove(b.path))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
