package queue

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

const (
	// socketTimeout bounds dials, reads and writes where no context is shorter:
	// that is, for the batches of a replay.
	socketTimeout = 5 * time.Second

	// poolSize is the number of connections where the caller asked for none.
	poolSize = 32

	idleTimeout = 5 * time.Minute
)

// FromClient makes a Config.Redis of a client of the caller's, a *redis.Client or a
// *redis.ClusterClient: its options (address, dialer, TLS, credentials, database) are
// copied into a client of the Producer's own, with the few settings a producer needs. Its
// hooks are not copied. The caller's client is neither used nor closed.
//
// One of redis.NewFailoverClient is different: its options do not name the master, so
// Config.Target is required; and it is asked for the master's address, so it must stay
// open for as long as the Producer is. asynq.RedisFailoverClientOpt needs neither.
func FromClient(client redis.UniversalClient) asynq.RedisConnOpt {
	return clientOpt{client}
}

type clientOpt struct{ client redis.UniversalClient }

// MakeRedisClient returns the caller's client. It makes clientOpt one of asynq's
// options.
func (o clientOpt) MakeRedisClient() any { return o.client }

// lifetime is what is told of a client's connections.
type lifetime struct {
	connected func()          // called for each new one, before any command of ours
	closing   context.Context //nolint:containedctx // its end is that of all dials

	// made is told of each client of one server, and how to end the epoch of its
	// connections, see age.
	made func(client redis.UniversalClient, epoch *atomic.Int64)
}

// connect returns a client of the Producer's own and the target's name, which
// holds no password. It does not dial.
//
// One error must mean one attempt, or a job that was sent again comes back as its own
// conflict: no retries, one dial. A context's deadline holds for the sockets. Nothing but
// our own commands goes over a new connection: each other is one more that can fail.
func connect(opt asynq.RedisConnOpt, l lifetime) (client redis.UniversalClient, target string, err error) {
	switch o := opt.(type) {
	case asynq.RedisClientOpt:
		return connectServer(&redis.Options{
			Network: o.Network, Addr: o.Addr, Username: o.Username, Password: o.Password, DB: o.DB,
			PoolSize: o.PoolSize, TLSConfig: o.TLSConfig,
		}, l)
	case *asynq.RedisClientOpt:
		return connect(*o, l)
	case asynq.RedisFailoverClientOpt:
		return connectSentinel(o, l)
	case *asynq.RedisFailoverClientOpt:
		return connect(*o, l)
	case asynq.RedisClusterClientOpt:
		return connectCluster(&redis.ClusterOptions{
			Addrs: o.Addrs, MaxRedirects: o.MaxRedirects, Username: o.Username, Password: o.Password, TLSConfig: o.TLSConfig,
		}, l)
	case *asynq.RedisClusterClientOpt:
		return connect(*o, l)
	case clientOpt:
		return connectLike(o.client, l)
	case nil:
		return nil, "", errors.New("is nil")
	}
	return nil, "", fmt.Errorf("is a %T; use one of asynq's options or queue.FromClient", opt)
}

// sentinelAddr is what go-redis has in place of an address where a dialer asks Sentinel.
const sentinelAddr = "FailoverClient"

func connectLike(client redis.UniversalClient, l lifetime) (redis.UniversalClient, string, error) {
	switch c := client.(type) {
	case *redis.Client:
		opts := *c.Options()
		client, target, err := connectServer(&opts, l)
		if c.Options().Addr == sentinelAddr {
			target = ""
		}
		return client, target, err
	case *redis.ClusterClient:
		opts := *c.Options()
		return connectCluster(&opts, l)
	}
	return nil, "", fmt.Errorf("is a client of type %T; a *redis.Client or *redis.ClusterClient can be used", client)
}

func connectServer(o *redis.Options, l lifetime) (redis.UniversalClient, string, error) {
	if o.Addr == sentinelAddr {
		o.Network = "tcp"
	} else if o.Network == "unix" || strings.HasPrefix(o.Addr, "/") {
		o.Network = "unix"
	} else {
		o.Addr = withPort(o.Addr, "6379")
	}
	if o.PoolSize <= 0 {
		o.PoolSize = poolSize
	}
	tune(o, l)
	target := "redis://" + o.Addr + "/" + strconv.Itoa(o.DB)
	if o.Network == "unix" {
		target = "redis-socket://" + o.Addr + "?db=" + strconv.Itoa(o.DB)
	}
	return l.hooked(redis.NewClient(o)), target, nil
}

// hooked gives a client of one server the hook for dials.
func (l lifetime) hooked(c *redis.Client) *redis.Client {
	epoch := &atomic.Int64{}
	c.AddHook(dialHook{l.closing, epoch})
	l.made(c, epoch)
	return c
}

// tune gives a client of one server the settings that a producer needs.
func tune(o *redis.Options, l lifetime) {
	o.MaxRetries, o.DialerRetries = -1, 1
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = socketTimeout, socketTimeout, socketTimeout, socketTimeout
	o.ContextTimeoutEnabled = true
	o.OnConnect = after(o.OnConnect, l.connected)
	o.DisableIdentity = true
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	o.PipelinePoolSize = -1
	o.ConnMaxIdleTime = idleTimeout
	o.MinIdleConns = 0
}

func connectSentinel(o asynq.RedisFailoverClientOpt, l lifetime) (redis.UniversalClient, string, error) {
	if o.MasterName == "" || len(o.SentinelAddrs) == 0 {
		return nil, "", errors.New("needs MasterName and SentinelAddrs")
	}
	size := o.PoolSize
	if size <= 0 {
		size = poolSize
	}
	client := redis.NewFailoverClient(&redis.FailoverOptions{
		MasterName: o.MasterName, SentinelAddrs: o.SentinelAddrs,
		SentinelUsername: o.SentinelUsername, SentinelPassword: o.SentinelPassword,
		Username: o.Username, Password: o.Password, DB: o.DB, TLSConfig: o.TLSConfig,
		MaxRetries: -1, DialerRetries: 1,
		DialTimeout: socketTimeout, ReadTimeout: socketTimeout, WriteTimeout: socketTimeout, PoolTimeout: socketTimeout,
		ContextTimeoutEnabled: true, DisableIdentity: true, PipelinePoolSize: -1,
		ConnMaxIdleTime: idleTimeout, PoolSize: size, OnConnect: after(nil, l.connected),
	})
	return l.hooked(client), "redis-sentinel://" + o.MasterName + "/" + strconv.Itoa(o.DB), nil
}

func connectCluster(o *redis.ClusterOptions, l lifetime) (redis.UniversalClient, string, error) {
	if len(o.Addrs) == 0 {
		return nil, "", errors.New("needs Addrs")
	}
	o.ContextTimeoutEnabled = true
	o.NewClient = func(node *redis.Options) *redis.Client {
		tune(node, l)
		return l.hooked(redis.NewClient(node))
	}
	addrs := slices.Clone(o.Addrs)
	slices.Sort(addrs)
	return redis.NewClusterClient(o), clusterScheme + strings.Join(addrs, ","), nil
}

// after returns a hook for new connections that calls then once hook, which may be
// nil, has accepted one.
func after(hook func(context.Context, *redis.Conn) error, then func()) func(context.Context, *redis.Conn) error {
	return func(ctx context.Context, conn *redis.Conn) error {
		if hook != nil {
			if err := hook(ctx, conn); err != nil {
				return err
			}
		}
		then()
		return nil
	}
}

// withPort adds the default port to an address without one.
func withPort(addr, port string) string {
	if addr == "" {
		return "localhost:" + port
	}
	if _, _, err := net.SplitHostPort(addr); err == nil {
		return addr
	}
	return net.JoinHostPort(strings.Trim(addr, "[]"), port)
}
