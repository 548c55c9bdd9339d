package queue

import (
	"errors"
	"net/url"

	"github.com/hibiken/asynq"
)

// errURI says nothing of what was given: a URI that cannot be parsed may show its
// password in any part.
var errURI = errors.New("not a Redis URI such as redis://[user:password@]host[:port][/db]")

// ParseURI reads the forms of a Redis URI that [asynq.ParseRedisURI] knows, and
// keeps the user name, which that function drops. The error holds no part of the
// URI.
func ParseURI(uri string) (asynq.RedisConnOpt, error) {
	u, err := url.Parse(uri)
	if err != nil {
		return nil, errURI
	}
	opt, err := asynq.ParseRedisURI(uri)
	if err != nil {
		return nil, errURI
	}
	switch o := opt.(type) {
	case asynq.RedisClientOpt:
		if u.Host == "" && o.Network != "unix" {
			return nil, errURI
		}
		o.Username = u.User.Username()
		return o, nil
	case asynq.RedisFailoverClientOpt:
		if o.MasterName == "" {
			return nil, errors.New("a redis-sentinel URI needs ?master=name")
		}
		o.SentinelUsername = u.User.Username()
		return o, nil
	}
	return opt, nil
}
