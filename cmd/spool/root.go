package main

import (
	"cmp"
	"encoding/json"
	"io"
	"os"

	"github.com/hibiken/asynq"
	"github.com/spf13/cobra"

	"github.com/jobspool/jobspool/queue"
)

const rootHelp = `spool looks after the jobs that a jobspool Producer wrote to disk while Redis
could not be reached.

Every command that looks at a spool takes --dir (or SPOOL_DIR), the directory
given to queue.Config.SpoolDir. Redis is named by --redis (or REDIS_URL; prefer
the variable for a URI with a password: other users can read command lines):

  redis://[user:password@]host[:port][/db]
  redis-socket://[user:password@]/path[?db=n]
  redis-sentinel://[user:password@]host[:port][,...][/db]?master=name
      user:password is for the sentinels, &username=u&password=p for the master
  redis-cluster://[user:password@]host[:port][,...]

rediss://, rediss-sentinel:// and rediss-cluster:// are the same over TLS, with
parameters ca=file, cert=file and key=file (PEM), server_name=name and
insecure_skip_verify=true.

Exit codes: 0 done, 1 failed, 2 called wrongly, 3 jobs are left in the spool,
4 damage was found.`

// newRootCommand returns the command tree, and whether one of its commands began
// to run: before that, any error is one of usage.
func newRootCommand() (root *cobra.Command, started *bool) {
	started = new(bool)
	root = &cobra.Command{
		Use:           "spool",
		Short:         "Look after jobs spooled while Redis was away",
		Long:          rootHelp,
		Args:          cobra.NoArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },

		PersistentPreRun: func(*cobra.Command, []string) { *started = true },
	}
	root.AddCommand(
		newStatusCommand(), newPingCommand(), newDoctorCommand(),
		newDrainCommand(), newPauseCommand(), newResumeCommand(),
		newLsCommand(), newShowCommand(), newRmCommand(), newDeadCommand(), newGuardCommand(),
		newVerifyCommand(), newSalvageCommand(), newBackupCommand(), newAdoptCommand(), newExportCommand(), newImportCommand(),
		newEnqueueCommand(), newDrillCommand(),
		newDemoCommand(), newOutageTopic(),
	)
	return root, started
}

// common are the flags of commands that look at a spool.
type common struct {
	dir   string
	redis string
	json  bool
	force bool // become the spool's user
}

func (c *common) addFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&c.dir, "dir", "", "the spool's `directory` (SPOOL_DIR)")
	f.StringVar(&c.redis, "redis", "", "the `URI` of Redis (REDIS_URL)")
	f.BoolVar(&c.json, "json", false, "print one JSON document")
}

// addSpoolFlags adds the flags of commands that need no Redis, but a spool's desks.
func (c *common) addSpoolFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&c.dir, "dir", "", "the spool's `directory` (SPOOL_DIR)")
	f.BoolVar(&c.json, "json", false, "print one JSON document")
	c.addForce(cmd)
}

func (c *common) addForce(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&c.force, "force", false, "as root, become the user whom the spool belongs to")
}

// place returns the directory and what is said of Redis.
func (c *common) place() (dir string, opt asynq.RedisConnOpt, err error) {
	if dir, err = c.spoolDir(); err != nil {
		return "", nil, err
	}
	opt, err = c.redisOpt()
	return dir, opt, err
}

// spoolDir returns the directory, from the flag or the environment.
func (c *common) spoolDir() (string, error) {
	if dir := cmp.Or(c.dir, os.Getenv("SPOOL_DIR")); dir != "" {
		return dir, nil
	}
	return "", usageError{"no spool named: give --dir or set SPOOL_DIR"}
}

// redisOpt returns what the flag or the environment says of Redis; nil without
// either.
func (c *common) redisOpt() (asynq.RedisConnOpt, error) {
	uri := cmp.Or(c.redis, os.Getenv("REDIS_URL"))
	if uri == "" {
		return nil, nil
	}
	opt, err := queue.ParseURI(uri)
	if err != nil {
		return nil, usageError{"--redis or REDIS_URL: " + err.Error()}
	}
	return opt, nil
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
