//go:build !linux

package bench_test

import (
	"errors"
	"os"
	"runtime"
)

// What only Linux tells or does. Metrics that need it are left out elsewhere.

func datasync(f *os.File) error { return f.Sync() }

func flushDisk() {}

func dropCache(string) error { return errors.ErrUnsupported }

func diskBytes(string) (int64, error) { return 0, errors.ErrUnsupported }

func anonBytes() (int64, error) { return 0, errors.ErrUnsupported }

func kernel() string { return runtime.GOOS }

func fileSystem(string) string { return "unknown" }
