package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/spool"
)

// maxLine bounds a line of what is imported: Redis takes no value of more than 512 MiB, and
// base64 makes it longer.
const maxLine = 1 << 30

// eachJob reads all lines, from the beginning, and hands on each job, one that is there again
// only once. Errors name the line.
func eachJob(ctx context.Context, src io.ReadSeeker, fn func(spool.Record) error) (jobs, twice int, err error) {
	if _, err := src.Seek(0, io.SeekStart); err != nil {
		return 0, 0, err
	}
	lines := bufio.NewScanner(src)
	lines.Buffer(nil, maxLine)
	known := map[digest]digest{} // by id: of the whole
	for n := 1; lines.Scan(); n++ {
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 {
			continue
		}
		j, err := parseJob(line)
		var r spool.Record
		if err == nil {
			r, err = j.Record()
		}
		var again bool
		if err == nil {
			again, err = isKnown(known, j)
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return jobs, twice, fmt.Errorf("line %d: %w", n, err)
		}
		if again {
			twice++
			continue
		}
		jobs++
		if err := fn(r); err != nil {
			return jobs, twice, err
		}
	}
	return jobs, twice, lines.Err()
}

// parseJob reads one line. A field with another name is an error: it may be one of these,
// mistyped.
func parseJob(line []byte) (j queue.Job, err error) {
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&j); err != nil {
		return j, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return j, errors.New("more than one document")
	}
	return j, nil
}

// digest is a hash cut to 128 bits.
type digest [16]byte

func digestOf(b []byte) digest {
	sum := sha256.Sum256(b)
	return digest(sum[:16])
}

// jobDigest stands for the job's queue and id, by which Redis knows it.
func jobDigest(j queue.Job) digest { return digestOf([]byte(j.Queue + "\x00" + j.ID)) }

// isKnown reports whether the same job came before, and returns an error if another did with
// its id: Redis would take one of them only.
func isKnown(known map[digest]digest, j queue.Job) (bool, error) {
	j.Owner, j.Bytes, j.Attempts, j.Dead = "", 0, 0, nil // say where it lay
	whole, err := json.Marshal(j)
	if err != nil {
		return false, err
	}
	id, sum := jobDigest(j), digestOf(whole)
	if first, ok := known[id]; ok {
		if first != sum {
			return false, fmt.Errorf("an earlier line has another job with the id %q in queue %q", j.ID, j.Queue)
		}
		return true, nil
	}
	known[id] = sum
	return false, nil
}
