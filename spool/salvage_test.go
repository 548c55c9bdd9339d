package spool_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jobspool/jobspool/spool"
)

// check adopts a damaged SpoolDir, and compares what is found with what must be found.
func (h *share) check(t *testing.T, dir string, damaged []byte, want truth, lost int) {
	t.Helper()
	beside := files(t, dir)
	s := open(t, spool.Options{Dir: dir})
	if _, err := s.Adopt(); err != nil {
		t.Fatal(err)
	}
	contents(t, s, h.name) // meets the damage, if Adopt has not
	h.compare(t, s, want)
	st := s.Stats()
	if st.Quarantined != 1 || len(st.Bad) != 0 || int(st.Settled[spool.Unreadable]) != lost {
		t.Errorf("%d lost, got %+v", lost, st)
	}
	report := h.quarantined(t, dir, damaged)
	if report.Salvaged != len(want.pending) || report.Dead != len(want.dead) || report.Unreadable != lost {
		t.Errorf("%d pending, %d dead, %d lost; report %+v", len(want.pending), len(want.dead), lost, report)
	}
	maps.DeleteFunc(beside, func(name, _ string) bool { return strings.HasPrefix(name, h.name) || strings.HasSuffix(name, ".json") })
	sameFiles(t, beside, files(t, dir))
	closeSpool(t, s)

	// The next Spool finds the same.
	s = open(t, spool.Options{Dir: dir})
	mustAdopt(t, s, len(want.pending)+soundRecords)
	h.compare(t, s, want)
	if st := s.Stats(); st.Quarantined != 0 || len(st.Bad) != 0 {
		t.Errorf("the second time: %+v", st)
	}
	h.quarantined(t, dir, damaged)
	mustAppend(t, s, record(1))
	if n := len(drain(t, s)); n != len(want.pending)+soundRecords+1 {
		t.Errorf("drained %d, want %d", n, len(want.pending)+soundRecords+1)
	}
}

func (h *share) compare(t *testing.T, s *spool.Spool, want truth) {
	t.Helper()
	pending, dead := contents(t, s, h.name)
	if !maps.Equal(pending, want.pending) {
		t.Errorf("pending: %s", difference(pending, want.pending))
	}
	reasons := func(letters map[uint64]spool.DeadLetter) map[uint64]string {
		all := map[uint64]string{}
		for seq, d := range letters {
			all[seq] = strings.Repeat("again ", d.Attempts) + d.Reason
		}
		return all
	}
	if got, want := reasons(dead), reasons(want.dead); !maps.Equal(got, want) {
		t.Errorf("dead: %s", difference(got, want))
	}
	entries, _, err := s.List("", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if r := h.records[e.Position.Seq()]; e.Position.Owner() == h.name && !sameRecord(e.Record, r) {
			t.Errorf("record %d is %+v, want %+v", e.Position.Seq(), e.Record, r)
		}
	}
}

// difference names the keys at which two maps differ.
func difference[V comparable](got, want map[uint64]V) string {
	var text []string
	keys := maps.Clone(got)
	maps.Copy(keys, want)
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		g, there := got[k]
		w, wanted := want[k]
		if g != w || there != wanted {
			text = append(text, fmt.Sprintf("%d: got %v %v, want %v %v", k, there, g, wanted, w))
		}
	}
	return fmt.Sprintf("%d of %d differ: %s", len(text), len(want), strings.Join(text[:min(len(text), 10)], "; "))
}

// quarantined returns the report on the one file in quarantine, which is as it was found.
func (h *share) quarantined(t *testing.T, dir string, damaged []byte) spool.Quarantined {
	t.Helper()
	list, err := spool.Quarantine(dir)
	if err != nil || len(list) != 1 {
		t.Fatalf("in quarantine: %+v, %v", list, err)
	}
	path := filepath.Join(dir, "quarantine", list[0].File)
	if kept := readFile(t, path); !bytes.Equal(kept, damaged) {
		t.Errorf("%d bytes in quarantine are not the %d that were found", len(kept), len(damaged))
	}
	var report spool.Quarantined
	if err := json.Unmarshal(readFile(t, path+".json"), &report); err != nil || report != list[0] {
		t.Errorf("report %+v, %v; listed %+v", report, err, list[0])
	}
	if report.Owner != h.name || report.Segment != filepath.Base(h.path("")) || report.Reason == "" || report.At.IsZero() {
		t.Errorf("report %+v", report)
	}
	return report
}

// damageCase is done to the file of a share.
type damageCase struct {
	name string
	do   func(h *share, b []byte) []byte

	moved bool // nothing is lost
	needs func(h *share) bool
}

// zero clears the first page of a kind.
func zero(kind string) func(*share, []byte) []byte {
	return func(h *share, b []byte) []byte {
		return clearPage(h, b, h.at.pages[kind][0])
	}
}

// has asks for a share with pages of that kind.
func has(kind string) func(*share) bool {
	return func(h *share) bool { return h.at.pages[kind] != nil }
}

func clearPage(h *share, b []byte, id int) []byte {
	clear(b[id*h.at.size:][:h.at.size])
	return b
}

func zeroMeta(newer, older bool) func(*share, []byte) []byte {
	return func(h *share, b []byte) []byte {
		if newer {
			clearPage(h, b, h.at.metas[0])
		}
		if older {
			clearPage(h, b, h.at.metas[1])
		}
		return b
	}
}

// cut leaves so many pages, and some bytes.
func cut(pages, more int) func(*share, []byte) []byte {
	return func(h *share, b []byte) []byte { return b[:pages*h.at.size+more] }
}

// cutAt leaves a part of the pages that bbolt uses, and some bytes.
func cutAt(part, parts, more int) func(*share, []byte) []byte {
	return func(h *share, b []byte) []byte { return b[:h.at.used()*part/parts*h.at.size+more] }
}

// once finds a record whose bytes are in the file once, and which is pending or dead.
func (h *share) once(pending bool) uint64 {
	for _, seq := range slices.Sorted(maps.Keys(h.records)) {
		_, is := h.now.pending[seq]
		if _, isDead := h.now.dead[seq]; is == pending && isDead != pending && len(h.copies[string(h.pairs[seq])]) == 1 {
			return seq
		}
	}
	panic("every record has copies")
}

// flip changes a byte of a record: at 0, of its key.
func flip(at int) func(*share, []byte) []byte {
	return func(h *share, b []byte) []byte {
		b[bytes.Index(b, h.pairs[h.once(true)])+at] ^= 0x40
		return b
	}
}

// twice finds a pending record that an earlier commit has left a copy of, or 0.
func (h *share) twice() uint64 {
	for _, seq := range slices.Sorted(maps.Keys(h.now.pending)) {
		if len(h.copies[string(h.pairs[seq])]) > 1 {
			return seq
		}
	}
	return 0
}

// flipOne changes a byte in the newer of two copies.
func flipOne(h *share, b []byte) []byte {
	seq := h.twice()
	leaf := h.at.holding(seq) * h.at.size
	b[leaf+bytes.Index(b[leaf:], h.pairs[seq])+20] ^= 1
	return b
}

// swapLeaves lets two leaves of pending records change places. Nothing is lost.
func swapLeaves(h *share, b []byte) []byte {
	var leaves [][]byte
	for seq := slices.Min(h.now.marks) - 1; len(leaves) < 2; seq-- {
		leaf := b[h.at.holding(seq)*h.at.size:][:h.at.size]
		if len(h.at.extent(h.at.holding(seq))) == h.at.size && (len(leaves) == 0 || &leaf[0] != &leaves[0][0]) {
			leaves = append(leaves, leaf)
		}
	}
	one := bytes.Clone(leaves[0])
	copy(leaves[0], leaves[1])
	copy(leaves[1], one)
	return b
}

func TestDamage(t *testing.T) {
	for name, h := range map[string]*share{
		"inline": newShare(t, 60, 1, false), "inline, settled last": newShare(t, 60, 1, true),
		"small": newShare(t, 300, 3, false), "small, settled last": newShare(t, 300, 3, true),
		"large": newShare(t, 3000, 100, false), "large, settled last": newShare(t, 3000, 100, true),
	} {
		t.Run(name, func(t *testing.T) {
			for _, d := range damages() {
				if d.needs == nil || d.needs(h) {
					t.Run(d.name, func(t *testing.T) { d.test(t, h) })
				}
			}
		})
	}
}

func (d damageCase) test(t *testing.T, h *share) {
	t.Helper()
	dir := copyDir(t, h.dir)
	file := d.do(h, bytes.Clone(h.file))
	writeFile(t, h.path(dir), file)
	found := file
	if d.moved {
		found = h.file
	}
	want, lost := h.left(found, nil)
	h.check(t, dir, file, want, lost)
}

func damages() []damageCase {
	return []damageCase{
		{name: "empty", do: func(*share, []byte) []byte { return nil }},
		{name: "zeros", do: func(_ *share, b []byte) []byte { return make([]byte, len(b)) }},
		{name: "junk", do: func(_ *share, b []byte) []byte { return bytes.Repeat([]byte("junk"), len(b)/4) }},
		{name: "newer meta page", do: zeroMeta(true, false)},
		{name: "older meta page", do: zeroMeta(false, true)},
		{name: "both meta pages", do: zeroMeta(true, true)},
		{name: "page of freelist", do: zero("freelist")},
		{name: "page of root", do: zero("root")},
		{name: "page of meta", do: zero("meta"), needs: has("meta")},
		{name: "page of branch of records", do: zero("branch of records"), needs: has("branch of records")},
		{name: "page of held", do: zero("held"), needs: has("held")},
		{name: "page of branch of held", do: zero("branch of held"), needs: has("branch of held")},
		{name: "page of dead", do: zero("dead"), needs: has("dead")},
		{name: "page of branch of dead", do: zero("branch of dead"), needs: has("branch of dead")},
		{name: "leaf of pending records", do: func(h *share, b []byte) []byte {
			return clearPage(h, b, h.at.holding(h.once(true)))
		}},
		{name: "leaf of dead letters", do: func(h *share, b []byte) []byte {
			return clearPage(h, b, h.at.holding(h.once(false)))
		}},
		{name: "two leaves change places", do: swapLeaves, moved: true, needs: func(h *share) bool { return len(h.at.pages["records"]) > 10 }},
		{name: "a byte of a key", do: flip(7)},
		{name: "a byte of a checksum", do: flip(10)},
		{name: "a byte of a payload", do: flip(40)},
		{name: "a byte of one of two copies", do: flipOne, needs: func(h *share) bool { return h.twice() > 0 }},
		{name: "cut to nothing but its meta pages", do: cut(2, 0)},
		{name: "cut to nothing but half of them", do: cut(1, 100)},
		{name: "cut at a quarter", do: cutAt(1, 4, 0)},
		{name: "cut at half", do: cutAt(1, 2, 0)},
		{name: "cut in the middle of a page", do: cutAt(1, 2, 2000)},
		{name: "cut in the middle of a header", do: cutAt(3, 4, 5)},
		{name: "cut by one page", do: cutAt(1, 1, -1)},
	}
}

// TestAnEntryThatIsSureBeatsAnOldCopy damages one of the two lists: what the other one
// says is sure, whatever an old copy of the damaged one says.
func TestAnEntryThatIsSureBeatsAnOldCopy(t *testing.T) {
	const n, retried = 400, 20
	for _, list := range []string{"held", "dead"} {
		t.Run(list, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, spool.Options{Dir: dir})
			mustAppend(t, s, records(0, n)...)
			entries := readAll(t, s)
			mustSettle(t, s, settlements(entries, spool.Kept)...)
			mustSettle(t, s, settlements(entries[:n/2], spool.Dead)...)
			if _, err := s.RetryDead(positions(entries[:retried])...); err != nil {
				t.Fatal(err)
			}
			owner := s.OwnName()
			closeSpool(t, s)
			path := segmentFiles(t, dir)[0]
			b := readFile(t, path)
			at := layoutOf(b)
			clear(b[at.pages[list][len(at.pages[list])/2]*at.size:][:at.size])
			writeFile(t, path, b)

			s = open(t, spool.Options{Dir: dir})
			adopted, err := s.Adopt()
			if err != nil || list == "dead" && adopted != n/2+retried {
				t.Fatalf("adopted %d records, want %d: %v", adopted, n/2+retried, err)
			}
			pending, dead := contents(t, s, owner)
			for seq := uint64(1); seq <= n; seq++ {
				_, isPending := pending[seq]
				letter, isDead := dead[seq]
				switch {
				case isPending == isDead:
					t.Errorf("%d: pending %v, dead %v", seq, isPending, isDead)
				case seq <= retried || seq > n/2: // held
					if !isPending && list == "dead" {
						t.Errorf("%d became a dead letter", seq)
					}
				case list == "held" && (!isDead || letter.Reason != "because" || letter.Attempts != 1):
					t.Errorf("%d is a dead letter no more: %+v", seq, letter)
				}
			}
		})
	}
}

func readAll(t *testing.T, s *spool.Spool) []spool.Entry {
	t.Helper()
	entries, err := s.Read(1<<20, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

func mustSettle(t *testing.T, s *spool.Spool, batch ...spool.Settlement) {
	t.Helper()
	if err := s.Settle(batch...); err != nil {
		t.Fatal(err)
	}
}

func positions(entries []spool.Entry) (all []spool.Position) {
	for _, e := range entries {
		all = append(all, e.Position)
	}
	return all
}

// TestInterruptedSalvageIsFinished leaves what a process leaves that dies while it
// salvages.
func TestInterruptedSalvageIsFinished(t *testing.T) {
	h := newShare(t, 60, 1, false)
	damaged := clearPage(h, bytes.Clone(h.file), h.at.holding(h.once(true)))
	for _, after := range []string{"the hidden file", "the link", "the report"} {
		t.Run(after, func(t *testing.T) {
			dir := copyDir(t, h.dir)
			writeFile(t, h.path(dir), damaged)
			writeFile(t, filepath.Join(dir, h.name, "."+filepath.Base(h.path(""))), h.file[:len(h.file)/2])
			if after != "the hidden file" {
				if err := os.Mkdir(filepath.Join(dir, "quarantine"), 0o700); err != nil {
					t.Fatal(err)
				}
				name := filepath.Join(dir, "quarantine", h.name+".0000000000000001.1.seg")
				if err := os.Link(h.path(dir), name); err != nil {
					t.Fatal(err)
				}
				if after == "the report" {
					writeFile(t, name+".json", []byte("{"))
				}
			}
			want, lost := h.left(damaged, nil)
			h.check(t, dir, damaged, want, lost)
		})
	}
}

// TestASegmentDamagedAgainIsKeptBesideTheFirst damages what was salvaged.
func TestASegmentDamagedAgainIsKeptBesideTheFirst(t *testing.T) {
	h := newShare(t, 300, 1, false)
	dir := copyDir(t, h.dir)
	var kept []string
	lost := 0
	for range 3 {
		file := readFile(t, h.path(dir))
		at := layoutOf(file)
		clear(file[at.pages["records"][0]*at.size:][:at.size])
		writeFile(t, h.path(dir), file)
		kept = append(kept, string(file))
		s := open(t, spool.Options{Dir: dir, AdoptOnly: true})
		if _, err := s.Adopt(); err != nil {
			t.Fatal(err)
		}
		before := s.Stats().Pending
		contents(t, s, h.name)
		if st := s.Stats(); st.Quarantined != 1 || before-st.Pending > int(st.Settled[spool.Unreadable]) {
			t.Errorf("%d were pending: %+v", before, st)
		}
		lost += int(s.Stats().Settled[spool.Unreadable])
		closeSpool(t, s)
	}
	list, err := spool.Quarantine(dir)
	if err != nil || len(list) != len(kept) {
		t.Fatalf("%+v, %v", list, err)
	}
	for i, q := range list {
		if string(readFile(t, filepath.Join(dir, "quarantine", q.File))) != kept[i] {
			t.Errorf("%s is not what was found", q.File)
		}
		lost -= q.Unreadable
	}
	if lost != 0 {
		t.Errorf("reports and Stats differ by %d lost records", lost)
	}
}

// untouched adopts a SpoolDir in which one owner has something that is not for this
// program: the other is drained, this one left as it is, and reported.
func (h *share) untouched(t *testing.T, dir string, want error) {
	t.Helper()
	before := files(t, filepath.Join(dir, h.name))
	for range 2 {
		s := open(t, spool.Options{Dir: dir})
		_, err := s.Adopt()
		entries, rerr := s.Read(1<<20, 1<<30)
		if rerr != nil || len(entries) != soundRecords || entries[0].Position.Owner() == h.name {
			t.Fatalf("read %d: %v", len(entries), rerr)
		}
		contents(t, s, h.name)
		st := s.Stats()
		if want != nil && !errors.Is(err, want) || want == nil && (err != nil || len(st.Bad) != 1 || !strings.HasPrefix(st.Bad[0], h.name+"/0000000000")) {
			t.Errorf("%v; %+v", err, st)
		}
		if st.Quarantined != 0 {
			t.Errorf("%+v", st)
		}
		closeSpool(t, s)
		after := files(t, filepath.Join(dir, h.name))
		sameFiles(t, before, after)
		sameFiles(t, after, before)
	}
	if list, err := spool.Quarantine(dir); err != nil || len(list) != 0 {
		t.Errorf("in quarantine: %+v, %v", list, err)
	}
}

// whole adopts a SpoolDir that is as it was.
func (h *share) whole(t *testing.T, dir string) {
	t.Helper()
	s := open(t, spool.Options{Dir: dir})
	mustAdopt(t, s, len(h.now.pending)+soundRecords)
	h.compare(t, s, h.now)
}

func TestWhatIsNotForThisProgramIsLeftAlone(t *testing.T) {
	h := newShare(t, 60, 1, false)
	buckets := pairs(t, h.file)
	newer := func(pair []byte, keyLen int) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			t.Helper()
			changed := bytes.Clone(pair)
			spool.SetVersion(changed[keyLen:], 9)
			writeFile(t, h.path(dir), bytes.ReplaceAll(h.file, pair, changed))
		}
	}
	identity := func(text string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			t.Helper()
			writeFile(t, filepath.Join(dir, h.name, "identity"), []byte(text))
		}
	}
	for name, tc := range map[string]struct {
		do   func(t *testing.T, dir string)
		want error // of Adopt; nil means that Stats reports it
	}{
		"a header of another version":    {do: newer(buckets["meta"]["header"], len("header"))},
		"a state of another version":     {do: newer(buckets["meta"]["state"], len("state"))},
		"a record of another version":    {do: newer(h.pairs[h.now.next-1], 8)},
		"an identity of another version": {do: identity(`{"version":2}`), want: spool.ErrVersion},
	} {
		t.Run(name, func(t *testing.T) {
			dir := copyDir(t, h.dir)
			tc.do(t, dir)
			h.untouched(t, dir, tc.want)
			writeFile(t, h.path(dir), h.file) // a program that knows it comes along
			writeFile(t, filepath.Join(dir, h.name, "identity"), readFile(t, filepath.Join(h.dir, h.name, "identity")))
			h.whole(t, dir)
		})
	}
}

// TestALostIdentityIsFoundInTheSegments: they say as well where the records are to go.
func TestALostIdentityIsFoundInTheSegments(t *testing.T) {
	h := newShare(t, 60, 1, false)
	for name, text := range map[string]string{"none": "", "junk": "junk"} {
		t.Run(name, func(t *testing.T) {
			dir := copyDir(t, h.dir)
			path := filepath.Join(dir, h.name, "identity")
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if text != "" {
				writeFile(t, path, []byte(text))
			}
			foreign := open(t, spool.Options{Dir: dir, Target: "another", AdoptOnly: true})
			mustAdopt(t, foreign, 0)
			s := open(t, spool.Options{Dir: dir})
			mustAdopt(t, s, len(h.now.pending)+soundRecords)
			h.compare(t, s, h.now)
			copied := filepath.Join(t.TempDir(), "copy")
			if err := s.Backup(t.Context(), copied); err != nil {
				t.Fatal(err)
			}
			h.whole(t, copied)
		})
	}
}

func TestAMisnamedSegmentWaitsForItsName(t *testing.T) {
	h := newShare(t, 60, 1, false)
	for _, name := range []string{"0000000000000002.seg", "1.seg", "old.seg"} {
		t.Run(name, func(t *testing.T) {
			dir := copyDir(t, h.dir)
			wrong := filepath.Join(dir, h.name, name)
			if err := os.Rename(h.path(dir), wrong); err != nil {
				t.Fatal(err)
			}
			s := open(t, spool.Options{Dir: dir})
			mustAdopt(t, s, soundRecords)
			if st := s.Stats(); len(st.Bad) != 1 || st.Quarantined != 0 {
				t.Errorf("%+v", st)
			}
			closeSpool(t, s)
			if err := os.Rename(wrong, h.path(dir)); err != nil {
				t.Fatal(err)
			}
			h.whole(t, dir)
		})
	}
}

// TestDamageWhileOpen changes the file of a segment that is in use.
func TestDamageWhileOpen(t *testing.T) {
	h := newShare(t, 300, 3, false)
	leaf := func(h *share, b []byte) []byte { return clearPage(h, b, h.at.holding(h.once(true))) }
	settled := uint64(0)
	for _, tc := range []struct {
		name string
		do   func(*share, []byte) []byte
		call func(t *testing.T, s *spool.Spool, first spool.Entry) error
	}{
		{"Read", leaf, func(t *testing.T, s *spool.Spool, _ spool.Entry) error {
			t.Helper()
			readAll(t, s)
			return nil
		}},
		{"Read, meta pages", zeroMeta(true, true), func(t *testing.T, s *spool.Spool, _ spool.Entry) error {
			t.Helper()
			readAll(t, s)
			return nil
		}},
		{"Read, root", zero("root"), func(t *testing.T, s *spool.Spool, _ spool.Entry) error {
			t.Helper()
			readAll(t, s)
			return nil
		}},
		{"Settle, held", zero("held"), func(_ *testing.T, s *spool.Spool, e spool.Entry) error {
			settled = e.Position.Seq()
			return s.Settle(spool.Settlement{Position: e.Position, Outcome: spool.Delivered})
		}},
		{"Settle, root", zero("root"), func(_ *testing.T, s *spool.Spool, e spool.Entry) error {
			settled = e.Position.Seq()
			return s.Settle(spool.Settlement{Position: e.Position, Outcome: spool.Delivered})
		}},
		{"List", leaf, func(_ *testing.T, s *spool.Spool, _ spool.Entry) error {
			_, _, err := s.List("", 1<<20)
			return err
		}},
		{"Find", leaf, func(_ *testing.T, s *spool.Spool, _ spool.Entry) error {
			_, _, err := s.Find("id-1")
			return err
		}},
		{"DeadLetters", zero("dead"), func(_ *testing.T, s *spool.Spool, _ spool.Entry) error {
			_, _, err := s.DeadLetters("", 1<<20)
			return err
		}},
		{"RetryDead", zero("dead"), func(_ *testing.T, s *spool.Spool, e spool.Entry) error {
			_, err := s.RetryDead(e.Position) // is none
			return err
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := copyDir(t, h.dir)
			s := open(t, spool.Options{Dir: dir})
			mustAdopt(t, s, len(h.now.pending)+soundRecords)
			entries, err := s.Read(1, 1<<20) // the file is open from now on
			if err != nil {
				t.Fatal(err)
			}
			overwrite(t, h.path(dir), tc.do(h, bytes.Clone(h.file)))
			damaged := readFile(t, h.path(dir))
			want, lost := h.left(damaged, &h.now)
			settled = 0
			if err := tc.call(t, s, entries[0]); err != nil {
				t.Fatal(err)
			}
			delete(want.pending, settled)
			contents(t, s, h.name)
			h.compare(t, s, want)
			report := h.quarantined(t, dir, damaged)
			if st := s.Stats(); st.Quarantined != 1 || int(st.Settled[spool.Unreadable]) != lost || report.Unreadable != lost {
				t.Errorf("%d lost: %+v", lost, st)
			}
			mustAppend(t, s, record(0))
			if n := len(drain(t, s)); n != len(want.pending)+soundRecords+1 {
				t.Errorf("drained %d, want %d", n, len(want.pending)+soundRecords+1)
			}
		})
	}
}

// overwrite changes a file in place: who has it mapped sees it at once.
func overwrite(t *testing.T, path string, b []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(b, 0); err != nil {
		t.Fatal(err)
	}
}

// TestAppendGoesOnInANewSegment damages the pages that the next append has to change.
func TestAppendGoesOnInANewSegment(t *testing.T) {
	for _, page := range []string{"root", "meta pages", "last leaf", "last leaf and root"} {
		t.Run(page, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, spool.Options{Dir: dir})
			mustAppend(t, s, records(0, 200)...)
			mustAppend(t, s, records(200, 300)...)
			path := segmentFiles(t, dir)[0]
			b := readFile(t, path)
			at := layoutOf(b)
			inLast := 0
			if page == "meta pages" {
				clear(b[:2*at.size])
			}
			if strings.HasPrefix(page, "last leaf") {
				last := slices.Max(at.pages["records"])
				inLast = at.count(last)
				clear(b[last*at.size:][:at.size])
			}
			if strings.HasSuffix(page, "root") {
				clear(b[at.pages["root"][0]*at.size:][:at.size])
			}
			overwrite(t, path, b)
			want := 320
			if err := s.Append(records(300, 310)...); errors.Is(err, spool.ErrMaybeStored) { // its state cannot be read back
				want -= 10
			} else if err != nil {
				t.Fatal(err)
			}
			mustAppend(t, s, records(310, 320)...)
			got := drain(t, s)
			if lost := int(s.Stats().Settled[spool.Unreadable]); len(got)+lost != want || lost > inLast {
				t.Errorf("%d of %d came back, %d are lost, %d were in the damaged leaf", len(got), want, lost, inLast)
			}
			if !slices.IsSortedFunc(got, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) }) {
				t.Errorf("out of order: %v", got)
			}
		})
	}
}

// TestDeadLettersOfAFlowWithNothingElseStayDead salvages a segment in which one flow has
// dead letters only.
func TestDeadLettersOfAFlowWithNothingElseStayDead(t *testing.T) {
	dir := t.TempDir()
	s := open(t, spool.Options{Dir: dir})
	mustAppend(t, s, slices.Concat(of("a", 0, 3), of("b", 0, 2), of("c", 0, 1))...)
	give(t, s, spool.Dead, readOn(t, s.Reader("b"), 2)...)
	closeSpool(t, s)
	path := segmentFiles(t, dir)[0]
	for salvaged := range 2 {
		id := fmt.Sprint(salvaged) // one of a is lost each time, in all its copies
		writeFile(t, path, bytes.ReplaceAll(readFile(t, path), []byte("a "+id), []byte("x "+id)))
		s = open(t, spool.Options{Dir: dir})
		mustAdopt(t, s, 4-salvaged)
		if _, err := s.Read(10, 1<<20); err != nil {
			t.Fatal(err)
		}
		if st := s.Stats(); st.Quarantined != 1 || st.DeadLetters != 2 || st.Pending != 3-salvaged {
			t.Fatalf("salvaged %d times: %+v", salvaged+1, st)
		}
		closeSpool(t, s)
	}
	s = open(t, spool.Options{Dir: dir})
	mustAdopt(t, s, 2)
	letters, _, err := s.DeadLetters("", 10)
	if err != nil || len(letters) != 2 {
		t.Fatal(letters, err)
	}
	if n, err := s.RetryDead(letters[0].Position, letters[1].Position); err != nil || n != 2 {
		t.Fatal(n, err)
	}
	wantInOrder(t, replay(t, s, 1, "b"), "b", 2)
	if got := drain(t, s); len(got) != 2 {
		t.Error(got)
	}
}
