package spool

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// pausedName is the file in a SpoolDir that says that replay is paused.
const pausedName = "paused"

// Pause says since when replay of a whole SpoolDir is paused, and by whom.
type Pause struct {
	Since time.Time `json:"since"`
	By    string    `json:"by"`               // for people: who did it
	Why   string    `json:"reason,omitempty"` // for people
}

// PauseReplay pauses the replay of everything in a SpoolDir, durably: until [ResumeReplay]
// no process should send what is spooled there. Spools do not act on it themselves, those
// who read from them do, see [Paused]. Pausing what is paused changes nothing.
//
// It returns an error that wraps os.ErrNotExist where there is no dir, and creates nothing
// but its file.
func PauseReplay(dir string, p Pause) error {
	b, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("spool: pause: %w", err)
	}
	sweepStages(dir)
	hidden, err := os.CreateTemp(dir, StagePattern) // 0600
	if err != nil {
		return fmt.Errorf("spool: pause: %w", err)
	}
	_, err = hidden.Write(append(b, '\n'))
	err = errors.Join(err, hidden.Sync(), hidden.Close())
	if err == nil {
		err = os.Link(hidden.Name(), filepath.Join(dir, pausedName)) // never in place of another
		if errors.Is(err, os.ErrExist) {
			err = nil
		}
	}
	if err = errors.Join(err, os.Remove(hidden.Name())); err != nil {
		return fmt.Errorf("spool: pause: %w", err)
	}
	return syncDir(dir)
}

// ResumeReplay ends a pause. It reports whether there was one.
func ResumeReplay(dir string) (was bool, err error) {
	err = os.Remove(filepath.Join(dir, pausedName))
	if errors.Is(err, os.ErrNotExist) {
		_, err = os.Stat(dir)
		return false, err
	}
	if err != nil {
		return false, fmt.Errorf("spool: resume: %w", err)
	}
	return true, syncDir(dir)
}

// Paused returns the pause of a SpoolDir, nil if there is none. A pause whose file cannot be
// understood is one all the same.
func Paused(dir string) (*Pause, error) {
	path := filepath.Join(dir, pausedName)
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	p := &Pause{By: "unknown"}
	if json.Unmarshal(b, p) != nil || p.Since.IsZero() {
		if fi, err := os.Stat(path); err == nil {
			p.Since = fi.ModTime()
		}
	}
	return p, nil
}
