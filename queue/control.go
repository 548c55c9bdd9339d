package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/jobspool/jobspool/spool"
)

// ControlVersion is the version of the paths and documents that Handler serves.
const ControlVersion = 1

// Permission is something that a Handler lets its callers do beside looking.
type Permission int

const (
	// MayChange lets callers drain, remove jobs, retry dead letters, have lost jobs sent again
	// and write backups.
	MayChange Permission = iota + 1

	// MaySeePayloads lets callers read payloads and headers.
	MaySeePayloads
)

// Status is what /v1/status says.
type Status struct {
	API    int           `json:"api"` // ControlVersion
	PID    int           `json:"pid"`
	Owner  string        `json:"owner,omitempty"` // of the process's own share
	Stats  Stats         `json:"stats"`
	Shares []spool.Share `json:"shares"`
	Kinds  []Kind        `json:"kinds"` // what is pending, by queue and type
}

// Kind counts what is pending of one queue and type. Both are empty for those of which
// there are too many to tell apart.
type Kind struct {
	Queue   string    `json:"queue"`
	Type    string    `json:"type"`
	Pending int       `json:"pending"`
	Bytes   int64     `json:"bytes"`
	Oldest  time.Time `json:"oldest,omitzero"` // none was accepted before
}

// JobPage is a part of a list of jobs.
type JobPage struct {
	Jobs []Job        `json:"jobs"`
	Next spool.Cursor `json:"next,omitempty"` // for the next part; empty: there is none
}

// Changed is how many jobs a change concerned.
type Changed struct {
	Jobs int          `json:"jobs"`
	Next spool.Cursor `json:"next,omitempty"` // for the next part of one that goes in parts; empty: there is none
}

// control serves the admin API. It belongs to a Producer, or to an Offline.
type control struct {
	ledger
	status func() Status
	drain  func(context.Context) error                              // nil: it cannot
	use    func(context.Context, func(context.Context) error) error // runs it unless closed
	kept   func() (journalView, error)
	check  func(context.Context, GuardCheck) (GuardChecked, error)
	may    []Permission
}

const (
	maxJobs    = 1000 // in one page
	maxRequest = 1 << 20
)

// Handler returns a handler of the admin API, for a port of the service's own: without
// permissions, one that only looks, and shows no payloads. It does not ask who calls: that
// is the service's part, as with net/http/pprof. All documents are JSON:
//
//	GET  /v1/status                  Status
//	GET  /v1/jobs                    JobPage; parameters: those of Filter, cursor, limit (100), payload
//	GET  /v1/guard                   GuardPage; the same, but for dead, reason and in_doubt; limit may be 0
//	POST /v1/remove    Filter        Changed; MayChange, as all that follow
//	POST /v1/retry     Filter        Changed: dead letters are pending again
//	POST /v1/drain                   Producer.Drain, for as long as the request lasts
//	POST /v1/backup    {"dir": ...}  a copy of all that is held, into a new directory
//	POST /v1/guard/check GuardCheck  GuardChecked
//	GET  /v1/verify                  []Verified
//
// With the parameter cursor, empty at first, a change does one part of its work: it looks at
// the next 1000 jobs. Without, it does all of it.
//
// An error is an object with the field error, and a status of 4xx or 5xx.
func (p *Producer) Handler(may ...Permission) http.Handler {
	c := &control{
		ledger: ledger{spool: p.spool, alone: p.replayer.aside},
		status: p.status, drain: p.replayer.drain, use: p.use, may: slices.Clone(may),
		kept: p.losses.view, check: p.losses.checkByHand,
	}
	return c.handler()
}

// use runs fn unless the Producer is closed, with a context that ends when it closes.
func (p *Producer) use(ctx context.Context, fn func(context.Context) error) error {
	if err := p.enter(); err != nil {
		return err
	}
	defer p.leave()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(p.replayer.ctx, func() { cancel(ErrClosed) })() //nolint:contextcheck // two ends, one context
	err := fn(ctx)
	if err != nil && errors.Is(context.Cause(ctx), ErrClosed) {
		err = fmt.Errorf("%w: %w", ErrClosed, err)
	}
	return err
}

func (p *Producer) status() Status { return newStatus(p.spool, p.Stats()) }

func newStatus(s *spool.Spool, st Stats) Status {
	status := Status{API: ControlVersion, PID: os.Getpid(), Stats: st, Shares: s.Shares(), Kinds: KindsOf(s.Stats().Classes)}
	for _, sh := range status.Shares {
		if sh.Own {
			status.Owner = sh.Owner
		}
	}
	return status
}

func (c *control) handler() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, needs []Permission, fn func(*http.Request) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { c.serve(w, r, needs, fn) })
	}
	change := []Permission{MayChange}
	handle("GET /v1/status", nil, func(*http.Request) (any, error) { return c.status(), nil })
	handle("GET /v1/jobs", nil, c.jobs)
	handle("GET /v1/guard", nil, c.guard)
	handle("POST /v1/guard/check", change, c.guardCheck)
	handle("GET /v1/verify", change, func(r *http.Request) (any, error) { return c.verify(r.Context()) })
	handle("POST /v1/remove", change, c.changes(func(f Filter) (Filter, revision) { return f, c.remover(f.Dead) }))
	handle("POST /v1/retry", change, c.changes(func(f Filter) (Filter, revision) {
		f.Dead = true
		return f, c.retry
	}))
	handle("POST /v1/drain", change, c.drains)
	handle("POST /v1/backup", change, c.backup)
	return mux
}

// requestError is an error of the request's.
type requestError struct {
	code int
	text string
}

func (e requestError) Error() string { return e.text }

func badRequest(err error) error { return requestError{http.StatusBadRequest, err.Error()} }

func (c *control) serve(w http.ResponseWriter, r *http.Request, needs []Permission, fn func(*http.Request) (any, error)) {
	var doc any
	err := c.permitted(needs...)
	if err == nil {
		err = c.use(r.Context(), func(ctx context.Context) (err error) {
			doc, err = fn(r.WithContext(ctx))
			return err
		})
	}
	code := http.StatusOK
	if err != nil {
		var req requestError
		switch {
		case errors.As(err, &req):
			code = req.code
		case errors.Is(err, ErrPaused):
			code = http.StatusConflict
		case errors.Is(err, ErrClosed), errors.Is(err, spool.ErrClosed):
			code = http.StatusServiceUnavailable
		default:
			code = http.StatusInternalServerError
		}
		doc = map[string]string{"error": err.Error()}
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(doc) // the caller has left
}

func (c *control) permitted(needs ...Permission) error {
	for _, n := range needs {
		if !slices.Contains(c.may, n) {
			return requestError{http.StatusForbidden, "this handler does not permit that"}
		}
	}
	return nil
}

func (c *control) jobs(r *http.Request) (any, error) {
	v := r.URL.Query()
	f, err := parseFilter(v)
	if err != nil {
		return nil, badRequest(err)
	}
	count, payload, err := c.pageOf(v)
	if err != nil {
		return nil, err
	}
	jobs, next, err := c.list(r.Context(), f, spool.Cursor(v.Get("cursor")), count, payload)
	return JobPage{Jobs: append([]Job{}, jobs...), Next: next}, err
}

// pageOf returns how many jobs are asked for, and whether with their payloads.
func (c *control) pageOf(v url.Values) (count int, payload bool, err error) {
	count = 100
	if s := v.Get("limit"); s != "" {
		if count, err = strconv.Atoi(s); err != nil || count < 1 || count > maxJobs {
			return 0, false, badRequest(fmt.Errorf("limit: a number from 1 to %d", maxJobs))
		}
	}
	if s := v.Get("payload"); s != "" {
		if payload, err = strconv.ParseBool(s); err != nil {
			return 0, false, badRequest(fmt.Errorf("payload: %w", err))
		}
	}
	if payload {
		err = c.permitted(MaySeePayloads)
	}
	return count, payload, err
}

// changes answers requests for a change, all of it or one part.
func (c *control) changes(of func(Filter) (Filter, revision)) func(*http.Request) (any, error) {
	return func(r *http.Request) (any, error) {
		var f Filter
		if err := decodeRequest(r, &f); err != nil {
			return nil, err
		}
		f, fn := of(f)
		var done Changed
		var err error
		if v := r.URL.Query(); v.Has("cursor") {
			done.Jobs, done.Next, err = c.applyPage(r.Context(), f, spool.Cursor(v.Get("cursor")), fn)
		} else {
			done.Jobs, err = c.apply(r.Context(), f, fn)
		}
		if err != nil {
			err = fmt.Errorf("after %d jobs: %w", done.Jobs, err)
		}
		return done, err
	}
}

// decodeRequest reads the document of a request. That it must be JSON keeps web pages from
// making one.
func decodeRequest(r *http.Request, to any) error {
	if r.Header.Get("Content-Type") != "application/json" {
		return requestError{http.StatusUnsupportedMediaType, "Content-Type must be application/json"}
	}
	d := json.NewDecoder(http.MaxBytesReader(nil, r.Body, maxRequest))
	d.DisallowUnknownFields()
	if err := d.Decode(to); err != nil {
		return badRequest(err)
	}
	return nil
}

func (c *control) drains(r *http.Request) (any, error) {
	if err := decodeRequest(r, &struct{}{}); err != nil {
		return nil, err
	}
	if c.drain == nil {
		return nil, requestError{http.StatusNotImplemented, "nobody here can send"}
	}
	return struct{}{}, c.drain(r.Context())
}

func (c *control) backup(r *http.Request) (any, error) {
	var to struct {
		Dir string `json:"dir"`
	}
	err := decodeRequest(r, &to)
	if err == nil {
		err = c.spool.Backup(r.Context(), to.Dir)
	}
	return struct{}{}, err
}
