package chaos_test

import (
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"
)

// startProducer starts one more producer on the SpoolDir, which enqueues from now on.
func (w *world) startProducer() {
	w.Helper()
	c := w.newProducer(orDefault(w.shape.callers, 4))
	w.staffing.Lock()
	defer w.staffing.Unlock()
	w.producers = append(w.producers, c)
}

func (w *world) newProducer(callers int) *child {
	w.Helper()
	w.staffing.Lock()
	w.started++
	number := w.started
	w.staffing.Unlock()
	binary := os.Args[0]
	if w.shape.steppable {
		var err error
		binary, err = steppable()
		w.must(err)
	}
	return startChild(w, w.oracle, binary, roleProducer, producerSetup{
		Name: fmt.Sprintf("p%d", number), Redis: w.redis, SpoolDir: w.dir, Target: "chaos", Queues: w.queues,
		Callers: callers, Pace: orDefault(w.shape.pace, 20*time.Millisecond), Seed: w.seed + uint64(number),
		Window: orDefault(w.shape.window, time.Hour),
		Guard:  w.shape.guard, Replicas: w.shape.confirm, MaxBytes: w.shape.spoolBytes, FinishIn: patience, Log: *logFlag, Midway: w.shape.midway,
	})
}

// retireProducers returns those that run but for the first ones, as if there were none of them
// any more.
func (w *world) retireProducers(kept int) []*child {
	w.staffing.Lock()
	defer w.staffing.Unlock()
	old := slices.Clone(w.producers[kept:])
	w.producers = w.producers[:kept]
	return old
}

func (w *world) startWorker() {
	w.Helper()
	c := startChild(w, w.oracle, os.Args[0], roleWorker, workerSetup{Redis: w.direct, Queues: w.queues})
	w.staffing.Lock()
	defer w.staffing.Unlock()
	w.workers = append(w.workers, c)
}

// killWorkers kills all workers, and starts another one.
func (w *world) killWorkers() {
	w.Helper()
	w.staffing.Lock()
	old := w.workers
	w.workers = nil
	w.staffing.Unlock()
	for _, c := range old {
		c.kill()
	}
	w.startWorker()
}

// killProducer kills one, but not the first, and starts another one.
func (w *world) killProducer() {
	w.Helper()
	w.staffing.Lock()
	i := 1 + w.number(len(w.producers)-1)
	victim := w.producers[i]
	w.producers = slices.Delete(w.producers, i, i+1)
	w.staffing.Unlock()
	victim.kill()
	w.startProducer()
}

// everyone returns all children that run.
func (w *world) everyone() []*child {
	w.staffing.Lock()
	defer w.staffing.Unlock()
	return slices.Concat(w.producers, w.workers)
}

// signal sends all producers and workers a signal.
func (w *world) signal(s syscall.Signal) {
	for _, c := range w.everyone() {
		c.signal(s)
	}
}

// tell gives all producers an order.
func (w *world) tell(order string) {
	w.staffing.Lock()
	defer w.staffing.Unlock()
	for _, p := range w.producers {
		p.tell(order)
	}
}
