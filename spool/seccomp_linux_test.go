//go:build amd64 || arm64

package spool_test

import (
	"bytes"
	"fmt"
	"os"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Faults are injected where the package meets the system: a seccomp filter stops
// each system call that matters in this very process, and a goroutine, the supervisor,
// says whether it goes on, fails, or waits.
//
// strace -e inject= can do the same but counts calls for each thread apart
// (strace(1): "Accounting of syscalls that are subject to injection is done per syscall
// and per tracee"), and Go runs each disk operation on whatever thread is free: "the
// third fdatasync" would be another one in each run. Here one counter sees all calls,
// in the order they are made, and nothing has to be installed. A filter cannot be taken
// off again, so a test that has one runs isolated.

// What is stopped, beside mmap of a file: all that the package does to disks, but for
// what the supervisor and the runtime need themselves: read, write and close. Only calls
// of Go code are: a thread that waits in the C library, which loads a part of itself
// when a thread ends, would keep Go from running the supervisor.
var supervised = []uint32{
	unix.SYS_FDATASYNC, unix.SYS_FSYNC, unix.SYS_PREAD64, unix.SYS_PWRITE64, unix.SYS_FALLOCATE, unix.SYS_FTRUNCATE,
	unix.SYS_RENAMEAT, unix.SYS_UNLINKAT, unix.SYS_LINKAT, unix.SYS_MKDIRAT, unix.SYS_OPENAT,
}

// sysCall is a system call that waits for an answer.
type sysCall struct {
	nr   int
	args [6]uint64
	path string // of the file; of two, the first
}

// pathOf returns the file that a call is about.
func pathOf(n *seccompNotif) string {
	fd := n.args[0]
	switch n.nr {
	case unix.SYS_RENAMEAT, unix.SYS_UNLINKAT, unix.SYS_LINKAT, unix.SYS_MKDIRAT, unix.SYS_OPENAT:
		return textAt(uintptr(n.args[1]))
	case unix.SYS_MMAP:
		fd = n.args[4]
	}
	path, _ := os.Readlink(fdPath(fd)) // readlinkat is not stopped
	return path
}

// textAt reads a string of a caller, who waits.
func textAt(at uintptr) string {
	b := make([]byte, unix.PathMax)
	rest := pageSize - int(at%pageSize) // the next page may not be there
	remote := []unix.RemoteIovec{{Base: at, Len: rest}, {Base: at + uintptr(rest), Len: len(b) - rest}}
	n, _ := unix.ProcessVMReadv(os.Getpid(), []unix.Iovec{{Base: &b[0], Len: uint64(len(b))}}, remote, 0)
	text, _, _ := bytes.Cut(b[:max(n, 0)], []byte{0})
	return string(text)
}

// file is a way to the open file of a call that is under no rule.
func (c sysCall) file() string { return fdPath(c.args[0]) }

func fdPath(fd uint64) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }

// rule decides about a call: 0 lets it go on. It runs for several calls at once, may
// wait, and must make no system call that is stopped itself.
type rule func(sysCall) syscall.Errno

// supervisors is how many calls may be waiting for an answer; others wait for their turn.
const supervisors = 8

type supervisor struct {
	listener int

	mu    sync.Mutex
	rules map[string]rule // by directory; guarded by mu
}

// over rules over all under a directory, until the test ends; nil lets everything go on.
func (s *supervisor) over(t *testing.T, dir string, r rule) {
	t.Helper()
	s.set(dir, r)
	t.Cleanup(func() { s.set(dir, nil) })
}

func (s *supervisor) set(dir string, r rule) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r == nil {
		delete(s.rules, dir)
		return
	}
	s.rules[dir] = r
}

// ask returns what becomes of a call.
func (s *supervisor) ask(c sysCall) syscall.Errno {
	s.mu.Lock()
	var r rule
	for dir, of := range s.rules {
		if strings.HasPrefix(c.path, dir+"/") || c.path == dir {
			r = of
		}
	}
	s.mu.Unlock()
	if r == nil {
		return 0
	}
	return r(c)
}

// supervise puts this process under a supervisor, until it ends.
func supervise(t *testing.T) *supervisor {
	t.Helper()
	s := &supervisor{rules: map[string]rule{}}
	var err error
	if s.listener, err = installFilter(); err != nil {
		lacking(t, fmt.Errorf("seccomp filter: %w", err))
	}
	for range supervisors {
		go s.run()
	}
	return s
}

func installFilter() (listener int, err error) {
	const (
		load   = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal  = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		answer = unix.BPF_RET | unix.BPF_K
	)
	n := uint8(len(supervised))
	filter := []unix.SockFilter{
		{Code: load, K: 12}, // upper half of the address of the instruction
		{Code: equal, K: uint32(uint64(reflect.ValueOf(installFilter).Pointer()) >> 32), Jf: n + 5},
		{Code: load, K: 0}, // the number
		{Code: equal, K: unix.SYS_MMAP, Jf: 3},
		{Code: load, K: 16 + 4*8}, // the file descriptor
		{Code: equal, K: 1<<32 - 1, Jt: n + 1, Jf: n + 2},
		{Code: load, K: 0},
	}
	for i, nr := range supervised {
		filter = append(filter, unix.SockFilter{Code: equal, K: nr, Jt: n - uint8(i)})
	}
	filter = append(filter, unix.SockFilter{Code: answer, K: unix.SECCOMP_RET_ALLOW}, unix.SockFilter{Code: answer, K: unix.SECCOMP_RET_USER_NOTIF})
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}

	runtime.LockOSThread() // the permission is the thread's, the filter comes to all
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return 0, err
	}
	const flags = unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_TSYNC | unix.SECCOMP_FILTER_FLAG_TSYNC_ESRCH
	// With the first, a signal does not make a call that waits come again (Linux 5.19).
	for _, more := range []uintptr{unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, 0} {
		fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags|more, uintptr(unsafe.Pointer(&prog)))
		if errno == 0 {
			return int(fd), nil
		}
		err = errno
	}
	return 0, err
}

// As in linux/seccomp.h.
type seccompNotif struct {
	id    uint64
	pid   uint32
	flags uint32
	nr    int32
	arch  uint32
	ip    uint64
	args  [6]uint64
}

type seccompNotifResp struct {
	id    uint64
	val   int64
	err   int32
	flags uint32
}

func (s *supervisor) run() {
	for {
		var n seccompNotif
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(s.listener), unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&n)))
		if errno == 0 {
			s.answer(n)
		} else if errno != unix.EINTR && errno != unix.ENOENT { // ENOENT: the caller is gone
			panic(errno)
		}
	}
}

func (s *supervisor) answer(n seccompNotif) {
	resp := seccompNotifResp{id: n.id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
	if errno := s.ask(sysCall{nr: int(n.nr), args: n.args, path: pathOf(&n)}); errno != 0 {
		resp.err, resp.flags = -int32(errno), 0
	}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(s.listener), unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&resp)))
	if errno != 0 && errno != unix.ENOENT {
		panic(errno)
	}
}
