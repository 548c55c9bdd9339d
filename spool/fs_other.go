//go:build !linux

package spool

import "os"

// allocate reserves disk blocks and makes the file longer by them.
func allocate(f *os.File, from, n int64) error { return writeZeros(f, from, n) }

// readAhead asks the system to read a part of the file into the page cache, where it
// can be asked.
func readAhead(*os.File, int64, int64) {}

// fsWarning says what is wrong with the file system of dir for a spool, where that can
// be told.
func fsWarning(string) string { return "" }
