package queue_test

import (
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
	"github.com/jobspool/jobspool/spool/crashtest"
)

// adoptionPatience is how long a living Producer may take to adopt and replay what dead
// processes left.
const adoptionPatience = 10 * time.Second

// TestOrphansOfKilledProcesses: two processes spool while Redis is down and are killed. A
// Producer that has been there all along sends their jobs, the older one's first, each
// one's in order. Where the younger one dies first, Redis comes back only when both have
// been adopted: a Producer cannot wait for owners to die that live.
func TestOrphansOfKilledProcesses(t *testing.T) {
	t.Parallel()
	for name, olderDiesFirst := range map[string]bool{"older dies first": true, "younger dies first": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := redistest.Run(t, redistest.Options{})
			must(t, r.Kill())
			dir := t.TempDir()
			living := newProducer(t, queue.Config{Redis: server(r.Addr()), SpoolDir: dir})
			own := enqueue(t, living, 5)

			older, younger := spooler(t, dir, r.Addr(), "", 50), spooler(t, dir, r.Addr(), "", 50)
			var want []string
			if olderDiesFirst {
				want = append(older.Kill(), younger.Kill()...)
			} else {
				last := younger.Kill()
				want = append(older.Kill(), last...)
				within(t, adoptionPatience, "adopted", func() bool { return living.Stats().Adopted == 100 })
			}
			must(t, r.Restart())
			within(t, adoptionPatience, "adopted and replayed", func() bool {
				st := living.Stats()
				return st.Adopted == 100 && st.Pending == 0
			})

			there := pendingIDs(t, r.Addr())
			wantOnce(t, there, append(slices.Clone(want), own...))
			slices.Reverse(there) // asynq pushes on the left and pops on the right
			there = slices.DeleteFunc(there, func(id string) bool { return slices.Contains(own, id) })
			for i, id := range want {
				if i < len(there) && there[i] != id {
					t.Fatalf("job %d, counted from 0, is at %d", i, slices.Index(there, id))
				}
			}
			if st := living.Stats(); st.Replayed != 105 || st.State != queue.StateUp || st.Foreign != 0 {
				t.Errorf("%+v", st)
			}
		})
	}
}

// TestOrphansGoByAge: of five processes that are killed while Redis is down, in any order,
// the jobs of the one that was started first go first.
func TestOrphansGoByAge(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	must(t, r.Kill())
	dir := t.TempDir()
	living := newProducer(t, queue.Config{Redis: server(r.Addr()), SpoolDir: dir})
	children := make([]*crashtest.Child, 5)
	for i := range children {
		children[i] = spooler(t, dir, r.Addr(), "", 20)
	}
	printed := make([][]string, len(children))
	for _, i := range rand.Perm(len(children)) {
		printed[i] = children[i].Kill()
	}
	within(t, adoptionPatience, "adopted", func() bool { return living.Stats().Adopted == 100 })
	must(t, r.Restart())
	within(t, adoptionPatience, "replayed", func() bool { return living.Stats().Pending == 0 })
	there := pendingIDs(t, r.Addr())
	slices.Reverse(there)
	if want := slices.Concat(printed...); !slices.Equal(there, want) {
		wantOnce(t, there, want)
		t.Error("the jobs are not in the order of their processes")
	}
}

// TestOrphanWhileRedisIsUp: a process that cannot reach Redis is killed, and a Producer that
// can sends what it left.
func TestOrphanWhileRedisIsUp(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	dir := t.TempDir()
	living := newProducer(t, queue.Config{Redis: server(r.Addr()), SpoolDir: dir, Target: "t"})
	ids := spooler(t, dir, away, "t", 30).Kill()
	within(t, adoptionPatience, "replayed", func() bool { return living.Stats().Replayed == 30 })
	wantOnce(t, pendingIDs(t, r.Addr()), ids)
	eventually(t, "nothing is left of the dead one", func() bool {
		owners, err := filepath.Glob(filepath.Join(dir, "*", "identity"))
		must(t, err)
		return len(owners) == 1
	})
}

// TestProducersCompeteForOrphans: of several Producers that look for dead owners at the same
// time, one gets each: no job is sent twice.
func TestProducersCompeteForOrphans(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	dir := t.TempDir()
	cfg := queue.Config{Redis: server(r.Addr()), SpoolDir: dir, Target: "t"}
	var rivals []*queue.Producer
	for range 3 {
		rivals = append(rivals, newProducer(t, cfg))
	}
	var ids []string
	for range 3 {
		killed := spooler(t, dir, away, "t", 10)
		for range 8 {
			ids = append(ids, leave(t, dir, batchOf(10)...)...)
		}
		ids = append(ids, killed.Kill()...)
		var wg sync.WaitGroup
		for _, p := range rivals {
			wg.Go(func() { drain(t, p) })
		}
		wg.Wait()
	}
	wantOnce(t, pendingIDs(t, r.Addr()), ids)
	adopted := []int64{0, 0, 0}
	for i, p := range rivals {
		st := p.Stats()
		adopted[i] = st.Adopted
		if st.AlreadyThere != 0 {
			t.Errorf("sent twice: %+v", st)
		}
	}
	if sum := adopted[0] + adopted[1] + adopted[2]; sum != int64(len(ids)) {
		t.Errorf("adopted %v, together %d of %d", adopted, sum, len(ids))
	}
	t.Log("adopted:", adopted)
}

// spooler returns a process that has spooled n jobs, in the order of the lines it printed,
// and waits to be killed. An empty target is derived from the address of its Redis.
func spooler(tb testing.TB, dir, addr, target string, n int) *crashtest.Child {
	tb.Helper()
	c := crashtest.Start(tb, childDir+"="+dir, childRedis+"="+addr, childTarget+"="+target, childLimit+"="+strconv.Itoa(n))
	c.Await(n)
	return c
}
