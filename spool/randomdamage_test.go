package spool_test

import (
	"bytes"
	"errors"
	"flag"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/jobspool/jobspool/spool"
)

// A failed round is the same again with the same seed; others find other damage.
var (
	damageSeed   = flag.Uint64("damage.seed", 1, "of TestRandomDamage")
	damageRounds = flag.Int("damage.rounds", 120, "of TestRandomDamage")
)

// TestRandomDamage flips bytes and clears pages anywhere in a segment before it is
// adopted, or in its leaves while it is open. Whatever that does: nothing panics or
// hangs, nothing that is intact is lost, what is lost is counted, and the rest goes on.
//
// Other pages of a file in use are spared: what bbolt does with a wrong number there
// nobody can recover from. It is looked for when a file is opened, see pages.Trees.
func TestRandomDamage(t *testing.T) {
	seed := *damageSeed
	shares := []*share{newShare(t, 60, 1, false), newShare(t, 300, 3, true), newShare(t, 600, 60, false)}
	for round := range *damageRounds {
		rng := rand.New(rand.NewPCG(seed, uint64(round)))
		h := shares[rng.IntN(len(shares))]
		late := rng.IntN(3) == 0
		file := h.damaged(rng, late)
		t.Run("", func(t *testing.T) {
			t.Cleanup(func() {
				if !t.Failed() {
					return
				}
				kept, err := os.MkdirTemp("", "spool-damage-") //nolint:usetesting // to be looked at afterwards
				if err == nil {
					err = errors.Join(os.CopyFS(kept, os.DirFS(h.dir)), os.WriteFile(h.path(kept)+".damaged", file, 0o600))
				}
				t.Logf("round %d of seed %d, late %v, kept in %s: %v", round, seed, late, kept, err)
			})
			h.survives(t, file, late, rng)
		})
	}
}

// damaged returns a copy of the file with random damage, in leaves or anywhere.
func (h *share) damaged(rng *rand.Rand, leaves bool) []byte {
	file := bytes.Clone(h.file)
	in := slices.Concat(h.at.pages["records"], h.at.pages["held"], h.at.pages["dead"], h.at.pages["meta"])
	for id := range h.at.used() {
		if !leaves {
			in = append(in, id)
		}
	}
	if rng.IntN(3) == 0 {
		return clearPage(h, file, in[rng.IntN(len(in))])
	}
	for range 1 + rng.IntN(4) {
		page := file[in[rng.IntN(len(in))]*h.at.size:]
		page[rng.IntN(h.at.size)] ^= byte(1 + rng.IntN(255))
	}
	return file
}

// survives drains a damaged share, and compares what comes with what must come.
func (h *share) survives(t *testing.T, file []byte, late bool, rng *rand.Rand) {
	t.Helper()
	dir := copyDir(t, h.dir)
	defer func() { _ = os.RemoveAll(dir) }()
	s, err := spool.Open(spool.Options{Dir: dir, SegmentBytes: 64 << 10, Timeout: time.Minute, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if !late {
		overwrite(t, h.path(dir), file)
	}
	if _, err := s.Adopt(); err != nil {
		t.Fatal(err)
	}
	if late {
		readAll(t, s)
		overwrite(t, h.path(dir), file)
	}
	mustAppend(t, s, records(0, 10)...)
	delivered, others := h.deliver(t, s, rng)
	_, dead := contents(t, s, h.name)
	st := s.Stats()
	certain := h.certain(file)
	if others != soundRecords+10 || certain && st.Pending != 0 || len(st.Bad) != 0 {
		t.Errorf("%d came from the others, want %d; %+v", others, soundRecords+10, st)
	}
	known := map[uint64]bool{} // to be pending, if only from a list
	for seq := uint64(1); seq < h.now.next; seq++ {
		known[seq] = !h.now.behind(seq)
	}
	for _, e := range h.listedIn(h.held, file) {
		known[e.seq] = true
	}
	missing := 0
	for seq := range h.records {
		_, isPending := h.now.pending[seq]
		_, isDead := dead[seq]
		switch n := delivered[seq]; {
		case isPending && n == 0 && !isDead:
			if known[seq] {
				missing++
			}
			if leaf := h.at.holding(seq); h.intact(file, leaf) {
				t.Errorf("%d on page %d is missing", seq, leaf)
			}
		case certain && (n > 1 || n > 0 && !isPending):
			t.Errorf("%d came %d times, pending %v", seq, n, isPending)
		}
	}
	// With a list damaged as well, nobody can tell how many there were.
	if certain && missing > int(st.Settled[spool.Unreadable]) {
		t.Errorf("%d are missing: %+v", missing, st)
	}
}

// deliver drains in batches of any size. It returns how often each record of the damaged
// share came, and how many came from others.
func (h *share) deliver(t *testing.T, s *spool.Spool, rng *rand.Rand) (delivered map[uint64]int, others int) {
	t.Helper()
	delivered = map[uint64]int{}
	for range 10 * len(h.records) {
		entries, err := s.Read(1+rng.IntN(100), 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) == 0 {
			break
		}
		for _, e := range entries {
			if e.Position.Owner() != h.name {
				others++
				continue
			}
			delivered[e.Position.Seq()]++
			if !sameRecord(e.Record, h.records[e.Position.Seq()]) {
				t.Errorf("record %d is %+v", e.Position.Seq(), e.Record)
			}
		}
		mustSettle(t, s, settlements(entries, spool.Delivered)...)
	}
	return delivered, others
}

// intact reports whether a page is as it was.
func (h *share) intact(file []byte, id int) bool {
	page := h.at.extent(id)
	return bytes.Equal(file[id*h.at.size:][:len(page)], page)
}
