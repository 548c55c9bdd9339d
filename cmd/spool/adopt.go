package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/jobspool/jobspool/spool"
)

func newAdoptCommand() *cobra.Command {
	var flags common
	cmd := &cobra.Command{
		Use:   "adopt DIR",
		Short: "Take over the spool of a lost pod, or a backup",
		Long: `adopt moves what dead owners left in DIR, the SpoolDir of a pod that is gone or
a 'spool backup', into the spool of --dir. There a living Producer of the same
target replays it within seconds; so does 'spool drain'. Jobs of another target
come along, and wait for one of their own.

Within a file system each owner's share is renamed. From another one it is
copied, and removed in DIR only when the copy is safely on disk: an interrupted
adopt can be run again, and leaves at worst a share in both places, whose jobs
have the same ids.

Owners that are alive in DIR are left there, with exit code 3. Files in
quarantine stay in DIR, and so does a pause.`,
		Example: "  spool adopt --dir /var/lib/myservice/spool /mnt/volume-of-lost-pod/spool",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			a := adopter{flags: flags, out: cmd.OutOrStdout(), err: cmd.ErrOrStderr()}
			return a.run(cmd.Context(), args[0])
		},
	}
	flags.addSpoolFlags(cmd)
	return cmd
}

// adopter is one run of spool adopt.
type adopter struct {
	flags    common
	out, err io.Writer
}

func (a *adopter) run(ctx context.Context, from string) error {
	dir, err := a.flags.spoolDir()
	if err != nil {
		return err
	}
	if _, err := inspect(dir); err != nil {
		return err
	}
	if err := a.mayAdopt(dir, from); err != nil {
		return err
	}
	m := moved{From: from, To: dir, Owners: []spool.Taken{}, Left: []string{}}
	owners, alive, err := spool.TakeOver(ctx, from, dir)
	m.add(owners)
	for _, name := range alive {
		m.Left = append(m.Left, "owner "+name+" is alive")
	}
	if set, qerr := spool.Quarantine(from); qerr == nil && len(set) > 0 {
		verb := "stay"
		if len(set) == 1 {
			verb = "stays"
		}
		fmt.Fprintf(a.err, "%s %s in quarantine in %s: 'spool salvage --dir %s' shows what can be read\n", plural(len(set), "damaged file"), verb, from, from)
	}
	if perr := a.print(m); perr != nil {
		return errors.Join(err, perr)
	}
	switch {
	case ctx.Err() != nil && err != nil:
		return leftError{"interrupted; what is not taken over is safe in " + from}
	case err != nil:
		return err
	case len(m.Left) > 0:
		return leftError{"left in " + from + ": " + strings.Join(m.Left, "; ")}
	}
	return nil
}

// mayAdopt looks at whose files they are, and makes this process one of their user.
func (a *adopter) mayAdopt(dir, from string) error {
	theirs, err := usersOf(from)
	if err != nil {
		return err
	}
	ours, err := usersOf(dir)
	if err != nil {
		return err
	}
	if len(ours) > 0 && !slices.Equal(slices.Sorted(maps.Keys(theirs)), slices.Sorted(maps.Keys(ours))) {
		return fmt.Errorf("%s belongs to %s, %s to %s: give it to that user first, with chown -R", from, namesOf(theirs), dir, namesOf(ours))
	}
	if err := a.flags.beOwner(dir); err != nil {
		return err
	}
	_, err = spool.Inspect(from)
	if errors.Is(err, spool.ErrNotSpool) {
		return fmt.Errorf("%s holds no spool: name the SpoolDir of a lost pod, or a backup", from)
	}
	return err
}

func (a *adopter) print(m moved) error {
	if a.flags.json {
		return printJSON(a.out, m)
	}
	if len(m.Owners) > 0 {
		w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "OWNER\tTARGET\tPENDING\tDEAD")
		for _, o := range m.Owners {
			fmt.Fprintf(w, "%s\t%s\t%d\t%d\n", o.Owner, o.Target, o.Pending, o.DeadLetters)
		}
		if err := w.Flush(); err != nil {
			return err
		}
		for _, o := range m.Owners {
			for _, bad := range o.Bad {
				fmt.Fprintf(a.out, "%s: %s (salvaged when it is read)\n", o.Owner, bad)
			}
		}
	}
	_, err := fmt.Fprintf(a.out, "took over %s: a living Producer of their target replays them within seconds, 'spool drain' does at once\n", m.jobs())
	return err
}
