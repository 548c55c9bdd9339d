//go:build unix

package spool

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// allocated returns the bytes of a file's disk blocks.
func allocated(fi os.FileInfo) int64 {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return st.Blocks * 512 // the unit of st_blocks everywhere
	}
	return fi.Size()
}

// diskSpace returns the bytes free for this user, and the size of the file system.
func diskSpace(dir string) (free, total int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, 0, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return int64(st.Bavail) * int64(st.Bsize), int64(st.Blocks) * int64(st.Bsize), nil //nolint:unconvert // differs between systems
}

// unlockFile gives up bbolt's lock on a file.
func unlockFile(f *os.File) {
	_ = unix.Flock(int(f.Fd()), unix.LOCK_UN) // if not, whoever wants the lock says so
}

// otherUser returns the owner of a file if that is not this process's user.
func otherUser(fi os.FileInfo) (uid int, other bool) {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int(st.Uid), int(st.Uid) != os.Geteuid()
}
