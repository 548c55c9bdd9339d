package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/jobspool/jobspool/queue"
)

func newExportCommand() *cobra.Command {
	e := exporter{}
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write jobs of a spool as NDJSON, with their payloads",
		Long: `export writes one JSON object per line for each pending job, or with --dead for
each dead letter: payload and headers, the id it has had from the start, and all
times as absolute ones. 'spool import' reads that. The output holds payloads in
the clear; with --output it goes to a file that only its user can read.

export removes nothing. To move jobs to another host: 'spool pause', 'spool
export', 'spool import' there, and then 'spool rm' here. Without the pause, a
living owner may replay jobs while they are exported, and go on with those that
were: imported elsewhere they are sent again, under the same ids, which Redis
refuses for as long as it knows the first.

Exit code 3 means that jobs were left out: an owner is alive and does not answer,
or a job cannot be read.`,
		Example: `  spool export --dir /var/lib/myservice/spool --queue mail --output mail.ndjson
  spool export --dir /var/lib/myservice/spool --dead | jq -r .dead.reason`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			e.out, e.err = cmd.OutOrStdout(), cmd.ErrOrStderr()
			return e.run(cmd.Context())
		},
	}
	e.flags.addSpoolFlags(cmd)
	cmd.Flags().Lookup("json").Usage = "has no effect: the output is JSON, one document per line"
	f := cmd.Flags()
	f.StringVarP(&e.path, "output", "o", "", "write to this `file`, which must not exist")
	f.BoolVar(&e.overwrite, "overwrite", false, "replace the file of --output")
	e.pick.addFlags(cmd, true)
	f.BoolVar(&e.dead, "dead", false, "dead letters in place of pending jobs")
	return cmd
}

// exporter is one run of spool export.
type exporter struct {
	flags     common
	pick      filterFlags
	dead      bool
	path      string // empty: stdout
	overwrite bool
	out, err  io.Writer

	exported, unreadable int
}

func (e *exporter) run(ctx context.Context) (err error) {
	if err := e.pick.check(); err != nil {
		return err
	}
	switch {
	case e.overwrite && e.path == "":
		return usageError{"--overwrite needs --output"}
	case e.pick.reason != "" && !e.dead:
		return usageError{"--reason is one of dead letters: give --dead"}
	}
	ds, err := e.flags.openDesks(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ds.close()) }()
	if e.path == "" {
		err = e.write(ctx, ds, e.out)
	} else {
		err = writeNew(e.path, e.overwrite, func(w io.Writer) error { return e.write(ctx, ds, w) })
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(e.err, "exported %s\n", plural(e.exported, noun(e.dead)))
	ds.complain(e.err)
	switch {
	case e.unreadable > 0:
		return leftError{"left out: " + plural(e.unreadable, noun(e.dead)) + " that this version cannot read"}
	case len(ds.mute) > 0:
		return leftError{"not all owners could be asked"}
	}
	return nil
}

// write writes what every desk has.
func (e *exporter) write(ctx context.Context, ds *desks, to io.Writer) error {
	w := bufio.NewWriter(to)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	for _, d := range ds.all {
		err := d.jobs(ctx, e.pick.filter(nil, e.dead), true, func(j queue.Job) error {
			if j.Unreadable != "" {
				e.unreadable++
				fmt.Fprintf(e.err, "spool: %s: job %s: %s\n", d.name, printable(j.ID), printable(j.Unreadable))
				return ctx.Err()
			}
			e.exported++
			return errors.Join(ctx.Err(), enc.Encode(j))
		})
		if ctx.Err() != nil {
			return errors.New("interrupted; the export is not whole")
		}
		if err != nil {
			return err
		}
	}
	return w.Flush()
}

// writeNew makes a file that only its user can read. It appears whole, durably, or not at
// all, and in place of another only with overwrite.
func writeNew(path string, overwrite bool, fn func(io.Writer) error) error {
	if err := mayWrite(path, overwrite); err != nil {
		return err
	}
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+"-*") // 0600
	if err != nil {
		return err
	}
	err = fn(f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		if err = mayWrite(path, overwrite); err == nil {
			err = os.Rename(f.Name(), path)
		}
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncDir(dir)
}

func mayWrite(path string, overwrite bool) error {
	switch fi, err := os.Stat(path); {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return err
	case fi.IsDir():
		return usageError{path + " is a directory"}
	case !overwrite:
		return usageError{path + " exists: name another file, or give --overwrite"}
	}
	return nil
}

// syncDir makes the names in a directory durable, where that can be done.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
