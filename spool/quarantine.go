package spool

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/jobspool/jobspool/spool/internal/pages"
)

// quarantineName is the directory in a SpoolDir where damaged segments are kept as they
// were found. Only a person removes them.
const quarantineName = "quarantine"

// Quarantined says what lies in quarantine and why. It is also the JSON beside it.
type Quarantined struct {
	File       string    `json:"file"` // in the SpoolDir's quarantine directory
	Owner      string    `json:"owner"`
	Segment    string    `json:"segment"`
	Target     string    `json:"target"`
	Reason     string    `json:"reason"`
	At         time.Time `json:"at"`
	Salvaged   int       `json:"salvaged"`   // pending records that go on to be replayed
	Dead       int       `json:"dead"`       // dead letters that were kept
	Unreadable int       `json:"unreadable"` // records of which nothing was left
}

// salvage puts what can be read of a damaged segment in its place, and the damaged file
// into quarantine, with the reason beside it. It returns how many records were lost. The
// segment must not be in use. Interrupted, it can be run again: the file keeps its name
// until what is salvaged takes it over.
func salvage(spoolDir string, o *owner, seg *segment, cause error, now time.Time) (Quarantined, error) {
	first, ok := firstOf(seg.path)
	if !ok {
		return Quarantined{}, fmt.Errorf("%w: not the name of a segment", ErrDamaged)
	}
	if free, _, err := diskSpace(spoolDir); err == nil {
		if fi, err := os.Stat(seg.path); err == nil && fi.Size() > free {
			return Quarantined{}, fmt.Errorf("%w: %d bytes are free, %d may be needed", ErrFull, free, fi.Size())
		}
	}
	var report Quarantined
	err := withPages(seg.path, func(f *pages.File) error {
		found, err := survey(f, o.name, first, seg.state.Load())
		if err != nil {
			return err
		}
		b, st, err := found.rebuild(f, seg.path, now)
		if err != nil {
			return err
		}
		if st.empty() && errors.Is(errors.Join(found.why...), syscall.EIO) { // the disk may be away for a while
			return errors.Join(fmt.Errorf("nothing can be read: %w", syscall.EIO), b.discard())
		}
		report = Quarantined{
			Owner: o.name, Segment: filepath.Base(seg.path), Target: found.header.Target, At: now.UTC(),
			Reason:   errors.Join(append([]error{cause}, found.why...)...).Error(),
			Salvaged: st.pending(), Dead: int(st.Counts[Dead]), Unreadable: int(st.Counts[Unreadable]),
		}
		if found.state != nil {
			report.Unreadable -= int(found.state.Counts[Unreadable])
		}
		if err := quarantine(spoolDir, seg.path, &report); err != nil {
			return errors.Join(err, b.discard())
		}
		seg.header = found.header
		seg.claims.clear() // which a segment that is rebuilt has none of
		seg.index = nil
		seg.state.Store(st)
		return b.publish(seg.path)
	})
	return report, err
}

// quarantine gives a file a second name in quarantine, and writes the report beside it.
func quarantine(spoolDir, path string, report *Quarantined) error {
	dir := filepath.Join(spoolDir, quarantineName)
	if err := makeDir(dir); err != nil {
		return err
	}
	stem := report.Owner + "." + strings.TrimSuffix(report.Segment, segmentSuffix)
	for n := 1; ; n++ {
		report.File = fmt.Sprintf("%s.%d%s", stem, n, segmentSuffix)
		name := filepath.Join(dir, report.File)
		switch there, err := sameFile(path, name); {
		case err == nil && there: // from a run that was interrupted
			return writeReport(dir, *report)
		case err == nil: // damaged before
			continue
		case !errors.Is(err, os.ErrNotExist):
			return err
		}
		if err := link(path, name); err != nil {
			return err
		}
		if err := writeReport(dir, *report); err != nil { // on a full disk
			return errors.Join(err, removeAll(name+".json", name)) // path is still there
		}
		return nil
	}
}

func sameFile(a, b string) (bool, error) {
	fa, err := os.Stat(a)
	if err != nil {
		return false, err
	}
	fb, err := os.Stat(b)
	return err == nil && os.SameFile(fa, fb), err
}

// link gives a file a second name, or copies it where the file system has no links.
func link(from, to string) error {
	err := os.Link(from, to)
	if err == nil || errors.Is(err, syscall.ENOSPC) {
		return err
	}
	return copyFile(from, to)
}

// copyFile copies a file's bytes into a new one and syncs that; the caller syncs the
// directory.
func copyFile(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = src.Close() }() // only read
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	if err = errors.Join(err, dst.Sync(), dst.Close()); err != nil {
		return errors.Join(err, os.Remove(to))
	}
	return nil
}

func writeReport(dir string, report Quarantined) error {
	b, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(dir, report.File+".json")
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return errors.Join(writeFile(path, append(b, '\n')), syncDir(dir))
}

// Quarantine lists what lies in quarantine in a SpoolDir. A file whose report is
// missing is listed with its name alone.
func Quarantine(spoolDir string) ([]Quarantined, error) {
	dir := filepath.Join(spoolDir, quarantineName)
	files, err := filepath.Glob(filepath.Join(dir, "*"+segmentSuffix))
	if err != nil {
		return nil, err
	}
	var all []Quarantined
	for _, path := range files {
		q := Quarantined{}
		b, err := os.ReadFile(path + ".json")
		if err == nil {
			err = json.Unmarshal(b, &q)
		}
		if err != nil {
			q.Reason = err.Error()
		}
		q.File = filepath.Base(path)
		all = append(all, q)
	}
	return all, nil
}

// mend makes a segment usable again after an error, if it can be: it reports whether to
// try once more. A segment that is of no use any more is taken out: it is no error that
// others would have to wait for. What is left are errors that may pass.
func (s *Spool) mend(o *owner, seg *segment, cause error) (again bool, err error) {
	switch {
	case errors.Is(cause, ErrVersion), errors.Is(cause, os.ErrNotExist), errors.Is(cause, os.ErrPermission):
		s.giveUp(o, seg, cause)
		return false, nil
	case !errors.Is(cause, ErrDamaged) && !errors.Is(cause, syscall.EIO):
		return false, cause
	}
	s.retire(seg)
	before := seg.state.Load()
	if _, err := s.salvage(o, seg, cause); err != nil {
		s.giveUp(o, seg, errors.Join(cause, err))
		return false, nil
	}
	after := seg.state.Load()
	s.book(before, after)
	if after.empty() {
		return false, s.drop(o, seg)
	}
	return true, nil
}

// salvage saves what can be read of a segment that is not in use.
func (s *Spool) salvage(o *owner, seg *segment, cause error) (report Quarantined, err error) {
	cause = errors.Join(cause, seg.close())
	_, err = guarded(func() (err error) {
		report, err = salvage(s.opts.Dir, o, seg, cause, time.Now())
		return err
	})
	if err != nil {
		return report, fmt.Errorf("salvage: %w", err)
	}
	s.quarantined.Add(1)
	s.opts.Logger.Error("spool: a damaged segment was salvaged, the file is in quarantine",
		"segment", seg.path, "file", report.File, "salvaged", report.Salvaged, "dead", report.Dead, "unreadable", report.Unreadable, "err", cause)
	return report, nil
}

// mending calls fn, which reads a segment, and once more if that can be mended.
func mending[T any](s *Spool, o *owner, seg *segment, fn func() ([]T, error)) ([]T, error) {
	items, err := fn()
	if err == nil {
		return items, nil
	}
	again, err := s.mend(o, seg, err)
	if !again {
		return nil, err
	}
	return fn()
}
