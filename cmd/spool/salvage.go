package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
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
quarantine until you remove them.

Exit code 4 means that one of several files could not be read, or brought back: that
is said, and the others are done all the same.`,
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

	Failed []string `json:"failed"` // files of which not all could be done, and why
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
	doc := salvage{Jobs: []remains{}, Into: []spool.Taken{}, Failed: []string{}}
	some, err := s.list(ctx, files, &doc)
	if err == nil && s.into {
		err = s.intoSpool(ctx, dir, some, &doc)
	}
	if err != nil && len(doc.Into) == 0 {
		return err
	}
	return errors.Join(err, s.end(doc, len(files)))
}

// list reads what there is of files, and returns those that have jobs.
func (s *salvager) list(ctx context.Context, files []string, doc *salvage) (some []string, err error) {
	for _, f := range files {
		before := len(doc.Jobs)
		_, err := spool.ReadRemains(f, func(r spool.Remains) error {
			j := queue.JobOf(r.Record, false)
			doc.Jobs = append(doc.Jobs, remains{filepath.Base(f), j.ID, j.Queue, j.Type, j.At, r.State})
			return ctx.Err()
		})
		switch {
		case ctx.Err() != nil:
			return nil, errors.New("interrupted")
		case err != nil && len(files) == 1:
			return nil, err
		case err != nil:
			s.failed(doc, f, err)
		}
		if len(doc.Jobs) > before {
			some = append(some, f)
		}
	}
	return some, nil
}

// failed notes that not all of a file could be done. The others go on.
func (s *salvager) failed(doc *salvage, file string, err error) {
	text := err.Error()
	if name := filepath.Base(file); !strings.Contains(text, name) {
		text = name + ": " + text
	}
	fmt.Fprintln(s.err, "spool: "+text)
	doc.Failed = append(doc.Failed, text)
}

// end prints what was done, and returns how the command ends.
func (s *salvager) end(doc salvage, files int) (err error) {
	if s.flags.json {
		err = printJSON(s.out, doc)
	} else {
		err = s.print(doc, files)
	}
	if err == nil && len(doc.Failed) > 0 {
		err = damageError{fmt.Sprintf("of %d of %s not all could be done", len(doc.Failed), plural(files, "file"))}
	}
	return err
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
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", printable(j.ID), printable(j.Queue), printable(j.Type), j.At.Format(time.RFC3339), j.State)
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
