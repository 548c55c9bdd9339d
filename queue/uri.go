package queue

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/hibiken/asynq"
)

// ParseURI reads a Redis URI. It knows the forms of [asynq.ParseRedisURI], keeps
// what that function drops without a word, and knows some more:
//
//	redis://            [user:password@]host[:6379][/db]     one server
//	redis-socket://     [user:password@]/path/to.sock[?db=n] a Unix socket; unix:// is the same
//	redis-sentinel://   [user:password@]host[:26379][,host...][/db]?master=name
//	redis-cluster://    [user:password@]host[:6379][,host...]
//	rediss://, rediss-sentinel://, rediss-cluster://         the same over TLS 1.2 or newer
//
// Parameters, each at most once:
//
//	db=n                        the database, in place of /db; not for a cluster
//	master=name                 sentinel: the master's name; required
//	username=u & password=p     sentinel: for the master; user:password@ is for the sentinels
//	ca=file                     TLS: trust these certificates (PEM) in place of the system's
//	cert=file & key=file        TLS: the client's certificate and key (PEM)
//	server_name=name            TLS: the name in the server's certificate; default: the host dialled
//	insecure_skip_verify=true   TLS: trust any certificate
//
// What has a meaning in a URI is percent-encoded where it has none: any of :/?#@%
// in a user name or password, and @&+% in a parameter. An IPv6 address stands in
// brackets. Files are read at once. Everything else is an error.
//
// The error says which part is wrong. Of the URI it shows the names of parameters
// and of files that cannot be used, and nothing that might be a password.
func ParseURI(uri string) (asynq.RedisConnOpt, error) {
	opt, err := parseURI(uri)
	if err != nil {
		return nil, fmt.Errorf("redis URI: %w", err)
	}
	return opt, nil
}

func parseURI(uri string) (asynq.RedisConnOpt, error) {
	p, err := splitURI(uri)
	if err != nil {
		return nil, err
	}
	kind, overTLS := p.scheme, false
	switch p.scheme {
	case "rediss", "rediss-sentinel", "rediss-cluster":
		kind, overTLS = "redis"+strings.TrimPrefix(p.scheme, "rediss"), true
	case "unix":
		kind = "redis-socket"
	}
	var opt asynq.RedisConnOpt
	switch kind {
	case "redis":
		opt, err = p.server(overTLS)
	case "redis-socket":
		opt, err = p.socket()
	case "redis-sentinel":
		opt, err = p.sentinel(overTLS)
	case "redis-cluster":
		opt, err = p.cluster(overTLS)
	default:
		return nil, errors.New("unknown scheme; known are redis, redis-socket, unix, redis-sentinel, redis-cluster, rediss, rediss-sentinel and rediss-cluster")
	}
	if err != nil {
		return nil, err
	}
	return opt, nil
}

func (p *uriParts) server(overTLS bool) (opt asynq.RedisClientOpt, err error) {
	hosts, err := p.hostList("6379")
	if err != nil {
		return opt, err
	}
	if len(hosts) > 1 {
		return opt, errors.New("names several hosts; for a cluster or sentinels use their scheme")
	}
	opt = asynq.RedisClientOpt{Addr: hosts[0], Username: p.user, Password: p.password}
	if opt.DB, err = p.db(); err != nil {
		return opt, err
	}
	host, _, _ := net.SplitHostPort(hosts[0])
	if opt.TLSConfig, err = p.tls(overTLS, host); err != nil {
		return opt, err
	}
	return opt, p.end()
}

func (p *uriParts) socket() (opt asynq.RedisClientOpt, err error) {
	if p.hosts != "" {
		return opt, errors.New("a socket has no host: the path begins with a / behind redis-socket:// or behind the @")
	}
	path, ok := unescape(p.path)
	if !ok {
		return opt, errors.New("the socket's path is not percent-encoded correctly; a % is written %25")
	}
	if strings.Trim(path, "/") == "" {
		return opt, errors.New("the socket's path is missing")
	}
	p.path = ""
	opt = asynq.RedisClientOpt{Network: "unix", Addr: path, Username: p.user, Password: p.password}
	if opt.DB, err = p.db(); err != nil {
		return opt, err
	}
	return opt, p.end()
}

func (p *uriParts) sentinel(overTLS bool) (opt asynq.RedisFailoverClientOpt, err error) {
	opt = asynq.RedisFailoverClientOpt{
		MasterName: p.take("master"), SentinelUsername: p.user, SentinelPassword: p.password,
		Username: p.take("username"), Password: p.take("password"),
	}
	if opt.SentinelAddrs, err = p.hostList("26379"); err != nil {
		return opt, err
	}
	if opt.MasterName == "" {
		return opt, errors.New("sentinels need ?master=name")
	}
	if err := loneUser(opt.Username, opt.Password, " of the master"); err != nil {
		return opt, err
	}
	if opt.DB, err = p.db(); err != nil {
		return opt, err
	}
	if opt.TLSConfig, err = p.tls(overTLS, ""); err != nil {
		return opt, err
	}
	return opt, p.end()
}

func (p *uriParts) cluster(overTLS bool) (opt asynq.RedisClusterClientOpt, err error) {
	opt = asynq.RedisClusterClientOpt{Username: p.user, Password: p.password}
	if opt.Addrs, err = p.hostList("6379"); err != nil {
		return opt, err
	}
	if strings.Trim(p.path, "/") != "" {
		return opt, errors.New("a cluster has no databases: nothing may follow the hosts but ?")
	}
	if opt.TLSConfig, err = p.tls(overTLS, ""); err != nil {
		return opt, err
	}
	return opt, p.end()
}
