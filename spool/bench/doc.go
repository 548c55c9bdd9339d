// Package bench compares spool with other ways to put a record on disk for good.
// It is a module of its own, so that nobody who uses spool inherits the peers.
//
// There is nothing here to import: the benchmarks are in bench_test.go, the peers
// in stores_test.go. The script run runs them in rounds, and prints what they print:
//
//	cd spool/bench
//	./run              # Append, AppendAfterDrain and ReadSettle, 5 rounds
//	SCALE=1 ./run      # and once AppendRate, SettleRate and Open with 5,000,000 records
//	./run -h           # what else it can do
//
// "make bench-spool" makes a table of that. One benchmark by hand:
//
//	go test -run '^$' -bench 'Append/store=(spool|pebble)/callers=64$'
//
// # What is compared
//
// Every store gets the same records of 300 bytes, 246 of them random, and returns
// from an append when the record survives a power cut as far as the operating
// system can tell: after fsync or fdatasync. No store is tuned for more speed than
// its documentation offers at that promise, none for less. Each benchmark has a
// fresh directory in $TMPDIR, which must be a real disk: on tmpfs fsync is free.
//
//	fdatasync    write and fdatasync on one growing file: what the disk can do for
//	             one caller
//	pebble       an LSM tree whose log groups the commits of all callers
//	dque         a queue of gob files, in its safe mode: fsync for each record
//	sqlite       a table in WAL mode, synchronous=FULL
//	tidwall-wal  a log, fsync for each record
//	spool        this repository
//
// Ratios to a peer hold for one disk only: where fsync is slow, what shares one
// commit wins; where it is fast, what spends little work on each record does.
package bench
