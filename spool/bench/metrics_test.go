package bench_test

import (
	"errors"
	"runtime/debug"
	"testing"
)

// reportRate reports records per second, where each iteration did n of them.
func reportRate(b *testing.B, n int) {
	b.Helper()
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "records/s")
}

// reportDisk reports what n records in dir occupy beyond their own bytes.
func reportDisk(b *testing.B, dir string, n int) {
	b.Helper()
	total, err := diskBytes(dir)
	if known(b, err) {
		b.ReportMetric(float64(total)/float64(n)-recordBytes, "overhead-bytes/record")
	}
}

// reportMemory reports by how much anonymous memory has grown.
func reportMemory(b *testing.B, before int64) {
	b.Helper()
	if after := anonMemory(b); after > 0 {
		b.ReportMetric(float64(after-before)/(1<<20), "anon-growth-MiB")
	}
}

// anonMemory returns the bytes of anonymous memory in use, garbage given back to
// the system; 0 where that is unknown.
func anonMemory(b *testing.B) int64 {
	b.Helper()
	debug.FreeOSMemory() // collects first
	bytes, err := anonBytes()
	known(b, err)
	return bytes
}

// known reports whether this system has the number at all.
func known(b *testing.B, err error) bool {
	b.Helper()
	if err != nil && !errors.Is(err, errors.ErrUnsupported) {
		b.Fatal(err)
	}
	return err == nil
}
