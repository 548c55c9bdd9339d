package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/jobspool/jobspool/spool"
)

func newBackupCommand() *cobra.Command {
	var flags common
	cmd := &cobra.Command{
		Use:   "backup DIR",
		Short: "Copy all that a spool holds, while it is in use",
		Long: `backup copies every pending job and every dead letter into DIR, which must not
exist, or be empty. Living owners write what they hold themselves, and go on
with their work meanwhile; what dead owners left is copied by this command. Each
segment is copied as of one moment. Files in quarantine are not part of it.

DIR is a SpoolDir then: 'spool status', 'spool ls' and 'spool verify' take it as
their --dir. 'spool adopt DIR' takes it back; without that, nobody sends it. It
moves what is in DIR: to keep the backup, adopt a copy of it. Jobs that were sent
since the backup are sent again then, under the same ids, which Redis refuses for
as long as it knows the first: those that were finished since run twice, unless
they have a retention or the Producers a DedupeWindow. So take back a backup
where the spool was lost, not beside it.

Exit code 3 means that an owner is alive and does not answer: its jobs are not in
the backup.`,
		Example: "  spool backup --dir /var/lib/myservice/spool /backup/spool-$(date +%F)",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			b := backer{flags: flags, out: cmd.OutOrStdout(), err: cmd.ErrOrStderr()}
			return b.run(cmd.Context(), args[0])
		},
	}
	flags.addSpoolFlags(cmd)
	return cmd
}

// backer is one run of spool backup.
type backer struct {
	flags    common
	out, err io.Writer
}

// moved is what backup and adopt print.
type moved struct {
	From        string        `json:"from"`
	To          string        `json:"to"`
	Owners      []spool.Taken `json:"owners"`
	Pending     int           `json:"pending"`
	DeadLetters int           `json:"dead_letters"`
	Left        []string      `json:"left"` // what could not be taken, in words
}

func (m *moved) add(owners []spool.Taken) {
	for _, o := range owners {
		m.Owners = append(m.Owners, o)
		m.Pending += o.Pending
		m.DeadLetters += o.DeadLetters
	}
}

// jobs says how many there are.
func (m *moved) jobs() string {
	return fmt.Sprintf("%s and %s of %s", plural(m.Pending, "pending job"), plural(m.DeadLetters, "dead letter"), plural(len(m.Owners), "owner"))
}

func (b *backer) run(ctx context.Context, to string) (err error) {
	dir, err := b.flags.spoolDir()
	if err != nil {
		return err
	}
	if to, err = backupDir(dir, to); err != nil {
		return err
	}
	ds, err := b.flags.openDesks(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ds.close()) }()
	if err := os.MkdirAll(to, 0o700); err != nil {
		return err
	}
	m := moved{From: dir, To: to, Owners: []spool.Taken{}, Left: append([]string{}, ds.mute...)}
	for _, d := range ds.all {
		owners, err := b.copy(ctx, d, to)
		if m.add(owners); err != nil {
			if ctx.Err() != nil {
				err = errors.New("interrupted")
			}
			return fmt.Errorf("%w; %s is not whole: remove it", err, to)
		}
	}
	ds.complain(b.err)
	if b.flags.json {
		err = printJSON(b.out, m)
	} else {
		_, err = fmt.Fprintf(b.out, "%s are in %s now; 'spool adopt' takes them back\n", m.jobs(), to)
	}
	if err == nil && len(m.Left) > 0 {
		err = leftError{"not all owners could be asked: their jobs are not in the backup"}
	}
	return err
}

// backupDir returns the absolute path of a directory for a backup: other processes are to
// write there.
func backupDir(dir, to string) (string, error) {
	to, err := filepath.Abs(to)
	if err != nil {
		return "", err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return "", err
	}
	if within, err := filepath.Rel(dir, to); err == nil && within != ".." && !strings.HasPrefix(within, ".."+string(filepath.Separator)) {
		return "", usageError{to + " is in the spool itself: name a directory elsewhere"}
	}
	switch there, err := os.ReadDir(to); {
	case err == nil && len(there) > 0:
		return "", usageError{to + " is not empty: name a new directory"}
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return "", err
	}
	return to, nil
}

// copy has a desk copy what it holds, first into a directory of its own: a share that went
// from one owner to another meanwhile may come twice.
func (b *backer) copy(ctx context.Context, d *desk, to string) ([]spool.Taken, error) {
	stage, err := os.MkdirTemp(to, spool.StagePattern)
	if err != nil {
		return nil, err
	}
	part := filepath.Join(stage, "part") // which the desk makes
	if err := d.call(ctx, http.MethodPost, "/v1/backup", map[string]string{"dir": part}, &struct{}{}); err != nil {
		return nil, err
	}
	if _, err := os.Stat(part); err != nil {
		return nil, fmt.Errorf("%s has other directories than this command, perhaps in a container of its own: run it there", d.name)
	}
	owners, _, err := spool.TakeOver(ctx, part, to)
	if err != nil {
		return owners, err
	}
	return owners, errors.Join(os.Remove(part), os.Remove(stage))
}
