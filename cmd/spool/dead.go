package main

import "github.com/spf13/cobra"

const deadHelp = `A dead letter is a job that was not sent for its own sake: Redis refuses it, its task
id is taken by another task, its deadline or its MaxSpoolAge passed while it was
spooled. It stays in the spool until somebody retries or removes it.`

func newDeadCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "dead",
		Short:   "Look at dead letters, retry or remove them",
		Long:    deadHelp,
		Example: "  spool dead ls --dir /var/lib/myservice/spool",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newDeadLsCommand(), newDeadShowCommand(), newDeadRetryCommand(), newDeadRmCommand())
	return cmd
}

func newDeadLsCommand() *cobra.Command {
	return newListCommand(&cobra.Command{
		Use:   "ls",
		Short: "List dead letters, and why they are dead",
		Long: deadHelp + `

ls lists them for all owners in the spool, living and dead. AGE counts from the call
of Enqueue, DEAD FOR from when the job became a dead letter. Exit code 3 means that
some may have been left out.`,
		Example: `  spool dead ls --dir /var/lib/myservice/spool
  spool dead ls --queue critical --reason "its task id is taken"`,
	}, true)
}

func newDeadShowCommand() *cobra.Command {
	return newShowerCommand(&cobra.Command{
		Use:   "show ID",
		Short: "Show all that the spool knows of a dead letter",
		Long: `show shows a dead letter with the reason why it is one, and since when. The payload
and the headers are shown only with --payload.`,
		Example: "  spool dead show 6b6ea2b5-5e2c-4a4c-9d2a-0f1f8e2f3c11 --dir /var/lib/myservice/spool",
	}, false, true)
}
