package main

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/spool"
)

// intoSpool makes dead letters of what the spool does not hold.
func (s *salvager) intoSpool(ctx context.Context, dir string, files []string, doc *salvage) (err error) {
	ds, err := s.flags.openDesks(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ds.close()) }()
	if len(ds.mute) > 0 {
		ds.complain(s.err)
		return errors.New("nobody can tell which jobs the spool holds: not all owners answer; nothing was changed")
	}
	known, err := knownJobs(ctx, ds)
	if err != nil {
		return err
	}
	for _, f := range files {
		shares, err := s.bury(ctx, dir, f, known)
		doc.Into = append(doc.Into, shares...)
		switch {
		case ctx.Err() != nil:
			return errors.New("interrupted")
		case err != nil && len(files) == 1:
			return err
		case err != nil:
			s.failed(doc, f, err)
		}
	}
	return nil
}

// knownJobs returns all jobs that the desks hold.
func knownJobs(ctx context.Context, ds *desks) (map[digest]bool, error) {
	known := map[digest]bool{}
	for _, d := range ds.all {
		for _, dead := range []bool{false, true} {
			if err := d.jobs(ctx, queue.Filter{Dead: dead}, false, func(j queue.Job) error {
				known[jobDigest(j)] = true
				return ctx.Err()
			}); err != nil {
				return nil, err
			}
		}
	}
	return known, nil
}

// bury makes dead letters of what a file has and is not known, and makes it known.
func (s *salvager) bury(ctx context.Context, dir, file string, known map[digest]bool) (shares []spool.Taken, err error) {
	target, err := s.targetOf(dir, file)
	if err != nil {
		return nil, err
	}
	im, err := spool.NewImport(spool.Options{
		Dir: dir, Target: target, MaxBytes: -1, MaxRecordBytes: -1, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, im.Discard()) }()
	c := chunks{append: im.Append}
	_, err = spool.ReadRemains(file, func(r spool.Remains) error {
		j := queue.JobOf(r.Record, true)
		id := jobDigest(j)
		if known[id] || r.State == spool.RemainsSettled && !s.settled {
			return ctx.Err()
		}
		known[id] = true
		record := r.Record
		j.InDoubt = true
		if again, err := j.Record(); err == nil { // else of a newer version: as it is
			record = again
		}
		return errors.Join(ctx.Err(), c.add(record))
	})
	if err == nil {
		err = c.flush()
	}
	if err == nil {
		err = im.Bury("salvaged from " + filepath.Base(file) + "; it may have been sent")
	}
	if err != nil {
		return nil, err
	}
	return im.Commit(context.WithoutCancel(ctx))
}

// targetOf returns where the jobs of a file are meant to go.
func (s *salvager) targetOf(dir, file string) (string, error) {
	from, err := spool.ReadRemains(file, func(spool.Remains) error { return nil })
	if err != nil || from.Target != "" {
		return from.Target, err
	}
	set, err := spool.Quarantine(dir)
	for _, q := range set {
		if q.File == filepath.Base(file) && q.Target != "" {
			return q.Target, nil
		}
	}
	if err == nil && s.target == "" {
		err = usageError{filepath.Base(file) + " does not tell where its jobs are meant to go: give --target, as 'spool status' shows it"}
	}
	return s.target, err
}
