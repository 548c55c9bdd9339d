package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"os/user"
	"time"

	"github.com/spf13/cobra"

	"github.com/jobspool/jobspool/spool"
)

func newPauseCommand() *cobra.Command {
	var flags common
	var reason string
	cmd := &cobra.Command{
		Use:   "pause",
		Short: "Pause the replay of a whole spool",
		Long: `pause stops the replay of everything in the spool, by whatever process, until
'spool resume': within a second, but for the batch that is on its way. It holds
across restarts and is shown by 'spool status'.

New jobs are not concerned: they go to Redis while it takes them, and to the
spool during an outage. Outages are probed for their end as always.`,
		Example: "  spool pause --dir /var/lib/myservice/spool --reason 'workers are being repaired'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return flags.pause(cmd.OutOrStdout(), reason)
		},
	}
	flags.addSpoolFlags(cmd)
	cmd.Flags().StringVar(&reason, "reason", "", "a `text` for those who look at the status")
	return cmd
}

func newResumeCommand() *cobra.Command {
	var flags common
	cmd := &cobra.Command{
		Use:     "resume",
		Short:   "End a pause of the replay",
		Long:    "resume ends what 'spool pause' began. Living processes notice it within a second.",
		Example: "  spool resume --dir /var/lib/myservice/spool",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return flags.resume(cmd.OutOrStdout()) },
	}
	flags.addSpoolFlags(cmd)
	return cmd
}

// ownDir returns the directory, which must hold a spool, or nothing, of this user's.
func (c *common) ownDir() (string, error) {
	dir, err := c.spoolDir()
	if err != nil {
		return "", err
	}
	if _, err = inspect(dir); err == nil {
		err = c.beOwner(dir)
	}
	return dir, err
}

func (c *common) pause(out io.Writer, reason string) error {
	dir, err := c.ownDir()
	if err != nil {
		return err
	}
	if err := spool.PauseReplay(dir, spool.Pause{Since: time.Now().UTC(), By: whoami(), Why: reason}); err != nil {
		return err
	}
	p, err := spool.Paused(dir)
	switch {
	case err != nil:
		return err
	case c.json:
		return printJSON(out, map[string]any{"paused": p})
	case p == nil:
		fmt.Fprintln(out, "replay was paused, and somebody else has resumed it since")
	default:
		fmt.Fprintf(out, "replay is paused since %s by %s%s\n", p.Since.Local().Format(time.DateTime), p.By, inParentheses(p.Why))
	}
	return nil
}

func (c *common) resume(out io.Writer) error {
	dir, err := c.ownDir()
	if err != nil {
		return err
	}
	was, err := spool.ResumeReplay(dir)
	switch {
	case err != nil:
		return err
	case c.json:
		return printJSON(out, map[string]any{"paused": nil, "was_paused": was})
	case was:
		fmt.Fprintln(out, "replay goes on")
	default:
		fmt.Fprintln(out, "replay was not paused")
	}
	return nil
}

// whoami names the person, or what stands for one, at this machine.
func whoami() string {
	name := cmp.Or(os.Getenv("SUDO_USER"), os.Getenv("USER"))
	if u, err := user.Current(); name == "" && err == nil {
		name = u.Username
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return cmp.Or(name, fmt.Sprintf("uid %d", os.Getuid())) + "@" + host
}
