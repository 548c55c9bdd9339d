package chaos_test

import "time"

// standstill waits until no job has been accepted for some time.
func (w *world) standstill(d time.Duration) {
	w.Helper()
	before, since := -1, time.Now()
	w.until("no job is accepted", func() bool {
		if n, _ := w.counts(); n != before {
			before, since = n, time.Now()
		}
		return time.Since(since) >= d
	})
}

func diskFaults() []fault {
	small := func() *disk { return &disk{bytes: 64 * mebi} }
	refusing := allowed{refused: true, wait: 8 * time.Second} // a disk that does not answer: 5 s
	during := func(hits bool, begin, end func(*world)) func(*world) {
		return func(w *world) {
			w.net.down()
			w.hold(length() / 2)
			begin(w)
			if hits {
				w.until("a job is refused", func() bool { return w.refusals() > 0 })
			}
			w.hold(length())
			end(w)
			w.net.up()
		}
	}
	restart := func(w *world) {
		old := w.retireProducers(0)
		for _, p := range old {
			p.kill()
		}
		if w.shape.disk != nil {
			w.shape.disk.remount()
		}
		for range old {
			w.startProducer()
		}
	}
	return []fault{
		{name: "disk full in an outage (ENOSPC)", shape: shape{disk: small(), pace: 2 * time.Millisecond}, most: refusing, refuses: true, do: during(true,
			func(w *world) { w.shape.disk.full() }, func(w *world) { w.shape.disk.free() })},
		{name: "the spool's own bound in an outage", shape: shape{spoolBytes: mebi, pace: 4 * time.Millisecond}, most: refusing, refuses: true, do: func(w *world) {
			w.net.down()
			w.hold(2 * length())
			w.net.up()
		}},
		{name: "fdatasync fails (EIO) in an outage, then a restart", shape: shape{pace: 4 * time.Millisecond}, most: refusing, refuses: true, do: during(true,
			func(w *world) { w.tell(orderBreak) }, restart)},
		{name: "a disk that hangs in an outage", shape: shape{disk: small(), pace: 2 * time.Millisecond}, most: refusing, do: during(false,
			func(w *world) {
				w.shape.disk.freeze()
				w.standstill(length() / 3)
			}, func(w *world) { w.shape.disk.thaw() })},
		{name: "SpoolDir becomes read-only in an outage, then a restart", shape: shape{disk: small()}, most: refusing, refuses: true, do: during(true,
			func(w *world) { w.shape.disk.abort() }, restart)},
		{name: "disk full while Redis is there", quiet: true, shape: shape{disk: small()}, do: func(w *world) {
			w.shape.disk.full()
			w.hold(length())
			w.shape.disk.free()
		}},
	}
}
