// Command openmigrate is the master, the hydrator, and the tool with which people use them. Each command is a file.
package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/openmigrate/openmigrate/internal/cli"
	"github.com/openmigrate/openmigrate/internal/version"
)

func main() { os.Exit(cli.Main(newRoot())) }

func newRoot() *cobra.Command {
	a := &app{}
	root := &cobra.Command{
		Use:   "openmigrate",
		Short: "Move live servers, with their disks, from anywhere to any cloud, and keep a way back",
		Long: `Move live servers, with their disks, from anywhere to any cloud, and keep a way back.

Start here:
  openmigrate dev --data-dir D     master, staging and hydrator on this machine
  . D/env                          how to reach them
  openmigrate machines ls          what replicates
  openmigrate launch test M        a copy of machine M, brought up beside it

Where the master is comes from flags, then the environment (OPENMIGRATE_URL, OPENMIGRATE_CA_FILE, OPENMIGRATE_TOKEN),
then what 'openmigrate login' saved.

Exit status: 0 done, 1 failed, 2 used wrongly, 3 not found, 4 not allowed, 5 conflict or busy.`,
		Version: version.String(),
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return c.Help() },
		PersistentPreRunE: func(*cobra.Command, []string) error {
			return a.out.Check()
		},
	}
	a.flags(root)
	root.AddCommand(
		newDev(a), newMaster(a), newHydrator(a), newServeStaging(),
		newLogin(a), newWhoami(a), newTokens(a), newMachines(a), newRestpoints(a), newLaunch(a), newProviders(a), newStaging(a), newNodes(a), newKeys(a),
	)
	return root
}
