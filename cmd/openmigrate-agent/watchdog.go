package main

import (
	"github.com/spf13/cobra"

	"github.com/openmigrate/openmigrate/agent/quiesce"
)

// newWatchdog is what the agent starts before a freeze; it is not for people.
func newWatchdog() *cobra.Command {
	return &cobra.Command{
		Use:    "watchdog",
		Short:  "Thaw file systems if the agent cannot",
		Hidden: true,
		RunE:   func(_ *cobra.Command, args []string) error { return quiesce.WatchdogMain(args) },
	}
}
