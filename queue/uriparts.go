package queue

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// uriParts are the parts of a URI. The readers take parameters out of params;
// what is left at the end is one too many.
type uriParts struct {
	scheme         string
	user, password string
	hosts          string // as written
	path           string // as written
	params         map[string]string
}

// splitURI does not use url.Parse, whose errors quote the URI, which has no lists
// of hosts, and which takes a password with a raw / for a host.
func splitURI(uri string) (*uriParts, error) {
	if strings.ContainsFunc(uri, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return nil, errors.New("contains a control character, perhaps a line's end")
	}
	scheme, rest, ok := strings.Cut(uri, ":/")
	if !ok || strings.ContainsAny(scheme, ":/?#@") {
		return nil, errors.New("has no scheme; write for example redis://host:6379")
	}
	p := &uriParts{scheme: strings.ToLower(scheme), path: "/" + rest}
	if strings.Contains(rest, "#") {
		return nil, errors.New("has a fragment; a # in a user name or password is written %23")
	}
	path, query, _ := strings.Cut(p.path, "?")
	if strings.Contains(query, "@") {
		return nil, errors.New("has an @ after the ?; in a parameter it is written %40, and a ? in a user name or password %3F")
	}
	p.path = path
	if authority, ok := strings.CutPrefix(path, "//"); ok {
		p.hosts, p.path = authority, ""
		if i := strings.IndexByte(authority, '/'); i >= 0 {
			p.hosts, p.path = authority[:i], authority[i:]
		}
	}
	if err := p.splitUser(); err != nil {
		return nil, err
	}
	return p, p.splitParams(query)
}

func (p *uriParts) splitUser() error {
	i := strings.LastIndexByte(p.hosts, '@')
	if i < 0 {
		return nil
	}
	user, password, _ := strings.Cut(p.hosts[:i], ":")
	p.hosts = p.hosts[i+1:]
	var ok bool
	if p.user, ok = unescape(user); !ok {
		return errors.New("the user name is not percent-encoded correctly; a % is written %25")
	}
	if p.password, ok = unescape(password); !ok {
		return errors.New("the password is not percent-encoded correctly; a % is written %25")
	}
	return loneUser(p.user, p.password, "")
}

// loneUser refuses a user name without a password: go-redis would not log in.
func loneUser(user, password, whose string) error {
	if user != "" && password == "" {
		return errors.New("has a user name" + whose + " without a password; a password alone is written :password@")
	}
	return nil
}

func (p *uriParts) splitParams(query string) error {
	p.params = map[string]string{}
	pairs := strings.Split(query, "&")
	// A password with a raw & may go on in what looks like the next parameter.
	secret := slices.ContainsFunc(pairs, func(s string) bool { return strings.HasPrefix(s, "password=") })
	for _, pair := range pairs {
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		if !slices.Contains(paramNames(), name) {
			if secret || !isPlainName(name) {
				return errors.New("unknown parameter; an & in a value is written %26")
			}
			return fmt.Errorf("unknown parameter %s; known are %s", name, strings.Join(paramNames(), ", "))
		}
		if _, again := p.params[name]; again {
			return fmt.Errorf("parameter %s is given twice", name)
		}
		v, ok := unescape(value)
		switch {
		case !ok:
			return fmt.Errorf("parameter %s is not percent-encoded correctly; a %% is written %%25", name)
		case strings.Contains(value, "+"):
			return fmt.Errorf("parameter %s has a +, which may mean a space; write %%2B or %%20", name)
		case v == "":
			return fmt.Errorf("parameter %s is empty", name)
		}
		p.params[name] = v
	}
	return nil
}

func paramNames() []string {
	return []string{"db", "master", "username", "password", "ca", "cert", "key", "server_name", "insecure_skip_verify"}
}

// isPlainName reports whether a parameter's name looks like one.
func isPlainName(s string) bool {
	return len(s) <= 32 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_-") == ""
}

func unescape(s string) (string, bool) {
	v, err := url.PathUnescape(s)
	return v, err == nil
}

func (p *uriParts) take(name string) string {
	v := p.params[name]
	delete(p.params, name)
	return v
}

// end refuses the parameters that nobody took.
func (p *uriParts) end() error {
	for _, name := range paramNames() {
		if _, left := p.params[name]; left {
			return fmt.Errorf("parameter %s does not belong to this scheme", name)
		}
	}
	return nil
}

// db reads the database off the path or the parameter.
func (p *uriParts) db() (int, error) {
	path := strings.TrimSuffix(strings.TrimPrefix(p.path, "/"), "/")
	if strings.Contains(path, "/") {
		return 0, errors.New("has more than a database behind the host; a / in a user name or password is written %2F")
	}
	param := p.take("db")
	if path != "" && param != "" && path != param {
		return 0, errors.New("the path and parameter db name different databases")
	}
	digits := path + param
	if path != "" {
		digits = path
	}
	if digits == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(digits, 10, 31)
	if err != nil {
		return 0, errors.New("the database is not a number from 0 on; a / in a user name or password is written %2F")
	}
	return int(n), nil
}

func (p *uriParts) hostList(port string) ([]string, error) {
	if strings.Contains(p.path, "@") {
		return nil, errors.New("has an @ behind the host's /; a / in a user name or password is written %2F")
	}
	var hosts []string
	for i, s := range strings.Split(p.hosts, ",") {
		addr, err := parseHost(s, port)
		if err != nil {
			return nil, fmt.Errorf("host %d: %w", i+1, err)
		}
		hosts = append(hosts, addr)
	}
	return hosts, nil
}

// parseHost returns host:port. Its errors show nothing: without an @, a user and
// password look like a host and port.
func parseHost(s, port string) (string, error) {
	host := s
	bracketed := strings.HasPrefix(s, "[")
	if end := strings.LastIndexByte(s, ']'); bracketed && end > 0 {
		host = s[1:end]
		if rest := s[end+1:]; rest != "" {
			if rest[0] != ':' {
				return "", errors.New("something follows the ]")
			}
			port = rest[1:]
		}
	} else if h, p, ok := strings.Cut(s, ":"); ok {
		host, port = h, p
	}
	host, ok := unescape(host)
	switch {
	case host == "" && ok:
		return "", errors.New("is empty")
	case !ok, strings.ContainsAny(host, "/?#@[],\"\\<> "), !bracketed && strings.Contains(host, ":"):
		return "", errors.New("is not a host name or address")
	case bracketed && !strings.Contains(host, ":"):
		return "", errors.New("only an IPv6 address stands in brackets")
	}
	if strings.Contains(port, ":") {
		return "", errors.New("has too many colons; an IPv6 address stands in brackets")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", errors.New("its port is not a number from 1 to 65535")
	}
	return net.JoinHostPort(host, port), nil
}
