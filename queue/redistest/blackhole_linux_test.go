package redistest_test

import (
	"errors"
	"net"
	"testing"
	"time"

	"github.com/jobspool/jobspool/queue/redistest"
)

func TestBlackHole(t *testing.T) {
	addr := redistest.BlackHole(t)
	conn, err := net.DialTimeout("tcp", addr, 300*time.Millisecond)
	if err == nil {
		conn.Close()
	}
	var ne net.Error
	if !errors.As(err, &ne) || !ne.Timeout() {
		t.Errorf("dial: %v, want a timeout", err)
	}
}
