package main

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"
)

const (
	queuesKey = "asynq:queues"
	probeKey  = "asynq:{default}:spool:probe" // in the slot and with the prefix of a queue's keys
)

// right is what a user needs for something: commands, and words for ACL SETUSER.
type right struct {
	check    string
	where    string // what keys the commands are for
	acl      string
	commands []string // with arguments, among them a key
	lacking  result   // what it comes to without
	harm     string
}

// rightsOf returns what a Producer's user needs; README lists it, too.
func rightsOf(r route) []right {
	const never, onKeys = "jobs never reach Redis", " on asynq's keys"
	key := func(command string) string { return strings.ReplaceAll(command, "KEY", probeKey) }
	list := []right{
		{"enqueue", onKeys, "~asynq:* +evalsha +eval +exists +hset +lpush +zadd +sadd +set +get +del +hget", []string{
			key("evalsha " + strings.Repeat("0", 40) + " 1 KEY"), key("eval 0 1 KEY"), key("exists KEY"), key("hset KEY f v"),
			key("lpush KEY v"), key("zadd KEY 1 v"), "sadd " + queuesKey + " v", key("set KEY 1"), key("get KEY"), key("del KEY"), key("hget KEY f"),
		}, resultFail, never},
		{
			"repair", onKeys, "+lpos +zscore +zrange",
			[]string{key("lpos KEY v"), key("zscore KEY v"), key("zrange KEY 0 -1")},
			resultWarn, "a job whose script failed in the middle becomes a dead letter",
		},
		{"memory", "", "+info", []string{"info"}, resultWarn, "a replay may fill Redis, and workers then get no jobs"},
	}
	if r.db != 0 {
		list = append(list, right{"database", "", "+select", []string{"select 1"}, resultFail, never})
	}
	if r.slots {
		list = append(list, right{"slots", "", "+cluster|slots", []string{"cluster slots"}, resultFail, never})
	}
	return list
}

// deniedScript returns the numbers of those commands that the user may not run. A script
// can ask that of Redis from 7.0 on. ACL DRYRUN tells the same, but to administrators only.
const deniedScript = `
if not redis.acl_check_cmd then
	return redis.error_reply("ERR only Redis 7.0 and newer tell a user its rights")
end
local denied = {}
for i, command in ipairs(cjson.decode(ARGV[1])) do
	if not redis.acl_check_cmd(unpack(command)) then
		denied[#denied + 1] = i
	end
end
return denied
`

// checkRights asks a server what this user may do there. It asks in database 0: another
// takes a right of its own.
func checkRights(ctx context.Context, r route, addr string) []finding {
	rights := rightsOf(r)
	r.db = 0
	var user string
	var denied []string
	err := r.ask(ctx, addr, func(ctx context.Context, c *redis.Client) (err error) {
		if user, err = c.Do(ctx, "ACL", "WHOAMI").Text(); err != nil {
			user = r.user
		}
		denied, err = deniedOf(ctx, c, rights)
		return err
	})
	who := "this user"
	if user != "" {
		who = "user " + user
	}
	return judgeRights(who, rights, denied, err)
}

// deniedOf returns those commands that the user may not run.
func deniedOf(ctx context.Context, c *redis.Client, rights []right) ([]string, error) {
	var all []string
	var split [][]string
	for _, r := range rights {
		for _, command := range r.commands {
			all, split = append(all, command), append(split, strings.Fields(command))
		}
	}
	list, err := json.Marshal(split)
	if err != nil {
		return nil, err
	}
	which, err := c.Eval(ctx, deniedScript, nil, list).Int64Slice()
	var denied []string
	for _, i := range which {
		if i < 1 || int(i) > len(all) {
			return nil, errors.New("an answer to another question")
		}
		denied = append(denied, all[i-1])
	}
	return denied, err
}

// judgeRights says what it means that some commands are denied, or that Redis did not
// tell which.
func judgeRights(who string, rights []right, denied []string, err error) []finding {
	var out []finding
	for _, r := range rights {
		todo := "ACL SETUSER for this user: " + r.acl
		var lacks []string
		for _, command := range r.commands {
			if slices.Contains(denied, command) {
				lacks = append(lacks, strings.Fields(command)[0])
			}
		}
		switch {
		case redis.HasErrorPrefix(err, "NOPERM") && r.where != "" && r.lacking == resultFail:
			out = append(out, failed(r.check, who+" may not run scripts, by which asynq enqueues: "+shown(err), todo))
		case err != nil:
			f := notMade(r.check, err)
			f.Todo = "see that the user has " + r.acl
			out = append(out, f)
		case len(lacks) > 0:
			out = append(out, finding{
				Check: r.check, Result: r.lacking, Todo: todo,
				Seen: who + " may not run " + strings.Join(lacks, ", ") + r.where + ": " + r.harm,
			})
		default:
			out = append(out, passed(r.check, who+" may"))
		}
	}
	return out
}
