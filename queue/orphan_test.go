package queue_test

import (
	"slices"
	"strconv"
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

// spooler returns a process that has spooled n jobs, in the order of the lines it printed,
// and waits to be killed. An empty target is derived from the address of its Redis.
func spooler(tb testing.TB, dir, addr, target string, n int) *crashtest.Child {
	tb.Helper()
	c := crashtest.Start(tb, childDir+"="+dir, childRedis+"="+addr, childTarget+"="+target, childLimit+"="+strconv.Itoa(n))
	c.Await(n)
	return c
}
