package chaos_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// disk is a small ext4 file system of a test's own, in a file.
type disk struct {
	testing.TB // since mount

	bytes int64 // of the file system

	dir   string // the mounted file system
	image string // the file
}

const (
	mebi = 1 << 20

	// requireRoot, if set, makes a test fail rather than be skipped that cannot mount.
	requireRoot = "SPOOL_TEST_REQUIRE_ROOT"
)

// mount makes the file system and returns where it is. Without root the test is skipped.
func (d *disk) mount(tb testing.TB) string {
	tb.Helper()
	d.TB = tb
	if os.Getuid() != 0 {
		if os.Getenv(requireRoot) != "" {
			tb.Fatal("only root can mount")
		}
		tb.Skip("only root can mount")
	}
	d.dir, d.image = tb.TempDir(), filepath.Join(tb.TempDir(), "image")
	if err := errors.Join(os.WriteFile(d.image, nil, 0o600), os.Truncate(d.image, d.bytes)); err != nil {
		tb.Fatal(err)
	}
	run(tb, "mkfs.ext4", "-q", d.image)
	d.attach()
	tb.Cleanup(func() { run(tb, "umount", d.dir) })
	return d.dir
}

func (d *disk) attach() {
	d.Helper()
	run(d, "mount", "-o", "loop", d.image, d.dir)
}

// remount takes the file system away and brings it back, as after a repair. Nobody may use it.
func (d *disk) remount() {
	d.Helper()
	run(d, "umount", d.dir)
	// Exit status 1: mended.
	if out, err := exec.Command("fsck.ext4", "-fy", d.image).CombinedOutput(); err != nil && !strings.Contains(err.Error(), "status 1") {
		d.Errorf("fsck: %v: %s", err, out)
	}
	d.attach()
}

// full takes all the space there is; free ends that.
func (d *disk) full() {
	d.Helper()
	f, err := os.Create(d.filler())
	if err != nil {
		d.Fatal(err)
	}
	for block := make([]byte, 64<<10); err == nil; {
		_, err = f.Write(block)
	}
	if err := f.Close(); err != nil {
		d.Fatal(err)
	}
}

func (d *disk) free() {
	d.Helper()
	if err := os.Remove(d.filler()); err != nil {
		d.Fatal(err)
	}
}

func (d *disk) filler() string { return filepath.Join(d.dir, "filler") }

// freeze makes all writes hang until thaw, or until the test ends: it could not unmount.
func (d *disk) freeze() {
	d.Helper()
	d.Cleanup(func() { _ = d.control(fiThaw) })
	if err := d.control(fiFreeze); err != nil {
		d.Fatal(err)
	}
}

func (d *disk) thaw() {
	d.Helper()
	if err := d.control(fiThaw); err != nil {
		d.Fatal(err)
	}
}

func (d *disk) control(request uint) error {
	f, err := os.Open(d.dir)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	return unix.IoctlSetInt(int(f.Fd()), request, 0)
}

// abort makes the file system read-only, as the kernel does after an error.
func (d *disk) abort() {
	d.Helper()
	run(d, "mount", "-o", "remount,abort", d.dir)
}

func run(tb testing.TB, name string, args ...string) {
	tb.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		tb.Errorf("%s %v: %v: %s", name, args, err, out)
	}
}

// Of linux/fs.h.
const (
	fiFreeze = 0xC0045877
	fiThaw   = 0xC0045878
)
