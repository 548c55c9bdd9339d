package spool

import (
	"path/filepath"
	"time"
)

// Share is what a Spool holds of one owner.
type Share struct {
	Owner        string    `json:"owner"` // its name
	Own          bool      `json:"own"`   // records are appended to it; else it was adopted
	Segments     int       `json:"segments"`
	Pending      int       `json:"pending"`
	PendingBytes int64     `json:"pending_bytes"`
	Oldest       time.Time `json:"oldest,omitzero"` // when the oldest pending record was accepted; zero without one
	DeadLetters  int       `json:"dead_letters"`
}

// Shares returns what this Spool holds of each owner, in the order in which it is replayed:
// adopted ones by age, then its own. It never touches the disk.
func (s *Spool) Shares() []Share {
	owners := s.owners()
	shares := make([]Share, 0, len(owners))
	for _, o := range owners {
		segs := s.segments(o)
		sh := Share{Owner: o.name, Own: o == s.own, Segments: len(segs)}
		for _, seg := range segs {
			st := seg.state.Load()
			sh.Pending += st.pending()
			sh.PendingBytes += int64(st.PendingBytes)
			sh.DeadLetters += int(st.Counts[Dead])
			if st.pending() > 0 {
				sh.Oldest = earlier(sh.Oldest, timeOf(st.Oldest))
			}
		}
		shares = append(shares, sh)
	}
	return shares
}

// socketName is the file beside an owner's segments on which its process listens.
const socketName = "sock"

// Socket returns where the process that owns this Spool's own share may listen for those
// who look after the spool; empty with AdoptOnly. The file goes when the share does.
func (s *Spool) Socket() string {
	if s.own == nil {
		return ""
	}
	return filepath.Join(s.own.dir, socketName)
}

// SocketOf returns where the process of an owner listens, if it lives and does.
func SocketOf(dir, owner string) string { return filepath.Join(dir, owner, socketName) }

// Owner is the name of the record's owner.
func (p Position) Owner() string { return p.owner }

// JournalName is a directory in a SpoolDir that may hold another SpoolDir, whose files do not
// count as this one's.
const JournalName = "journal"

// OwnName is the name of the Spool's own share; empty with AdoptOnly.
func (s *Spool) OwnName() string {
	if s.own == nil {
		return ""
	}
	return s.own.name
}
