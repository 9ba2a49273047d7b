// Command openmigrate-agent is the program on a source server: one static binary that replicates its disks.
package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/openmigrate/openmigrate/internal/cli"
	"github.com/openmigrate/openmigrate/internal/version"
)

func main() { os.Exit(cli.Main(newRoot())) }

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "openmigrate-agent",
		Short: "Replicate this server's disks to where its master says",
		Long: `Replicate this server's disks to where its master says. It dials out only, opens no port, and needs no kernel module.

  openmigrate-agent run --master URL --token T --state-dir S      (make T with 'openmigrate tokens enroll')`,
		Version: version.String(),
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.AddCommand(newRun(), newStatus(), newWatchdog())
	return root
}
