package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// usersOf returns the users, each with a group, that wrote what is in a SpoolDir. Its own user
// counts only where there is nothing yet: the root of a volume often belongs to root, and its
// group to the service. Then none is returned: its mode says who may write there.
func usersOf(dir string) (users map[int]int, err error) {
	fi, err := os.Stat(dir)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	users = map[int]int{}
	for _, e := range entries {
		if !e.IsDir() || e.Name() == "lost+found" {
			continue
		}
		sub, err := os.Stat(filepath.Join(dir, e.Name()))
		if errors.Is(err, os.ErrNotExist) { // by now
			continue
		}
		if err != nil {
			return nil, err
		}
		if uid, gid, known := userOf(sub); known {
			users[uid] = gid
		}
	}
	if uid, gid, known := userOf(fi); known && len(users) == 0 && (uid != 0 || os.Geteuid() == 0) {
		users[uid] = gid
	}
	return users, nil
}

// namesOf names users in words.
func namesOf(users map[int]int) string {
	texts := []string{}
	for _, uid := range slices.Sorted(maps.Keys(users)) {
		texts = append(texts, fmt.Sprintf("uid %d", uid))
	}
	return strings.Join(texts, " and ")
}

// beOwner refuses a spool of another user: what this process wrote there, that user's
// processes could not read. With --force root becomes that user for the rest of the command.
func (c *common) beOwner(dir string) error {
	users, err := usersOf(dir)
	switch {
	case errors.Is(err, os.ErrNotExist): // it will be this user's
		return nil
	case err != nil:
		return err
	}
	own := os.Geteuid()
	if _, among := users[own]; among && own != 0 {
		delete(users, 0) // what root left by mistake keeps nobody from the rest
	}
	switch _, among := users[own]; {
	case len(users) == 0, among && len(users) == 1:
		return nil
	case len(users) > 1:
		return fmt.Errorf("%s holds files of %s, and none of them can read the other's: give all to the service's user first, with chown -R", dir, namesOf(users))
	case own != 0:
		return fmt.Errorf("%s belongs to %s, this command runs as uid %d: run it as that user", dir, namesOf(users), own)
	case !c.force:
		return fmt.Errorf("%s belongs to %s: run this command as that user, or with --force, which makes it become that user", dir, namesOf(users))
	}
	for uid, gid := range users {
		err = become(dir, uid, gid)
	}
	return err
}
