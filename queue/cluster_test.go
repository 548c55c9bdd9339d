package queue_test

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
)

// tally is what callers were told of their jobs. Safe for concurrent use.
type tally struct {
	mu    sync.Mutex
	ids   map[string][]string // by queue
	later map[string][]string // of those, what went to the spool
	where map[string]map[queue.Where]int
}

func newTally() *tally {
	return &tally{ids: map[string][]string{}, later: map[string][]string{}, where: map[string]map[queue.Where]int{}}
}

// enqueue enqueues one task and keeps its id. Any error is the test's.
func (a *tally) enqueue(tb testing.TB, p *queue.Producer, name string, payload []byte) queue.Where {
	tb.Helper()
	var where queue.Where
	info, err := p.Enqueue(asynq.NewTask("test", payload), asynq.Queue(name), queue.ReportTo(&where))
	if err != nil {
		tb.Errorf("%s: %v", name, err)
		return where
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ids[name] = append(a.ids[name], info.ID)
	if where != queue.InRedis {
		a.later[name] = append(a.later[name], info.ID)
	}
	if a.where[name] == nil {
		a.where[name] = map[queue.Where]int{}
	}
	a.where[name][where]++
	return where
}

// count returns how many jobs of the queue are there.
func (a *tally) count(name string, where queue.Where) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.where[name][where]
}

// load enqueues into the queue, from some callers, until stop is called.
func (a *tally) load(tb testing.TB, p *queue.Producer, name string, callers int) (stop func()) {
	tb.Helper()
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for {
				a.enqueue(tb, p, name, []byte("load"))
				select {
				case <-done:
					return
				case <-time.After(2 * time.Millisecond): // the machine has other work, too
				}
			}
		})
	}
	stop = sync.OnceFunc(func() {
		close(done)
		wg.Wait()
	})
	tb.Cleanup(stop)
	return stop
}

// pendingOf returns the ids that a queue's pending list has.
func pendingOf(tb testing.TB, rdb redis.UniversalClient, name string) []string {
	tb.Helper()
	ids, err := rdb.LRange(context.Background(), "asynq:{"+name+"}:pending", 0, -1).Result()
	must(tb, err)
	return ids
}

func (a *tally) wantOnce(tb testing.TB, rdb redis.UniversalClient) {
	tb.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	for name, ids := range a.ids {
		tb.Logf("%s: %v", name, a.where[name])
		wantOnce(tb, pendingOf(tb, rdb, name), ids)
	}
}

// clusterClient finds new masters at once.
func clusterClient(tb testing.TB, c *redistest.Cluster) *redis.ClusterClient {
	tb.Helper()
	rdb := redis.NewClusterClient(&redis.ClusterOptions{Addrs: c.Addrs(), ClusterStateReloadInterval: 200 * time.Millisecond})
	tb.Cleanup(func() { rdb.Close() })
	return rdb
}

func clusterOf(c *redistest.Cluster) asynq.RedisClusterClientOpt {
	return asynq.RedisClusterClientOpt{Addrs: c.Addrs()}
}

// queuesMaster returns the index of the master that has asynq's set of queues.
func queuesMaster(tb testing.TB, c *redistest.Cluster) int {
	tb.Helper()
	i := slices.Index(c.Nodes(), c.MasterOf("asynq:queues"))
	if i < 0 {
		tb.Fatal("no master has asynq:queues")
	}
	return i
}

// replicated waits until a replica has what the server has now.
func replicated(tb testing.TB, r *redistest.Server) {
	tb.Helper()
	c := client(tb, r.Addr())
	want := int64(-1)
	eventually(tb, "a replica is in step", func() bool {
		role, err := c.Do(context.Background(), "ROLE").Slice() // master, offset, [[host, port, offset]]
		if err != nil || len(role) < 3 {
			return false
		}
		if want < 0 {
			want = role[1].(int64)
		}
		replicas, _ := role[2].([]any)
		return slices.ContainsFunc(replicas, func(replica any) bool {
			offset, err := strconv.ParseInt(replica.([]any)[2].(string), 10, 64)
			return err == nil && offset >= want
		})
	})
}

// TestClusterMasterDies: the jobs of its slots wait in the spool until its replica takes
// over; nobody restarts anything. The queues on the other masters notice nothing.
func TestClusterMasterDies(t *testing.T) {
	t.Parallel()
	c := redistest.RunCluster(t, redistest.ClusterOptions{Masters: 3, Replicas: 3})
	p := newProducer(t, queue.Config{Redis: clusterOf(c), SpoolDir: t.TempDir()})
	victim := (queuesMaster(t, c) + 1) % 3
	dying := c.QueueOn(victim)
	others := []string{c.QueueOn((victim + 1) % 3), c.QueueOn((victim + 2) % 3)}
	all := newTally()
	for range 20 {
		for _, q := range []string{others[0], others[1], dying} {
			if where := all.enqueue(t, p, q, []byte("before")); where != queue.InRedis {
				t.Fatalf("%s: %v", q, where)
			}
		}
	}
	replicated(t, c.Nodes()[victim]) // what it has acknowledged is not lost with it
	var stops []func()
	for _, q := range others {
		stops = append(stops, all.load(t, p, q, 4))
	}
	must(t, c.Nodes()[victim].Kill())

	if where := all.enqueue(t, p, dying, []byte("after")); where == queue.InRedis {
		t.Fatal("sent to a dead master")
	}
	if st := p.Stats(); st.State != queue.StatePartial || len(st.Queues) != 1 || st.Queues[0].Queue != dying {
		t.Errorf("state %q, queues %v", st.State, st.Queues)
	}
	stops = append(stops, all.load(t, p, dying, 4))
	for _, q := range others {
		before := all.count(q, queue.InRedis)
		eventually(t, q+" stays live", func() bool { return all.count(q, queue.InRedis) > before+20 })
	}
	eventually(t, "the replica takes over, the outage ends", func() bool { return p.Stats().State == queue.StateUp })
	before := all.count(dying, queue.InRedis)
	eventually(t, "its queue is live again", func() bool { return all.count(dying, queue.InRedis) > before+20 })
	for _, stop := range stops {
		stop()
	}
	drain(t, p)
	all.wantOnce(t, clusterClient(t, c))
	for _, q := range others {
		if n := all.count(q, queue.InSpool) + all.count(q, queue.InDoubt); n > 0 {
			t.Errorf("%d jobs of %s, whose master is well, were spooled", n, q)
		}
	}
	if st := p.Stats(); st.Outages != 1 {
		t.Errorf("%d outages", st.Outages)
	}
}

// TestClusterWithoutTheMasterOfAsynqsQueues: asynq's set of queues lies on a master of its
// own. While that is dead, queues on the others are as live as ever, also new ones.
func TestClusterWithoutTheMasterOfAsynqsQueues(t *testing.T) {
	t.Parallel()
	c := redistest.RunCluster(t, redistest.ClusterOptions{Masters: 3, Node: redistest.Options{AppendOnly: true}})
	p := newProducer(t, queue.Config{Redis: clusterOf(c), SpoolDir: t.TempDir()})
	victim := queuesMaster(t, c)
	known, fresh := c.QueueOn((victim+1)%3), c.QueueOn((victim+2)%3)
	all := newTally()
	all.enqueue(t, p, known, nil)
	must(t, c.Nodes()[victim].Kill())
	for range 20 {
		for _, q := range []string{known, fresh} {
			if where := all.enqueue(t, p, q, nil); where != queue.InRedis {
				t.Fatalf("%s: %v", q, where)
			}
		}
	}
	if st := p.Stats(); st.Outages != 0 || st.Spooled != 0 {
		t.Errorf("%+v", st)
	}
	must(t, c.Nodes()[victim].Restart())
	rdb := clusterClient(t, c)
	eventually(t, "both are registered", func() bool {
		all.enqueue(t, p, fresh, nil)
		queues, err := rdb.SMembers(t.Context(), "asynq:queues").Result()
		slices.Sort(queues)
		return err == nil && slices.Equal(queues, slices.Sorted(slices.Values([]string{known, fresh})))
	})
	drain(t, p)
	all.wantOnce(t, rdb)
}

// setSlot tells all masters who has the slot of a queue.
func setSlot(tb testing.TB, c *redistest.Cluster, name string, to int) {
	tb.Helper()
	slot, err := client(tb, c.Nodes()[0].Addr()).ClusterKeySlot(tb.Context(), "{"+name+"}").Result()
	must(tb, err)
	target := client(tb, c.Nodes()[to].Addr())
	id, err := target.Do(tb.Context(), "CLUSTER", "MYID").Text()
	must(tb, err)
	// Its claim must be the newest, or the others' gossip would take the slot back.
	must(tb, target.Do(tb.Context(), "CLUSTER", "BUMPEPOCH").Err())
	for i := range c.Nodes() {
		node := client(tb, c.Nodes()[(to+i)%len(c.Nodes())].Addr())
		must(tb, node.Do(tb.Context(), "CLUSTER", "SETSLOT", slot, "NODE", id).Err())
	}
}

// TestClusterSlotMoves: MOVED is followed at once, by single jobs and by batches.
func TestClusterSlotMoves(t *testing.T) {
	t.Parallel()
	c := redistest.RunCluster(t, redistest.ClusterOptions{Masters: 3})
	p := newProducer(t, queue.Config{Redis: clusterOf(c), SpoolDir: t.TempDir()})
	all := newTally()
	all.enqueue(t, p, c.QueueOn(1), nil) // it knows the cluster as it was
	single, batch := c.QueueOn(0), c.QueueOn(2)
	setSlot(t, c, single, 1)
	if where := all.enqueue(t, p, single, nil); where != queue.InRedis {
		t.Errorf("single: %v", where)
	}
	setSlot(t, c, batch, 1)
	var where queue.Where
	infos, err := p.EnqueueBatch(t.Context(), []*asynq.Task{asynq.NewTask("test", nil), asynq.NewTask("test", nil)},
		asynq.Queue(batch), queue.ReportTo(&where))
	must(t, err)
	all.ids[batch] = []string{infos[0].ID, infos[1].ID}
	if st := p.Stats(); where != queue.InRedis || st.Outages != 0 || st.Sent != 4 {
		t.Errorf("%v: %+v", where, st)
	}
	for name, ids := range all.ids { // a client of one server: they are on that
		wantOnce(t, pendingOf(t, client(t, c.Nodes()[1].Addr()), name), ids)
	}
}

// TestClusterSlotIsBeingMoved: while a slot is half here and half there its jobs may wait
// in the spool, and all of them arrive.
func TestClusterSlotIsBeingMoved(t *testing.T) {
	t.Parallel()
	c := redistest.RunCluster(t, redistest.ClusterOptions{Masters: 3})
	p := newProducer(t, queue.Config{Redis: clusterOf(c), SpoolDir: t.TempDir()})
	all, name := newTally(), c.QueueOn(0)
	all.enqueue(t, p, c.QueueOn(1), nil)
	from, to := client(t, c.Nodes()[0].Addr()), client(t, c.Nodes()[1].Addr())
	slot, err := from.ClusterKeySlot(t.Context(), "{"+name+"}").Result()
	must(t, err)
	ids := make([]string, 2)
	for i, node := range []*redis.Client{from, to} {
		ids[i], err = node.Do(t.Context(), "CLUSTER", "MYID").Text()
		must(t, err)
	}
	must(t, to.Do(t.Context(), "CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0]).Err())
	must(t, from.Do(t.Context(), "CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1]).Err())
	for range 20 {
		all.enqueue(t, p, name, nil) // ASK
	}
	setSlot(t, c, name, 1)
	drain(t, p)
	if where := all.enqueue(t, p, name, nil); where != queue.InRedis {
		t.Errorf("after it: %v", where)
	}
	all.wantOnce(t, clusterClient(t, c))
}

// TestClusterSendsOnce: go-redis's client would send a command again whose reply was lost,
// which would look like somebody else's job with the same id.
func TestClusterSendsOnce(t *testing.T) {
	t.Parallel()
	c := redistest.RunCluster(t, redistest.ClusterOptions{Proxied: true})
	p := newProducer(t, queue.Config{Redis: clusterOf(c), SpoolDir: t.TempDir()})
	proxy, all := c.Proxies()[0], newTally()
	for i, how := range []redistest.CutMode{redistest.CutFIN, redistest.CutRST, redistest.CutHalf} {
		if where := all.enqueue(t, p, "q", nil); where != queue.InRedis {
			t.Fatalf("%d: live: %v", i, where)
		}
		before := scriptsSent(proxy)
		lost := proxy.CutAfterReplies(0, how)
		where := all.enqueue(t, p, "q", nil)
		<-lost
		if n := scriptsSent(proxy) - before; n != 1 || where != queue.InDoubt {
			t.Errorf("%d: sent %d times, %v", i, n, where)
		}
		drain(t, p)
		if st := p.Stats(); st.AlreadyThere != int64(i+1) || st.InDoubt != int64(i+1) {
			t.Errorf("%d: %+v", i, st)
		}
		eventually(t, "the outage ends", func() bool { return p.Stats().State == queue.StateUp })
	}
	all.wantOnce(t, clusterClient(t, c))
}

// TestClusterSeedsThatAreGone: an address that swallows the first question costs one
// outage at most, not the queue. It may cost the first Enqueue more than its budget:
// go-redis asks any node for its list of commands, for up to 5 s.
func TestClusterSeedsThatAreGone(t *testing.T) {
	t.Parallel()
	t.Cleanup(func() { dialsEnd(t) })
	c := redistest.RunCluster(t, redistest.ClusterOptions{})
	seeds := append(c.Addrs(), redistest.BlackHole(t), refusing(t))
	p := newProducer(t, shortConfig(t, asynq.RedisClusterClientOpt{Addrs: seeds}))
	all := newTally()
	all.enqueue(t, p, "q", nil)
	eventually(t, "live", func() bool { return p.Stats().State == queue.StateUp })
	drain(t, p)
	all.enqueue(t, p, "q", nil)
	all.wantOnce(t, clusterClient(t, c))
	if st := p.Stats(); st.Outages > 1 {
		t.Errorf("%+v", st)
	}
}

// TestClusterOtherNodesHang has a budget for a queue whose node is well while the two
// others do not answer.
func TestClusterOtherNodesHang(t *testing.T) {
	t.Parallel()
	c := redistest.RunCluster(t, redistest.ClusterOptions{Masters: 3, Proxied: true})
	well := (queuesMaster(t, c) + 1) % 3
	for i, proxy := range c.Proxies() {
		if i != well {
			proxy.Freeze()
			t.Cleanup(proxy.Thaw)
		}
	}
	for range 6 { // go-redis asks them in random order
		p := newProducer(t, shortConfig(t, asynq.RedisClusterClientOpt{Addrs: []string{c.Addrs()[well]}}))
		all := newTally()
		bounded(t, "the first", shortBudget, func() { all.enqueue(t, p, c.QueueOn(well), nil) })
		closeProducer(t, p)
	}
	dialsEnd(t)
}

// TestOwnIDWithoutTheSetOfQueues replays a job in doubt whose id the caller chose, with
// the master of asynq's set of queues dead: what Redis has of it is on its own queue's.
func TestOwnIDWithoutTheSetOfQueues(t *testing.T) {
	t.Parallel()
	c := redistest.RunCluster(t, redistest.ClusterOptions{Masters: 3, Proxied: true})
	victim := queuesMaster(t, c)
	at := (victim + 1) % 3
	name := c.QueueOn(at)
	p := newProducer(t, queue.Config{Redis: clusterOf(c), SpoolDir: t.TempDir()})
	newTally().enqueue(t, p, name, nil)
	lost := c.Proxies()[at].CutAfterReplies(0, redistest.CutFIN)
	_, err := p.Enqueue(asynq.NewTask("test", nil), asynq.Queue(name), asynq.TaskID("mine"))
	must(t, err)
	<-lost
	must(t, c.Nodes()[victim].Kill())
	drain(t, p)
	if st := p.Stats(); st.AlreadyThere != 1 || st.Dead != 0 {
		t.Errorf("%+v", st)
	}
}
