package queue

// waiting is what is to be written: blobs, behind one another.
type waiting struct {
	bytes   []byte
	blobs   []waitingBlob
	skipped int // jobs for which there was no room
}

// waitingBlob is a part of waiting.bytes.
type waitingBlob struct {
	begin, end int
	jobs       int
}

// add appends an entry of a job.
func (w *waiting) add(e entry, one *job) {
	at := len(w.bytes)
	if n := len(w.blobs); n == 0 || at-w.blobs[n-1].begin >= journalBlob {
		w.blobs = append(w.blobs, waitingBlob{begin: at})
	}
	w.bytes = e.encode(w.bytes, one)
	last := &w.blobs[len(w.blobs)-1]
	last.end = len(w.bytes)
	if e.record.ID != "" {
		last.jobs++
	}
}
