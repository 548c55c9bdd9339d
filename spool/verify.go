package spool

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/jobspool/jobspool/spool/internal/pages"
)

// SegmentReport is what Verify finds in one segment.
type SegmentReport struct {
	Owner   string
	Segment string

	// What the segment counts: Appended equals Pending and the sum of Settled.
	// Dead letters that were retried or removed count as what they are now.
	Appended int64
	Pending  int64
	Settled  map[Outcome]int64

	Problems []error // what is wrong; nil if nothing is
}

// Verify is [Spool.VerifyContext] with context.Background.
func (s *Spool) Verify() ([]SegmentReport, error) { return s.VerifyContext(context.Background()) }

// VerifyContext reads every byte of the segments that this Spool holds: each checksum, each
// tree, and whether the counts add up. It changes nothing, and stops Append for as long
// as it reads the segment that takes records. When ctx ends it reads no further segment,
// and returns the error of ctx.
func (s *Spool) VerifyContext(ctx context.Context) ([]SegmentReport, error) {
	var all []SegmentReport
	for _, o := range s.owners() {
		for _, seg := range s.segments(o) {
			if err := ctx.Err(); err != nil {
				return all, err
			}
			report, err := exclusively(s, func() (*SegmentReport, error) { return s.verify(o, seg) })
			if err != nil {
				return all, err
			}
			if report != nil {
				all = append(all, *report)
			}
		}
	}
	return all, nil
}

func (s *Spool) verify(o *owner, seg *segment) (*SegmentReport, error) {
	s.active.Lock()
	if s.active.seg == seg { // nobody writes to the others
		defer s.active.Unlock()
	} else {
		s.active.Unlock()
	}
	return verifySegment(o.name, seg.path)
}

// Verify is the function [VerifyContext] with context.Background.
func Verify(dir string) ([]SegmentReport, error) { return VerifyContext(context.Background(), dir) }

// VerifyContext does for dead owners in a SpoolDir what the method does for a Spool's own,
// and holds their locks meanwhile. Living owners are left out. With an error, the reports
// are of what could be read.
func VerifyContext(ctx context.Context, dir string) ([]SegmentReport, error) {
	owners, err := Inspect(dir)
	if err != nil {
		return nil, err
	}
	var all []SegmentReport
	var errs []error
	for _, o := range owners {
		reports, err := verifyDead(ctx, dir, o.Name)
		if all = append(all, reports...); err != nil {
			errs = append(errs, fmt.Errorf("spool: verify %s: %w", o.Name, err))
		}
	}
	return all, errors.Join(errs...)
}

// verifyDead verifies an owner unless it lives. One without a lock file, as a copy may be,
// or that is just being removed, is read as it is.
func verifyDead(ctx context.Context, dir, name string) (reports []SegmentReport, err error) {
	path := filepath.Join(dir, name)
	read := func() error {
		paths, err := listSegments(path)
		for _, p := range paths {
			if err := ctx.Err(); err != nil {
				return err
			}
			report, verr := verifySegment(name, p)
			err = errors.Join(err, verr)
			if report != nil {
				reports = append(reports, *report)
			}
		}
		return err
	}
	err = whileDead(filepath.Join(path, lockName), read)
	if errors.Is(err, os.ErrNotExist) {
		reports = nil
		err = read()
	}
	if errors.Is(err, os.ErrNotExist) { // gone
		err = nil
	}
	return reports, err
}

// verifySegment reads a file that nobody writes to. It returns nothing for one that is
// gone.
func verifySegment(owner, path string) (*SegmentReport, error) {
	report := &SegmentReport{Owner: owner, Segment: filepath.Base(path), Settled: map[Outcome]int64{}}
	err := withPages(path, func(f *pages.File) error {
		v := verifier{f: f, report: report}
		v.run(owner, path)
		return nil
	})
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return report, err
}

type verifier struct {
	f      *pages.File
	report *SegmentReport
}

func (v *verifier) problem(errs ...error) {
	for _, err := range errs {
		if err != nil {
			v.report.Problems = append(v.report.Problems, err)
		}
	}
}

func (v *verifier) run(owner, path string) {
	v.problem(check(v.f))
	first, _ := firstOf(path)
	found := &salvaged{header: header{Owner: owner, First: first}}
	var errs []error
	v.problem(found.takeMeta(func(fn func(k, b []byte)) { errs = v.f.Walk(bucketMeta, pairs(fn)) }))
	v.problem(errs...)
	st := found.state
	if st == nil {
		v.problem(fmt.Errorf("%w: a segment without its state", ErrDamaged))
		return
	}
	v.report.Appended, v.report.Pending = int64(st.Next-first), int64(st.pending())
	for o, n := range st.Counts {
		v.report.Settled[Outcome(o)] = int64(n)
	}
	if all := st.settled() + uint64(st.pending()); all != st.Next-first {
		v.problem(fmt.Errorf("%w: %d records were appended, %d are settled or pending", ErrDamaged, st.Next-first, all))
	}
	t := found.header.ties()
	held := v.keys(bucketHeld, func(seq uint64, b []byte) error {
		_, err := decodeHeld(b, t.tie(kindHeld, seq))
		return err
	})
	dead := v.keys(bucketDead, func(seq uint64, b []byte) error {
		_, err := decodeDead(b, t.tie(kindDead, seq))
		return err
	})
	if v.f.Has(bucketTwins) {
		v.keys(bucketTwins, func(seq uint64, b []byte) error {
			if seq < first || seq >= st.Next {
				return fmt.Errorf("%w: there is no such record", ErrDamaged)
			}
			_, err := decodeTwin(b, t.tie(kindTwin, seq))
			return err
		})
	}
	v.count("held", len(held), st.Held)
	v.count("dead", len(dead), st.Counts[Dead])
	v.records(t, st, held, dead)
}

// keys checks the values of a bucket and returns their numbers.
func (v *verifier) keys(bucket string, check func(seq uint64, b []byte) error) map[uint64]bool {
	seqs := map[uint64]bool{}
	v.problem(v.f.Walk(bucket, func(k, b []byte) bool {
		if len(k) != 8 {
			v.problem(fmt.Errorf("%w: key %x in %s", ErrDamaged, k, bucket))
			return true
		}
		seq := binary.BigEndian.Uint64(k)
		seqs[seq] = true
		if err := check(seq, b); err != nil {
			v.problem(fmt.Errorf("%s %d: %w", bucket, seq, err))
		}
		return true
	})...)
	return seqs
}

func (v *verifier) count(what string, found int, want uint64) {
	if uint64(found) != want {
		v.problem(fmt.Errorf("%w: %d %s records, the state says %d", ErrDamaged, found, what, want))
	}
}

// records checks every record, and that those are there which must be.
func (v *verifier) records(t ties, st *state, held, dead map[uint64]bool) {
	tie := t.of(kindRecord)
	want := st.pending() + int(st.Counts[Dead])
	pendingBytes, byFlow := uint64(0), map[int]uint64{}
	v.problem(v.f.Walk(bucketRecords, func(k, b []byte) bool {
		if len(k) != 8 {
			v.problem(fmt.Errorf("%w: key %x in %s", ErrDamaged, k, bucketRecords))
			return true
		}
		seq := binary.BigEndian.Uint64(k)
		r, err := decodeRecord(b, tie(seq))
		if err != nil {
			v.problem(fmt.Errorf("record %d: %w", seq, err))
			return true
		}
		pending := st.awaits(r.Class, seq) || held[seq]
		if pending {
			pendingBytes += uint64(len(b))
			byFlow[st.Flows.of(r.Class)]++
		}
		if pending || dead[seq] {
			want--
		}
		return true
	})...)
	if want != 0 {
		v.problem(fmt.Errorf("%w: %d records that are pending or dead are missing", ErrDamaged, want))
	}
	for i, f := range st.Flows {
		if byFlow[i] != f.pending {
			v.problem(fmt.Errorf("%w: %d records of flow %d are pending, the state says %d", ErrDamaged, byFlow[i], i, f.pending))
		}
	}
	if pendingBytes != st.PendingBytes {
		v.problem(fmt.Errorf("%w: %d bytes are pending, the state says %d", ErrDamaged, pendingBytes, st.PendingBytes))
	}
}
