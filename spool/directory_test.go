package spool_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/jobspool/jobspool/spool"
)

func TestDirectory(t *testing.T) {
	dir := t.TempDir()
	info, err := spool.Directory(dir)
	if err != nil || !info.Mode.IsDir() || info.OtherUser || info.TotalBytes <= 0 || info.FreeBytes <= 0 ||
		info.MinFree <= 0 || info.MinFree > spool.DefaultMinFreeBytes {
		t.Errorf("%+v, %v", info, err)
	}
	if _, err := spool.Directory(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("of none: %v", err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := spool.Directory(file); err == nil {
		t.Error("a file is taken for a directory")
	}
}
