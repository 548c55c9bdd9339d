package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/jobspool/jobspool/queue"
)

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
	case resp.StatusCode == http.StatusNotImplemented && text != "":
		return unableError{text}
	case resp.StatusCode == http.StatusConflict:
		return fmt.Errorf("%w: run 'spool resume' first", queue.ErrPaused)
	case text == "":
		return fmt.Errorf("it answers %s", resp.Status)
	}
	return errors.New(text)
}

// unableError says why a desk cannot do such a thing at all.
type unableError struct{ text string }

func (e unableError) Error() string { return e.text }

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
