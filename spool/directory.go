package spool

import (
	"fmt"
	"io/fs"
	"os"
)

// DirectoryInfo is what a directory is to a spool in it. Of Windows, UID and OtherUser
// say nothing.
type DirectoryInfo struct {
	Mode      fs.FileMode
	UID       int
	OtherUser bool // the directory is not this process's user's: Open adopts nothing of others

	FreeBytes  int64 // that this user may take
	TotalBytes int64
	MinFree    int64 // what Append leaves free by default, see Options.MinFreeBytes

	// Warning says what is wrong with the file system for a spool, as Open warns; empty
	// if nothing is, and where that cannot be told.
	Warning string
}

// Directory looks at dir, which need not hold a spool, and changes nothing. It returns
// an error that wraps os.ErrNotExist where there is none.
func Directory(dir string) (DirectoryInfo, error) {
	fi, err := os.Stat(dir)
	if err != nil {
		return DirectoryInfo{}, fmt.Errorf("spool: %w", err)
	}
	if !fi.IsDir() {
		return DirectoryInfo{}, fmt.Errorf("spool: %s is no directory", dir)
	}
	info := DirectoryInfo{Mode: fi.Mode(), Warning: fsWarning(dir)}
	info.UID, info.OtherUser = otherUser(fi)
	if info.FreeBytes, info.TotalBytes, err = diskSpace(dir); err != nil {
		return info, fmt.Errorf("spool: %w", err)
	}
	info.MinFree = defaultMinFree(info.TotalBytes)
	return info, nil
}

// defaultMinFree returns what Options.MinFreeBytes is by default on a file system.
func defaultMinFree(total int64) int64 {
	return min(DefaultMinFreeBytes, total/100*minFreePercent)
}
