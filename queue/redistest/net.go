package redistest

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"time"
)

// Ports are taken from below the range that operating systems give to outgoing
// connections (Linux from 32768, others from 49152). Out of that range, a
// client of a killed server could be given the server's own port as its source,
// connect to itself, and hold the port against Restart. Cluster mode, whose bus
// is at port+10000, fits too.
const (
	firstPort = 20000
	lastPort  = 29999

	// busOffset is from a node's port to that of its cluster bus.
	busOffset = 10000
)

// answerWithin bounds one try at PING.
const answerWithin = 500 * time.Millisecond

func loopback(port int) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}

// freePort returns a port that nobody listens on now.
func freePort() (int, error) {
	var errs []error
	for range 50 {
		port := firstPort + rand.IntN(lastPort-firstPort+1)
		ln, err := new(net.ListenConfig).Listen(context.Background(), "tcp", loopback(port))
		if err == nil {
			err = ln.Close()
		}
		if err == nil {
			return port, nil
		}
		errs = append(errs, err)
	}
	return 0, fmt.Errorf("redistest: no free port: %w", errors.Join(errs...))
}

// ready returns nil if process pid answers PING with PONG at addr. The process
// is asked for its ID, because with many tests at once another server may have
// been faster to take the port.
func ready(ctx context.Context, addr string, conf *tls.Config, pid int) error {
	conn, err := dial(ctx, addr)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if conf != nil {
		conn = tls.Client(conn, conf) // shakes hands at the first write
	}
	if _, err := io.WriteString(conn, "PING\r\nINFO server\r\n"); err != nil {
		return err
	}
	r := bufio.NewReader(conn)
	if line, err := r.ReadString('\n'); err != nil {
		return err
	} else if line != "+PONG\r\n" {
		return fmt.Errorf("PING answered %q", line)
	}
	return expectPid(r, pid)
}

// expectPid reads the reply to INFO up to the process ID.
func expectPid(r *bufio.Reader, pid int) error {
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return err
		}
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "-") {
			return fmt.Errorf("INFO answered %q", line)
		}
		if id, ok := strings.CutPrefix(line, "process_id:"); ok {
			if id != strconv.Itoa(pid) {
				return fmt.Errorf("process %s answers in place of %d", id, pid)
			}
			return nil
		}
	}
}

// dial connects, with a deadline for all that follows on the connection.
func dial(ctx context.Context, addr string) (net.Conn, error) {
	d := net.Dialer{Timeout: answerWithin}
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	if err := conn.SetDeadline(time.Now().Add(answerWithin)); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// waitRefused returns when nobody accepts connections at addr.
func waitRefused(addr string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return poll(ctx, addr+" refuses connections", func(ctx context.Context) error {
		conn, err := dial(ctx, addr)
		if err != nil {
			return nil //nolint:nilerr // that is what is waited for
		}
		_ = conn.Close()
		return errors.New("it accepts them")
	})
}
