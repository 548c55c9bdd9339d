package redistest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"testing"
)

const (
	masterName = "mymaster"
	sentinels  = 3
	quorum     = 2
)

// Sentinel is a master, a replica, and three sentinels that watch them, all on
// 127.0.0.1. A master that does not answer for half a second is replaced when
// two sentinels agree. To be quick in tests, the sentinels talk to each other
// and ask the servers more often than they usually do. Its methods may be called
// from several goroutines.
type Sentinel struct {
	tb        testing.TB
	servers   []*Server // master and replica at the start
	processes []*Server
}

// RunSentinel starts both servers, with opts, and the sentinels. It returns when
// the replica is in step and each sentinel knows the replica and the other two.
// opts.Dir, TLS and UnixSocket must be empty. Everything is ended when the test ends.
func RunSentinel(tb testing.TB, opts Options) *Sentinel {
	tb.Helper()
	if err := opts.checkShared(); err != nil {
		tb.Fatal(err)
	}
	s := &Sentinel{tb: tb}
	tb.Cleanup(func() {
		if err := errors.Join(closeAll(s.processes), closeAll(s.servers)); err != nil {
			tb.Error(err)
		}
	})
	if err := s.startServers(opts); err != nil {
		tb.Fatal(err)
	}
	if err := s.startSentinels(); err != nil {
		tb.Fatal(err)
	}
	return s
}

// Addrs returns the addresses of the sentinels, which a client is given.
func (s *Sentinel) Addrs() []string { return addrs(s.processes) }

// MasterName returns the name by which the sentinels know the master.
func (s *Sentinel) MasterName() string { return masterName }

// Processes returns the sentinels, to freeze or kill one. The caller owns the slice.
func (s *Sentinel) Processes() []*Server { return slices.Clone(s.processes) }

// Servers returns both servers, the first master first, whatever they are now.
// The caller owns the slice.
func (s *Sentinel) Servers() []*Server { return slices.Clone(s.servers) }

// Master returns the server that the sentinels now take for the master, dead or
// not; of several opinions the newest. If no sentinel answers, it is the server
// that says so itself, or else nil.
func (s *Sentinel) Master() *Server { return s.master(context.Background()) }

func (s *Sentinel) master(ctx context.Context) *Server {
	var master *Server
	newest := -1
	for _, p := range s.running() {
		if m, epoch, err := s.opinion(ctx, p.Addr()); err == nil && epoch > newest {
			master, newest = m, epoch
		}
	}
	if master != nil {
		return master
	}
	for _, srv := range s.servers {
		if role, err := ask(ctx, srv.Addr(), "ROLE").Slice(); err == nil && role[0] == "master" {
			return srv
		}
	}
	return nil
}

// Replica returns the server that is not [Sentinel.Master], nil if that is.
func (s *Sentinel) Replica() *Server {
	master := s.Master()
	for _, srv := range s.servers {
		if master != nil && srv != master {
			return srv
		}
	}
	return nil
}

// Failover makes the sentinels promote the replica, whether the master is well
// or not, and returns when all sentinels that run know the new master. It
// fails when ctx ends before. The old master becomes a replica some time later.
func (s *Sentinel) Failover(ctx context.Context) error {
	old := s.master(ctx)
	err := poll(ctx, "a sentinel begins a failover", func(ctx context.Context) error {
		var errs []error
		for _, p := range s.running() {
			err := ask(ctx, p.Addr(), "SENTINEL", "FAILOVER", masterName).Err()
			if err == nil {
				return nil
			}
			errs = append(errs, err)
		}
		return fmt.Errorf("no sentinel does: %w", errors.Join(errs...))
	})
	if err != nil {
		return err
	}
	return poll(ctx, "all sentinels know the new master", func(ctx context.Context) error {
		for _, p := range s.running() {
			master, _, err := s.opinion(ctx, p.Addr())
			if err != nil {
				return err
			}
			if master == old {
				return fmt.Errorf("sentinel %s still names the old one", p.Addr())
			}
		}
		return nil
	})
}

// KillSentinels ends all sentinels by SIGKILL; the servers go on. Restart of
// each of [Sentinel.Processes] brings them back.
func (s *Sentinel) KillSentinels() {
	s.tb.Helper()
	for _, p := range s.processes {
		if err := p.Kill(); err != nil {
			s.tb.Error(err)
		}
	}
}

func (s *Sentinel) running() []*Server {
	return slices.DeleteFunc(s.Processes(), func(p *Server) bool { return p.Pid() == 0 })
}

// opinion returns whom the sentinel at addr takes for the master, since which
// configuration epoch.
func (s *Sentinel) opinion(ctx context.Context, addr string) (*Server, int, error) {
	m, err := info(ctx, addr, "MASTER")
	if err != nil {
		return nil, 0, err
	}
	epoch, err := strconv.Atoi(m[0]["config-epoch"])
	if err != nil {
		return nil, 0, fmt.Errorf("redistest: config-epoch: %w", err)
	}
	at := net.JoinHostPort(m[0]["ip"], m[0]["port"])
	i := slices.IndexFunc(s.servers, func(srv *Server) bool { return srv.Addr() == at })
	if i < 0 {
		return nil, 0, fmt.Errorf("redistest: sentinel %s names %s", addr, at)
	}
	return s.servers[i], epoch, nil
}

func (s *Sentinel) startServers(opts Options) error {
	opts.Args = append([]string{"--repl-diskless-sync-delay", "0"}, opts.Args...)
	servers, err := startAll([]Options{opts, opts})
	if err != nil {
		return err
	}
	s.servers = servers
	master, replica := servers[0], servers[1]
	ctx, cancel := context.WithTimeout(context.Background(), gatherWithin)
	defer cancel()
	if err := ask(ctx, replica.Addr(), "REPLICAOF", "127.0.0.1", master.port).Err(); err != nil {
		return fmt.Errorf("redistest: REPLICAOF: %w", err)
	}
	return poll(ctx, "the replica is in step", func(ctx context.Context) error {
		return isReplicating(ctx, replica.Addr())
	})
}

func (s *Sentinel) startSentinels() error {
	conf := fmt.Sprintf(`bind 127.0.0.1
protected-mode no
daemonize no
sentinel monitor %[1]s 127.0.0.1 %[2]d %[3]d
sentinel down-after-milliseconds %[1]s 500
sentinel failover-timeout %[1]s 2000
`, masterName, s.servers[0].port, quorum)
	opts := make([]Options, sentinels)
	for i := range opts {
		opts[i].sentinel = conf
	}
	processes, err := startAll(opts)
	if err != nil {
		return err
	}
	s.processes = processes
	ctx, cancel := context.WithTimeout(context.Background(), gatherWithin)
	defer cancel()
	for _, addr := range s.Addrs() {
		// The periods are in milliseconds. Redis before 7.0 cannot do this, and
		// takes seconds longer.
		_ = ask(ctx, addr, "SENTINEL", "DEBUG", "PUBLISH-PERIOD", 200, "INFO-PERIOD", 500).Err()
	}
	return poll(ctx, "all sentinels know all", func(ctx context.Context) error {
		for _, addr := range s.Addrs() {
			if err := knowsAll(ctx, addr); err != nil {
				return err
			}
		}
		return nil
	})
}

func knowsAll(ctx context.Context, addr string) error {
	others, err := info(ctx, addr, "SENTINELS")
	if err != nil {
		return err
	}
	replicas, err := info(ctx, addr, "REPLICAS")
	if err != nil {
		return err
	}
	if len(others) != sentinels-1 || len(replicas) != 1 {
		return fmt.Errorf("sentinel %s knows %d others and %d replicas", addr, len(others), len(replicas))
	}
	for _, it := range append(others, replicas...) {
		// "sentinel" or "slave", with nothing like "s_down" or "disconnected" after it.
		if f := it["flags"]; f != "sentinel" && f != "slave" {
			return fmt.Errorf("sentinel %s sees %s as %s", addr, it["name"], f)
		}
	}
	if status := replicas[0]["master-link-status"]; status != "ok" {
		return fmt.Errorf("sentinel %s sees the replica's link as %s", addr, status)
	}
	return nil
}

// info asks a sentinel about the master (one map) or for a list.
func info(ctx context.Context, addr, what string) ([]map[string]string, error) {
	reply, err := ask(ctx, addr, "SENTINEL", what, masterName).Slice()
	if err != nil {
		return nil, err
	}
	if what == "MASTER" {
		reply = []any{reply}
	}
	maps := make([]map[string]string, len(reply))
	for i, it := range reply {
		flat, _ := it.([]any)
		maps[i] = make(map[string]string, len(flat)/2)
		for j := 0; j+1 < len(flat); j += 2 {
			maps[i][fmt.Sprint(flat[j])] = fmt.Sprint(flat[j+1])
		}
	}
	return maps, nil
}

func addrs(servers []*Server) []string {
	list := make([]string, len(servers))
	for i, s := range servers {
		list[i] = s.Addr()
	}
	return list
}
