package queue

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"time"
)

// Filter picks jobs of the spool. The zero Filter picks all that are pending.
type Filter struct {
	IDs       []string      `json:"ids,omitempty"` // any of them; empty: all
	Queue     string        `json:"queue,omitempty"`
	Type      string        `json:"type,omitempty"`
	OlderThan time.Duration `json:"older_than_ns,omitempty"` // since the call of Enqueue; zero: any age
	Before    time.Time     `json:"before,omitzero"`         // enqueued until then, a dead letter since then or longer; zero: any
	InDoubt   bool          `json:"in_doubt,omitempty"`      // only those that Redis may have
	Dead      bool          `json:"dead,omitempty"`          // dead letters in place of pending jobs
	Reason    string        `json:"reason,omitempty"`        // of dead letters: begins with it
}

func (f Filter) picks(j Job, now time.Time) bool {
	switch {
	case len(f.IDs) > 0 && !slices.Contains(f.IDs, j.ID):
	case f.Queue != "" && f.Queue != j.Queue:
	case f.Type != "" && f.Type != j.Type:
	case f.OlderThan > 0 && now.Sub(j.At) < f.OlderThan:
	case !f.Before.IsZero() && j.Since().After(f.Before):
	case f.InDoubt && !j.InDoubt:
	case f.Reason != "" && (j.Dead == nil || !hasPrefix(j.Dead.Reason, []string{f.Reason})):
	default:
		return true
	}
	return false
}

// Values returns the filter as parameters of a URL.
func (f Filter) Values() url.Values {
	v := url.Values{}
	set := func(key, value string) {
		if value != "" {
			v.Set(key, value)
		}
	}
	if len(f.IDs) > 0 {
		v["id"] = f.IDs
	}
	set("queue", f.Queue)
	set("type", f.Type)
	set("reason", f.Reason)
	if f.OlderThan > 0 {
		set("older_than", f.OlderThan.String())
	}
	if !f.Before.IsZero() {
		set("before", f.Before.Format(time.RFC3339Nano))
	}
	for key, is := range map[string]bool{"in_doubt": f.InDoubt, "dead": f.Dead} {
		if is {
			set(key, "true")
		}
	}
	return v
}

// parseFilter is the inverse of Values. It takes what it knows out of v.
func parseFilter(v url.Values) (f Filter, err error) {
	f = Filter{IDs: v["id"], Queue: v.Get("queue"), Type: v.Get("type"), Reason: v.Get("reason")}
	if s := v.Get("older_than"); s != "" {
		if f.OlderThan, err = time.ParseDuration(s); err != nil {
			return f, fmt.Errorf("older_than: %w", err)
		}
	}
	if s := v.Get("before"); s != "" {
		if f.Before, err = time.Parse(time.RFC3339Nano, s); err != nil {
			return f, fmt.Errorf("before: %w", err)
		}
	}
	for key, to := range map[string]*bool{"in_doubt": &f.InDoubt, "dead": &f.Dead} {
		if s := v.Get(key); s != "" {
			if *to, err = strconv.ParseBool(s); err != nil {
				return f, fmt.Errorf("%s: %w", key, err)
			}
		}
	}
	for _, key := range []string{"id", "queue", "type", "reason", "older_than", "before", "in_doubt", "dead"} {
		v.Del(key)
	}
	return f, nil
}
