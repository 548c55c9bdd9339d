// Command spool looks after the jobs that a jobspool Producer wrote to disk while
// Redis could not be reached. See spool help.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/redis/go-redis/v9"
)

// The exit codes of every command.
const (
	exitOK     = 0
	exitError  = 1 // it failed
	exitUsage  = 2 // it was called wrongly
	exitLeft   = 3 // it worked, and jobs are left in the spool
	exitDamage = 4 // it worked, and found damage
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second one ends what does not heed the first
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run executes one command line and returns its exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	return runOn(ctx, args, os.Stdin, stdout, stderr)
}

// runOn is run with another standard input.
func runOn(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	redis.SetLogger(quiet{})
	root, started := newRootCommand() //nolint:contextcheck // cobra hands it to the commands
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	switch {
	case err == nil:
		return exitOK
	case !*started: // cobra refused the command line
		fmt.Fprintf(stderr, "spool: %s\nRun 'spool --help' for usage.\n", withoutPasswords(err, true))
		return exitUsage
	}
	text := withoutPasswords(err, errors.As(err, new(usageError)))
	fmt.Fprintf(stderr, "spool: %s\n", strings.TrimPrefix(text, "spool: ")) // the package says it, too
	switch {
	case errors.As(err, new(usageError)):
		return exitUsage
	case errors.As(err, new(leftError)):
		return exitLeft
	case errors.As(err, new(damageError)):
		return exitDamage
	}
	return exitError
}

// quiet silences go-redis, which prints each failed dial: the commands say
// themselves when Redis is away.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

// usageError is an error of the caller's: a missing or senseless argument.
type usageError struct{ text string }

func (e usageError) Error() string { return e.text }

// leftError says what a command left in the spool.
type leftError struct{ text string }

func (e leftError) Error() string { return e.text }

// damageError says what damage a command found.
type damageError struct{ text string }

func (e damageError) Error() string { return e.text }
