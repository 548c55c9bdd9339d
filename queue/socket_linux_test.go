package queue_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jobspool/jobspool/queue"
)

// dialsAs makes this program, run as a child, connect to a socket as nobody.
const dialsAs = "QUEUE_TEST_DIALS"

const nobody = 65534

// dialAsNobody is the child of TestSocketAsksWhoCalls. It prints what it was told.
func dialAsNobody(path string) {
	conn, err := net.Dial("unix", path)
	if err == nil {
		_, _ = io.WriteString(conn, "GET /v1/status HTTP/1.0\r\n\r\n")
		var answer []byte
		answer, err = io.ReadAll(conn)
		fmt.Printf("%q ", answer)
	}
	fmt.Println(err)
}

// TestSocketAsksWhoCalls: also where the modes of files would let somebody in.
func TestSocketAsksWhoCalls(t *testing.T) {
	if path := os.Getenv(dialsAs); path != "" {
		must(t, errors.Join(syscall.Setgroups(nil), syscall.Setgid(nobody), syscall.Setuid(nobody)))
		dialAsNobody(path)
		return
	}
	if os.Geteuid() != 0 {
		if os.Getenv("SPOOL_TEST_REQUIRE_ROOT") != "" {
			t.Fatal("needs root")
		}
		t.Skip("needs root, to call as another user")
	}
	dir := t.TempDir()
	newProducer(t, queue.Config{Redis: server(away), SpoolDir: dir})
	path := socketOf(t, dir)
	must(t, os.Chmod(path, 0o777))
	for d := filepath.Dir(path); strings.Contains(d, t.Name()); d = filepath.Dir(d) {
		must(t, os.Chmod(d, 0o777)) //nolint:gosec // the point of the test
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestSocketAsksWhoCalls$", "-test.v")
	cmd.Env = append(os.Environ(), dialsAs+"="+path)
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Contains(string(out), "HTTP/1.") || strings.Contains(string(out), "permission denied") {
		t.Errorf("%v: %s", err, out)
	}
	var st queue.Status
	if code, text := ask(t, overSocket(t, path), "GET", "http://x/v1/status", "", &st); code != 200 {
		t.Errorf("the owner: %d %s", code, text)
	}
}
