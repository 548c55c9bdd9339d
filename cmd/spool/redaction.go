package main

import (
	"github.com/jobspool/jobspool/queue"
)

// shownJob is a job in a JSON document, with its payload and headers only where they were
// asked for.
type shownJob struct {
	queue.Job

	Payload      *queue.Payload    `json:"payload,omitempty"` // hides Job's, which would be null
	PayloadBytes *int              `json:"payload_bytes,omitempty"`
	Headers      map[string]string `json:"headers,omitempty"` // hides Job's
	HeaderCount  *int              `json:"header_count,omitempty"`
}

// listed returns a job of which neither payload nor headers are known.
func listed(j queue.Job) shownJob { return shownJob{Job: j} }

// redacted returns a job with the sizes of what it does not show.
func redacted(j queue.Job) shownJob {
	size, count := len(j.Payload), len(j.Headers)
	return shownJob{Job: j, PayloadBytes: &size, HeaderCount: &count}
}

// opened returns a job with all of it.
func opened(j queue.Job) shownJob {
	shown := redacted(j)
	shown.Payload, shown.Headers = &j.Payload, j.Headers
	return shown
}
