package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/spool"
)

func newImportCommand() *cobra.Command {
	m := importer{}
	cmd := &cobra.Command{
		Use:   "import [FILE]",
		Short: "Put jobs that were exported into a spool",
		Long: `import reads what 'spool export' wrote, from FILE or else from standard input,
and puts it into the spool as jobs meant for the Redis of --redis, which is not
connected to, or of --target. A living Producer of that target replays them
within seconds; so does 'spool drain'. Jobs keep their ids, their times, and
whether they are in doubt; dead letters become pending.

All lines are read and checked before anything is written, and then the jobs
appear in the spool together: with an error, or Ctrl-C, nothing is imported. An
id may come twice only with the same job, which is then taken once. import takes
no notice of the service's Spool.MaxBytes, which counts what is imported.`,
		Example: `  spool import --dir /var/lib/myservice/spool --redis redis://localhost:6379 mail.ndjson
  jq -c '.queue = "low"' mail.ndjson | spool import --dir /var/lib/myservice/spool --target redis://redis:6379/0`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			m.in, m.out, m.err = cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr()
			return m.run(cmd.Context(), args)
		},
	}
	m.flags.addFlags(cmd)
	m.flags.addForce(cmd)
	cmd.Flags().StringVar(&m.target, "target", "", "the `target` of the jobs, as 'spool status' shows it, in place of --redis")
	cmd.Flags().BoolVar(&m.dry, "dry-run", false, "check the lines and import nothing")
	return cmd
}

// importer is one run of spool import.
type importer struct {
	flags    common
	target   string
	dry      bool
	in       io.Reader
	out, err io.Writer
}

// imported is what the command prints.
type imported struct {
	Dir    string        `json:"dir"`
	Target string        `json:"target"`
	Jobs   int           `json:"jobs"`
	Twice  int           `json:"twice"` // lines that are a copy of an earlier one
	DryRun bool          `json:"dry_run,omitempty"`
	Shares []spool.Taken `json:"shares"` // into which they went
}

func (m *importer) run(ctx context.Context, args []string) (err error) {
	dir, err := m.flags.spoolDir()
	if err != nil {
		return err
	}
	result := imported{Dir: dir, DryRun: m.dry, Shares: []spool.Taken{}}
	if result.Target, err = m.targetOf(); err != nil {
		return err
	}
	if _, err := inspect(dir); err != nil {
		return err
	}
	if err := m.flags.beOwner(dir); err != nil {
		return err
	}
	src, done, err := m.source(ctx, dir, args)
	if err != nil {
		return notImported(ctx, err)
	}
	defer func() { err = errors.Join(err, done()) }()
	if result.Jobs, result.Twice, err = eachJob(ctx, src, func(spool.Record) error { return nil }); err == nil && !m.dry {
		result.Shares, err = m.store(ctx, dir, src, result)
	}
	switch {
	case err != nil && len(result.Shares) > 0:
		return fmt.Errorf("a part was imported: %w; import the same again: the ids keep Redis from taking a job twice", err)
	case err != nil:
		return notImported(ctx, err)
	}
	return m.print(result)
}

func notImported(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		err = errors.New("interrupted")
	}
	return fmt.Errorf("%w; nothing was imported", err)
}

// targetOf returns the target of the jobs, which must be known.
func (m *importer) targetOf() (string, error) {
	if m.target != "" {
		if m.flags.redis != "" {
			return "", usageError{"give --redis or --target, not both"}
		}
		if err := queue.CheckTarget(m.target); err != nil {
			return "", usageError{"--target: " + err.Error()}
		}
		return m.target, nil
	}
	opt, err := m.flags.redisOpt()
	switch {
	case err != nil:
		return "", err
	case opt == nil:
		return "", usageError{"no Redis named that the jobs are meant for: give --redis, set REDIS_URL, or give --target"}
	}
	return queue.TargetOf(opt)
}

// source returns what can be read twice: the file, or a copy of standard input. The copy lies
// beside the spool, where payloads may lie.
func (m *importer) source(ctx context.Context, dir string, args []string) (src io.ReadSeeker, done func() error, err error) {
	if len(args) > 0 && args[0] != "-" {
		f, err := os.Open(args[0])
		if err != nil {
			return nil, nil, err
		}
		return f, f.Close, nil
	}
	if f, ok := m.in.(*os.File); ok {
		if fi, err := f.Stat(); err == nil && fi.Mode().IsRegular() {
			return f, func() error { return nil }, nil
		}
	}
	f, err := os.CreateTemp(dir, spool.StagePattern) // 0600
	if err != nil {
		return nil, nil, err
	}
	gone := os.Remove(f.Name()) == nil // not on Windows
	done = func() error {
		err := f.Close()
		if !gone {
			err = errors.Join(err, os.Remove(f.Name()))
		}
		return err
	}
	copied := make(chan error, 1)
	go func() { // which may wait for somebody who types
		_, err := io.Copy(f, m.in)
		copied <- err
	}()
	select {
	case err = <-copied:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		return nil, nil, errors.Join(err, done())
	}
	return f, done, nil
}

// chunks appends records so many in a commit.
type chunks struct {
	append  func(...spool.Record) error
	records []spool.Record
	bytes   int
}

// From these numbers on a chunk is full.
const (
	chunkRecords = 1000
	chunkBytes   = 4 << 20
)

func (c *chunks) add(r spool.Record) error {
	c.records = append(c.records, r)
	if c.bytes += len(r.Data); len(c.records) < chunkRecords && c.bytes < chunkBytes {
		return nil
	}
	return c.flush()
}

func (c *chunks) flush() error {
	full := c.records
	c.records, c.bytes = nil, 0
	return c.append(full...)
}

// store writes the jobs. They are there together, or not at all.
func (m *importer) store(ctx context.Context, dir string, src io.ReadSeeker, checked imported) (shares []spool.Taken, err error) {
	im, err := spool.NewImport(spool.Options{
		Dir: dir, Target: checked.Target, MaxBytes: -1, MaxRecordBytes: -1, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, im.Discard()) }()
	c := chunks{append: im.Append}
	n, twice, err := eachJob(ctx, src, c.add)
	if err == nil {
		err = c.flush()
	}
	if err != nil {
		return nil, err
	}
	if n != checked.Jobs || twice != checked.Twice {
		return nil, errors.New("the file has changed meanwhile")
	}
	return im.Commit(context.WithoutCancel(ctx)) // a moment
}

func (m *importer) print(r imported) error {
	if r.Twice > 0 {
		fmt.Fprintf(m.err, "%s twice in the input, taken once\n", plural(r.Twice, "job"))
	}
	if m.flags.json {
		return printJSON(m.out, r)
	}
	if r.DryRun {
		_, err := fmt.Fprintf(m.out, "%s for %s could be imported\n", plural(r.Jobs, "job"), r.Target)
		return err
	}
	_, err := fmt.Fprintf(m.out, "imported %s for %s: a living Producer of that target replays them within seconds, 'spool drain' does at once\n",
		plural(r.Jobs, "job"), r.Target)
	return err
}
