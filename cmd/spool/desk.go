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
	pid    int    // zero: dead owners
	live   bool
	client *http.Client
}

// socketTimeout bounds the wait for a process to accept a connection, and to say how it is.
const socketTimeout = 5 * time.Second

// desks are all desks of a SpoolDir.
type desks struct {
	all     []*desk
	mute    []string // in words what they do not cover: owners that nobody can ask, segments that cannot be read
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
	return desksOf(ctx, dir, owners)
}

// desksOf finds the desks of owners that were seen a moment ago. Dead ones may have been
// taken over by others since, and living ones may have died: it looks again.
func desksOf(ctx context.Context, dir string, owners []spool.OwnerInfo) (ds *desks, err error) {
	ds = &desks{}
	held := map[string]bool{} // owners that this process holds now
	if slices.ContainsFunc(owners, func(o spool.OwnerInfo) bool { return !o.Alive }) {
		if held, err = ds.takeOver(ctx, dir); err != nil {
			return nil, err
		}
	}
	if owners, err = inspect(dir); err != nil {
		return nil, errors.Join(err, ds.close())
	}
	owners = slices.DeleteFunc(owners, func(o spool.OwnerInfo) bool { return held[o.Name] })
	live, mute := liveDesks(ctx, dir, owners)
	ds.all, ds.mute = append(live, ds.all...), append(ds.mute, mute...)
	for _, o := range owners {
		if !o.Alive && o.Segments > 0 {
			ds.mute = append(ds.mute, fmt.Sprintf("owner %s (pid %d on %s) is dead and was not taken over, its jobs are left out: run this again",
				o.Name, o.Identity.PID, o.Identity.Host))
		}
	}
	return ds, nil
}

// takeOver opens the desk of dead owners, and returns which those are.
func (ds *desks) takeOver(ctx context.Context, dir string) (held map[string]bool, err error) {
	if ds.offline, err = queue.OpenOffline(dir, nil); ds.offline == nil {
		return nil, err
	}
	if err != nil {
		ds.mute = append(ds.mute, err.Error())
	}
	d := &desk{name: "dead owners", client: &http.Client{Transport: inProcess{ds.offline.Handler()}}}
	ds.all = append(ds.all, d)
	st, err := d.status(context.WithoutCancel(ctx)) // no wait
	if err != nil {
		return nil, errors.Join(err, ds.close())
	}
	ds.mute = append(ds.mute, unreadable(st)...)
	held = map[string]bool{}
	for _, sh := range st.Shares {
		held[sh.Owner] = true
	}
	return held, nil
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
	why := map[string]string{}
	asked := make([]*desk, len(owners))
	statuses, errs := make([]queue.Status, len(owners)), make([]error, len(owners))
	eachOf(len(owners), func(i int) {
		if owners[i].Alive {
			asked[i] = newLiveDesk(dir, owners[i])
			statuses[i], errs[i] = asked[i].status(ctx)
		}
	})
	for i, d := range asked {
		switch {
		case d == nil:
			continue
		case errs[i] != nil:
			why[owners[i].Name] = strings.TrimPrefix(errs[i].Error(), d.name+": ")
			continue
		}
		live = append(live, d)
		mute = append(mute, unreadable(statuses[i])...)
		for _, sh := range statuses[i].Shares {
			held[sh.Owner] = true
		}
	}
	for _, o := range owners {
		if o.Alive && !held[o.Name] {
			mute = append(mute, fmt.Sprintf("owner %s (pid %d on %s) is in use by a process that does not answer, its jobs are left out: %s",
				o.Name, o.Identity.PID, o.Identity.Host, why[o.Name]))
		}
	}
	return live, mute
}

// unreadable says in words which segments a process holds but cannot read.
func unreadable(st queue.Status) (mute []string) {
	for _, bad := range st.Stats.Bad {
		mute = append(mute, fmt.Sprintf("a segment cannot be read, its jobs are left out: %s", bad))
	}
	return mute
}

func newLiveDesk(dir string, o spool.OwnerInfo) *desk {
	path := spool.SocketOf(dir, o.Name)
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, socketTimeout)
		defer cancel()
		return queue.DialSocket(ctx, path)
	}
	return &desk{
		name: fmt.Sprintf("owner %s (pid %d on %s)", o.Name, o.Identity.PID, o.Identity.Host), pid: o.Identity.PID, live: true,
		client: &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}},
	}
}

func (d *desk) status(ctx context.Context) (st queue.Status, err error) {
	ctx, cancel := context.WithTimeout(ctx, socketTimeout)
	defer cancel()
	err = d.call(ctx, http.MethodGet, "/v1/status", nil, &st)
	return st, err
}

// The lists of jobs that a desk has.
const (
	spooledJobs = "/v1/jobs"
	keptJobs    = "/v1/guard" // in the journal
)

// jobs hands on every pending job, or dead letter, that a filter picks, page by page.
func (d *desk) jobs(ctx context.Context, f queue.Filter, payload bool, fn func(queue.Job) error) error {
	return d.jobsOf(ctx, spooledJobs, f, payload, fn)
}

// jobsOf is jobs for any list.
func (d *desk) jobsOf(ctx context.Context, list string, f queue.Filter, payload bool, fn func(queue.Job) error) error {
	v := f.Values()
	v.Set("limit", "1000")
	if payload {
		v.Set("payload", "true")
	}
	for {
		var page queue.JobPage
		if err := d.call(ctx, http.MethodGet, list+"?"+v.Encode(), nil, &page); err != nil {
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

// change removes ("remove") or retries ("retry") what a filter picks, page by page, until ctx
// ends. It returns how many jobs were changed, also with an error.
func (d *desk) change(ctx context.Context, what string, f queue.Filter) (n int, err error) {
	path := "/v1/" + what + "?cursor="
	for cursor := spool.Cursor(""); ; {
		done, err := d.changePage(ctx, path+url.QueryEscape(string(cursor)), f)
		if n += done.Jobs; err != nil || done.Next == "" {
			return n, err
		}
		if cursor = done.Next; ctx.Err() != nil {
			return n, ctx.Err()
		}
	}
}

// changePage waits for the answer a while longer than ctx lasts: without it nobody knows what
// was changed.
func (d *desk) changePage(ctx context.Context, path string, f queue.Filter) (done queue.Changed, err error) {
	if err := ctx.Err(); err != nil {
		return done, err
	}
	last, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(socketTimeout, cancel) })
	defer stop()
	if err = d.call(last, http.MethodPost, path, f, &done); last.Err() != nil {
		err = fmt.Errorf("%s did not answer any more: it may go on with up to 1000 jobs", d.name)
	}
	return done, err
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
	defer func() { _ = resp.Body.Close() }() // it has been read
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %w", d.name, answerError(resp))
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return fmt.Errorf("%s: its answer: %w", d.name, plainError(err))
	}
	return nil
}
