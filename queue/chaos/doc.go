// Package chaos holds the fault matrix: producers, Redis and workers in processes of their
// own, faults done to each of them, and an oracle that keeps every job that was accepted and
// says at the end what became of it. There is nothing here but tests:
//
//	go test . -run Matrix                   each fault
//	go test . -run Mixed -mixed 20          several at a time, by chance
//	go test . -run Soak -soak 30m           for long
//	go test . -chaos.seed 42                the same choices again
//	go test . -run Matrix -chaos.table ../../README.md
//
// It is a module of its own so that what it needs is nobody else's dependency.
package chaos
