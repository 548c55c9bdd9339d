package main

import (
	"context"
	"errors"
	"net"
	"os"
	"time"

	"github.com/hibiken/asynq"
	"github.com/spf13/cobra"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/spool"
)

// probeTimeout bounds the look at Redis.
const probeTimeout = 5 * time.Second

func newStatusCommand() *cobra.Command {
	var flags common
	watch := watcher{}
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show what lies in a spool, and how Redis is",
		Long: `status shows what a spool holds and how Redis is, as each living process that
uses the spool sees it: outages and since when, what waits, by owner and by queue
and type, how fast it is replayed, how long until nothing is left or the spool is
full, dead letters, quarantine. It changes nothing.

An owner is one process's share of the spool. Its state is
  alive    its process lives, and replays it
  held     another living process has adopted it, and replays it
  busy     in use by a process that does not answer: what it holds is not known
  orphan   its process has ended: a living one for the same Redis adopts it within
           ten seconds, else 'spool drain' sends it
  foreign  an orphan for another Redis than --redis names

With --redis it also says whether that Redis takes writes, by setting the key
asynq:{default}:spool:probe, which expires after a minute.`,
		Example: `  spool status --dir /var/lib/myservice/spool
  spool status --dir /var/lib/myservice/spool --redis redis://localhost:6379 --watch`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return watch.run(cmd.Context(), cmd.OutOrStdout(), flags)
		},
	}
	flags.addFlags(cmd)
	cmd.Flags().BoolVar(&watch.again, "watch", false, "show it again and again until Ctrl-C; with --json a document each time")
	cmd.Flags().DurationVar(&watch.every, "interval", 2*time.Second, "with --watch: the `time` between two looks")
	return cmd
}

// status is what the command prints.
type status struct {
	Dir    string        `json:"dir"`
	Paused *spool.Pause  `json:"paused,omitempty"`
	Redis  *redisStatus  `json:"redis,omitempty"` // the one that was named
	Owners []ownerStatus `json:"owners"`
	Kinds  []queue.Kind  `json:"kinds"` // what is pending, by queue and type

	Processes []queue.Status `json:"processes"` // living ones that answered

	Pending      int   `json:"pending"` // as far as it is known
	PendingBytes int64 `json:"pending_bytes"`
	DeadLetters  int   `json:"dead_letters"`

	Quarantine []spool.Quarantined `json:"quarantine"` // damaged files that were set aside
	LeftOut    []string            `json:"left_out"`   // why there may be more
}

type redisStatus struct {
	Target    string  `json:"target"`
	Writable  bool    `json:"writable"`
	Error     string  `json:"error,omitempty"`
	LatencyMS float64 `json:"latency_ms"`

	silent bool // no answer came in time
}

// The states of an owner.
const (
	stateAlive   = "alive"
	stateHeld    = "held"
	stateBusy    = "busy"
	stateOrphan  = "orphan"
	stateForeign = "foreign"
)

type ownerStatus struct {
	Name         string     `json:"name"`
	State        string     `json:"state"`
	HeldBy       int        `json:"held_by,omitempty"` // process id
	Target       string     `json:"target"`
	Foreign      bool       `json:"foreign"` // its target is not the Redis given
	Host         string     `json:"host"`
	PID          int        `json:"pid"`
	Started      time.Time  `json:"started"`
	Alive        bool       `json:"alive"` // it is in use
	Segments     int        `json:"segments"`
	FileBytes    int64      `json:"file_bytes"`
	Pending      *int       `json:"pending"` // null: not known
	PendingBytes int64      `json:"pending_bytes"`
	Oldest       *time.Time `json:"oldest,omitempty"`
	DeadLetters  int        `json:"dead_letters"`
	Bad          []string   `json:"bad,omitempty"`
}

// look gathers the status of the spool and, if there is one named, of Redis. It looks
// at Redis last: a wrong path is told without it.
func look(ctx context.Context, dir string, opt asynq.RedisConnOpt) (status, error) {
	owners, err := inspect(dir)
	if err != nil {
		return status{}, err
	}
	st := status{Dir: dir, Owners: []ownerStatus{}, Kinds: []queue.Kind{}, Processes: []queue.Status{}, Quarantine: []spool.Quarantined{}, LeftOut: []string{}}
	if st.Paused, err = spool.Paused(dir); err != nil {
		return status{}, err
	}
	live, mute := liveDesks(ctx, dir, owners)
	for _, d := range live {
		if p, err := d.status(ctx); err == nil {
			st.Processes = append(st.Processes, p)
		}
	}
	st.LeftOut = append(st.LeftOut, mute...)
	if opt != nil {
		if st.Redis, err = probe(ctx, opt); err != nil {
			return status{}, err
		}
	}
	st.count(owners)
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
		var neterr net.Error
		st.silent = errors.Is(err, context.DeadlineExceeded) || errors.As(err, &neterr) && neterr.Timeout()
	}
	return st, nil
}

// count takes in what is known of each owner.
func (s *status) count(owners []spool.OwnerInfo) {
	kinds := kindSum{}
	for _, p := range s.Processes {
		kinds.add(p.Kinds...)
	}
	for _, o := range owners {
		row := s.row(o)
		if !o.Alive {
			kinds.add(queue.KindsOf(o.Classes)...)
		}
		s.Owners = append(s.Owners, row)
		if row.Pending != nil {
			s.Pending += *row.Pending
		}
		s.PendingBytes += row.PendingBytes
		s.DeadLetters += row.DeadLetters
	}
	s.Kinds = kinds.list()
}

// row says what is known of one owner: a living one's process tells what it holds.
func (s *status) row(o spool.OwnerInfo) ownerStatus {
	row := ownerStatus{
		Name: o.Name, State: stateBusy, Target: o.Identity.Target, Host: o.Identity.Host, PID: o.Identity.PID, Started: o.Identity.Started,
		Foreign: s.Redis != nil && !queue.SameTarget(o.Identity.Target, s.Redis.Target),
		Alive:   o.Alive, Segments: o.Segments, FileBytes: o.Bytes, DeadLetters: o.DeadLetters, Bad: o.Bad,
	}
	oldest := o.Oldest
	if !o.Alive {
		row.State = stateOrphan
		if row.Foreign {
			row.State = stateForeign
		}
		row.Pending, row.PendingBytes = &o.Pending, o.PendingBytes
	}
	for _, p := range s.Processes {
		for _, sh := range p.Shares {
			if sh.Owner != o.Name || !o.Alive {
				continue
			}
			row.State = stateAlive
			if !sh.Own {
				row.State, row.HeldBy = stateHeld, p.PID
			}
			row.Pending, row.PendingBytes, row.DeadLetters, oldest = &sh.Pending, sh.PendingBytes, sh.DeadLetters, sh.Oldest
		}
	}
	if !oldest.IsZero() {
		row.Oldest = &oldest
	}
	return row
}
