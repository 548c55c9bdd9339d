package spool_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/jobspool/jobspool/spool"
)

// TestModel walks at random over everything a Spool can do, and compares it after each
// step with lists in memory.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{settled: map[spool.Outcome]int64{}, next: map[string]uint64{}, clock: time.Unix(1_700_000_000, 7)}
		m.dir = m.newDir(t)
		defer func() { _ = os.RemoveAll(m.dir) }()
		m.open(t)
		defer func() { _ = m.s.Close() }()
		t.Repeat(map[string]func(*rapid.T){
			"append": m.append, "append more": m.append, "settle": m.settle, "settle more": m.settle,
			"settle again": m.settleAgain, "list": m.list, "find": m.find, "mark": m.mark,
			"retry dead": m.retryDead, "remove dead": m.removeDead,
			"verify": m.verify, "backup": m.backup, "reopen": m.reopen, "crash": m.crash, "adopt": m.adopt,
			"": m.check,
		})
		m.drain(t)
	})
}

// model is what a Spool ought to hold.
type model struct {
	dir     string
	s       *spool.Spool
	own     string // name of its own share
	pending []*job // by owner and number, as List has them
	dead    []*job // likewise

	next    map[string]uint64 // number of the next record, by owner
	records int               // ever made
	clock   time.Time
	last    []spool.Settlement // some earlier batch
	readers map[string]*flowReader
	marked  spool.Mark
	markSeq uint64

	// Of this Spool alone.
	appended, adopted, retried int64
	settled                    map[spool.Outcome]int64
}

type job struct {
	spool.Record
	owner    string
	seq      uint64
	attempts int
	reason   string
	retried  bool // it was dead: its claims may be gone
}

// newDir makes a directory in memory where there is one: nothing here is about fsync.
func (m *model) newDir(t *rapid.T) string {
	parent := "/dev/shm"
	if _, err := os.Stat(parent); err != nil {
		parent = ""
	}
	dir, err := os.MkdirTemp(parent, "spool-model-")
	must(t, err)
	return dir
}

func must(t *rapid.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (m *model) options() spool.Options {
	return spool.Options{
		Dir: m.dir, SegmentBytes: 64 << 10, MinFreeBytes: -1, MaxBytes: -1, Timeout: time.Minute,
		Logger: slog.New(slog.DiscardHandler),
	}
}

// open opens the spool and adopts everything in it.
func (m *model) open(t *rapid.T) {
	var err error
	m.s, err = spool.Open(m.options())
	must(t, err)
	m.own = m.s.OwnName()
	m.next[m.own] = 1
	m.appended, m.adopted, m.retried = 0, 0, 0
	clear(m.settled)
	m.readers = map[string]*flowReader{}
	m.mark(t)
	n, err := m.s.Adopt()
	must(t, err)
	if n != len(m.pending) {
		t.Fatalf("adopted %d, want %d", n, len(m.pending))
	}
	m.adopted = int64(n)
}

func (m *model) reopen(t *rapid.T) {
	must(t, m.s.Close())
	m.open(t)
}

// crash goes on with a copy of the SpoolDir, as it lay there while the Spool was idle.
// The locks of the copy are free.
func (m *model) crash(t *rapid.T) {
	old, s := m.dir, m.s
	m.dir = m.newDir(t)
	must(t, os.CopyFS(m.dir, os.DirFS(old)))
	m.open(t)
	must(t, s.Close())
	must(t, os.RemoveAll(old))
}

// adopt lets another process come and go: what it leaves is adopted once it is dead.
func (m *model) adopt(t *rapid.T) {
	other, err := spool.Open(m.options())
	must(t, err)
	name := other.OwnName()
	m.next[name] = 1
	rs := m.store(t, other, nil)
	for _, want := range []int{0, len(rs)} { // alive, dead
		n, err := m.s.Adopt()
		must(t, err)
		if n != want {
			t.Fatalf("adopted %d, want %d", n, want)
		}
		must(t, other.Close())
	}
	m.add(name, rs)
	m.adopted += int64(len(rs))
}

func (m *model) append(t *rapid.T) {
	rs := m.store(t, m.s, m.pending)
	m.add(m.own, rs)
	m.appended += int64(len(rs))
}

// store appends new records, without those that have twins, and returns what was taken.
func (m *model) store(t *rapid.T, s *spool.Spool, pending []*job) []spool.Record {
	rs := m.draw(t)
	err := s.Append(rs...)
	var twins *spool.TwinsError
	if !errors.As(err, &twins) {
		must(t, err)
		twins = &spool.TwinsError{Errs: make([]error, len(rs))}
	}
	held, taken := heldBy(pending), []spool.Record(nil)
	for i, got := range twins.Errs {
		r := rs[i]
		key, lock := held["key "+r.Key], held["lock "+r.Lock]
		sameVerdict(t, got, key, lock)
		if got != nil {
			continue
		}
		taken = append(taken, r)
		held["key "+r.Key] = yes
		if r.Lock != lockOfThePast {
			held["lock "+r.Lock] = yes
		}
		delete(held, "key ")
		delete(held, "lock ")
	}
	if len(taken) < len(rs) {
		must(t, s.Append(taken...))
	}
	return taken
}

// verdict tells whether a name is held.
type verdict int

const (
	no verdict = iota
	maybe
	yes
)

// lockOfThePast is held by nobody.
const lockOfThePast = "lock"

// heldBy returns the names that pending records hold.
func heldBy(jobs []*job) map[string]verdict {
	held := map[string]verdict{}
	for _, j := range jobs {
		v := yes
		if j.retried {
			v = maybe
		}
		if j.Key != "" {
			held["key "+j.Key] = max(held["key "+j.Key], v)
		}
		if j.Lock != "" && j.Lock != lockOfThePast {
			held["lock "+j.Lock] = max(held["lock "+j.Lock], v)
		}
	}
	return held
}

// sameVerdict fails unless an error fits what is known of a key and a lock.
func sameVerdict(t *rapid.T, got error, key, lock verdict) {
	t.Helper()
	fits := false
	switch {
	case errors.Is(got, spool.ErrKeyHeld):
		fits = key != no && lock != yes
	case errors.Is(got, spool.ErrLockHeld):
		fits = lock != no
	case got == nil:
		fits = key != yes && lock != yes
	}
	if !fits {
		t.Fatalf("got %v; key held %d, lock held %d", got, key, lock)
	}
}

// checkTwins asks for every name that is ever used.
func (m *model) checkTwins(t *rapid.T, s *spool.Spool) {
	t.Helper()
	held := heldBy(m.pending)
	for i := range twinNames {
		name := fmt.Sprint(i)
		sameVerdict(t, s.Twin(name, ""), held["key "+name], no)
		sameVerdict(t, s.Twin("", name), no, held["lock "+name])
	}
}

// twinNames is how many keys and how many locks there are.
const twinNames = 30

// draw makes records of many sizes, one of them now and then larger than a page.
func (m *model) draw(t *rapid.T) []spool.Record {
	rs := make([]spool.Record, rapid.IntRange(1, 200).Draw(t, "records"))
	size := rapid.SampledFrom([]int{0, 1, 30, 300}).Draw(t, "size")
	large := rapid.IntRange(0, 2*len(rs)).Draw(t, "large")
	classes, queues := rapid.IntRange(1, 5).Draw(t, "classes"), rapid.IntRange(1, 3).Draw(t, "queues")
	keyed, locked := rapid.IntRange(0, 20).Draw(t, "keyed"), rapid.IntRange(0, 20).Draw(t, "locked")
	name := rapid.IntRange(0, twinNames-1)
	for i := range rs {
		m.records++
		m.clock = m.clock.Add(time.Duration(i%3) * time.Second)
		n := size
		if i == large {
			n = 10_000
		}
		rs[i] = spool.Record{
			ID: fmt.Sprintf("id-%d", m.records), Class: fmt.Sprintf("%c\x00%d", 'a'+i/3%queues, i%classes), At: m.clock,
			Data: bytes.Repeat([]byte{byte(m.records)}, n),
		}
		if i%4 == 0 {
			rs[i].Lock, rs[i].LockUntil = lockOfThePast, m.clock.Add(time.Hour)
		}
		if i < keyed {
			rs[i].Key = fmt.Sprint(name.Draw(t, "key"))
		}
		if len(rs)-i <= locked {
			rs[i].Lock, rs[i].LockUntil = fmt.Sprint(name.Draw(t, "lock")), [2]time.Time{1: farAway()}[i%2]
		}
	}
	return rs
}

func farAway() time.Time { return time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC) }

func (m *model) add(owner string, rs []spool.Record) {
	for _, r := range rs {
		m.pending = append(m.pending, &job{Record: r, owner: owner, seq: m.next[owner]})
		m.next[owner]++
	}
	m.sort()
}

func (m *model) sort() {
	for _, jobs := range [][]*job{m.pending, m.dead} {
		slices.SortFunc(jobs, func(a, b *job) int { return cmp.Or(cmp.Compare(a.owner, b.owner), cmp.Compare(a.seq, b.seq)) })
	}
}

// settle reads some and gives them outcomes in turn.
func (m *model) settle(t *rapid.T) {
	entries := m.read(t, rapid.IntRange(1, 150).Draw(t, "count"), rapid.SampledFrom([]int{1, 5_000, 1 << 20}).Draw(t, "size"))
	const notMentioned = spool.Unreadable
	outcomes := rapid.SliceOfN(rapid.SampledFrom([]spool.Outcome{
		spool.Delivered, spool.Delivered, spool.Delivered, spool.AlreadyThere, spool.Superseded, spool.Dead, spool.Kept, spool.Removed, notMentioned,
	}), 1, 10).Draw(t, "outcomes")
	var batch []spool.Settlement
	for i, e := range entries {
		if o := outcomes[i%len(outcomes)]; o != notMentioned {
			batch = append(batch, spool.Settlement{Position: e.Position, Outcome: o, Attempts: e.Attempts, Reason: "because of " + e.ID})
		}
	}
	if rapid.Bool().Draw(t, "backwards") {
		slices.Reverse(batch)
	}
	must(t, m.s.Settle(batch...))
	m.apply(batch)
	if rapid.Bool().Draw(t, "remember") {
		m.last = batch
	}
}

// read reads the oldest of all, or reads on in one flow.
func (m *model) read(t *rapid.T, count, size int) []spool.Entry {
	name := rapid.SampledFrom([]string{"", "a", "b", "c"}).Draw(t, "flow")
	if name == "" {
		entries, err := m.s.Read(count, size)
		must(t, err)
		all := m.inOrder()
		m.prefix(t, all, entries, count, size)
		if len(entries) == 0 && len(all) > 0 {
			t.Fatalf("read none of %d", len(all))
		}
		return entries
	}
	r := m.readers[name]
	if r == nil || rapid.IntRange(0, 3).Draw(t, "rewind") == 0 {
		r = &flowReader{r: m.s.Reader(name)}
		m.readers[name] = r
	}
	all := slices.DeleteFunc(m.inOrder(), func(j *job) bool {
		return spool.FlowOf(j.Class) != name || r.last != nil && !m.isAfter(j, r.last)
	})
	entries, err := r.r.Read(count, size)
	must(t, err)
	left := m.prefix(t, all, entries, count, size)
	if len(entries) < min(count, len(all)) && (len(entries) == 0 || all[len(entries)].size() <= left) {
		t.Fatalf("read %d of %d in flow %s, asked for %d", len(entries), len(all), name, count)
	}
	if len(entries) > 0 {
		r.last = all[len(entries)-1]
	}
	return entries
}

// flowReader is a Reader and the last job that it has returned.
type flowReader struct {
	r    *spool.Reader
	last *job
}

// prefix fails unless entries are the first of the jobs. It returns how much of size is
// left.
func (m *model) prefix(t *rapid.T, all []*job, entries []spool.Entry, count, size int) (left int) {
	t.Helper()
	if len(entries) > min(count, len(all)) {
		t.Fatalf("read %d of %d, asked for %d", len(entries), len(all), count)
	}
	for i, want := range all[:len(entries)] {
		m.same(t, want, entries[i])
		if size -= entries[i].Position.Size(); size < 0 && i > 0 {
			t.Fatalf("%d entries are larger than asked for", i+1)
		}
	}
	return size
}

// isAfter reports whether a job comes after another in the order of Read.
func (m *model) isAfter(j, last *job) bool {
	if (j.owner == m.own) != (last.owner == m.own) {
		return j.owner == m.own
	}
	return cmp.Or(cmp.Compare(j.owner, last.owner), cmp.Compare(j.seq, last.seq)) > 0
}

func (j *job) size() int { return len(j.Encode()) }

// inOrder is the order of Read: adopted shares come first.
func (m *model) inOrder() []*job {
	own := func(j *job) bool { return j.owner == m.own }
	adopted := slices.DeleteFunc(slices.Clone(m.pending), own)
	return append(adopted, slices.DeleteFunc(slices.Clone(m.pending), func(j *job) bool { return !own(j) })...)
}

// settleAgain settles a batch again that was settled at some time: only what is still
// pending, or pending again, gets an outcome.
func (m *model) settleAgain(t *rapid.T) {
	must(t, m.s.Settle(m.last...))
	m.apply(m.last)
}

func (m *model) apply(batch []spool.Settlement) {
	for _, b := range batch {
		j := take(&m.pending, b.Position)
		if j == nil {
			continue
		}
		if b.Outcome != spool.Kept || b.Attempts >= j.attempts {
			m.settled[b.Outcome]++
		}
		switch b.Outcome {
		case spool.Kept:
			j.attempts = max(j.attempts, b.Attempts+1)
			m.pending = append(m.pending, j)
		case spool.Dead:
			j.reason = b.Reason
			m.dead = append(m.dead, j)
		default:
		}
	}
	m.sort()
}

// take removes the job at a position from a list.
func take(jobs *[]*job, p spool.Position) *job {
	i := slices.IndexFunc(*jobs, func(j *job) bool { return j.owner == p.Owner() && j.seq == p.Seq() })
	if i < 0 {
		return nil
	}
	j := (*jobs)[i]
	*jobs = slices.Delete(*jobs, i, i+1)
	return j
}

func (m *model) retryDead(t *rapid.T) {
	found := m.exhume(t, m.s.RetryDead, func(j *job) {
		j.attempts, j.reason, j.retried = min(j.attempts, 1), "", true
		m.pending = append(m.pending, j)
	})
	m.retried += int64(found)
	m.sort()
}

func (m *model) removeDead(t *rapid.T) { m.exhume(t, m.s.RemoveDead, func(*job) {}) }

// exhume takes out some dead letters, and asks for some that are none.
func (m *model) exhume(t *rapid.T, call func(...spool.Position) (int, error), fn func(*job)) (found int) {
	letters, _, err := m.s.DeadLetters("", 1000)
	must(t, err)
	var positions []spool.Position
	every := rapid.IntRange(1, 3).Draw(t, "every")
	for i, d := range letters {
		if i%every == 0 {
			positions = append(positions, d.Position)
		}
	}
	for _, b := range m.last {
		positions = append(positions, b.Position)
	}
	n, err := call(positions...)
	must(t, err)
	for _, p := range positions {
		if j := take(&m.dead, p); j != nil {
			found++
			fn(j)
		}
	}
	if n != found {
		t.Fatalf("found %d dead letters, want %d", n, found)
	}
	return n
}

// list compares everything that is there with the model.
func (m *model) list(t *rapid.T) { m.compare(t, m.s, rapid.IntRange(1, 500).Draw(t, "page")) }

func (m *model) compare(t *rapid.T, s *spool.Spool, page int) {
	t.Helper()
	entries := pages(t, page, s.List)
	letters := pages(t, page, s.DeadLetters)
	if len(entries) != len(m.pending) || len(letters) != len(m.dead) {
		t.Fatalf("listed %d of %d, %d of %d dead", len(entries), len(m.pending), len(letters), len(m.dead))
	}
	for i, want := range m.pending {
		m.same(t, want, entries[i])
	}
	for i, want := range m.dead {
		m.same(t, want, letters[i].Entry)
		if letters[i].Reason != want.reason || time.Since(letters[i].Since).Abs() > time.Hour {
			t.Fatalf("dead letter %+v, want %+v", letters[i], want)
		}
	}
}

// pages reads a whole list.
func pages[T any](t *rapid.T, size int, list func(spool.Cursor, int) ([]T, spool.Cursor, error)) (all []T) {
	for at := spool.Cursor(""); ; {
		items, next, err := list(at, size)
		must(t, err)
		all = append(all, items...)
		if len(items) != size && next != "" || len(items) > size {
			t.Fatalf("a page of %d, asked for %d; next %q", len(items), size, next)
		}
		if at = next; at == "" {
			return all
		}
	}
}

func (m *model) same(t *rapid.T, want *job, got spool.Entry) {
	t.Helper()
	if got.Position.Owner() != want.owner || got.Position.Seq() != want.seq || got.Attempts != want.attempts || !sameRecord(got.Record, want.Record) {
		t.Fatalf("got %s/%d attempts %d %+v\nwant %s/%d attempts %d %+v", got.Position.Owner(), got.Position.Seq(), got.Attempts, got.Record,
			want.owner, want.seq, want.attempts, want.Record)
	}
}

func sameRecord(a, b spool.Record) bool {
	return a.Key == "" && a.ID == b.ID && a.Class == b.Class && a.Lock == b.Lock && a.At.Equal(b.At) && a.LockUntil.Equal(b.LockUntil) && bytes.Equal(a.Data, b.Data)
}

// find looks for a record that was there at some time.
func (m *model) find(t *rapid.T) {
	if m.records == 0 {
		t.Skip("nothing to find")
	}
	id := fmt.Sprintf("id-%d", rapid.IntRange(1, m.records).Draw(t, "id"))
	pending, dead, err := m.s.Find(id)
	must(t, err)
	byID := func(j *job) bool { return j.ID == id }
	if i := slices.IndexFunc(m.pending, byID); i >= 0 && len(pending) == 1 {
		m.same(t, m.pending[i], pending[0])
	} else if i >= 0 || len(pending) > 0 {
		t.Fatalf("%s is in the model at %d, found %+v", id, i, pending)
	}
	if i := slices.IndexFunc(m.dead, byID); i >= 0 && len(dead) == 1 {
		m.same(t, m.dead[i], dead[0].Entry)
	} else if i >= 0 || len(dead) > 0 {
		t.Fatalf("%s is in the model's dead letters at %d, found %+v", id, i, dead)
	}
}

func (m *model) mark(t *rapid.T) {
	var err error
	m.marked, err = m.s.Mark()
	must(t, err)
	m.markSeq = m.next[m.own]
}

// verify looks at every byte of the files.
func (m *model) verify(t *rapid.T) {
	pending, dead, err := verified(m.s)
	must(t, err)
	if pending != len(m.pending) || dead != len(m.dead) {
		t.Fatalf("verified %d of %d, %d of %d dead", pending, len(m.pending), dead, len(m.dead))
	}
}

// backup compares a copy with the model.
func (m *model) backup(t *rapid.T) {
	dir := filepath.Join(m.newDir(t), "backup")
	defer func() { _ = os.RemoveAll(filepath.Dir(dir)) }()
	must(t, m.s.Backup(context.Background(), dir))
	opts := m.options()
	opts.Dir, opts.AdoptOnly = dir, true
	s, err := spool.Open(opts)
	must(t, err)
	defer func() { _ = s.Close() }()
	n, err := s.Adopt()
	must(t, err)
	if n != len(m.pending) {
		t.Fatalf("adopted %d of the backup, want %d", n, len(m.pending))
	}
	m.compare(t, s, 1000)
	m.checkTwins(t, s)
	_, _, err = verified(s)
	must(t, err)
}

// check compares the counts.
func (m *model) check(t *rapid.T) {
	st := m.s.Stats()
	if st.Pending != len(m.pending) || st.DeadLetters != len(m.dead) || len(st.Bad) != 0 || st.Quarantined != 0 || st.Stalled {
		t.Fatalf("%d pending, %d dead; got %+v", len(m.pending), len(m.dead), st)
	}
	if st.Appended != m.appended || st.Adopted != m.adopted || st.Retried != m.retried {
		t.Fatalf("%d appended, %d adopted, %d retried; got %+v", m.appended, m.adopted, m.retried, st)
	}
	for o := spool.Kept; o <= spool.Unreadable; o++ {
		if st.Settled[o] != m.settled[o] {
			t.Fatalf("%d %v; got %+v", m.settled[o], o, st)
		}
	}
	m.checkClasses(t, st)
	m.checkFlows(t)
	m.checkTwins(t, m.s)
	before := slices.IndexFunc(m.inOrder(), func(j *job) bool { return j.owner == m.own && j.seq >= m.markSeq })
	if before < 0 {
		before = len(m.pending)
	}
	if n := m.s.Before(m.marked); n != before {
		t.Fatalf("%d before the mark, want %d", n, before)
	}
}

func (m *model) checkFlows(t *rapid.T) {
	want := map[string]int{}
	for _, j := range m.pending {
		want[spool.FlowOf(j.Class)]++
	}
	if got := m.s.Flows(); !maps.Equal(got, want) {
		t.Fatalf("flows %v, want %v", got, want)
	}
}

func (m *model) checkClasses(t *rapid.T, st spool.Stats) {
	type count struct {
		records int
		bytes   int64
		oldest  time.Time
	}
	want, sum := map[string]count{}, count{}
	for _, j := range m.pending {
		c := want[j.Class]
		for _, c := range []*count{&c, &sum} {
			c.records++
			c.bytes += int64(len(j.Encode()))
			if c.oldest.IsZero() || j.At.Before(c.oldest) {
				c.oldest = j.At
			}
		}
		want[j.Class] = c
	}
	if st.PendingBytes != sum.bytes || !st.Oldest.Equal(sum.oldest) || len(st.Classes) != len(want) {
		t.Fatalf("%+v in %d classes; got %+v", sum, len(want), st)
	}
	for name, c := range want {
		got := st.Classes[name]
		if got.Pending != c.records || got.Bytes != c.bytes || got.Oldest.After(c.oldest) || got.Oldest.Before(sum.oldest) {
			t.Fatalf("class %q: %+v; got %+v", name, c, got)
		}
	}
}

// drain delivers what is left, and finds nothing but dead letters in the end.
func (m *model) drain(t *rapid.T) {
	for len(m.pending) > 0 {
		entries, err := m.s.Read(1000, 1<<30)
		must(t, err)
		if len(entries) == 0 {
			t.Fatalf("%d are pending, none is read", len(m.pending))
		}
		for i, want := range m.inOrder()[:len(entries)] {
			m.same(t, want, entries[i])
		}
		batch := settlements(entries, spool.Delivered)
		must(t, m.s.Settle(batch...))
		m.apply(batch)
		m.check(t)
	}
	m.list(t)
	m.verify(t)
}
