package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/spool"
)

// spoolFacts are what is seen of a SpoolDir.
type spoolFacts struct {
	dir  string
	info spool.DirectoryInfo
	err  error // why there is no info

	users map[int]int // see usersOf

	owners    []spool.OwnerInfo
	set       []spool.Quarantined
	processes processes
	ownersErr error
}

var errDiskHangs = errors.New("the disk did not answer in time")

func lookAtSpool(ctx context.Context, dir string) spoolFacts {
	f := spoolFacts{dir: dir}
	if f.info, f.err = spool.Directory(dir); f.err != nil {
		return f
	}
	if f.users, f.err = usersOf(dir); f.err != nil {
		return f
	}
	if f.owners, f.ownersErr = spool.Inspect(dir); f.ownersErr == nil {
		f.set, f.ownersErr = spool.Quarantine(dir)
	}
	if f.ownersErr == nil {
		f.processes, f.ownersErr = askProcesses(ctx, dir, f.owners)
	}
	return f
}

// judgeSpool says what is to be said of a SpoolDir. Without a target nobody can tell which
// owners are foreign.
func judgeSpool(f spoolFacts, target string) []finding {
	if f.err != nil {
		todo := "name the SpoolDir of the service in --dir; its Producer creates it"
		if errors.Is(f.err, errDiskHangs) {
			todo = "see to the disk, or to the server of a network file system"
		}
		return append([]finding{failed("directory", f.dir+": "+f.err.Error(), todo)},
			notMadeOf(f.err, "user", "mode", "filesystem", "free space", "pause", "processes", "guard", "owners", "orphans", "foreign", "dead letters", "segments", "quarantine")...)
	}
	out := []finding{
		passed("directory", f.dir), judgeUser(f.users, os.Geteuid()), judgeMode(f.info, f.users, runtime.GOOS), judgeFilesystem(f.info, runtime.GOOS),
		judgeFreeSpace(f.info),
	}
	switch err := f.ownersErr; {
	case errors.Is(err, spool.ErrNotSpool):
		out = append(out, failed("owners", err.Error(), "name the SpoolDir of the service in --dir"))
		return append(out, notMadeOf(err, "orphans", "foreign", "dead letters", "segments", "quarantine")...)
	case err != nil:
		return append(out, notMadeOf(err, "pause", "processes", "guard", "owners", "orphans", "foreign", "dead letters", "segments", "quarantine")...)
	}
	out = append(out, judgeProcesses(f.processes, time.Now())...)
	out = append(out, judgeGuard(f.processes.statuses, f.info))
	return append(out, judgeOwners(f, target)...)
}

func judgeUser(users map[int]int, own int) finding {
	_, among := users[own]
	switch {
	case len(users) > 1:
		return warned("user", fmt.Sprintf("what is in it belongs to %s: no process adopts another user's jobs", namesOf(users)),
			"run all that share the directory as one user, and give that user what is there, with chown -R")
	case among, len(users) == 0:
		return passed("user", "it belongs to this user")
	}
	return warned("user", fmt.Sprintf("it belongs to %s, this is uid %d: no process adopts another user's jobs", namesOf(users), own),
		"run spool, and every service that shares the directory, as "+namesOf(users))
}

// judgeMode does not ask for 0700 where somebody else than its users owns the directory, or
// its group may write there: that may be how they get in.
func judgeMode(info spool.DirectoryInfo, users map[int]int, system string) finding {
	perm, private, todo := info.Mode.Perm(), os.FileMode(0o077), "chmod 700"
	_, owned := users[info.UID]
	if !owned || perm&0o020 != 0 {
		private, todo = 0o007, "chmod o="
	}
	switch {
	case system == "windows":
		return passed("mode", "Windows has its own rights")
	case owned && perm&0o700 != 0o700:
		return failed("mode", fmt.Sprintf("%#o: its user may not write there", perm), todo)
	case perm&private != 0:
		return warned("mode", fmt.Sprintf("%#o: others may see what is in it, and perhaps read payloads", perm), todo)
	}
	return passed("mode", fmt.Sprintf("%#o", perm))
}

func judgeFilesystem(info spool.DirectoryInfo, system string) finding {
	const todo = "put SpoolDir on a local disk that outlives the process"
	switch {
	case info.Warning != "":
		return warned("filesystem", info.Warning, todo)
	case system != "linux":
		return warned("filesystem", "not checked: its kind is told on Linux only", todo)
	}
	return passed("filesystem", "of no kind that is known to lose jobs")
}

// judgeFreeSpace goes by the defaults of the Config, which it does not know.
func judgeFreeSpace(info spool.DirectoryInfo) finding {
	seen := fmt.Sprintf("%s of %s", sizeText(info.FreeBytes), sizeText(info.TotalBytes))
	const todo = "make room, or move SpoolDir"
	switch room := info.FreeBytes - info.MinFree; {
	case room <= 0:
		return failed("free space", seen+": a Producer takes no jobs in an outage (MinFreeBytes)", todo)
	case room < spool.DefaultMaxBytes:
		return warned("free space", fmt.Sprintf("%s: %s for jobs, less than MaxBytes (%s)", seen, sizeText(room), sizeText(spool.DefaultMaxBytes)), todo)
	}
	return passed("free space", seen)
}

// heldByDead is what several owners hold together.
type heldByDead struct{ owners, pending int }

func (h heldByDead) String() string {
	return fmt.Sprintf("%s of %s", plural(h.pending, "job"), plural(h.owners, "dead process"))
}

// judgeOwners says what the owners, and what is in quarantine, mean for the jobs.
func judgeOwners(f spoolFacts, target string) []finding {
	alive, dead, unreadable := 0, f.processes.deadLetters(), 0
	var orphans, foreign heldByDead
	var bad []string
	for _, o := range f.owners {
		h := &orphans
		if target != "" && !queue.SameTarget(o.Identity.Target, target) {
			h = &foreign
		}
		if o.Alive {
			alive++
		} else if o.Pending > 0 {
			h.owners, h.pending = h.owners+1, h.pending+o.Pending
		}
		dead += o.DeadLetters
		for _, why := range o.Bad {
			bad = append(bad, o.Name+": "+why)
		}
	}
	for _, q := range f.set {
		unreadable += q.Unreadable
	}
	return []finding{
		passed("owners", fmt.Sprintf("%d, of which %d are alive and look after their own jobs", len(f.owners), alive)),
		judgeOrphans(orphans, alive), judgeForeign(foreign, target), judgeDeadLetters(dead), judgeSegments(bad), judgeQuarantine(f.set, unreadable),
	}
}

func judgeOrphans(h heldByDead, alive int) finding {
	if h.pending == 0 {
		return passed("orphans", "none")
	}
	todo := "start the service, whose Producer sends them, or spool drain"
	if alive > 0 {
		todo = "a Producer that lives sends them within ten seconds, if Redis takes writes and the target is its own; else spool drain"
	}
	return warned("orphans", h.String(), todo)
}

func judgeForeign(h heldByDead, target string) finding {
	switch {
	case target == "":
		return notMade("foreign", errors.New("without --redis nobody can tell"))
	case h.pending == 0:
		return passed("foreign", "none")
	}
	return warned("foreign", h.String()+" for another Redis, see spool status",
		"spool drain with that Redis; or list the old target in Config.AcceptTargets")
}

func judgeDeadLetters(n int) finding {
	if n == 0 {
		return passed("dead letters", "none")
	}
	return warned("dead letters", plural(n, "job")+" that Redis refused for its own sake", "spool dead ls shows why")
}

func judgeSegments(bad []string) finding {
	if len(bad) == 0 {
		return passed("segments", "all that are not in use can be read")
	}
	return failed("segments", someOf(bad, "; "), "keep the files; see the error, the disk and the kernel's log; spool drain salvages what can be read")
}

func judgeQuarantine(set []spool.Quarantined, unreadable int) finding {
	if len(set) == 0 {
		return passed("quarantine", "empty")
	}
	seen := fmt.Sprintf("%s, unreadable jobs in it: %d", plural(len(set), "file"), unreadable)
	const todo = "see the reasons beside the files; check the disk; move the files away once nobody needs them"
	if unreadable > 0 {
		return failed("quarantine", seen, todo)
	}
	return warned("quarantine", seen, todo)
}
