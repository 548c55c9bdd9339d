package redistest_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/jobspool/jobspool/queue/redistest"
)

const pushScript = `redis.call("RPUSH", KEYS[1], ARGV[1]) return 1`

// client connects without retries, so that each loss shows.
func client(t *testing.T, addr string) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1, ReadTimeout: 5 * time.Second})
	t.Cleanup(func() { c.Close() })
	return c
}

// proxied starts a server, a proxy in front of it, and a client of each. The
// script is loaded.
func proxied(t *testing.T) (p *redistest.Proxy, through, direct *redis.Client, sha string) {
	t.Helper()
	s := redistest.Run(t, redistest.Options{})
	p = redistest.NewProxy(t, s.Addr())
	direct = client(t, s.Addr())
	sha, err := direct.ScriptLoad(t.Context(), pushScript).Result()
	must(t, err)
	return p, client(t, p.Addr()), direct, sha
}

// eventually waits until cond is true.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !cond(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// length returns how many jobs the script has pushed.
func length(t *testing.T, c *redis.Client) int64 {
	t.Helper()
	n, err := c.LLen(t.Context(), "list").Result()
	must(t, err)
	return n
}

func TestProxyPassesOn(t *testing.T) {
	p, c, _, sha := proxied(t)
	big := strings.Repeat("x", 1<<20)
	must(t, c.Set(t.Context(), "big", big, 0).Err())
	if got, err := c.Get(t.Context(), "big").Result(); err != nil || got != big {
		t.Fatalf("Get: %d bytes, %v", len(got), err)
	}
	must(t, c.ConfigGet(t.Context(), "*").Err())
	if err := c.Get(t.Context(), "none").Err(); !errors.Is(err, redis.Nil) {
		t.Errorf("Get of nothing: %v", err)
	}
	if _, err := c.Pipelined(t.Context(), func(pipe redis.Pipeliner) error {
		for range 1000 {
			pipe.EvalSha(t.Context(), sha, []string{"list"}, "job")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if n := p.Requests("EVALSHA"); n != 1000 {
		t.Errorf("%d EVALSHA passed, want 1000", n)
	}
	expect(t, p.Addr(), "PING", "+PONG") // inline
}

func TestProxyPushes(t *testing.T) {
	p, c, direct, sha := proxied(t)
	sub := c.Subscribe(t.Context(), "news")
	defer sub.Close()
	if _, err := sub.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	must(t, direct.Publish(t.Context(), "news", "hello").Err())
	if m, err := sub.ReceiveMessage(t.Context()); err != nil || m.Payload != "hello" {
		t.Fatalf("%v, %v", m, err)
	}
	must(t, c.EvalSha(t.Context(), sha, []string{"list"}, "job").Err())
	if n := p.Requests("SUBSCRIBE"); n != 1 {
		t.Errorf("%d SUBSCRIBE passed, want 1", n)
	}
}

// pipeline sends n calls of the script over a connection of its own and returns
// what comes back until it ends, and how it ends.
func pipeline(t *testing.T, addr, sha string, n int) (string, error) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	must(t, err)
	defer conn.Close()
	must(t, conn.SetDeadline(time.Now().Add(500*time.Millisecond)))
	// Neither of the first two is counted.
	_, err = fmt.Fprintf(conn, "INCR number\r\nEVALSHA %040d 0\r\n%s", 0,
		strings.Repeat("evalsha "+sha+" 1 list job\r\n", n))
	must(t, err)
	got, err := io.ReadAll(conn)
	return string(got), err
}

// TestProxyCutsAfterPush: what is pushed in between is not taken for a reply.
func TestProxyCutsAfterPush(t *testing.T) {
	p, _, direct, sha := proxied(t)
	p.CutAfterReplies(1, redistest.CutFIN)
	conn, err := net.Dial("tcp", p.Addr())
	must(t, err)
	defer conn.Close()
	must(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
	call := "EVALSHA " + sha + " 1 list job\r\n"
	_, err = io.WriteString(conn, "HELLO 3\r\nSUBSCRIBE news\r\n"+call+"\r\n"+call)
	must(t, err)
	got, err := io.ReadAll(conn)
	if err != nil || !strings.HasSuffix(string(got), ">3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n:1\r\n") {
		t.Errorf("got %q, %v", got, err)
	}
	eventually(t, "Redis executes both", func() bool { return length(t, direct) == 2 })
}

func TestProxyCutAfterReplies(t *testing.T) {
	const passed = ":1\r\n-NOSCRIPT No matching script. Please use EVAL.\r\n:1\r\n:1\r\n"
	for _, tc := range []struct {
		name string
		how  redistest.CutMode
		got  string
		want error
	}{
		{"FIN", redistest.CutFIN, passed, nil},
		{"RST", redistest.CutRST, passed, syscall.ECONNRESET},
		{"half", redistest.CutHalf, passed + ":1", nil},
		{"hang", redistest.CutHang, passed, os.ErrDeadlineExceeded},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, c, direct, sha := proxied(t)
			cut := p.CutAfterReplies(2, tc.how)
			got, err := pipeline(t, p.Addr(), sha, 5)
			if got != tc.got || !errors.Is(err, tc.want) {
				t.Errorf("got %q, %v; want %q, %v", got, err, tc.got, tc.want)
			}
			<-cut
			eventually(t, "Redis executes what was sent", func() bool { return length(t, direct) == 5 })
			must(t, c.EvalSha(t.Context(), sha, []string{"list"}, "cut once only").Err())
		})
	}
}

// TestProxyCutsClient sees that a client of go-redis, which greets with HELLO,
// loses the reply that is meant.
func TestProxyCutsClient(t *testing.T) {
	p, c, direct, sha := proxied(t)
	p.CutAfterReplies(1, redistest.CutFIN)
	for i, want := range []error{nil, io.EOF, nil} {
		if err := c.EvalSha(t.Context(), sha, []string{"list"}, i).Err(); !errors.Is(err, want) {
			t.Errorf("%d: %v, want %v", i, err, want)
		}
		if n := length(t, direct); n != int64(i+1) {
			t.Errorf("Redis has executed %d, want %d", n, i+1)
		}
	}
}

// TestProxyHoldsRequest: two requests arrive late and in order, although the
// client has gone, while another client is served.
func TestProxyHoldsRequest(t *testing.T) {
	p, c, direct, sha := proxied(t)
	must(t, c.Ping(t.Context()).Err())
	const held = 400 * time.Millisecond
	p.HoldRequests(held)
	begin := time.Now()
	conn, err := net.Dial("tcp", p.Addr())
	must(t, err)
	_, err = fmt.Fprintf(conn, "EVALSHA %[1]s 1 list first\r\nEVALSHA %[1]s 1 list second\r\n", sha)
	must(t, err)
	must(t, conn.Close())
	must(t, c.Ping(t.Context()).Err())
	if n := length(t, direct); n != 0 && time.Since(begin) < held {
		t.Fatalf("Redis has executed %d already", n)
	}
	eventually(t, "the held requests arrive", func() bool { return length(t, direct) == 2 })
	if took := time.Since(begin); took < held {
		t.Errorf("arrived after %v", took)
	}
	if first, err := direct.LIndex(t.Context(), "list", 0).Result(); err != nil || first != "first" {
		t.Errorf("first is %q, %v", first, err)
	}
	must(t, c.EvalSha(t.Context(), sha, []string{"list"}, "held once only").Err())
}

// TestProxyHoldsClient sees that a client of go-redis gives up on what is held.
func TestProxyHoldsClient(t *testing.T) {
	p, _, direct, sha := proxied(t)
	c := redis.NewClient(&redis.Options{Addr: p.Addr(), MaxRetries: -1, ReadTimeout: 100 * time.Millisecond})
	p.HoldRequests(300 * time.Millisecond)
	var ne net.Error
	if err := c.EvalSha(t.Context(), sha, []string{"list"}, "late").Err(); !errors.As(err, &ne) || !ne.Timeout() {
		t.Errorf("%v, want a timeout", err)
	}
	must(t, c.Close())
	eventually(t, "the held request arrives", func() bool { return length(t, direct) == 1 })
}

func TestProxyFreeze(t *testing.T) {
	p, c, direct, sha := proxied(t)
	must(t, c.Ping(t.Context()).Err())
	p.Freeze()
	p.Freeze()
	done := make(chan error, 1)
	go func() { done <- c.EvalSha(t.Context(), sha, []string{"list"}, "job").Err() }()
	select {
	case err := <-done:
		t.Fatalf("answered while frozen: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	if n := length(t, direct); n != 0 {
		t.Errorf("%d passed while frozen", n)
	}
	p.Thaw()
	p.Thaw()
	must(t, <-done)
	if n := length(t, direct); n != 1 {
		t.Errorf("%d after Thaw, want 1", n)
	}
}

func TestProxyLatency(t *testing.T) {
	p, c, _, _ := proxied(t)
	must(t, c.Ping(t.Context()).Err())
	const latency = 100 * time.Millisecond
	p.Latency(latency)
	begin := time.Now()
	must(t, c.Ping(t.Context()).Err())
	if took := time.Since(begin); took < latency {
		t.Errorf("a round trip took %v, want %v at least", took, latency)
	}
	// A pipeline waits once; one after another it would be 500 s.
	begin = time.Now()
	_, err := c.Pipelined(t.Context(), func(pipe redis.Pipeliner) error {
		for i := range 5000 {
			pipe.Set(t.Context(), fmt.Sprint(i), i, 0)
		}
		return nil
	})
	must(t, err)
	if took := time.Since(begin); took < latency || took > 50*latency {
		t.Errorf("a pipeline took %v", took)
	}
}

func TestProxyCutRefuseAccept(t *testing.T) {
	p, c, _, _ := proxied(t)
	must(t, c.Ping(t.Context()).Err())
	conn, err := net.Dial("tcp", p.Addr())
	must(t, err)
	defer conn.Close()
	io.WriteString(conn, "PING\r\n")
	if _, err := conn.Read(make([]byte, 7)); err != nil {
		t.Fatal(err)
	}
	p.Refuse()
	p.Refuse()
	must(t, c.Ping(t.Context()).Err()) // existing connections stay
	p.Cut()
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read after Cut: %v, want a reset", err)
	}
	if err := c.Ping(t.Context()).Err(); !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, io.EOF) {
		t.Errorf("Ping after Cut: %v", err)
	}
	if _, err := net.Dial("tcp", p.Addr()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dial after Refuse: %v, want a refusal", err)
	}
	p.Accept()
	p.Accept()
	eventually(t, "connects again", func() bool { return c.Ping(t.Context()).Err() == nil })
}

func TestProxySetTarget(t *testing.T) {
	p, c, _, _ := proxied(t)
	must(t, c.Set(t.Context(), "where", "here", 0).Err())
	other := redistest.Run(t, redistest.Options{})
	p.SetTarget(other.Addr())
	must(t, c.Get(t.Context(), "where").Err())
	p.Cut()
	eventually(t, "the other is asked", func() bool {
		return errors.Is(c.Get(t.Context(), "where").Err(), redis.Nil)
	})
	must(t, other.Kill())
	if err := c.Ping(t.Context()).Err(); err == nil {
		t.Error("Ping of a dead target: no error")
	}
	must(t, other.Restart())
	eventually(t, "connects again", func() bool { return c.Ping(t.Context()).Err() == nil })
}
