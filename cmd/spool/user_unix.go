//go:build unix

package main

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// userOf returns the user and group of a file.
func userOf(fi os.FileInfo) (uid, gid int, known bool) {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0, false
	}
	return int(st.Uid), int(st.Gid), true
}

// become makes this process one of another user, for good, in the group of a directory as well:
// that may be what lets that user write there.
func become(dir string, uid, gid int) error {
	fi, err := os.Stat(dir)
	if err != nil {
		return err
	}
	groups := []int{gid}
	if _, group, known := userOf(fi); known && group != gid {
		groups = append(groups, group)
	}
	err = errors.Join(syscall.Setgroups(groups), syscall.Setgid(gid), syscall.Setuid(uid))
	if err != nil {
		return fmt.Errorf("becoming uid %d: %w", uid, err)
	}
	return nil
}
