package main

import (
	"fmt"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/spool"
)

// judgeGuard tells what Config.Guard costs, as far as it can be seen: GuardBytes is in no
// status, so it goes by its default.
func judgeGuard(statuses []queue.Status, info spool.DirectoryInfo) finding {
	var jobs, bytes int64
	processes := 0
	for _, p := range statuses {
		if p.Stats.Guard > 0 {
			processes++
			jobs, bytes = jobs+p.Stats.JournalJobs, bytes+p.Stats.JournalBytes
		}
	}
	most := sizeText(queue.DefaultGuardBytes)
	if processes == 0 {
		return passed("guard", fmt.Sprintf("no living process keeps a journal: one would take up to %s of this disk beside the spool (GuardBytes), and in Redis a key of each queue and process", most))
	}
	seen := fmt.Sprintf("%s (%s) in journals of %s, beside the spool; up to %s by default (GuardBytes); in Redis a key of each queue and process",
		plural(int(jobs), "job"), sizeText(bytes), plural(processes, "process"), most)
	if room := info.FreeBytes - info.MinFree; room < queue.DefaultGuardBytes-bytes {
		return warned("guard", fmt.Sprintf("%s; the disk has room for %s", seen, sizeText(room)), "make room, move SpoolDir, or set Config.GuardBytes lower: what the journal cannot keep is not guarded")
	}
	return passed("guard", seen)
}
