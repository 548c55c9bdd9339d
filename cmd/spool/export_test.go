package main

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
)

// TestExportLeavesOutWhatCannotBeSaid exports a job with a deadline in a year of five digits,
// which JSON's times cannot have.
func TestExportLeavesOutWhatCannotBeSaid(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := spooled(t, dir, "127.0.0.1:1", 1)
	for _, at := range []int64{1 << 40, -1 << 40} {
		if _, err := p.Enqueue(asynq.NewTask("far", nil), asynq.Deadline(time.Unix(at, 0))); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // living, then dead
		code, stdout, stderr := spoolCommand(t.Context(), "export", "--dir", dir)
		if code != exitLeft || strings.Count(stdout, "\n") != 1 || !strings.Contains(stderr, "deadline is in the year 36812") ||
			!strings.Contains(stderr, "left out: 2 pending jobs that this version cannot read") {
			t.Errorf("%d\n%s%s", code, stdout, stderr)
		}
		closeProducer(t, p)
	}
}

func TestExportOfTheLivingAndTheDead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	closeProducer(t, spooled(t, dir, "127.0.0.1:2", 3))
	living := spooled(t, dir, "127.0.0.1:1", 2)
	if _, err := living.Enqueue(asynq.NewTask("mail", []byte("m")), asynq.Queue("mails")); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "jobs.ndjson")
	code, stdout, stderr := spoolCommand(t.Context(), "export", "--dir", dir, "--output", path)
	if code != exitOK || stdout != "" || stderr != "exported 6 pending jobs\n" {
		t.Fatalf("%d, %s, %s", code, stdout, stderr)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode() != fs.FileMode(0o600) {
		t.Errorf("%v, %v", fi.Mode(), err)
	}
	before, err := os.ReadFile(path)
	if err != nil || bytes.Count(before, []byte("\n")) != 6 {
		t.Fatalf("%v\n%s", err, before)
	}
	code, _, stderr = spoolCommand(t.Context(), "export", "--dir", dir, "--output", path)
	if code != exitUsage || !strings.Contains(stderr, "exists: name another file, or give --overwrite") {
		t.Errorf("%d, %s", code, stderr)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if code, _, stderr := spoolCommand(ctx, "export", "--dir", dir, "--output", path, "--overwrite"); code != exitError && code != exitLeft || stderr == "" {
		t.Errorf("interrupted: %d, %s", code, stderr)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, before) {
		t.Errorf("changed by an export that failed: %v", err)
	}
	for args, n := range map[string]int{
		"--queue mails": 1, "--queue default": 5, "--type mail": 1, "--older-than 1h": 0, "--older-than 1ns": 6, "--in-doubt": 0, "--dead": 0, "--queue mails --type t": 0,
	} {
		line := append([]string{"export", "--dir", dir, "--overwrite", "--output", path}, strings.Fields(args)...)
		if code, _, stderr := spoolCommand(t.Context(), line...); code != exitOK {
			t.Errorf("%s: %d, %s", args, code, stderr)
		}
		if b, err := os.ReadFile(path); err != nil || bytes.Count(b, []byte("\n")) != n {
			t.Errorf("%s: %v, %s", args, err, b)
		}
	}
	if st := living.Stats(); st.Pending != 3 {
		t.Errorf("%+v", st)
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 1 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestExportOutput(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := spooled(t, dir, "127.0.0.1:1", 1)
	if _, err := p.Enqueue(asynq.NewTask("mail", []byte{0xff, '<'}), asynq.Group("g"), asynq.TaskID("mine")); err != nil {
		t.Fatal(err)
	}
	closeProducer(t, p)
	_, stdout, _ := spoolCommand(t.Context(), "export", "--dir", dir)
	wantOutput(t, stdout, dir, `{"id":"ID","queue":"default","type":"t","at":"TIME","payload":"top secret","max_retry":25,"timeout_seconds":1800,"owner":"OWNER","bytes":29}
{"id":"mine","queue":"default","type":"mail","at":"TIME","payload":{"base64":"/zw="},"max_retry":25,"timeout_seconds":1800,"group":"g","own_id":true,"owner":"OWNER","bytes":29}
`)
}
