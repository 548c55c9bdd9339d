package spool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Backup copies all that this Spool holds, pending records and dead letters, into a
// new SpoolDir: Adopt takes it over from there. It may be on a slow disk: replay and
// Append go on meanwhile, and no read transaction is open while it writes. Each segment
// is copied as of the moment its copy ends, so a record settled later is pending in the
// copy. It is durable on return.
//
// dir must not exist, or be empty. On an error, dir holds whole segments only, as many
// as were copied by then.
func (s *Spool) Backup(ctx context.Context, dir string) error {
	if there, err := os.ReadDir(dir); err == nil && len(there) > 0 {
		return fmt.Errorf("spool: backup: %s is not empty", dir)
	}
	if err := makeDir(dir); err != nil {
		return fmt.Errorf("spool: backup: %w", err)
	}
	for _, o := range s.owners() {
		if err := s.backupOwner(ctx, o, dir); err != nil {
			return fmt.Errorf("spool: backup of %s: %w", o.name, err)
		}
	}
	if err := syncDir(dir); err != nil { // the names of the owners
		return fmt.Errorf("spool: backup: %w", err)
	}
	return nil
}

// backupOwner copies one share. It comes with an identity, so that it is adopted, and
// with a lock that is held until it is whole.
func (s *Spool) backupOwner(ctx context.Context, o *owner, dir string) error {
	id, err := identify(o.dir)
	if err != nil {
		return err
	}
	copied, err := makeOwner(dir, o.name, id)
	if err != nil {
		return err
	}
	for _, seg := range s.segments(o) {
		if err = s.backupSegment(ctx, o, seg, copied); err != nil {
			break
		}
	}
	paths, lerr := listSegments(copied.dir)
	if err = errors.Join(err, lerr); err == nil && len(paths) == 0 {
		return copied.remove()
	}
	return errors.Join(err, copied.unlock())
}

func (s *Spool) backupSegment(ctx context.Context, o *owner, seg *segment, to *owner) error {
	first, _ := firstOf(seg.path)
	path := filepath.Join(to.dir, filepath.Base(seg.path))
	var h header
	if err := s.alone(func() error {
		h = seg.header
		return nil
	}); err != nil {
		return err
	}
	b, err := newBuilder(path, h)
	if err != nil {
		return err
	}
	err = b.copy(seg, func(step func() error) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return s.alone(func() error {
			if s.segment(o, first) != seg {
				return errGone
			}
			defer s.closeIdle(seg)
			return step()
		})
	})
	if err == nil {
		err = b.publish(path)
	}
	if err != nil {
		err = errors.Join(err, b.discard())
	}
	if errors.Is(err, errGone) { // settled meanwhile
		return b.discard()
	}
	return err
}

// errGone says that a segment was settled and removed.
var errGone = errors.New("settled")
