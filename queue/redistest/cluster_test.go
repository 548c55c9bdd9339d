package redistest_test

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/jobspool/jobspool/queue/redistest"
)

// clusterClient looks for new masters often: go-redis does so every 60 s if not
// told otherwise, and a connection refused does not make it look.
func clusterClient(t *testing.T, addrs []string) *redis.ClusterClient {
	t.Helper()
	c := redis.NewClusterClient(&redis.ClusterOptions{
		Addrs: addrs, ClusterStateReloadInterval: 200 * time.Millisecond, DialerRetries: 1,
	})
	t.Cleanup(func() { c.Close() })
	return c
}

func TestCluster(t *testing.T) {
	t.Parallel()
	cl := redistest.RunCluster(t, redistest.ClusterOptions{Masters: 3, Replicas: 3})
	if len(cl.Addrs()) != 6 || len(cl.Nodes()) != 6 || cl.Proxies() != nil {
		t.Fatalf("%d addresses, %d nodes, proxies %v", len(cl.Addrs()), len(cl.Nodes()), cl.Proxies())
	}
	c := clusterClient(t, cl.Addrs())
	for i := range 3 {
		key := fmt.Sprintf("asynq:{%s}:pending", cl.QueueOn(i))
		if cl.MasterOf(key) != cl.Nodes()[i] {
			t.Errorf("%s is not on master %d", key, i)
		}
		must(t, c.Set(t.Context(), key, i, 0).Err())
		expect(t, cl.Nodes()[i].Addr(), "GET "+key, fmt.Sprint(i))
	}

	// A replica replaces its master, and the others serve meanwhile.
	key := "{" + cl.QueueOn(1) + "}"
	must(t, c.Set(t.Context(), key, "here", 0).Err())
	must(t, cl.Nodes()[1].Kill())
	must(t, c.Set(t.Context(), "{"+cl.QueueOn(0)+"}", "here", 0).Err())
	eventually(t, "the replica takes over", func() bool { return cl.MasterOf(key) == cl.Nodes()[4] })
	eventually(t, "the client finds it", func() bool { return c.Set(t.Context(), key, "there", 0).Err() == nil })
	must(t, cl.Nodes()[1].Restart())
	eventually(t, "the old master follows", func() bool {
		got, err := try(cl.Nodes()[1].Addr(), "ROLE", time.Second)
		return err == nil && got == "*5" // of a replica; of a master it has 3 elements
	})
	if cl.MasterOf(key) != cl.Nodes()[4] {
		t.Error("the old master is back")
	}
	must(t, cl.Close())
	must(t, cl.Close())
	if cl.MasterOf(key) != nil || cl.QueueOn(0) != "" {
		t.Error("a closed cluster answers")
	}
}

func TestClusterCoverage(t *testing.T) {
	t.Parallel()
	cl := redistest.RunCluster(t, redistest.ClusterOptions{Masters: 3, FullCoverage: true})
	must(t, cl.Nodes()[2].Kill())
	addr, command := cl.Nodes()[0].Addr(), "GET {"+cl.QueueOn(0)+"}"
	eventually(t, "all slots are down", func() bool {
		got, err := try(addr, command, time.Second)
		return err == nil && strings.HasPrefix(got, "-CLUSTERDOWN")
	})
}

// TestProxiedNode: clients of a cluster of one reach it through its proxy only.
func TestProxiedNode(t *testing.T) {
	t.Parallel()
	cl := redistest.RunCluster(t, redistest.ClusterOptions{Proxied: true})
	p := cl.Proxies()[0]
	if cl.Addrs()[0] != p.Addr() {
		t.Errorf("Addrs is %q, the proxy is at %s", cl.Addrs(), p.Addr())
	}
	c := clusterClient(t, cl.Addrs())
	must(t, c.Set(t.Context(), "job", "here", 0).Err())
	if p.Requests("SET") != 1 {
		t.Error("the client goes past the proxy")
	}
	if cl.MasterOf("job") != cl.Nodes()[0] {
		t.Error("the node is not known by its proxy's address")
	}
	p.Refuse()
	p.Cut()
	if err := c.Get(t.Context(), "job").Err(); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("Get while the proxy refuses: %v", err)
	}
	p.Accept()
	eventually(t, "connects again", func() bool { return c.Get(t.Context(), "job").Err() == nil })
}

// TestProxiedCluster: replication, too, goes through the proxies.
func TestProxiedCluster(t *testing.T) {
	t.Parallel()
	cl := redistest.RunCluster(t, redistest.ClusterOptions{
		Masters: 3, Replicas: 3, Proxied: true, Node: redistest.Options{AppendOnly: true},
	})
	c := clusterClient(t, cl.Addrs())
	key := "{" + cl.QueueOn(2) + "}"
	must(t, c.Set(t.Context(), key, "here", 0).Err())
	if cl.Proxies()[2].Requests("SET") != 1 || cl.Proxies()[2].Requests("PSYNC") != 1 {
		t.Error("the proxy does not see all")
	}
	eventually(t, "the replica has it", func() bool {
		n, err := try(cl.Nodes()[5].Addr(), "DBSIZE", time.Second)
		return err == nil && n == ":1"
	})
}
