package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/hibiken/asynq"
	"github.com/spf13/cobra"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/spool"
)

// probeTimeout bounds the look at Redis.
const probeTimeout = 5 * time.Second

func newStatusCommand() *cobra.Command {
	var flags common
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show what lies in a spool, and whether Redis takes writes",
		Long: `status shows each owner in the spool: one process's share of it. It changes
nothing. What a living owner holds is not shown: its files are in use.

With --redis it also says whether that Redis takes writes, by setting the key
asynq:{default}:spool:probe, which expires after a minute.`,
		Example: "  spool status --dir /var/lib/myservice/spool --redis redis://localhost:6379",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runStatus(cmd.Context(), flags, cmd.OutOrStdout())
		},
	}
	flags.addFlags(cmd)
	return cmd
}

// status is what the command prints.
type status struct {
	Dir         string        `json:"dir"`
	Redis       *redisStatus  `json:"redis,omitempty"`
	Owners      []ownerStatus `json:"owners"`
	Pending     int           `json:"pending"` // of owners that are not alive
	DeadLetters int           `json:"dead_letters"`

	Quarantine []spool.Quarantined `json:"quarantine"` // damaged files that were set aside
}

type redisStatus struct {
	Target    string  `json:"target"`
	Writable  bool    `json:"writable"`
	Error     string  `json:"error,omitempty"`
	LatencyMS float64 `json:"latency_ms"`
}

type ownerStatus struct {
	Name         string     `json:"name"`
	Target       string     `json:"target"`
	Foreign      bool       `json:"foreign"` // its target is not the Redis given
	Host         string     `json:"host"`
	PID          int        `json:"pid"`
	Started      time.Time  `json:"started"`
	Alive        bool       `json:"alive"`
	Segments     int        `json:"segments"`
	FileBytes    int64      `json:"file_bytes"`
	Pending      *int       `json:"pending"` // null while the owner is alive
	PendingBytes int64      `json:"pending_bytes"`
	Oldest       *time.Time `json:"oldest,omitempty"`
	DeadLetters  int        `json:"dead_letters"`
	Bad          []string   `json:"bad,omitempty"`
}

func runStatus(ctx context.Context, flags common, out io.Writer) error {
	dir, opt, err := flags.place()
	if err != nil {
		return err
	}
	st, err := look(ctx, dir, opt)
	if err != nil {
		return err
	}
	if flags.json {
		return printJSON(out, st)
	}
	return st.print(out, time.Now())
}

// look gathers the status of the spool and, if there is one named, of Redis. It looks
// at Redis last: a wrong path is told without it.
func look(ctx context.Context, dir string, opt asynq.RedisConnOpt) (status, error) {
	owners, err := inspect(dir)
	if err != nil {
		return status{}, err
	}
	var r *redisStatus
	if opt != nil {
		if r, err = probe(ctx, opt); err != nil {
			return status{}, err
		}
	}
	st := newStatus(dir, r, owners)
	set, err := spool.Quarantine(dir)
	st.Quarantine = append(st.Quarantine, set...)
	return st, err
}

// inspect is spool.Inspect with errors that say what to do.
func inspect(dir string) ([]spool.OwnerInfo, error) {
	owners, err := spool.Inspect(dir)
	const hint = ": --dir must be the SpoolDir of the service; nothing was created"
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, errors.New(dir + " does not exist" + hint)
	case errors.Is(err, spool.ErrNotSpool):
		return nil, errors.New(dir + " holds no spool" + hint)
	}
	return owners, err
}

func newStatus(dir string, r *redisStatus, owners []spool.OwnerInfo) status {
	st := status{Dir: dir, Redis: r, Owners: []ownerStatus{}, Quarantine: []spool.Quarantined{}}
	for _, o := range owners {
		st.add(o)
	}
	return st
}

func probe(ctx context.Context, opt asynq.RedisConnOpt) (*redisStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	start := time.Now()
	target, err := queue.Probe(ctx, opt)
	if err != nil && target == "" {
		return nil, err
	}
	st := &redisStatus{Target: target, Writable: err == nil, LatencyMS: float64(time.Since(start).Microseconds()) / 1000}
	if err != nil {
		st.Error = err.Error()
	}
	return st, nil
}

func (s *status) add(o spool.OwnerInfo) {
	row := ownerStatus{
		Name: o.Name, Target: o.Identity.Target, Host: o.Identity.Host, PID: o.Identity.PID, Started: o.Identity.Started,
		Foreign: s.Redis != nil && !queue.SameTarget(o.Identity.Target, s.Redis.Target),
		Alive:   o.Alive, Segments: o.Segments, FileBytes: o.Bytes, DeadLetters: o.DeadLetters, Bad: o.Bad,
	}
	if !o.Alive {
		row.Pending, row.PendingBytes = &o.Pending, o.PendingBytes
	}
	if !o.Oldest.IsZero() {
		row.Oldest = &o.Oldest
	}
	s.Owners = append(s.Owners, row)
	s.Pending += o.Pending
	s.DeadLetters += o.DeadLetters
}

func (s *status) print(out io.Writer, now time.Time) error {
	if r := s.Redis; r != nil {
		if r.Writable {
			fmt.Fprintf(out, "Redis %s takes writes (%.1f ms)\n", r.Target, r.LatencyMS)
		} else {
			fmt.Fprintf(out, "Redis %s takes no writes: %s\n", r.Target, r.Error)
		}
	}
	for _, q := range s.Quarantine {
		fmt.Fprintf(out, "quarantine/%s: %d jobs salvaged, %d unreadable (%s)\n", q.File, q.Salvaged, q.Unreadable, q.At.Format(time.DateTime))
	}
	if len(s.Owners) == 0 {
		fmt.Fprintf(out, "%s is empty: nothing is spooled\n", s.Dir)
		return nil
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "OWNER\tSTATE\tPROCESS\tTARGET\tPENDING\tBYTES\tOLDEST\tDEAD\tON DISK")
	for _, o := range s.Owners {
		fmt.Fprintln(w, o.row(now))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, o := range s.Owners {
		for _, bad := range o.Bad {
			fmt.Fprintf(out, "%s: %s (kept, not replayed)\n", o.Name, bad)
		}
	}
	fmt.Fprintf(out, "%s and %s, not counting owners that are alive\n",
		plural(s.Pending, "pending job"), plural(s.DeadLetters, "dead letter"))
	return nil
}

func (o ownerStatus) row(now time.Time) string {
	state, pending, size, oldest, dead := "dead", "?", "?", "-", "?"
	if o.Alive {
		state = "alive"
	} else {
		pending, size = strconv.Itoa(*o.Pending), humanize.IBytes(uint64(o.PendingBytes))
		dead = strconv.Itoa(o.DeadLetters)
	}
	if o.Oldest != nil {
		oldest = now.Sub(*o.Oldest).Round(time.Second).String()
	}
	if o.Foreign {
		state += ", foreign"
	}
	return fmt.Sprintf("%s\t%s\t%d on %s\t%s\t%s\t%s\t%s\t%s\t%s", o.Name, state, o.PID, o.Host, o.Target,
		pending, size, oldest, dead, humanize.IBytes(uint64(o.FileBytes)))
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
