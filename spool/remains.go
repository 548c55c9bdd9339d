package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/jobspool/jobspool/spool/internal/pages"
)

// Remains is a record that can be read of a segment's file.
type Remains struct {
	Record        // belongs to the caller
	State  string // what the file tells: one of those below
	Reason string // of a dead letter
}

// What the file of a segment tells of a record, by the newest commit that can be read.
const (
	RemainsPending = "pending"
	RemainsDead    = "dead letter"
	RemainsSettled = "settled"            // it was delivered, or need not be
	RemainsUnsure  = "may have been sent" // the list of what was not is damaged
)

// Origin says where a segment's file was made.
type Origin struct {
	Owner  string
	Target string // empty: it cannot be read
}

// ReadRemains hands on each record that can be read of a segment's file, damaged or not, for
// example of one in quarantine: once, in no particular order, what was settled included if
// it has not been overwritten. The file must not be in use. It is not changed.
func ReadRemains(path string, fn func(Remains) error) (Origin, error) {
	var from Origin
	_, err := guarded(func() error {
		return withPages(path, func(f *pages.File) (err error) {
			from, err = readRemains(f, path, fn)
			return err
		})
	})
	if err != nil {
		return from, fmt.Errorf("spool: %s: %w", filepath.Base(path), err)
	}
	return from, nil
}

func readRemains(f *pages.File, path string, fn func(Remains) error) (Origin, error) {
	h, err := originOf(f, path)
	if err != nil {
		return Origin{}, err
	}
	v, err := survey(f, h.Owner, h.First, nil)
	if err != nil {
		return Origin{}, err
	}
	seen, tie := map[uint64]bool{}, v.header.ties().of(kindRecord)
	var failed error
	take := func(k, b []byte) bool {
		if len(k) != 8 || failed != nil {
			return failed == nil
		}
		seq := binary.BigEndian.Uint64(k)
		if seen[seq] {
			return true
		}
		r, err := decodeRecord(slices.Clone(b), tie(seq))
		if err != nil {
			return true
		}
		seen[seq] = true
		failed = fn(v.remains(seq, r))
		return failed == nil
	}
	f.Walk(bucketRecords, take)
	f.Scan(func(_, k, b []byte) bool { return take(k, b) })
	return Origin{Owner: v.header.Owner, Target: v.header.Target}, failed
}

func (v *salvaged) remains(seq uint64, r Record) Remains {
	rest := Remains{Record: r}
	info, listed := v.dead[seq]
	switch what := v.fate(seq, r.Class); {
	case what == pending:
		rest.State = RemainsPending
	case what == dead && listed:
		rest.State, rest.Reason = RemainsDead, info.reason
	case what == dead:
		rest.State = RemainsUnsure
	default:
		rest.State = RemainsSettled
	}
	return rest
}

// originOf returns the owner and the first sequence number of a segment: what its header
// tells or, where none can be read, its name.
func originOf(f *pages.File, path string) (h header, err error) {
	look := func(k, b []byte) bool {
		if string(k) == keyHeader && h.Owner == "" {
			if found, err := decodeHeader(b); err == nil {
				h = found
			}
		}
		return h.Owner == ""
	}
	f.Walk(bucketMeta, look)
	f.Scan(func(_, k, b []byte) bool { return look(k, b) })
	if h.Owner != "" {
		return h, nil
	}
	if first, ok := firstOf(path); ok { // in its owner's directory
		abs, err := filepath.Abs(path)
		return header{Owner: filepath.Base(filepath.Dir(abs)), First: first}, err
	}
	// In quarantine: owner.first.n.seg, and an owner's name has a dot.
	parts := strings.Split(strings.TrimSuffix(filepath.Base(path), segmentSuffix), ".")
	if n := len(parts); n >= 3 {
		if first, err := strconv.ParseUint(parts[n-2], 16, 64); err == nil {
			return header{Owner: strings.Join(parts[:n-2], "."), First: first}, nil
		}
	}
	return header{}, errors.New("neither its name nor what is in it says whose it is")
}
