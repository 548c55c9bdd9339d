package queue

import (
	"errors"
	"net/http"
	"time"

	"github.com/jobspool/jobspool/spool"
)

// GuardPage is a part of what a journal holds.
type GuardPage struct {
	Jobs []Job        `json:"jobs"`
	Next spool.Cursor `json:"next,omitempty"` // for the next part; empty: there is none
	Kept *Kept        `json:"kept,omitempty"` // all of the journal, whatever the filter; with the first part only
}

// GuardCheck asks for a comparison of the journal with what Redis holds.
type GuardCheck struct {
	Since  time.Time `json:"since,omitzero"`   // only jobs that Redis has acknowledged since; zero: all
	Queue  string    `json:"queue,omitempty"`  // only its jobs; empty: all
	Report bool      `json:"report,omitempty"` // only count what is missing
}

// GuardChecked is what a comparison found: in jobs.
type GuardChecked struct {
	Looked    int `json:"looked"`     // not known to be finished
	Missing   int `json:"missing"`    // of those: Redis does not hold them
	SentAgain int `json:"sent_again"` // of those: written to the spool, which is replayed
}

// guard answers with what the journal holds.
func (c *control) guard(r *http.Request) (any, error) {
	v := r.URL.Query()
	f, err := parseFilter(v)
	if err == nil && (f.Dead || f.InDoubt || f.Reason != "") {
		err = errors.New("dead, reason and in_doubt are for jobs of the spool: the journal has those that Redis has acknowledged")
	}
	if err != nil {
		return nil, badRequest(err)
	}
	none := v.Get("limit") == "0"
	if none {
		v.Del("limit")
	}
	count, payload, err := c.pageOf(v)
	if err != nil {
		return nil, err
	}
	view, err := c.kept()
	if err != nil {
		return nil, err
	}
	page := GuardPage{Jobs: []Job{}}
	after := spool.Cursor(v.Get("cursor"))
	if after == "" {
		kept, err := view.totals(r.Context())
		if page.Kept = &kept; err != nil || none {
			return page, err
		}
	}
	jobs, next, err := view.list(r.Context(), f, after, count, payload)
	page.Jobs, page.Next = append(page.Jobs, jobs...), next
	return page, err
}

func (c *control) guardCheck(r *http.Request) (any, error) {
	var what GuardCheck
	if err := decodeRequest(r, &what); err != nil {
		return nil, err
	}
	return c.check(r.Context(), what)
}
