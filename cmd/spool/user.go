package main

import (
	"errors"
	"fmt"
	"os"
)

// beOwner refuses a spool of another user: what this process wrote there, that user's
// processes could not read. With --force root becomes that user for the rest of the command.
func (c *common) beOwner(dir string) error {
	fi, err := os.Stat(dir)
	switch {
	case errors.Is(err, os.ErrNotExist): // it will be this user's
		return nil
	case err != nil:
		return err
	}
	uid, gid, known := userOf(fi)
	switch {
	case !known || uid == os.Geteuid():
		return nil
	case os.Geteuid() != 0:
		return fmt.Errorf("%s belongs to uid %d, this command runs as uid %d: run it as that user", dir, uid, os.Geteuid())
	case !c.force:
		return fmt.Errorf("%s belongs to uid %d: run this command as that user, or with --force, which makes it become that user", dir, uid)
	}
	return become(uid, gid)
}
