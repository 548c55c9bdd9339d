package spool

import (
	"bytes"
	"context"
	"encoding/binary"
	"syscall"
	"time"
)

// Encode, Decode and NewWriter let the black-box tests reach the codec and the
// group commit.
func (r Record) Encode() []byte { return r.encode() }

func Decode(b []byte) (Record, error) { return decodeRecord(b, 0) }

type Writer struct{ w *writer }

// NewWriter returns a writer whose commits are numbers of records.
func NewWriter(commit func(records int) error) Writer {
	return Writer{&writer{lane: newLane(-1), commit: func(e []encoded) error { return commit(len(e)) }}}
}

func (w Writer) Append(records ...[]byte) error {
	return w.w.append(make([]encoded, len(records)), len(records))
}

// Recode decodes a value of any kind and encodes it again; nil if it is none.
func Recode(kind string, b []byte) []byte {
	t := ties{owner: "owner", first: 1}
	switch kind {
	case "record":
		if r, err := decodeRecord(b, 0); err == nil {
			return r.encode()
		}
	case "header":
		if h, err := decodeHeader(b); err == nil {
			return h.encode()
		}
	case "state":
		if st, err := decodeState(b, t); err == nil {
			return st.encode(t)
		}
	case "held":
		if n, err := decodeHeld(b, t.tie(kindHeld, 7)); err == nil {
			return encodeHeld(n, t.tie(kindHeld, 7))
		}
	case "dead":
		if i, err := decodeDead(b, t.tie(kindDead, 7)); err == nil {
			return encodeDead(i, t.tie(kindDead, 7))
		}
	case "twin":
		if tw, err := decodeTwin(b, t.tie(kindTwin, 7)); err == nil {
			return tw.encode(t.tie(kindTwin, 7))
		}
	}
	return nil
}

// Samples are values for Recode.
func Samples() map[string][]byte {
	t := ties{owner: "owner", first: 1}
	now := time.Unix(1, 2)
	st := newState(1)
	st.add("class", 10, 3)
	st.add("flow\x00class", 10, 3)
	st.Next, st.Held, st.Counts[Delivered] = 10, 1, 3
	return map[string][]byte{
		"record": Record{ID: "id", Class: "c", Lock: "l", At: now, LockUntil: now, Data: []byte("data")}.encode(),
		"header": header{Owner: "owner", First: 1, Target: "target", Created: now}.encode(),
		"state":  st.encode(t),
		"held":   encodeHeld(3, t.tie(kindHeld, 7)),
		"dead":   encodeDead(deadInfo{attempts: 2, since: now, reason: "because"}, t.tie(kindDead, 7)),
		"twin":   twin{key: hashOf(hashKey, "k"), lock: hashOf(hashLock, "l"), until: 5}.encode(t.tie(kindTwin, 7)),
	}
}

// SealAs gives b, whatever it is, the version and the checksum of a good value.
func SealAs(kind string, b []byte) []byte {
	t := ties{owner: "owner", first: 1}
	tie := map[string]uint32{"state": t.tie(kindState, 0), "held": t.tie(kindHeld, 7), "dead": t.tie(kindDead, 7), "twin": t.tie(kindTwin, 7)}[kind]
	return seal(append(newSealed(len(b)), b...), tie)
}

// SetVersions changes the version of all values of a kind in a segment's bytes, and seals
// them again. It returns how many it has found.
func SetVersions(b []byte, owner string, first uint64, kind string, version byte) (found int) {
	t := ties{owner: owner, first: first}
	change := func(v []byte, tie uint32) {
		if _, err := unseal(v, tie); err == nil {
			v[0] = version
			seal(v, tie)
			found++
		}
	}
	// The length of a value is not beside it: try all that are possible.
	for at := range b {
		if b[at] != formatVersion {
			continue
		}
		for n := sealSize; n <= 400 && at+n <= len(b); n++ {
			switch kind {
			case "header":
				change(b[at:at+n], 0)
			case "state":
				change(b[at:at+n], t.tie(kindState, 0))
			case "record":
				for seq := uint64(1); seq <= 10; seq++ {
					if bytes.HasSuffix(b[:at], binary.BigEndian.AppendUint64(nil, seq)) {
						change(b[at:at+n], t.tie(kindRecord, seq))
					}
				}
			}
		}
	}
	return found
}

// SetVersion makes a sealed value one of another version, with a checksum that is right.
func SetVersion(b []byte, version byte) {
	tie := binary.BigEndian.Uint32(b[1:]) ^ checksum(b)
	b[0] = version
	seal(b, tie)
}

func (p Position) Size() int { return p.size }

// Lane is a lane for tests.
type Lane struct{ l *lane }

func NewLane(limit time.Duration) Lane { return Lane{newLane(limit)} }

func (l Lane) Do(fn func() error) (started bool, err error) { return l.l.do(fn) }
func (l Lane) Stalled() bool                                { return l.l.stalled() }

// Meter is a meter for tests.
type Meter struct{ m meter }

func (m *Meter) Add(bytes int64, now time.Time)                 { m.m.add(bytes, now) }
func (m *Meter) Rate(now time.Time) float64                     { return m.m.rate(now) }
func (m *Meter) Until(bytes int64, now time.Time) time.Duration { return m.m.until(bytes, now) }

// MaxClasses and MaxFlows are how many classes and flows a segment counts one by one,
// MaxHeads how many segments are kept open to be read from.
const (
	MaxClasses = maxClasses
	MaxFlows   = maxFlows
	MaxHeads   = maxHeads
)

// Claiming is how many segments have claims, and how many calls of Append.
func (s *Spool) Claiming() int { return int(s.twins.some.Load()) }

// OpenFiles is how many segments' files are open.
func (s *Spool) OpenFiles() (n int) {
	for _, o := range s.owners() {
		for _, seg := range s.segments(o) {
			seg.use.RLock()
			if seg.db != nil {
				n++
			}
			seg.use.RUnlock()
		}
	}
	return n
}

// Overrun is by how many bytes a commit to one of the Spool's own segments went beyond what
// was reserved for it.
func (s *Spool) Overrun() (most int64) {
	if s.own == nil {
		return 0
	}
	for _, seg := range s.segments(s.own) {
		seg.update.Lock()
		most = max(most, seg.blocks.overrun)
		seg.update.Unlock()
	}
	return most
}

// Held is how many records are held.
func (s *Spool) Held() (n int) {
	for _, o := range s.owners() {
		for _, seg := range s.segments(o) {
			n += int(seg.state.Load().Held)
		}
	}
	return n
}

// TakeOverByCopy is TakeOver between two file systems.
func TakeOverByCopy(ctx context.Context, from, to string) ([]Taken, []string, error) {
	return takeOver(ctx, from, to, func(string, string) error { return syscall.EXDEV })
}
