package compose

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math"
	"strings"
	"time"

	"github.com/hibiken/asynq"
	"google.golang.org/protobuf/encoding/protowire"
)

// The fields of asynq's TaskMessage that a new task has; see asynq's asynq.proto.
const (
	messageType      protowire.Number = 1
	messagePayload   protowire.Number = 2
	messageID        protowire.Number = 3
	messageQueue     protowire.Number = 4
	messageRetry     protowire.Number = 5
	messageTimeout   protowire.Number = 8 // seconds
	messageDeadline  protowire.Number = 9 // Unix seconds
	messageUniqueKey protowire.Number = 10
	messageRetention protowire.Number = 12 // seconds
	messageGroup     protowire.Number = 14
	messageHeader    protowire.Number = 15 // key 1, value 2
)

// errMessage says nothing of the message, which holds the payload.
var errMessage = errors.New("asynq's message cannot be read")

// Read makes a command of what asynq asked its client to send, and the TaskInfo
// that asynq would return for it. New has checked that it does so for each kind of task.
func (c *Composer) Read(sha string, keys []string, args []any) (*asynq.TaskInfo, Command, error) {
	s := c.scripts[sha]
	if s == nil {
		return nil, Command{}, fmt.Errorf("%w: unknown script %s", ErrIncompatible, sha)
	}
	info, err := s.info(args)
	if err != nil {
		return nil, Command{}, fmt.Errorf("%w: %w", ErrIncompatible, err)
	}
	cmd := Command{Script: s, Queue: info.Queue, ID: info.ID, Keys: keys, Args: args}
	if info.Payload == nil && cmd.Lock() != "" && !strings.HasSuffix(cmd.Lock(), ":") {
		info.Payload = []byte{} // the key of a nil payload has no checksum
	}
	return info, cmd, nil
}

// info returns what the arguments of the script say of the task.
func (s *Script) info(args []any) (*asynq.TaskInfo, error) {
	if s.message >= len(args) || s.processAt >= len(args) {
		return nil, errMessage
	}
	msg, ok := args[s.message].([]byte)
	if !ok {
		return nil, errMessage
	}
	info, err := readMessage(msg)
	if err != nil {
		return nil, err
	}
	info.State = s.state
	if s.processAt >= 0 {
		at, ok := args[s.processAt].(int64)
		if !ok {
			return nil, errMessage
		}
		info.NextProcessAt = time.Unix(at, 0)
	}
	return info, nil
}

func readMessage(b []byte) (*asynq.TaskInfo, error) {
	info := &asynq.TaskInfo{}
	err := fields(b, func(n protowire.Number, text []byte, v uint64) error {
		switch n {
		case messageType:
			info.Type = string(text)
		case messagePayload:
			info.Payload = text
		case messageID:
			info.ID = string(text)
		case messageQueue:
			info.Queue = string(text)
		case messageRetry:
			info.MaxRetry = int(int32(v)) //nolint:gosec // as protobuf has it
		case messageTimeout:
			info.Timeout = Seconds(int64(v)) //nolint:gosec // as protobuf has it
		case messageDeadline:
			if v != 0 {
				info.Deadline = time.Unix(int64(v), 0) //nolint:gosec // as protobuf has it
			}
		case messageRetention:
			info.Retention = Seconds(int64(v)) //nolint:gosec // as protobuf has it
		case messageGroup:
			info.Group = string(text)
		case messageHeader:
			return readHeader(info, text)
		case messageUniqueKey: // is among the keys
		default:
			return errMessage // a task that is not new, or a newer asynq
		}
		return nil
	})
	return info, err
}

// TypeAndPayload reads the two off the message of a task in Redis, whatever has become of
// it since it was enqueued. ok is false for something that is no message of asynq's.
func TypeAndPayload(message []byte) (typename string, payload []byte, ok bool) {
	err := fields(message, func(n protowire.Number, text []byte, _ uint64) error {
		switch n {
		case messageType:
			typename = string(text)
		case messagePayload:
			payload = text
		default:
		}
		return nil
	})
	return typename, payload, err == nil && typename != ""
}

func readHeader(info *asynq.TaskInfo, b []byte) error {
	var pair [2]string
	err := fields(b, func(n protowire.Number, text []byte, _ uint64) error {
		if n != 1 && n != 2 {
			return errMessage
		}
		pair[n-1] = string(text)
		return nil
	})
	if info.Headers == nil {
		info.Headers = map[string]string{}
	}
	info.Headers[pair[0]] = pair[1]
	return err
}

// same reports whether two infos of new tasks say the same. A nil payload is not an empty
// one: asynq gives them different unique keys.
func same(a, b *asynq.TaskInfo) bool {
	return a.ID == b.ID && a.Queue == b.Queue && a.Type == b.Type && a.State == b.State &&
		bytes.Equal(a.Payload, b.Payload) && (a.Payload == nil) == (b.Payload == nil) &&
		maps.Equal(a.Headers, b.Headers) && a.MaxRetry == b.MaxRetry && a.Timeout == b.Timeout &&
		a.Deadline.Equal(b.Deadline) && a.Retention == b.Retention && a.Group == b.Group &&
		(a.State != asynq.TaskStateScheduled || a.NextProcessAt.Unix() == b.NextProcessAt.Unix())
}

// Seconds never overflows: the longest duration is asynq's own limit, too.
func Seconds(v int64) time.Duration {
	const most = math.MaxInt64 / int64(time.Second)
	return time.Duration(min(max(v, -most), most)) * time.Second
}

// fields calls fn for each field of a protobuf message: with its bytes, which share b, or
// its number.
func fields(b []byte, fn func(n protowire.Number, text []byte, v uint64) error) error {
	for len(b) > 0 {
		field, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return errMessage
		}
		b = b[n:]
		var text []byte
		var v uint64
		switch kind {
		case protowire.BytesType:
			text, n = protowire.ConsumeBytes(b)
		case protowire.VarintType:
			v, n = protowire.ConsumeVarint(b)
		default:
			return errMessage
		}
		if n < 0 {
			return errMessage
		}
		b = b[n:]
		if err := fn(field, text, v); err != nil {
			return err
		}
	}
	return nil
}
