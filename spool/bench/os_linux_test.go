package bench_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// datasync makes the content of f durable.
func datasync(f *os.File) error { return unix.Fdatasync(int(f.Fd())) }

// flushDisk waits for what others left to be written, so that no benchmark pays
// for the one before.
func flushDisk() { unix.Sync() }

// dropCache takes every file below dir out of the page cache. None may be mapped.
func dropCache(dir string) error {
	return eachFile(dir, func(path string, _ fs.FileInfo) error {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		return errors.Join(f.Sync(), unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED))
	})
}

// diskBytes is what the files below dir occupy: blocks, not lengths.
func diskBytes(dir string) (total int64, err error) {
	err = eachFile(dir, func(_ string, fi fs.FileInfo) error {
		total += fi.Sys().(*syscall.Stat_t).Blocks * 512 // st_blocks counts these, see stat(2)
		return nil
	})
	return total, err
}

func eachFile(dir string, do func(path string, fi fs.FileInfo) error) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		return do(path, fi)
	})
}

// anonBytes is the memory of this process that no file backs: Go's heap and
// stacks, not bbolt's maps.
func anonBytes() (int64, error) {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if kb, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(kb), " kB"), 10, 64)
			return n << 10, err
		}
	}
	return 0, errors.New("no RssAnon in /proc/self/status")
}

func kernel() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return err.Error()
	}
	return unix.ByteSliceToString(u.Sysname[:]) + " " + unix.ByteSliceToString(u.Release[:])
}

// fileSystem is the type and device of the file system that dir is on.
func fileSystem(dir string) string {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err.Error()
	}
	longest, found := -1, "unknown"
	for line := range strings.Lines(string(mounts)) { // see proc_pid_mountinfo(5)
		mount, source, _ := strings.Cut(line, " - ")
		fields, what := strings.Fields(mount), strings.Fields(source)
		if len(fields) < 5 || len(what) < 2 {
			continue
		}
		if point := fields[4]; len(point) > longest && below(dir, point) {
			longest, found = len(point), what[0]+" on "+what[1]
		}
	}
	return found
}

// below reports whether dir is point or inside of it.
func below(dir, point string) bool {
	rel, err := filepath.Rel(point, dir)
	return err == nil && filepath.IsLocal(rel)
}
