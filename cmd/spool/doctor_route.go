package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// route is how Redis is reached, as the URI says.
type route struct {
	master string        // of Sentinel; empty without
	slots  bool          // a Cluster
	seeds  []string      // addresses named: of the server, the sentinels, or some nodes
	wait   time.Duration // for a dial or a reply

	network                        string
	user, password                 string
	sentinelUser, sentinelPassword string
	db                             int
	tls                            *tls.Config // nil: none
}

// newRoute reads one of the options that queue.ParseURI returns.
func newRoute(opt asynq.RedisConnOpt, wait time.Duration) (route, error) {
	switch o := opt.(type) {
	case asynq.RedisClientOpt:
		return route{
			seeds: []string{o.Addr}, network: o.Network, user: o.Username, password: o.Password, db: o.DB,
			tls: o.TLSConfig, wait: wait,
		}, nil
	case asynq.RedisFailoverClientOpt:
		return route{
			master: o.MasterName, seeds: o.SentinelAddrs, sentinelUser: o.SentinelUsername, sentinelPassword: o.SentinelPassword,
			user: o.Username, password: o.Password, db: o.DB, tls: o.TLSConfig, wait: wait,
		}, nil
	case asynq.RedisClusterClientOpt:
		return route{slots: true, seeds: o.Addrs, user: o.Username, password: o.Password, tls: o.TLSConfig, wait: wait}, nil
	}
	return route{}, fmt.Errorf("a %T cannot be examined", opt)
}

// unix reports whether the server is at a Unix socket.
func (r route) unix() bool { return r.network == "unix" }

// options are those of a client of the server at addr: one attempt, and no command but
// those that are asked for.
func (r route) options(addr string) *redis.Options {
	return &redis.Options{
		Network: cmp.Or(r.network, "tcp"), Addr: addr, Username: r.user, Password: r.password, DB: r.db, TLSConfig: r.tls,
		MaxRetries: -1, DialerRetries: 1, ContextTimeoutEnabled: true, DisableIdentity: true, PoolSize: 4,
		DialTimeout: r.wait, ReadTimeout: r.wait, WriteTimeout: r.wait, PoolTimeout: r.wait,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
}

func (r route) client(addr string) *redis.Client { return redis.NewClient(r.options(addr)) }

func (r route) sentinel(addr string) *redis.SentinelClient {
	o := r.options(addr)
	o.Username, o.Password, o.DB = r.sentinelUser, r.sentinelPassword, 0
	return redis.NewSentinelClient(o)
}

// cluster returns a client that finds the server of each key.
func (r route) cluster() *redis.ClusterClient {
	return redis.NewClusterClient(&redis.ClusterOptions{
		Addrs: r.seeds, Username: r.user, Password: r.password, TLSConfig: r.tls, ContextTimeoutEnabled: true,
		NewClient: func(node *redis.Options) *redis.Client {
			return r.client(node.Addr)
		},
	})
}

// ask runs fn with a client of the server at addr.
func (r route) ask(ctx context.Context, addr string, fn func(context.Context, *redis.Client) error) error {
	c := r.client(addr)
	return errors.Join(fn(ctx, c), c.Close())
}
