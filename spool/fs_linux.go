package spool

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// allocate reserves disk blocks and makes the file longer by them. Where the file
// system cannot, writing zeros does.
func allocate(f *os.File, from, n int64) error {
	err := ignoringEINTR(func() error { return unix.Fallocate(int(f.Fd()), 0, from, n) })
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return writeZeros(f, from, n)
	}
	if err != nil {
		return &os.PathError{Op: "fallocate", Path: f.Name(), Err: err}
	}
	return nil
}

func ignoringEINTR(fn func() error) error {
	for {
		if err := fn(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// readAheadStep is how much Linux reads for one wish: more than the device's read-ahead,
// 128 KiB unless somebody has raised it, is silently cut.
const readAheadStep = 128 << 10

// readAhead asks the system to read a part of the file into the page cache. bbolt asks
// it not to read ahead by itself.
func readAhead(f *os.File, from, n int64) {
	for end := from + n; from < end; from += readAheadStep {
		_ = unix.Fadvise(int(f.Fd()), from, readAheadStep, unix.FADV_WILLNEED) // a wish
	}
}

// fsWarning says what is wrong with the file system of dir for a spool, or nothing.
// The numbers are of statfs(2) and linux/magic.h.
func fsWarning(dir string) string {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return ""
	}
	switch uint32(st.Type) { //nolint:gosec // the width differs between architectures
	case unix.TMPFS_MAGIC, unix.RAMFS_MAGIC:
		return "tmpfs: in memory, lost when the machine or the pod restarts"
	case unix.OVERLAYFS_SUPER_MAGIC:
		return "overlayfs: most likely a container's own layer, lost with the container"
	case unix.NFS_SUPER_MAGIC, unix.SMB_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC, unix.V9FS_MAGIC, unix.CEPH_SUPER_MAGIC, unix.AFS_SUPER_MAGIC:
		return "network file system: locks may not keep two hosts apart, and a hanging server is a hanging disk"
	case unix.FUSE_SUPER_MAGIC:
		return "FUSE: whether locks and fsync do what they say depends on its server"
	}
	return ""
}
