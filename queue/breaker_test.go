package queue

import (
	"testing"
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
