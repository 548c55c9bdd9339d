package chaos_test

import (
	"syscall"
	"time"
)

func processFaults() []fault {
	outage := func(w *world, during func()) {
		w.net.down()
		w.hold(length())
		during()
		w.net.up()
	}
	return []fault{
		{name: "producers killed, one after the other", quiet: true, mixes: toProducer, do: func(w *world) {
			for range 4 {
				w.hold(length() / 4)
				w.killProducer()
			}
		}},
		{name: "producers killed in an outage", do: func(w *world) {
			outage(w, func() {
				for range 3 {
					w.killProducer()
					w.hold(length() / 4)
				}
			})
		}},
		{name: "producers killed while they replay: between Redis's reply and the commit, too", shape: shape{producers: 3, pace: 4 * time.Millisecond, midway: true}, midway: true, do: func(w *world) {
			outage(w, func() {})
			for range 6 {
				time.Sleep(time.Duration(w.number(400)) * time.Millisecond)
				w.killProducer()
			}
			for range 2 {
				w.net.down()
				w.hold(length() / 2)
				w.killMidway(w.net.up)
			}
		}},
		{name: "producers and workers frozen (SIGSTOP) in the middle", quiet: true, mixes: toProducer, do: func(w *world) {
			w.signal(syscall.SIGSTOP)
			w.hold(length())
			w.signal(syscall.SIGCONT)
		}, most: allowed{wait: usualWait + 2*length()}},
		{name: "workers killed", quiet: true, mixes: toWorker, do: func(w *world) {
			for range 2 {
				w.hold(length() / 2)
				w.killWorkers()
			}
		}},
		{name: "rolling deploy: old and new processes overlap, in an outage", do: func(w *world) {
			w.net.down()
			old := w.retireProducers(0)
			for range old {
				w.startProducer()
			}
			w.hold(length() / 2)
			for _, p := range old {
				p.signal(syscall.SIGKILL) // at the end of its grace, with a full spool
				<-p.ended
			}
			w.net.up()
			w.hold(length() / 2)
		}},
		{name: "rolling deploy without an outage", quiet: true, mixes: toProducer, shape: shape{producers: 3}, do: func(w *world) {
			for _, p := range w.retireProducers(1) {
				w.startProducer()
				w.hold(length() / 4)
				p.tell(orderFinish)
				<-p.ended
				checkFinished(w, w.oracle, p)
			}
		}},
		{name: "a second outage right after a drain", do: func(w *world) {
			for range 2 {
				outage(w, func() {})
				w.tell(orderDrain)
				w.hold(length() / 10)
			}
		}},
		{name: "an outage while the one before is replayed", shape: shape{pace: 4 * time.Millisecond}, do: func(w *world) {
			for range 4 {
				outage(w, func() {})
				w.hold(length() / 10)
			}
		}},
	}
}
