//go:build amd64 || arm64

package spool_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/jobspool/jobspool/spool"
)

const pageSize = 4096

// platter is what a disk certainly holds after a power cut: of each file what was
// synced, and of each directory the names that were. It follows the system calls under
// one directory. An fsync that fails loses what it was to write: the page cache keeps
// the pages and calls them clean, so that a later fsync that succeeds does not write
// them either.
type platter struct {
	dir string

	mu    sync.Mutex
	files map[inode]*image
	names map[inode]map[string]inode // of each directory, as of its last fsync
}

// inode is a file or directory; numbers are used again, so with its birth.
type inode struct {
	number      uint64
	born, borns int64
	dir         bool
}

// image is a file as it lies on the platter: pages by number, and of what was never
// written zeros.
type image struct {
	pages map[int64][]byte
	size  int64
	dirty map[int64]bool // pages that were written since the last fsync
	wrote bool           // by calls that are seen here
}

func newPlatter(dir string) *platter {
	return &platter{dir: dir, files: map[inode]*image{}, names: map[inode]map[string]inode{}}
}

func statInode(path string) (id inode, size int64, err error) {
	var st unix.Statx_t
	if err = unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_INO|unix.STATX_BTIME|unix.STATX_SIZE|unix.STATX_TYPE, &st); err != nil {
		return inode{}, 0, fmt.Errorf("statx %s: %w", path, err)
	}
	dir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	return inode{st.Ino, st.Btime.Sec, int64(st.Btime.Nsec), dir}, int64(st.Size), nil
}

// see follows a call that is about to be made, or about to fail.
func (p *platter) see(c sysCall, fails bool) {
	if c.nr != unix.SYS_PWRITE64 && c.nr != unix.SYS_FDATASYNC && c.nr != unix.SYS_FSYNC {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	id, size, err := statInode(c.file())
	switch {
	case err != nil:
	case id.dir:
		if !fails {
			err = p.syncNames(id, c.file())
		}
	case c.nr == unix.SYS_PWRITE64:
		if from, n := int64(c.args[3]), int64(c.args[2]); !fails {
			f := p.file(id)
			f.wrote = true
			for page := from / pageSize; page*pageSize < from+n; page++ {
				f.dirty[page] = true
			}
		}
	default:
		err = p.file(id).sync(c.file(), size, fails)
	}
	if err != nil {
		panic(err)
	}
}

func (p *platter) file(id inode) *image {
	if p.files[id] == nil {
		p.files[id] = &image{pages: map[int64][]byte{}, dirty: map[int64]bool{}}
	}
	return p.files[id]
}

// sync takes over what was written. It reads with read, as pread is stopped.
func (f *image) sync(path string, size int64, fails bool) error {
	defer clear(f.dirty)
	if fails {
		return nil
	}
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // only read
	for page := int64(0); !f.wrote && page*pageSize < size; page++ {
		f.dirty[page] = true
	}
	f.size = size
	at := int64(-1)
	for _, page := range slices.Sorted(maps.Keys(f.dirty)) {
		if page != at {
			if _, err := file.Seek(page*pageSize, io.SeekStart); err != nil {
				return err
			}
		}
		b := make([]byte, pageSize)
		n, err := io.ReadFull(file, b)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return err
		}
		at = page + 1
		if f.pages[page] = b[:n]; bytes.Equal(b, make([]byte, pageSize)) {
			delete(f.pages, page)
		}
	}
	return nil
}

func (f *image) write(path string) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	err = file.Truncate(f.size)
	for page, b := range f.pages {
		if page*pageSize >= f.size {
			continue
		}
		_, serr := file.Seek(page*pageSize, io.SeekStart)
		_, werr := file.Write(b[:min(int64(len(b)), f.size-page*pageSize)])
		err = errors.Join(err, serr, werr)
	}
	return errors.Join(err, file.Close())
}

func (p *platter) syncNames(id inode, path string) error {
	names, err := namesIn(path)
	p.names[id] = names
	return err
}

func namesIn(path string) (map[string]inode, error) {
	files, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	names := map[string]inode{}
	for _, f := range files {
		if names[f.Name()], _, err = statInode(filepath.Join(path, f.Name())); err != nil {
			return nil, err
		}
	}
	return names, nil
}

// after makes a directory as it is found after a power cut. Names that were changed and
// not synced are as they were before, or, with eager, as they are now: a file system
// may write them earlier than data, too.
func (p *platter) after(t *testing.T, to string, eager bool) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	root, _, err := statInode(p.dir)
	if err == nil {
		err = p.restore(root, p.dir, to, eager)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (p *platter) restore(id inode, now, to string, eager bool) error {
	if !id.dir {
		return p.file(id).write(to)
	}
	names := p.names[id]
	if eager {
		var err error
		if names, err = namesIn(now); err != nil {
			return err
		}
	}
	if err := os.Mkdir(to, 0o700); err != nil {
		return err
	}
	for name, child := range names {
		if err := p.restore(child, filepath.Join(now, name), filepath.Join(to, name), eager); err != nil {
			return err
		}
	}
	return nil
}

// TestFirstRecordSurvivesAPowerCut cuts the power right after the first Append to a new
// segment: its name must have been synced as well.
func TestFirstRecordSurvivesAPowerCut(t *testing.T) {
	if !isolated(t) {
		return
	}
	sup := supervise(t)
	dir := filepath.Join(t.TempDir(), "spool")
	disk := newPlatter(dir)
	sup.over(t, dir, func(c sysCall) syscall.Errno {
		disk.see(c, false)
		return 0
	})
	s := open(t, spool.Options{Dir: dir, SegmentBytes: 64 << 10})
	for i, r := range []spool.Record{record(0), kib(1, 100), record(2)} { // the last in another segment
		mustAppend(t, s, r)
		after := fmt.Sprintf("%s-%d", dir, i)
		disk.after(t, after, false)
		next := open(t, spool.Options{Dir: after})
		mustAdopt(t, next, i+1)
		wantIDs(t, drain(t, next), i+1)
	}
}

// TestBackupSurvivesAPowerCut cuts the power once Backup has returned: the names of the
// owners in the new SpoolDir must have been synced as well.
func TestBackupSurvivesAPowerCut(t *testing.T) {
	if !isolated(t) {
		return
	}
	sup := supervise(t)
	parent := t.TempDir()
	disk := newPlatter(parent)
	sup.over(t, parent, func(c sysCall) syscall.Errno {
		disk.see(c, false)
		return 0
	})
	s := open(t, spool.Options{Dir: filepath.Join(parent, "spool"), Timeout: -1})
	mustAppend(t, s, records(0, 10)...)
	if err := s.Backup(t.Context(), filepath.Join(parent, "deep", "copy")); err != nil {
		t.Fatal(err)
	}
	after := filepath.Join(t.TempDir(), "after")
	disk.after(t, after, false)
	next := open(t, spool.Options{Dir: filepath.Join(after, "deep", "copy"), AdoptOnly: true})
	mustAdopt(t, next, 10)
	wantIDs(t, drain(t, next), 10)
}
