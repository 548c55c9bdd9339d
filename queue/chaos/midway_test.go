package chaos_test

import (
	"bytes"
	"context"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/jobspool/jobspool/queue"
)

// orderMidway makes a producer kill itself when Redis has answered a batch of the replay, so
// many microseconds later: without any, before the Producer can know of the answer, and so
// before it can have committed what became of those jobs. It is answered.
const orderMidway = "midway "

// midway is the producer's side: its connections tell of the replay's batches. As an Observer
// it marks what is replayed.
type midway struct {
	armed atomic.Bool
	after atomic.Int64
}

// midwayMark is in the headers of each job that is replayed.
const midwayMark = "chaos-replayed"

func (m *midway) Begin(ctx context.Context, op *queue.Operation) context.Context {
	if op.Kind == queue.OpReplay {
		if err := op.SetHeaders(map[string]string{midwayMark: ""}); err != nil {
			say(report{Kind: reportTrouble, Text: err.Error()})
		}
	}
	return ctx
}

func (*midway) End(context.Context, *queue.Operation, error) {}

func (m *midway) opt(addr string) asynq.RedisConnOpt {
	return queue.FromClient(redis.NewClient(&redis.Options{
		Addr: addr,
		Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return &midwayConn{TCPConn: c.(*net.TCPConn), midway: m}, nil
		},
	}))
}

// arm carries out orderMidway.
func (m *midway) arm(order string) error {
	n, err := strconv.ParseInt(strings.TrimPrefix(order, orderMidway), 10, 64)
	m.after.Store(n)
	m.armed.Store(true)
	say(report{Kind: reportAnswer})
	return err
}

// kill ends the process as from outside.
func (m *midway) kill() {
	if after := time.Duration(m.after.Load()) * time.Microsecond; after > 0 {
		time.AfterFunc(after, func() { _ = syscall.Kill(syscall.Getpid(), syscall.SIGKILL) })
		return
	}
	say(report{Kind: reportMidway})
	_ = syscall.Kill(syscall.Getpid(), syscall.SIGKILL)
	select {}
}

// midwayConn is a connection to Redis.
type midwayConn struct {
	*net.TCPConn
	*midway
	replays atomic.Bool // jobs of the replay were written to it
}

func (c *midwayConn) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte(midwayMark)) {
		c.replays.Store(true)
	}
	return c.TCPConn.Write(b)
}

func (c *midwayConn) Read(b []byte) (int, error) {
	n, err := c.TCPConn.Read(b)
	// 1 is what asynq's scripts answer of a job that is taken.
	if c.armed.Load() && c.replays.Load() && bytes.Contains(b[:n], []byte(":1\r\n")) && c.armed.CompareAndSwap(true, false) {
		c.kill()
	}
	return n, err
}

// killMidway has all producers but the first kill themselves in the replay that begins when
// Redis is there again, and replaces them. The first of them does it before it knows the
// answer, the others at some time later.
func (w *world) killMidway(redisIsBack func()) {
	w.Helper()
	victims := w.retireProducers(1)
	for i, p := range victims {
		after := 0
		if i > 0 {
			after = w.number(3000)
		}
		p.ask(w, orderMidway+strconv.Itoa(after))
	}
	redisIsBack()
	for _, p := range victims {
		select {
		case <-p.ended:
			w.startProducer() // it adopts what the dead one left
		case <-time.After(patience):
			w.Fatal("a producer replays nothing")
		}
	}
}
