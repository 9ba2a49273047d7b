package convert

import (
	"path"
	"slices"

	"github.com/openmigrate/openmigrate/hydrator/convert/tree"
)

// guestTool is software that belongs to one hypervisor or cloud, and waits for it elsewhere.
type guestTool struct {
	name  string
	files []string // one of them tells that it is installed
	units []string // of systemd
}

var guestTools = []guestTool{
	{"open-vm-tools", []string{"/usr/bin/vmtoolsd", "/usr/sbin/vmtoolsd"},
		[]string{"open-vm-tools.service", "vmtoolsd.service", "vgauth.service", "vgauthd.service", "vmware-tools.service", "run-vmblock-fuse.mount", "run-vmblock\\x2dfuse.mount"}},
	{"virtualbox-guest", []string{"/usr/sbin/VBoxService", "/opt/VBoxGuestAdditions"},
		[]string{"vboxadd.service", "vboxadd-service.service", "virtualbox-guest-utils.service", "vboxservice.service"}},
	{"hyperv-daemons", []string{"/usr/sbin/hv_kvp_daemon", "/usr/sbin/hypervkvpd"},
		[]string{"hv-kvp-daemon.service", "hv-fcopy-daemon.service", "hv-vss-daemon.service", "hypervkvpd.service", "hypervvssd.service", "hypervfcopyd.service",
			"hyperv-daemons.hv-kvp-daemon.service", "hyperv-daemons.hv-fcopy-daemon.service", "hyperv-daemons.hv-vss-daemon.service"}},
	{"xen-guest", []string{"/usr/sbin/xe-daemon", "/usr/sbin/xenstored"}, []string{"xe-linux-distribution.service", "xe-daemon.service", "xen-guest-agent.service"}},
	{"qemu-guest-agent", []string{"/usr/sbin/qemu-ga", "/usr/bin/qemu-ga"}, []string{"qemu-guest-agent.service", "qemu-ga.service"}},
	{"amazon-ssm-agent", []string{"/usr/bin/amazon-ssm-agent", "/snap/bin/amazon-ssm-agent"},
		[]string{"amazon-ssm-agent.service", "snap.amazon-ssm-agent.amazon-ssm-agent.service"}},
	{"google-guest-agent", []string{"/usr/bin/google_guest_agent"},
		[]string{"google-guest-agent.service", "google-guest-agent-manager.service", "google-osconfig-agent.service", "google-startup-scripts.service", "google-shutdown-scripts.service"}},
	{"walinuxagent", []string{"/usr/sbin/waagent", "/usr/bin/waagent"}, []string{"walinuxagent.service", "waagent.service", "walinuxagent-network-setup.service"}},
	{"parallels-tools", []string{"/usr/bin/prltoolsd"}, []string{"prltoolsd.service"}},
}

func readGuestTools(t *tree.Tree) []string {
	var found []string
	for _, g := range guestTools {
		if t.Any(g.files...) != "" {
			found = append(found, g.name)
		}
	}
	return found
}

// unitDirs are where systemd finds units that packages bring.
var unitDirs = []string{"/etc/systemd/system", "/lib/systemd/system", "/usr/lib/systemd/system"}

// convertGuestTools masks the units of tools that do not belong to the target.
func convertGuestTools(e *editor) error {
	keep := platforms[e.target.Platform].tools
	for _, g := range guestTools {
		if !slices.Contains(e.system.GuestTools, g.name) || slices.Contains(keep, g.name) {
			continue
		}
		for _, unit := range g.units {
			exists := slices.ContainsFunc(unitDirs, func(dir string) bool {
				_, err := e.Lstat(path.Join(dir, unit))
				return err == nil
			})
			if !exists {
				continue
			}
			if err := e.link("/etc/systemd/system/"+unit, "/dev/null", g.name+" belongs to another hypervisor"); err != nil {
				return err
			}
		}
	}
	return nil
}
