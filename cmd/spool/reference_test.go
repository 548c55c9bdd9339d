package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// update writes what a golden test would compare.
var update = flag.Bool("update", false, "write REFERENCE.md anew")

// TestReferenceIsCurrent compares REFERENCE.md with what the commands say of themselves.
// To write it anew: go test ./cmd/spool -run Reference -update.
func TestReferenceIsCurrent(t *testing.T) {
	root, _ := newRootCommand()
	root.InitDefaultCompletionCmd()
	root.DisableAutoGenTag = true
	var b bytes.Buffer
	b.WriteString("<!-- Made from the commands by go test ./cmd/spool -run Reference -update. -->\n\n")
	writeReference(t, &b, root)
	const path = "REFERENCE.md"
	if *update {
		if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil { //nolint:gosec // a document of the repository
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, b.Bytes()) {
		t.Error("REFERENCE.md is not current: go test ./cmd/spool -run Reference -update")
	}
}

// writeReference writes one command and those below it.
func writeReference(t *testing.T, b *bytes.Buffer, cmd *cobra.Command) {
	t.Helper()
	if cmd.IsAdditionalHelpTopicCommand() { // laid out for a terminal
		fmt.Fprintf(b, "## %s help %s\n\n%s\n\n```\n%s\n```\n\n", cmd.Root().Name(), cmd.Name(), cmd.Short, cmd.Long)
		return
	}
	anchor := func(file string) string { return "#" + strings.ReplaceAll(strings.TrimSuffix(file, ".md"), "_", "-") }
	var own bytes.Buffer
	if err := doc.GenMarkdownCustom(cmd, &own, anchor); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(own.String()) {
		if !strings.HasPrefix(line, "* [spool completion ") { // those of each shell are left out
			b.WriteString(line)
		}
	}
	for _, sub := range cmd.Commands() {
		if (sub.IsAvailableCommand() || sub.IsAdditionalHelpTopicCommand()) && sub.Name() != "help" && sub.Parent().Name() != "completion" {
			writeReference(t, b, sub)
		}
	}
}

// TestEveryCommandHelps: each has a text, and an example where it can be run.
func TestEveryCommandHelps(t *testing.T) {
	root, _ := newRootCommand()
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Short == "" || cmd.Long == "" && !cmd.HasSubCommands() || cmd.Runnable() && cmd.HasParent() && !cmd.HasSubCommands() && cmd.Example == "" {
			t.Errorf("%s: Short, Long or Example is missing", cmd.CommandPath())
		}
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(root)
	if code, stdout, _ := spoolCommand(t.Context(), "help", "outage"); code != exitOK || !strings.Contains(stdout, "What not to do") {
		t.Errorf("%d: %s", code, stdout)
	}
}
