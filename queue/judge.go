package queue

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/jobspool/jobspool/queue/internal/compose"
	"github.com/jobspool/jobspool/spool"
)

// errUnclear leaves a record as it is: what stood in its way is gone, and the next
// batch will tell.
var errUnclear = errors.New("queue: what stood in the way is gone")

// judge turns Redis's answer to one record into its outcome. An error leaves it
// pending.
func (r *replayer) judge(ctx context.Context, it item, res result) (o spool.Outcome, why death, err error) {
	j := it.job
	if err := cmp.Or(res.err, res.unconfirmed); err != nil {
		return r.judgeError(err)
	}
	switch {
	case res.verdict == enqueued:
		return spool.Delivered, death{}, nil
	case !res.taken():
		return spool.Dead, death{unknownReply, fmt.Sprintf("a script returned %d", res.verdict)}, nil
	case res.verdict == duplicate:
		holder, err := r.p.sender.lockHolder(ctx, j.Lock)
		switch {
		case err != nil:
			return r.judgeError(ofLook(err))
		case holder == j.ID:
			return spool.AlreadyThere, death{}, nil
		case holder == "":
			return 0, death{}, errUnclear
		}
		return spool.Superseded, death{}, nil
	case !j.OwnID:
		return spool.AlreadyThere, death{}, nil // nobody else can have minted it
	}
	return r.judgeConflict(ctx, j)
}

func (r *replayer) judgeError(err error) (spool.Outcome, death, error) {
	switch classify(err) {
	case refused:
		return spool.Dead, death{refusedDead, "Redis refuses it: " + err.Error()}, nil
	case inDoubt, notWritten, denied, odd:
	}
	return 0, death{}, err
}

// judgeConflict compares a job with what Redis holds under its id, which the caller chose.
func (r *replayer) judgeConflict(ctx context.Context, j job) (spool.Outcome, death, error) {
	_, why, err := r.held(ctx, j)
	switch {
	case errors.Is(err, redis.Nil):
		return 0, death{}, errUnclear
	case err != nil:
		return r.judgeError(err)
	case why.kind != alive:
		return spool.Dead, why, nil
	}
	return spool.AlreadyThere, death{}, nil
}

// held returns the message that Redis holds under the id of a job, redis.Nil for none, or
// why the job is a dead letter where it is not the job's.
func (r *replayer) held(ctx context.Context, j job) (message []byte, why death, err error) {
	message, err = r.p.sender.message(ctx, j.Queue, j.ID)
	if err != nil && !wrongType(err) {
		return nil, death{}, ofLook(err)
	}
	typename, payload, ok := compose.TypeAndPayload(message)
	switch {
	case !ok:
		return nil, death{idTaken, "its task id is taken by something that asynq cannot read"}, nil
	case typename != j.Type || !bytes.Equal(payload, j.Payload):
		return nil, death{idTaken, "its task id is taken by another task"}, nil
	}
	return message, death{}, nil
}
