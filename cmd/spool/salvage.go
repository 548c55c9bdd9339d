package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/spool"
)

func newSalvageCommand() *cobra.Command {
	s := salvager{}
	cmd := &cobra.Command{
		Use:   "salvage [FILE]",
		Short: "Show what can be read of damaged segments, and bring it back",
		Long: `When a damaged segment is found, what can be read of it goes on to be replayed,
and the file is set aside in quarantine. salvage reads FILE again, the name of a
file in quarantine or the path of any segment that is not in use, or else all
files in quarantine, and lists every job that it finds there, with what the file
tells of it:

  pending            it was still to be sent, and went on to be
  dead letter        it was one, and still is
  settled            it had been sent, or removed
  may have been sent nobody can tell

Nothing is changed by that. With --into-spool, those jobs that are not in the
spool become dead letters in it, marked as in doubt: most of them have been sent
since. 'spool dead ls' shows them, 'spool dead retry' sends the ones you choose.
Settled ones are left out unless --settled is given, too. The files stay in
quarantine until you remove them.`,
		Example: `  spool salvage --dir /var/lib/myservice/spool
  spool salvage --dir /var/lib/myservice/spool --into-spool 20261123T202838.123-1a2b3c4d.0000000000000001.1.seg`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s.out, s.err = cmd.OutOrStdout(), cmd.ErrOrStderr()
			return s.run(cmd.Context(), args)
		},
	}
	s.flags.addSpoolFlags(cmd)
	f := cmd.Flags()
	f.BoolVar(&s.into, "into-spool", false, "make dead letters of those jobs that are not in the spool")
	f.BoolVar(&s.settled, "settled", false, "with --into-spool: those that had been sent or removed, too")
	f.StringVar(&s.target, "target", "", "with --into-spool: the `target` of jobs of which the file does not tell it")
	return cmd
}

// salvager is one run of spool salvage.
type salvager struct {
	flags         common
	into, settled bool
	target        string
	out, err      io.Writer
}

// remains is one job that can be read of a file.
type remains struct {
	File  string    `json:"file"`
	ID    string    `json:"id"`
	Queue string    `json:"queue"`
	Type  string    `json:"type"`
	At    time.Time `json:"at"`
	State string    `json:"state"`
}

// salvage is what the command prints.
type salvage struct {
	Jobs []remains     `json:"jobs"`
	Into []spool.Taken `json:"into"` // the shares with the new dead letters
}

func (s *salvager) run(ctx context.Context, args []string) error {
	if !s.into && (s.settled || s.target != "") {
		return usageError{"--settled and --target need --into-spool"}
	}
	if s.target != "" {
		if err := queue.CheckTarget(s.target); err != nil {
			return usageError{"--target: " + err.Error()}
		}
	}
	dir, err := s.flags.spoolDir()
	if err != nil {
		return err
	}
	if _, err := inspect(dir); err != nil {
		return err
	}
	if err := s.flags.beOwner(dir); err != nil {
		return err
	}
	files, err := filesToSalvage(dir, args)
	if err != nil {
		return err
	}
	doc := salvage{Jobs: []remains{}, Into: []spool.Taken{}}
	for _, f := range files {
		_, err := spool.ReadRemains(f, func(r spool.Remains) error {
			j := queue.JobOf(r.Record, false)
			doc.Jobs = append(doc.Jobs, remains{filepath.Base(f), j.ID, j.Queue, j.Type, j.At, r.State})
			return ctx.Err()
		})
		if ctx.Err() != nil {
			return errors.New("interrupted")
		}
		if err != nil {
			return err
		}
	}
	if s.into {
		if doc.Into, err = s.intoSpool(ctx, dir, files); err != nil {
			return err
		}
	}
	if s.flags.json {
		return printJSON(s.out, doc)
	}
	return s.print(doc, len(files))
}

// filesToSalvage returns the paths of the file that is named, or of all in quarantine.
func filesToSalvage(dir string, args []string) (files []string, err error) {
	quarantine := filepath.Join(dir, "quarantine")
	if len(args) > 0 {
		if name := args[0]; filepath.Base(name) == name {
			path := filepath.Join(quarantine, name)
			if _, err := os.Stat(path); err == nil {
				return []string{path}, nil
			}
		}
		if _, err := os.Stat(args[0]); err != nil {
			return nil, fmt.Errorf("%s is neither in quarantine nor a file: %w", args[0], err)
		}
		return args, nil
	}
	set, err := spool.Quarantine(dir)
	for _, q := range set {
		files = append(files, filepath.Join(quarantine, q.File))
	}
	return files, err
}

func (s *salvager) print(doc salvage, files int) error {
	if len(doc.Jobs) > 0 {
		w := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "ID\tQUEUE\tTYPE\tAT\tSTATE")
		for _, j := range doc.Jobs {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", j.ID, j.Queue, j.Type, j.At.Format(time.RFC3339), j.State)
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(s.out, "%s can be read of %s\n", plural(len(doc.Jobs), "job"), plural(files, "file"))
	if s.into && err == nil {
		n := 0
		for _, t := range doc.Into {
			n += t.DeadLetters
		}
		_, err = fmt.Fprintf(s.out, "%s in the spool now; 'spool dead retry' sends them\n", plural(n, "new dead letter"))
	}
	return err
}

// intoSpool makes dead letters of what the spool does not hold.
func (s *salvager) intoSpool(ctx context.Context, dir string, files []string) (shares []spool.Taken, err error) {
	ds, err := s.flags.openDesks(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, ds.close()) }()
	if len(ds.mute) > 0 {
		ds.complain(s.err)
		return nil, errors.New("nobody can tell which jobs the spool holds: not all owners answer; nothing was changed")
	}
	known, err := knownJobs(ctx, ds)
	for _, f := range files {
		if err == nil {
			var more []spool.Taken
			more, err = s.bury(ctx, dir, f, known)
			shares = append(shares, more...)
		}
	}
	return shares, err
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
