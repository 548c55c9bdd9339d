//go:build !linux

package redistest

import "testing"

// BlackHole returns an address of 127.0.0.1 at which connecting neither succeeds
// nor is refused: SYNs are never answered. It lasts until the test ends.
// It is there on Linux only; elsewhere the test is skipped.
func BlackHole(tb testing.TB) string {
	tb.Helper()
	tb.Skip("redistest: an address that answers no SYN is made on Linux only")
	return ""
}
