package spool_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jobspool/jobspool/spool"
)

func TestLaneLeavesBehindWhatTakesTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := spool.NewLane(5 * time.Second)
		begin := time.Now()
		go func() {
			started, err := l.Do(func() error { return errors.New("an answer") })
			if !started || err == nil || errors.Is(err, spool.ErrStalled) {
				t.Errorf("a quick one: %v, %v", started, err)
			}
		}()
		synctest.Wait()
		started, err := l.Do(func() error {
			time.Sleep(time.Minute)
			return errors.New("too late")
		})
		if !started || !errors.Is(err, spool.ErrStalled) || time.Since(begin) != 5*time.Second || !l.Stalled() {
			t.Fatalf("after %v: %v, %v", time.Since(begin), started, err)
		}
		refused := time.Now()
		if started, err := l.Do(func() error { t.Error("ran"); return nil }); started || !errors.Is(err, spool.ErrStalled) || time.Since(refused) != 0 {
			t.Errorf("behind it: %v, %v after %v", started, err, time.Since(refused))
		}
		time.Sleep(time.Minute)
		if started, err := l.Do(func() error { return nil }); !started || err != nil || l.Stalled() {
			t.Errorf("once it has ended: %v, %v", started, err)
		}
	})
}

func TestLaneWaitsForItsTurnNoLongerThanItsLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := spool.NewLane(5 * time.Second)
		go func() { _, _ = l.Do(func() error { time.Sleep(4 * time.Second); return nil }) }()
		synctest.Wait()
		if started, err := l.Do(func() error { time.Sleep(4 * time.Second); return nil }); !started || !errors.Is(err, spool.ErrStalled) {
			t.Errorf("a second that ends after 8 s in all: %v, %v", started, err)
		}
		time.Sleep(time.Minute)
	})
}

func TestLaneSurvivesAPanic(t *testing.T) {
	l := spool.NewLane(-1)
	for range 2 {
		if _, err := l.Do(func() error { panic("out of bbolt") }); !errors.Is(err, spool.ErrDamaged) {
			t.Errorf("got %v", err)
		}
	}
}

func TestMeter(t *testing.T) {
	var m spool.Meter
	now := time.Unix(1000, 0)
	if m.Rate(now) != 0 || m.Until(100, now) != 0 {
		t.Error("a rate of nothing")
	}
	for range 600 { // 1,000 bytes a second
		m.Add(1000, now)
		now = now.Add(time.Second)
	}
	if r := m.Rate(now); r < 950 || r > 1050 {
		t.Errorf("%.0f bytes/s, want about 1000", r)
	}
	if d := m.Until(3_600_000, now); d < 55*time.Minute || d > 65*time.Minute {
		t.Errorf("full in %v, want about an hour", d)
	}
	if d := m.Until(1<<62, now); d <= 0 {
		t.Errorf("full in %v", d)
	}
	if d := m.Until(1000, now.Add(time.Hour)); d != 0 {
		t.Errorf("full in %v although nothing has come for an hour", d)
	}
	var young spool.Meter
	young.Add(10_000, now)
	if r := young.Rate(now.Add(10 * time.Second)); r < 800 || r > 1200 {
		t.Errorf("%.0f bytes/s after 10,000 bytes in 10 s", r)
	}
}
