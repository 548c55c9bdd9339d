package queue

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hibiken/asynq"
)

// clusterScheme begins the target of a Cluster; its seed addresses follow.
const clusterScheme = "redis-cluster://"

// SameTarget reports whether two targets are the same Redis: two Clusters if they have a
// seed address in common, all others if they are equal. So a Cluster stays the same when
// seeds are added or removed, but not when none of the old ones is left at once; for
// that there is Config.AcceptTargets.
func SameTarget(a, b string) bool {
	if a == b {
		return true
	}
	ofA, ofB := seeds(a), seeds(b)
	return slices.ContainsFunc(ofA, func(seed string) bool { return slices.Contains(ofB, seed) })
}

// seeds returns the seed addresses in the target of a Cluster, none of another. Host
// names have no case.
func seeds(target string) []string {
	list, ok := strings.CutPrefix(target, clusterScheme)
	if !ok {
		return nil
	}
	isEmpty := func(seed string) bool { return seed == "" }
	return slices.DeleteFunc(strings.Split(strings.ToLower(list), ","), isEmpty)
}

// adopts returns which targets' dead owners a Producer adopts.
func (c Config) adopts() func(target string) bool {
	return func(target string) bool {
		isTarget := func(own string) bool { return SameTarget(own, target) }
		return isTarget(c.Target) || slices.ContainsFunc(c.AcceptTargets, isTarget)
	}
}

// checkTarget refuses what cannot be the name of a target because it holds a user or
// password. Its error does not show it.
func checkTarget(target string) error {
	scheme, rest, ok := strings.Cut(target, ":/")
	if !ok {
		return nil // a name of the user's own
	}
	secret := errors.New("holds a user name or password; Stats.Target and spool status show how targets are written")
	rest = strings.TrimPrefix(rest, "/")
	if strings.Contains(strings.ToLower(rest), "password=") {
		return secret
	}
	// A socket's path may have an @, and an abstract socket begins with one.
	socket := scheme == "redis-socket" || scheme == "unix"
	if at := strings.LastIndexByte(rest, '@'); at > 0 && (!socket || rest[0] != '/') {
		return secret
	}
	return nil
}

// TargetOf returns the target of a Producer with these options and no Config.Target of its
// own. It does not dial.
func TargetOf(opt asynq.RedisConnOpt) (string, error) {
	s := newSender()
	client, target, err := connect(opt, s.lifetime())
	if err != nil {
		s.stop()
		return "", redisError(err)
	}
	s.use(client)
	if err := s.close(); err != nil {
		return "", redisError(err)
	}
	if target == "" { // a client of Sentinel's
		return "", errors.New("queue: Config.Redis does not tell the target")
	}
	return target, nil
}

// CheckTarget returns an error for what Config.Target cannot be. It does not show it.
func CheckTarget(target string) error {
	if strings.TrimSpace(target) == "" {
		return errors.New("queue: a target is empty")
	}
	if err := checkTarget(target); err != nil {
		return fmt.Errorf("queue: a target %w", err)
	}
	return nil
}
