// Package bench compares queue.Producer with what it takes the place of. It is a module of
// its own, so that nobody who uses queue inherits what it needs.
//
// There is nothing here to import. The script run runs the benchmarks of package queue that
// compare, and command table makes one table of them and of those in spool/bench. Command
// outage draws what callers of Enqueue wait through an outage.
//
//	make bench          # run all, print the table
//	make bench-readme   # put the table of that run in README
//	make picture        # run the outage, write outage.svg
package bench
