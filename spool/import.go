package spool

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// Import brings records into a SpoolDir all at once, as shares that dead owners have left:
// a Spool of their target adopts them. Until Commit nobody sees them. It is not safe for
// concurrent use.
type Import struct {
	opts   Options
	dir    string // the SpoolDir
	stage  string
	shares []*Spool
}

// NewImport begins an import into opts.Dir, which must exist. Of opts, MaxBytes bounds the
// import alone. It ends with Commit or Discard.
func NewImport(opts Options) (*Import, error) {
	if opts.Dir == "" {
		return nil, errors.New("spool: Options.Dir is empty")
	}
	sweepStages(opts.Dir)
	stage, err := newStage(opts.Dir)
	if err != nil {
		return nil, fmt.Errorf("spool: import: %w", orFull(err))
	}
	i := &Import{opts: opts, dir: opts.Dir, stage: stage}
	i.opts.Dir, i.opts.AdoptOnly = stage, false
	return i, nil
}

// Append takes records, in their order, see [Spool.Append]. A record with a twin is taken,
// too: it goes to another share. Whoever replays both finds out what to do with it.
func (i *Import) Append(records ...Record) error {
	for n := 0; len(records) > 0; n++ {
		if n == len(i.shares) {
			s, err := Open(i.opts)
			if err != nil {
				return err
			}
			i.shares = append(i.shares, s)
		}
		var twins *TwinsError
		err := i.shares[n].Append(records...)
		if !errors.As(err, &twins) {
			return err
		}
		var alone, refused []Record
		for k, r := range records {
			if twins.Errs[k] == nil {
				alone = append(alone, r)
			} else {
				refused = append(refused, r)
			}
		}
		if err := i.shares[n].Append(alone...); err != nil {
			return err
		}
		records = refused
	}
	return nil
}

// Bury makes dead letters of all records that were appended so far. The reason must hold
// neither payload nor password.
func (i *Import) Bury(reason string) error {
	for _, s := range i.shares {
		for {
			entries, err := s.Read(pageRecords, rescueBytes)
			if err != nil {
				return err
			}
			if len(entries) == 0 {
				break
			}
			batch := make([]Settlement, len(entries))
			for k, e := range entries {
				batch[k] = Settlement{Position: e.Position, Outcome: Dead, Reason: reason}
			}
			if err := s.Settle(batch...); err != nil {
				return err
			}
		}
	}
	return nil
}

// Commit makes the records a part of the SpoolDir, durably. With an error they are not, but
// for those of the shares that it returns.
func (i *Import) Commit(ctx context.Context) ([]Taken, error) {
	if err := i.close(); err != nil {
		return nil, err
	}
	taken, _, err := TakeOver(ctx, i.stage, i.dir)
	if err != nil {
		return taken, err
	}
	if err := os.Remove(i.stage); err != nil {
		return taken, fmt.Errorf("spool: import: %w", err)
	}
	return taken, nil
}

// Discard ends an import without a trace. After Commit it does nothing.
func (i *Import) Discard() error { return errors.Join(i.close(), os.RemoveAll(i.stage)) }

func (i *Import) close() (err error) {
	for _, s := range i.shares {
		err = errors.Join(err, s.Close())
	}
	i.shares = nil
	return err
}
