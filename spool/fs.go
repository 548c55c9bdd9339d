package spool

import (
	"errors"
	"os"
	"runtime"
)

// Modes of everything under SpoolDir: payloads lie there in the clear.
const (
	dirMode  = 0o700
	fileMode = 0o600
)

// syncDir makes the creation, renaming or removal of a name in dir durable.
// Windows has no such call and needs none.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// writeFile writes a new file and syncs it; the caller syncs the directory.
func writeFile(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}
