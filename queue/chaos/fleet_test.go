package chaos_test

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jobspool/jobspool/queue/redistest"
)

func fleetFaults() []fault {
	return []fault{
		{name: "Sentinel: a failover by hand", shape: shape{redis: sentinel, confirm: 1}, most: allowed{twice: anyNumber}, do: func(w *world) {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			w.must(w.sentinel.Failover(ctx))
			w.hold(length())
		}},
		{name: "Sentinel: the master is killed, Guard on", shape: shape{redis: sentinel, guard: time.Minute}, most: allowed{twice: anyNumber}, do: func(w *world) {
			old := w.sentinel.Master()
			w.forgets()
			w.must(old.Kill())
			w.until("another one is the master", func() bool {
				m := w.sentinel.Master()
				return m != nil && m != old
			})
			w.hold(length())
			w.must(old.Restart())
		}},
		{name: "FAILOVER TO a replica", shape: shape{replica: true}, do: func(w *world) {
			host, port, _ := strings.Cut(w.servers[1].Addr(), ":")
			w.do(w.servers[0], "FAILOVER", "TO", host, port)
			w.until("the failover is over", func() bool {
				info, err := w.ask(w.servers[0], "INFO", "replication").Text()
				return err == nil && field(info, "role") == "slave" && field(info, "master_link_status") == "up"
			})
			w.hold(length())
			host, port, _ = strings.Cut(w.servers[0].Addr(), ":")
			w.do(w.servers[1], "FAILOVER", "TO", host, port)
			w.until("the old master is one again", func() bool {
				info, err := w.ask(w.servers[0], "INFO", "replication").Text()
				return err == nil && field(info, "role") == "master"
			})
		}},
		{name: "Cluster: a master is killed, its replica takes over, Guard on", shape: shape{redis: cluster, guard: time.Minute}, most: allowed{twice: anyNumber}, do: func(w *world) {
			key := "asynq:{" + w.queues[w.number(len(w.queues))] + "}"
			old := w.cluster.MasterOf(key)
			w.forgets()
			w.must(old.Kill())
			w.until("another one is the master", func() bool { m := w.cluster.MasterOf(key); return m != nil && m != old })
			w.hold(length())
			w.must(old.Restart())
		}},
		{name: "Cluster: CLUSTER FAILOVER by hand", quiet: true, shape: shape{redis: cluster}, do: func(w *world) {
			key := "asynq:{" + w.queues[0] + "}"
			old := w.cluster.MasterOf(key)
			w.must(promoteReplica(w, old))
			w.until("another one is the master", func() bool { m := w.cluster.MasterOf(key); return m != nil && m != old })
			w.hold(length())
		}},
	}
}

// promoteReplica asks the replica of a Cluster's master to take over.
func promoteReplica(w *world, master *redistest.Server) error {
	_, port, _ := strings.Cut(master.Addr(), ":")
	for _, s := range w.servers {
		role, err := w.ask(s, "ROLE").Slice()
		if err == nil && role[0] == "slave" && fmt.Sprint(role[2]) == port {
			return w.ask(s, "CLUSTER", "FAILOVER").Err()
		}
	}
	return fmt.Errorf("%s has no replica", master.Addr())
}
