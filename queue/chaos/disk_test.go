package chaos_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// disk is a small ext4 file system of a test's own, in an image that lies on a tmpfs of its
// own. Where that tmpfs is full, writing to the file system fails with EIO.
type disk struct {
	testing.TB // since mount

	bytes   int64 // of the file system
	journal bool  // else EIO is only that, and does not make the file system read-only

	dir  string // the mounted file system
	back string // the tmpfs that the image is on
}

const (
	mebi = 1 << 20

	// requireRoot, if set, makes a test fail rather than be skipped that cannot mount.
	requireRoot = "SPOOL_TEST_REQUIRE_ROOT"
)

var mounted atomic.Int64

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
	base := tb.TempDir()
	d.back, d.dir = filepath.Join(base, "back"), filepath.Join(base, "disk")
	for _, dir := range []string{d.back, d.dir} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			tb.Fatal(err)
		}
	}
	image := filepath.Join(d.back, "image")
	run(tb, "mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%d", 2*d.bytes), fmt.Sprint("chaos", mounted.Add(1)), d.back)
	tb.Cleanup(func() { run(tb, "umount", d.back) })
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		tb.Fatal(err)
	}
	if err := os.Truncate(image, d.bytes); err != nil {
		tb.Fatal(err)
	}
	features := "has_journal"
	if !d.journal {
		features = "^has_journal"
	}
	run(tb, "mkfs.ext4", "-q", "-O", features, image)
	d.attach()
	tb.Cleanup(func() { run(tb, "umount", d.dir) })
	return d.dir
}

func (d *disk) attach() {
	d.Helper()
	run(d, "mount", "-o", "loop", filepath.Join(d.back, "image"), d.dir)
}

// remount takes the file system away and brings it back, as after a repair. Nobody may use it.
func (d *disk) remount() {
	d.Helper()
	run(d, "umount", d.dir)
	// Exit status 1: mended.
	image := filepath.Join(d.back, "image")
	if out, err := exec.Command("fsck.ext4", "-fy", image).CombinedOutput(); err != nil && !strings.Contains(err.Error(), "status 1") {
		d.Errorf("fsck: %v: %s", err, out)
	}
	d.attach()
}

// fail makes writes to blocks that were never written fail with EIO; repair ends that.
func (d *disk) fail() { d.fill(d.back) }

func (d *disk) repair() { d.empty(d.back) }

// full makes the disk full; free ends that.
func (d *disk) full() { d.fill(d.dir) }

func (d *disk) free() { d.empty(d.dir) }

// fill takes all the space of a file system.
func (d *disk) fill(dir string) {
	d.Helper()
	f, err := os.Create(filepath.Join(dir, "filler"))
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

func (d *disk) empty(dir string) {
	d.Helper()
	if err := os.Remove(filepath.Join(dir, "filler")); err != nil {
		d.Fatal(err)
	}
}

// freeze makes all writes hang until thaw.
func (d *disk) freeze() { d.control(fiFreeze) }

func (d *disk) thaw() { d.control(fiThaw) }

func (d *disk) control(request uint) {
	d.Helper()
	f, err := os.Open(d.dir)
	if err != nil {
		d.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if err := unix.IoctlSetInt(int(f.Fd()), request, 0); err != nil {
		d.Fatal(err)
	}
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
