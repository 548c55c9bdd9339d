package spool_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"github.com/jobspool/jobspool/spool"
)

// share is a dead owner with one segment that has a history, and what may be expected
// of it after damage. A second dead owner beside it is sound.
type share struct {
	dir, name string // SpoolDir, owner
	file      []byte // the segment
	at        *layout
	classes   int
	flows     int

	records map[uint64]spool.Record
	pairs   map[uint64][]byte // key and value of each record, as they lie in the file
	held    []listed          // every entry that any commit wrote
	dead    []listed
	states  []truth          // after each commit
	copies  map[string][]int // where in the file each of all these lies

	now truth // after the last commit
}

// truth is what the segment holds after some commit.
type truth struct {
	next    uint64
	marks   []uint64       // watermarks by flow
	pending map[uint64]int // attempts
	dead    map[uint64]spool.DeadLetter
	pair    []byte // the state's key and value
}

// flow is the flow of a record.
func (tr truth) flow(seq uint64) int { return int(seq-1) % len(tr.marks) }

// behind reports whether a record is settled unless it is held or dead.
func (tr truth) behind(seq uint64) bool { return seq < tr.marks[tr.flow(seq)] }

// fresh is the truth of a segment in which nothing is settled.
func (h *share) fresh() truth {
	return truth{next: 1, marks: slices.Repeat([]uint64{1}, h.flows), pending: map[uint64]int{}, dead: map[uint64]spool.DeadLetter{}}
}

// listed is an entry of the held or the dead bucket.
type listed struct {
	seq    uint64
	pair   []byte
	letter spool.DeadLetter // what it says: Attempts and, if dead, Reason
}

const (
	soundRecords = 50 // of the owner beside
	notMentioned = spool.Unreadable
)

// newShare makes a segment of about n records of so many classes in several commits; the
// last one appends or settles. With many records and classes everything has pages of its
// own, branches included.
func newShare(t *testing.T, n, classes int, lastSettles bool) *share {
	t.Helper()
	h := &share{dir: t.TempDir(), classes: classes, flows: min(classes, 3), pairs: map[uint64][]byte{}, records: map[uint64]spool.Record{}}
	h.now = h.fresh()
	s := open(t, spool.Options{Dir: h.dir})
	h.name = s.OwnName()
	h.append(t, s, n/3)
	h.append(t, s, n/3)
	h.settle(t, s, n/4, spool.Delivered, spool.Kept, spool.Dead, spool.AlreadyThere, notMentioned, spool.Delivered)
	h.append(t, s, n/3)
	h.settle(t, s, n/4, spool.Kept, spool.Dead, notMentioned) // held ones come first
	h.settle(t, s, n/2, spool.Kept, notMentioned, spool.Dead, notMentioned, spool.Kept)
	h.append(t, s, n/30)
	if lastSettles {
		h.settle(t, s, n*3/4, notMentioned, spool.Delivered, spool.Kept, spool.Dead)
	}
	closeSpool(t, s)
	other := open(t, spool.Options{Dir: h.dir})
	mustAppend(t, other, records(0, soundRecords)...)
	closeSpool(t, other)
	h.file = readFile(t, h.path(h.dir))
	h.at = layoutOf(h.file)
	h.locate()
	return h
}

// locate finds every copy of everything, by its key and checksum first.
func (h *share) locate() {
	const prefix = 8 + 5
	h.copies = map[string][]int{}
	wanted := map[string][]string{}
	want := func(pair []byte) {
		if _, known := h.copies[string(pair)]; !known {
			h.copies[string(pair)] = nil
			wanted[string(pair[:prefix])] = append(wanted[string(pair[:prefix])], string(pair))
		}
	}
	for _, pair := range h.pairs {
		want(pair)
	}
	for _, e := range slices.Concat(h.held, h.dead) {
		want(e.pair)
	}
	for _, st := range h.states {
		want(st.pair)
	}
	for at := range len(h.file) - prefix {
		for _, pair := range wanted[string(h.file[at:at+prefix])] {
			if bytes.HasPrefix(h.file[at:], []byte(pair)) {
				h.copies[pair] = append(h.copies[pair], at)
			}
		}
	}
}

// in reports whether a copy of a pair is left in a damaged file.
func (h *share) in(file, pair []byte) bool {
	return slices.ContainsFunc(h.copies[string(pair)], func(at int) bool {
		return at < len(file) && bytes.HasPrefix(file[at:], pair)
	})
}

func (h *share) path(dir string) string { return filepath.Join(dir, h.name, "0000000000000001.seg") }

func (h *share) append(t *testing.T, s *spool.Spool, count int) {
	t.Helper()
	from := len(h.records)
	rs := records(from, from+count)
	for i := range rs {
		rs[i].Class = fmt.Sprintf("queue %d\x00class %d", (from+i)%h.flows, (from+i)%h.classes)
		if i%3 == 0 && h.classes > 1 { // else they would lie inline behind the lists, and certain takes pages as a whole
			rs[i].Key = rs[i].ID
		}
		if i%50 == 49 {
			rs[i].Data = bytes.Repeat([]byte("more than a page"), 500)
		}
		h.records[uint64(1+from+i)] = rs[i]
	}
	mustAppend(t, s, rs...)
	h.look(t, s, h.now.next+uint64(count), h.now.marks)
}

func (h *share) settle(t *testing.T, s *spool.Spool, count int, outcomes ...spool.Outcome) {
	t.Helper()
	entries, err := s.Read(count, 1<<30)
	if err != nil || len(entries) < count && len(entries) < len(h.now.pending) {
		t.Fatalf("read %d of %d: %v", len(entries), count, err)
	}
	var batch []spool.Settlement
	marks := slices.Clone(h.now.marks)
	for i, e := range entries {
		o := outcomes[i%len(outcomes)]
		if h.now.behind(e.Position.Seq()) && o != notMentioned {
			o = spool.Kept // what is held stays held: see TestAnEntryThatIsSureBeatsAnOldCopy
		}
		if o != notMentioned {
			batch = append(batch, spool.Settlement{Position: e.Position, Outcome: o, Attempts: e.Attempts, Reason: "because of " + e.ID})
			if mark := &marks[h.now.flow(e.Position.Seq())]; *mark <= e.Position.Seq() {
				*mark = e.Position.Seq() + 1
			}
		}
	}
	if err := s.Settle(batch...); err != nil {
		t.Fatal(err)
	}
	h.look(t, s, h.now.next, marks)
}

// look notes what there is after a commit.
func (h *share) look(t *testing.T, s *spool.Spool, next uint64, marks []uint64) {
	t.Helper()
	pending, letters := contents(t, s, h.name)
	buckets := pairs(t, readFile(t, h.path(h.dir)))
	h.now = truth{next: next, marks: marks, pending: pending, dead: letters, pair: buckets["meta"]["state"]}
	h.states = append(h.states, h.now)
	for k, pair := range buckets["records"] {
		h.pairs[seqOf(k)] = pair
	}
	for k, pair := range buckets["held"] {
		attempts := spool.DeadLetter{Entry: spool.Entry{Attempts: pending[seqOf(k)]}}
		h.held = append(h.held, listed{seq: seqOf(k), pair: pair, letter: attempts})
	}
	for k, pair := range buckets["dead"] {
		h.dead = append(h.dead, listed{seq: seqOf(k), pair: pair, letter: letters[seqOf(k)]})
	}
}

func seqOf(key string) uint64 { return binary.BigEndian.Uint64([]byte(key)) }

// contents lists what a Spool has of one owner.
func contents(t *testing.T, s *spool.Spool, owner string) (pending map[uint64]int, dead map[uint64]spool.DeadLetter) {
	t.Helper()
	pending, dead = map[uint64]int{}, map[uint64]spool.DeadLetter{}
	entries, _, err := s.List("", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	letters, _, err := s.DeadLetters("", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if _, twice := pending[e.Position.Seq()]; twice && e.Position.Owner() == owner {
			t.Fatalf("%d is listed twice", e.Position.Seq())
		}
		if e.Position.Owner() == owner {
			pending[e.Position.Seq()] = e.Attempts
		}
	}
	for _, d := range letters {
		if d.Position.Owner() == owner {
			dead[d.Position.Seq()] = d
		}
	}
	return pending, dead
}

// uncertain is the reason of dead letters that may have been delivered.
const uncertain = "it may have been sent already: the list of what was not is damaged"

// left says what must be found in a damaged file, and how many records are lost. Every
// value counts whose bytes are still there, wherever that is. known is the state that
// the Spool has in memory, if it has.
func (h *share) left(file []byte, known *truth) (want truth, lost int) {
	want = truth{pending: map[uint64]int{}, dead: map[uint64]spool.DeadLetter{}}
	from := h.fresh() // the newest state that is left: all are pending without one
	for _, st := range h.states {
		if h.in(file, st.pair) {
			from = st
		}
	}
	if known != nil {
		from = *known
	}
	held, dead, certain := h.now.pending, h.now.dead, h.certain(file)
	if !certain { // the lists are what is left of them, old copies included
		held, dead = map[uint64]int{}, map[uint64]spool.DeadLetter{}
		for _, e := range h.listedIn(h.held, file) {
			held[e.seq] = max(held[e.seq], e.letter.Attempts)
		}
		for _, e := range h.listedIn(h.dead, file) {
			dead[e.seq] = e.letter
		}
	}
	end := from.next // the records below are known to have been there
	for seq := range h.records {
		if h.in(file, h.pairs[seq]) {
			end = max(end, seq+1)
		}
	}
	for seq := range h.records {
		attempts, isHeld := held[seq]
		letter, isDead := dead[seq]
		pending := isHeld || seq >= from.next || !from.behind(seq)
		switch there := h.in(file, h.pairs[seq]); {
		case !there && (pending || isDead) && seq < end:
			lost++
		case !there:
		case pending:
			want.pending[seq] = attempts
		case isDead:
			want.dead[seq] = letter
		case !certain:
			want.dead[seq] = spool.DeadLetter{Reason: uncertain}
		}
	}
	settled := int(from.next) - 1 - len(from.pending) - len(from.dead)
	return want, max(lost, int(end)-1-settled-len(want.pending)-len(want.dead))
}

// certain reports whether the lists of what is held and dead can be read as the last
// commit has left them.
func (h *share) certain(file []byte) bool {
	ids := []int{h.at.metas[0]}
	for _, kind := range []string{"root", "meta", "held", "branch of held", "dead", "branch of dead"} {
		ids = append(ids, h.at.pages[kind]...)
	}
	return !slices.ContainsFunc(ids, func(id int) bool {
		page := h.at.extent(id)
		at := id * h.at.size
		return at+len(page) > len(file) || !bytes.Equal(file[at:at+len(page)], page)
	})
}

func (h *share) listedIn(entries []listed, file []byte) []listed {
	return slices.DeleteFunc(slices.Clone(entries), func(e listed) bool { return !h.in(file, e.pair) })
}
