package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/spool"
)

// desk is where jobs can be looked at and changed: the process of a living owner, reached by
// its socket, or this one, for what dead owners left. Both speak the API of queue.Handler.
type desk struct {
	name   string // for people
	live   bool
	client *http.Client
}

// socketTimeout bounds the wait for a process to accept a connection, and to say how it is.
const socketTimeout = 5 * time.Second

// desks are all desks of a SpoolDir.
type desks struct {
	all     []*desk
	mute    []string // living owners that nobody can ask, in words
	offline *queue.Offline
}

// openDesks finds every desk. What dead owners left is taken over for as long as the desks
// are open, so that nobody else replays it meanwhile.
func (c *common) openDesks(ctx context.Context) (*desks, error) {
	dir, err := c.spoolDir()
	if err != nil {
		return nil, err
	}
	owners, err := inspect(dir)
	if err == nil {
		err = c.beOwner(dir)
	}
	if err != nil {
		return nil, err
	}
	ds := &desks{}
	ds.all, ds.mute = liveDesks(ctx, dir, owners)
	if slices.ContainsFunc(owners, func(o spool.OwnerInfo) bool { return !o.Alive }) {
		if ds.offline, err = queue.OpenOffline(dir, nil); ds.offline == nil {
			return nil, err
		}
		if err != nil {
			ds.mute = append(ds.mute, err.Error())
		}
		ds.all = append(ds.all, &desk{name: "dead owners", client: &http.Client{Transport: inProcess{ds.offline.Handler()}}})
	}
	return ds, nil
}

func (ds *desks) close() error {
	if ds.offline == nil {
		return nil
	}
	return ds.offline.Close()
}

// complain says what the desks do not cover.
func (ds *desks) complain(w io.Writer) {
	for _, m := range ds.mute {
		fmt.Fprintln(w, "spool: "+m)
	}
}

// liveDesks returns the desks of living owners, and in words which of those have none.
func liveDesks(ctx context.Context, dir string, owners []spool.OwnerInfo) (live []*desk, mute []string) {
	held := map[string]bool{} // owners that some process answers for
	why := map[string]error{}
	for _, o := range owners {
		if !o.Alive {
			continue
		}
		d := newLiveDesk(dir, o)
		st, err := d.status(ctx)
		if err != nil {
			why[o.Name] = err
			continue
		}
		live = append(live, d)
		for _, sh := range st.Shares {
			held[sh.Owner] = true
		}
	}
	for _, o := range owners {
		if o.Alive && !held[o.Name] {
			mute = append(mute, fmt.Sprintf("owner %s (pid %d on %s) is in use by a process that does not answer, its jobs are left out: %v",
				o.Name, o.Identity.PID, o.Identity.Host, why[o.Name]))
		}
	}
	return live, mute
}

func newLiveDesk(dir string, o spool.OwnerInfo) *desk {
	path := spool.SocketOf(dir, o.Name)
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, socketTimeout)
		defer cancel()
		return queue.DialSocket(ctx, path)
	}
	return &desk{
		name: fmt.Sprintf("owner %s (pid %d on %s)", o.Name, o.Identity.PID, o.Identity.Host), live: true,
		client: &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}},
	}
}

func (d *desk) status(ctx context.Context) (st queue.Status, err error) {
	ctx, cancel := context.WithTimeout(ctx, socketTimeout)
	defer cancel()
	err = d.call(ctx, http.MethodGet, "/v1/status", nil, &st)
	return st, err
}

// jobs hands on every job that a filter picks, page by page.
func (d *desk) jobs(ctx context.Context, f queue.Filter, payload bool, fn func(queue.Job) error) error {
	v := f.Values()
	v.Set("limit", "1000")
	if payload {
		v.Set("payload", "true")
	}
	for {
		var page queue.JobPage
		if err := d.call(ctx, http.MethodGet, "/v1/jobs?"+v.Encode(), nil, &page); err != nil {
			return err
		}
		for _, j := range page.Jobs {
			if err := fn(j); err != nil {
				return err
			}
		}
		if page.Next == "" {
			return nil
		}
		v.Set("cursor", string(page.Next))
	}
}

// change removes ("remove") or retries ("retry") what a filter picks.
func (d *desk) change(ctx context.Context, what string, f queue.Filter) (n int, err error) {
	var done queue.Changed
	err = d.call(ctx, http.MethodPost, "/v1/"+what, f, &done)
	return done.Jobs, err
}

// call makes one request. in and out are JSON documents; nil: none.
func (d *desk) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://spool"+path, body)
	if err != nil {
		return err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := d.client.Do(req)
	if err != nil {
		return fmt.Errorf("%s: %w", d.name, plainError(err))
	}
	defer func() { _ = resp.Body.Close() }() // only read
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %w", d.name, answerError(resp))
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return fmt.Errorf("%s: its answer: %w", d.name, plainError(err))
	}
	return nil
}

// plainError leaves out the URL, which names no real host.
func plainError(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// answerError returns the error that an answer tells. One that paused replay is queue.ErrPaused.
func answerError(resp *http.Response) error {
	var doc struct {
		Error string `json:"error"`
	}
	_ = json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&doc)
	text := strings.TrimSpace(doc.Error)
	switch {
	case resp.StatusCode == http.StatusConflict:
		return fmt.Errorf("%w: run 'spool resume' first", queue.ErrPaused)
	case text == "":
		return fmt.Errorf("it answers %s", resp.Status)
	}
	return errors.New(text)
}

// inProcess has requests answered by a handler in this process.
type inProcess struct{ handler http.Handler }

func (p inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	w := &answer{header: http.Header{}, code: http.StatusOK}
	p.handler.ServeHTTP(w, r)
	return &http.Response{
		StatusCode: w.code, Status: http.StatusText(w.code), Header: w.header, Body: io.NopCloser(&w.body), Request: r,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}, nil
}

// answer keeps what a handler answers.
type answer struct {
	header http.Header
	code   int
	body   bytes.Buffer
}

func (w *answer) Header() http.Header         { return w.header }
func (w *answer) WriteHeader(code int)        { w.code = code }
func (w *answer) Write(b []byte) (int, error) { return w.body.Write(b) }
