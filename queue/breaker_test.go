package queue

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestBreaker(t *testing.T) {
	now := time.Unix(100, 0)
	var b breaker
	first, ok := b.allow()
	if !ok {
		t.Fatal("begins open")
	}
	for i := 1; i < weakFailures; i++ {
		if b.failed(first, true, outage{since: now, cause: "slow"}) {
			t.Fatalf("weak failure %d opened it", i)
		}
	}
	b.succeeded(first)
	if b.failed(first, true, outage{since: now, cause: "slow"}) || b.open() {
		t.Fatal("a success did not clear the weak failures")
	}
	if !b.failed(first, false, outage{since: now, cause: "refused"}) || !b.open() {
		t.Fatal("a failure did not open it")
	}
	if b.failed(first, false, outage{since: now, cause: "late"}) {
		t.Fatal("an outage began twice")
	}
	if o, open := b.current(); !open || o.cause != "refused" || !o.since.Equal(now) {
		t.Fatalf("%+v, %v", o, open)
	}
	if o, ended := b.recovered(); !ended || o.cause != "refused" {
		t.Fatalf("%+v, %v", o, ended)
	}
	if _, ended := b.recovered(); ended {
		t.Fatal("an outage ended twice")
	}
	if b.failed(first, false, outage{since: now, cause: "late"}) || b.open() {
		t.Fatal("the late result of an old generation opened it")
	}
	second, _ := b.allow()
	for i := range weakFailures {
		if began := b.failed(second, true, outage{since: now, cause: "slow"}); began != (i == weakFailures-1) {
			t.Fatalf("weak failure %d: %v", i, began)
		}
	}
}

// TestBreakerLasted: the time of outages counts up to now, and never falls.
func TestBreakerLasted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bs := newBreakers(false)
		want := func(all, queues time.Duration) {
			t.Helper()
			if a, q := bs.lasted(); a != all || q != queues {
				t.Fatalf("%v and %v, want %v and %v", a, q, all, queues)
			}
		}
		begin := func(b *breaker) {
			g, _ := b.allow()
			if !b.failed(g, false, outage{since: time.Now()}) {
				t.Fatal("it does not begin")
			}
		}
		want(0, 0)
		group, first := bs.of("first")
		_, second := bs.of("second")
		begin(group)
		time.Sleep(time.Second)
		want(time.Second, 0)
		begin(first)
		begin(second)
		time.Sleep(time.Second)
		want(2*time.Second, 2*time.Second)
		group.recovered()
		second.recovered()
		group.recovered()
		time.Sleep(time.Second)
		want(2*time.Second, 3*time.Second)
		begin(group)
		time.Sleep(time.Second)
		want(3*time.Second, 4*time.Second)
	})
}
