package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/spool"
)

func newVerifyCommand() *cobra.Command {
	var flags common
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Read every byte of a spool and say whether it is sound",
		Long: `verify reads every byte of every segment: each checksum, each tree, and whether
the counts add up. It changes nothing and repairs nothing. Living owners are
asked by their socket and verify what they hold themselves, while jobs that they
would spool wait while the newest segment is read: 0.1 s from the page cache.
One that cannot be asked is named, and the command fails.

Exit code 0 means that all segments are sound, 4 that damage was found. What can
be read of a damaged segment is salvaged by whoever comes upon the damage: a
Producer that replays it, or a command that lists or sends its jobs. Nothing is
deleted then: the file goes to quarantine.

Files in quarantine are listed. They were found damaged before, and do not make
the spool unsound; 'spool salvage' shows what is in them.`,
		Example: "  spool verify --dir /var/lib/myservice/spool",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runVerify(cmd.Context(), flags, cmd.OutOrStdout())
		},
	}
	flags.addSpoolFlags(cmd)
	return cmd
}

// verified is what the command prints.
type verified struct {
	Dir        string              `json:"dir"`
	Segments   []queue.Verified    `json:"segments"`
	Problems   []string            `json:"problems"` // of owners as a whole
	Quarantine []spool.Quarantined `json:"quarantine"`
	NotRead    []string            `json:"not_read"` // what could not be looked at, and why
}

func runVerify(ctx context.Context, flags common, out io.Writer) error {
	dir, err := flags.spoolDir()
	if err != nil {
		return err
	}
	owners, err := inspect(dir)
	if err == nil {
		err = flags.beOwner(dir)
	}
	if err != nil {
		return err
	}
	v := verified{Dir: dir, Segments: []queue.Verified{}, Problems: []string{}, Quarantine: []spool.Quarantined{}, NotRead: []string{}}
	v.verify(ctx, owners)
	if ctx.Err() != nil {
		return errors.New("interrupted")
	}
	set, err := spool.Quarantine(dir)
	if v.Quarantine = append(v.Quarantine, set...); err != nil {
		return err
	}
	if flags.json {
		err = printJSON(out, v)
	} else {
		err = v.print(out)
	}
	return errors.Join(err, v.verdict())
}

// verify asks the living, and reads what the dead left.
func (v *verified) verify(ctx context.Context, owners []spool.OwnerInfo) {
	live, mute := liveDesks(ctx, v.Dir, owners)
	v.NotRead = append(v.NotRead, mute...)
	for _, d := range live {
		var found []queue.Verified
		if err := d.call(ctx, http.MethodGet, "/v1/verify", nil, &found); err != nil {
			v.NotRead = append(v.NotRead, err.Error())
		}
		v.Segments = append(v.Segments, found...)
	}
	reports, err := spool.VerifyContext(ctx, v.Dir)
	if err != nil {
		v.NotRead = append(v.NotRead, strings.TrimPrefix(err.Error(), "spool: "))
	}
	v.Segments = append(v.Segments, queue.VerifiedOf(reports)...)
	v.NotRead = append(v.NotRead, v.missed(owners)...)
	for _, o := range owners {
		isProblem := func(s queue.Verified) bool { return s.Owner == o.Name && len(s.Problems) > 0 }
		if slices.ContainsFunc(v.Segments, isProblem) {
			continue // which says it in more words
		}
		for _, bad := range o.Bad {
			v.Problems = append(v.Problems, o.Name+": "+bad)
		}
	}
}

// missed returns owners whose segments nobody has read: they were adopted in the middle.
func (v *verified) missed(owners []spool.OwnerInfo) (missed []string) {
	for _, o := range owners {
		isRead := func(s queue.Verified) bool { return s.Owner == o.Name }
		if o.Segments == 0 || len(v.NotRead) > 0 || slices.ContainsFunc(v.Segments, isRead) {
			continue
		}
		if left, err := filepath.Glob(filepath.Join(v.Dir, o.Name, "*.seg")); err != nil || len(left) > 0 {
			missed = append(missed, "owner "+o.Name+" changed hands meanwhile, run the command again")
		}
	}
	return missed
}

func (v *verified) print(out io.Writer) error {
	if len(v.Segments) > 0 {
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "OWNER\tSEGMENT\tRECORDS\tPENDING\tDEAD\tSTATE")
		for _, s := range v.Segments {
			state := "ok"
			if n := len(s.Problems); n > 0 {
				state = plural(n, "problem")
			}
			fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%s\n", s.Owner, s.Segment, s.Appended, s.Pending, s.DeadLetters, state)
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	for _, s := range v.Segments {
		for _, p := range s.Problems {
			fmt.Fprintf(out, "%s/%s: %s\n", s.Owner, s.Segment, strings.ReplaceAll(p, "\n", "; "))
		}
	}
	for _, p := range v.Problems {
		fmt.Fprintln(out, p)
	}
	for _, q := range v.Quarantine {
		fmt.Fprintln(out, quarantineLine(q))
	}
	_, err := fmt.Fprintf(out, "%s in %s, %d damaged\n", plural(len(v.Segments), "segment"), v.Dir, v.damaged())
	return err
}

func quarantineLine(q spool.Quarantined) string {
	at := "at an unknown time"
	if !q.At.IsZero() {
		at = "at " + q.At.Format(time.RFC3339)
	}
	return fmt.Sprintf("quarantine/%s: set aside %s, %s salvaged, %d dead, %d unreadable", q.File, at, plural(q.Salvaged, "job"), q.Dead, q.Unreadable)
}

func (v *verified) damaged() (n int) {
	for _, s := range v.Segments {
		if len(s.Problems) > 0 {
			n++
		}
	}
	return n
}

func (v *verified) verdict() error {
	const hint = "; what can be read is salvaged by whoever reads it next, and nothing is deleted: see 'spool verify --help'"
	switch n := v.damaged(); {
	case n > 0:
		return damageError{plural(n, "segment") + " damaged" + hint}
	case len(v.Problems) > 0:
		return damageError{plural(len(v.Problems), "problem") + " found" + hint}
	case len(v.NotRead) > 0:
		return errors.New("not all could be read: " + strings.Join(v.NotRead, "; "))
	}
	return nil
}
