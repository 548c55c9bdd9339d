package spool

import (
	"os"

	"golang.org/x/sys/windows"
)

// allocated returns the bytes of a file's disk blocks, as far as its length tells.
func allocated(fi os.FileInfo) int64 { return fi.Size() }

// diskSpace returns the bytes free for this user, and the size of the file system.
func diskSpace(dir string) (free, total int64, err error) {
	path, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return 0, 0, err
	}
	var f, t uint64
	if err := windows.GetDiskFreeSpaceEx(path, &f, &t, nil); err != nil {
		return 0, 0, &os.PathError{Op: "GetDiskFreeSpaceEx", Path: dir, Err: err}
	}
	return int64(f), int64(t), nil
}

// unlockFile is for systems where a memory map keeps bbolt's lock on a file.
func unlockFile(*os.File) {}

// otherUser would be about access control lists here: nobody is another user.
func otherUser(os.FileInfo) (uid int, other bool) { return 0, false }
