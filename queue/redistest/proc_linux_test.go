package redistest_test

import (
	"bufio"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jobspool/jobspool/queue/redistest"
)

// TestDiesWithParent runs this test again in a process that starts a server,
// prints its address, and waits to be killed.
func TestDiesWithParent(t *testing.T) {
	if os.Getenv("REDISTEST_PARENT") != "" {
		s := redistest.Run(t, redistest.Options{Dir: os.Getenv("REDISTEST_PARENT")})
		os.Stdout.WriteString(s.Addr() + "\n")
		select {}
	}
	parent := exec.Command(os.Args[0], "-test.run=^TestDiesWithParent$")
	parent.Env = append(os.Environ(), "REDISTEST_PARENT="+t.TempDir())
	out, err := parent.StdoutPipe()
	must(t, err)
	must(t, parent.Start())
	addr, err := bufio.NewReader(out).ReadString('\n')
	must(t, parent.Process.Kill())
	_ = parent.Wait()
	must(t, err)
	addr = strings.TrimSpace(addr)
	for deadline := time.Now().Add(10 * time.Second); ; runtime.Gosched() {
		if _, err := try(addr, "PING", time.Second); err != nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the server at %s outlives its parent", addr)
		}
	}
}

// onDyingThread runs f on a thread that ends when f has returned, and returns
// the thread's ID.
func onDyingThread(f func()) (id int) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if id = syscall.Gettid(); id == os.Getpid() {
			// The main thread never ends. Held here, it cannot be the next one.
			id = onDyingThread(f)
			runtime.UnlockOSThread()
			return
		}
		f()
	}()
	<-done
	return id
}

// TestOutlivesThread starts a server from a thread that then ends, which must
// not be taken for the end of the parent.
func TestOutlivesThread(t *testing.T) {
	var s *redistest.Server
	var err error
	thread := onDyingThread(func() { s, err = redistest.Start(redistest.Options{}) })
	must(t, err)
	defer s.Close()
	for deadline := time.Now().Add(10 * time.Second); syscall.Tgkill(os.Getpid(), thread, 0) == nil; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("thread %d does not end", thread)
		}
	}
	expect(t, s.Addr(), "PING", "+PONG")
}

func TestOwnProcessGroup(t *testing.T) {
	s := redistest.Run(t, redistest.Options{})
	if group, err := syscall.Getpgid(s.Pid()); err != nil || group != s.Pid() {
		t.Errorf("process group %d, %v; want one of its own, %d", group, err, s.Pid())
	}
}
