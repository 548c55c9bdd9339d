package spool

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/jobspool/jobspool/spool/internal/pages"
)

// hash stands for a key or a lock: SHA-256 cut to 128 bits, of its kind and its name. Zero
// is none.
type hash [16]byte

const (
	hashKey  = 'k'
	hashLock = 'l'
)

func hashOf(kind byte, name string) (h hash) {
	if name == "" {
		return h
	}
	sum := sha256.Sum256(append([]byte{kind}, name...))
	copy(h[:], sum[:])
	return h
}

// twin is what a record claims.
type twin struct {
	key, lock hash
	until     int64 // end of the lock; 0: none but the record's
	flow      int   // number of the record's in its segment; -1: not known
}

// newTwin returns nil for a record that claims nothing.
func newTwin(r *Record, now time.Time) *twin {
	hasLock := r.Lock != "" && (r.LockUntil.IsZero() || r.LockUntil.After(now))
	switch {
	case r.Key == "" && !hasLock:
		return nil
	case !hasLock:
		return &twin{key: hashOf(hashKey, r.Key)}
	}
	return &twin{key: hashOf(hashKey, r.Key), lock: hashOf(hashLock, r.Lock), until: unixNano(r.LockUntil)}
}

// twinSize is the most that a value of the twins bucket takes.
const twinSize = sealSize + binary.MaxVarintLen64 + 2*(1+len(hash{})) + binary.MaxVarintLen16

// encode makes a value of the twins bucket.
func (t twin) encode(tie uint32) []byte {
	b := binary.AppendVarint(newSealed(twinSize-sealSize), t.until)
	for _, h := range []hash{t.key, t.lock} {
		if h == (hash{}) {
			b = append(b, 0)
		} else {
			b = append(append(b, byte(len(h))), h[:]...)
		}
	}
	if t.flow >= 0 { // else it stays as it was written before there were flows
		b = binary.AppendUvarint(b, uint64(t.flow))
	}
	return seal(b, tie)
}

func decodeTwin(b []byte, tie uint32) (t twin, err error) {
	body, err := unseal(b, tie)
	if err != nil {
		return t, fmt.Errorf("twin: %w", err)
	}
	d := decoder{b: body}
	t.until = d.varint()
	for _, h := range []*hash{&t.key, &t.lock} {
		name := d.bytes()
		if len(name) != 0 && len(name) != len(h) {
			d.bad = true
		}
		copy(h[:], name)
	}
	if t.flow = -1; len(d.b) > 0 { // else it was written when a segment had one watermark for all
		t.flow = int(min(d.uvarint(), maxFlows))
	}
	return t, d.err("twin")
}

// claims are what the pending records of one segment claim. They are kept until all of
// them are settled: which of them are pending, the watermarks and the list of those held
// tell, so that settling need not look for them.
type claims struct {
	some  *atomic.Int64 // counts the segments of a Spool that have claims
	first uint64        // number of the segment's first record

	mu    sync.Mutex
	keys  map[hash]claimant
	locks map[hash]lockClaim
	marks []claimMark         // by flow
	last  uint64              // highest number that claims; 0: there are no claims
	held  map[uint64]struct{} // up to last; with a claim or without
}

// claimant is the record that claims a name.
type claimant struct {
	offset uint32 // of its number from the segment's first
	flow   uint16
}

type lockClaim struct {
	claimant
	until int64 // 0: until its record is settled
}

// claimMark is what is known of the claims of one flow.
type claimMark struct{ watermark, last uint64 }

// find looks for a pending record that holds the lock, and then for one with the key.
func (c *claims) find(key, lock hash, now int64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at, ok := c.locks[lock]; ok && (at.until == 0 || at.until > now) && c.pending(at.claimant) {
		return ErrLockHeld
	}
	if at, ok := c.keys[key]; ok && c.pending(at) {
		return ErrKeyHeld
	}
	return nil
}

func (c *claims) pending(at claimant) bool {
	seq := c.first + uint64(at.offset)
	_, held := c.held[seq]
	return held || seq >= c.marks[at.flow].watermark
}

// moves is what a commit changes about the claims of its segment.
type moves struct {
	settling    bool // the segment has claims: note what is held
	claimed     []claimed
	held, freed []uint64
}

type claimed struct {
	seq  uint64
	twin twin
}

func (m *moves) claim(seq uint64, t twin) { m.claimed = append(m.claimed, claimed{seq, t}) }

func (m *moves) hold(seq uint64) {
	if m.settling {
		m.held = append(m.held, seq)
	}
}

func (m *moves) free(seq uint64) {
	if m.settling {
		m.freed = append(m.freed, seq)
	}
}

// moves begins a commit.
func (c *claims) moves() *moves {
	c.mu.Lock()
	defer c.mu.Unlock()
	return &moves{settling: c.last > 0}
}

// apply ends a commit that has succeeded, before anybody sees its state.
func (c *claims) apply(m *moves, fs flows) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.markLocked(fs)
	for _, seq := range m.freed { // first: one that is Kept is freed and held
		delete(c.held, seq)
	}
	for _, seq := range m.held {
		if seq <= c.last {
			c.held[seq] = struct{}{}
		}
	}
	c.addLocked(m.claimed)
	if c.last > 0 && len(c.held) == 0 && !slices.ContainsFunc(c.marks, claimMark.pending) {
		c.clearLocked()
	}
}

// pending reports whether a claim of the flow is, not counting those held.
func (m claimMark) pending() bool { return m.last > 0 && m.last >= m.watermark }

// replace sets what was found in a segment's file.
func (c *claims) replace(found []claimed, held map[uint64]struct{}, fs flows) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clearLocked()
	c.markLocked(fs)
	c.addLocked(found)
	for seq := range held {
		if seq <= c.last {
			c.held[seq] = struct{}{}
		}
	}
}

// markLocked takes over the watermarks.
func (c *claims) markLocked(fs flows) {
	for len(c.marks) < len(fs) {
		c.marks = append(c.marks, claimMark{})
	}
	for i := range fs {
		c.marks[i].watermark = fs[i].watermark
	}
}

// clear drops all claims: of a segment that is gone, or that salvage has left without.
func (c *claims) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clearLocked()
}

func (c *claims) clearLocked() {
	if c.last > 0 {
		c.some.Add(-1)
	}
	c.keys, c.locks, c.held, c.marks, c.last = nil, nil, nil, nil, 0
}

// addLocked adds claims in the order of their records: of two records that came to share a
// name, as where a lock has expired, the later one has it.
func (c *claims) addLocked(found []claimed) {
	if len(found) > 0 && c.last == 0 {
		c.keys, c.locks, c.held = map[hash]claimant{}, map[hash]lockClaim{}, map[uint64]struct{}{}
		c.some.Add(1)
	}
	for _, f := range found {
		at := claimant{offset: uint32(f.seq - c.first), flow: uint16(f.twin.flow)}
		if f.twin.key != (hash{}) {
			c.keys[f.twin.key] = at
		}
		if f.twin.lock != (hash{}) {
			c.locks[f.twin.lock] = lockClaim{claimant: at, until: f.twin.until}
		}
		c.last = max(c.last, f.seq)
		c.marks[f.twin.flow].last = c.last
	}
}

// putTwin writes what a record claims beside it.
func putTwin(tx *bolt.Tx, seq uint64, t twin, tie uint32) error {
	b, err := tx.CreateBucketIfNotExists([]byte(bucketTwins))
	if err != nil {
		return err
	}
	b.FillPercent = fillPercent
	return b.Put(key(seq), t.encode(tie))
}

// loadClaims reads what the pending records of a segment claim. It looks at pages without
// bbolt: what is damaged there claims nothing, and is no reason not to open the segment.
func (s *segment) loadClaims(tx *bolt.Tx, st *state) {
	if tx.Bucket([]byte(bucketTwins)) == nil {
		s.claims.clear()
		return
	}
	held := map[uint64]struct{}{}
	c := tx.Bucket([]byte(bucketHeld)).Cursor()
	for k, _ := c.First(); len(k) == 8; k, _ = c.Next() {
		held[binary.BigEndian.Uint64(k)] = struct{}{}
	}
	var found []claimed
	tie := s.header.ties().of(kindTwin)
	_ = withPages(s.path, func(f *pages.File) error {
		f.Walk(bucketTwins, func(k, b []byte) bool {
			if len(k) != 8 {
				return true
			}
			seq := binary.BigEndian.Uint64(k)
			t, err := decodeTwin(b, tie(seq))
			if len(st.Flows) == 1 {
				t.flow = 0
			}
			if err != nil || t.flow < 0 || t.flow >= len(st.Flows) || seq >= st.Next {
				return true
			}
			if _, ok := held[seq]; ok || seq >= st.Flows[t.flow].watermark {
				found = append(found, claimed{seq, t})
			}
			return true
		})
		return nil
	})
	s.claims.replace(found, held, st.Flows)
}

// twinsOf returns copies of what records claim: of none if the bucket cannot be read.
func twinsOf(tx *bolt.Tx, records []keyValue) (values []keyValue) {
	_, err := guarded(func() error {
		b := tx.Bucket([]byte(bucketTwins))
		if b == nil {
			return nil
		}
		c := b.Cursor()
		for _, r := range records {
			if k, v := c.Seek(key(r.seq)); bytes.Equal(k, key(r.seq)) {
				values = append(values, copyOf(k, v))
			}
		}
		return nil
	})
	if err != nil {
		return nil
	}
	return values
}
