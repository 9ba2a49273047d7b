package convert

import (
	"path"
	"strings"

	"github.com/openmigrate/openmigrate/hydrator/convert/tree"
)

// Platform is where the machine is to run.
type Platform string

// The platforms.
const (
	KVM    Platform = "kvm" // QEMU, libvirt, OpenStack, Proxmox
	EC2    Platform = "ec2"
	GCP    Platform = "gcp"
	Azure  Platform = "azure"
	VMware Platform = "vmware"
)

// device is a kind of virtual hardware with the modules that it takes, besides what these depend on.
type device struct {
	name    string
	modules []string
}

// platform is what a platform's machines have. Any one of the disks will do, unless the target names one.
type platform struct {
	name    string // for people
	disks   []device
	nics    []device
	console string // the first serial port, if the platform shows it to its users

	datasources []string // of cloud-init
	tools       []string // guest tools that belong there
}

// platforms is the table. To add a platform, add a line; nothing else knows one from the other.
var platforms = map[Platform]platform{
	KVM: {
		name: "KVM",
		disks: []device{{"virtio-blk", []string{"virtio_pci", "virtio_blk"}}, {"virtio-scsi", []string{"virtio_pci", "virtio_scsi", "sd_mod"}},
			{"nvme", []string{"nvme"}}, {"sata", []string{"ahci", "sd_mod"}}},
		nics:        []device{{"virtio-net", []string{"virtio_pci", "virtio_net"}}, {"e1000", []string{"e1000"}}, {"e1000e", []string{"e1000e"}}},
		console:     "ttyS0",
		datasources: []string{"NoCloud", "ConfigDrive", "OpenStack"},
		tools:       []string{"qemu-guest-agent"},
	},
	EC2: {
		name:        "Amazon EC2",
		disks:       []device{{"nvme", []string{"nvme"}}, {"xen", []string{"xen_blkfront"}}},
		nics:        []device{{"ena", []string{"ena"}}, {"ixgbevf", []string{"ixgbevf"}}, {"xen", []string{"xen_netfront"}}},
		console:     "ttyS0",
		datasources: []string{"Ec2"},
		tools:       []string{"amazon-ssm-agent"},
	},
	GCP: {
		name: "Google Compute Engine",
		disks: []device{{"virtio-scsi", []string{"virtio_pci", "virtio_scsi", "sd_mod"}}, {"nvme", []string{"nvme"}},
			{"virtio-blk", []string{"virtio_pci", "virtio_blk"}}},
		nics:        []device{{"virtio-net", []string{"virtio_pci", "virtio_net"}}, {"gve", []string{"gve"}}},
		console:     "ttyS0",
		datasources: []string{"GCE"},
		tools:       []string{"google-guest-agent"},
	},
	Azure: {
		name:        "Microsoft Azure",
		disks:       []device{{"hyper-v", []string{"hv_vmbus", "hv_storvsc", "sd_mod"}}, {"nvme", []string{"pci_hyperv", "nvme"}}},
		nics:        []device{{"hyper-v", []string{"hv_vmbus", "hv_netvsc"}}, {"mana", []string{"mana"}}},
		console:     "ttyS0",
		datasources: []string{"Azure"},
		tools:       []string{"walinuxagent", "hyperv-daemons"},
	},
	VMware: {
		name: "VMware",
		disks: []device{{"pvscsi", []string{"vmw_pvscsi", "sd_mod"}}, {"lsilogic", []string{"mptspi", "sd_mod"}},
			{"sata", []string{"ahci", "sd_mod"}}, {"nvme", []string{"nvme"}}},
		nics:        []device{{"vmxnet3", []string{"vmxnet3"}}, {"e1000", []string{"e1000"}}, {"e1000e", []string{"e1000e"}}},
		datasources: []string{"VMware", "OVF"},
		tools:       []string{"open-vm-tools"},
	},
}

// kernelModules is what one kernel has: names with underscores, and whether they are built in.
type kernelModules map[string]bool

func readModules(t *tree.Tree, release string) (kernelModules, error) {
	m := kernelModules{}
	dir := "/lib/modules/" + release
	for _, list := range []struct {
		file    string
		builtin bool
	}{{"modules.dep", false}, {"modules.builtin", true}} {
		b, err := t.ReadFile(path.Join(dir, list.file))
		if err != nil && !list.builtin {
			return nil, err
		}
		for line := range strings.Lines(string(b)) {
			name, _, _ := strings.Cut(strings.TrimSpace(line), ":")
			if name := moduleName(name); name != "" {
				m[name] = list.builtin
			}
		}
	}
	return m, nil
}

// moduleName is the name of a module by its file, or "" if it is none.
func moduleName(file string) string {
	name, suffix, ok := strings.Cut(path.Base(file), ".ko")
	if !ok || suffix != "" && suffix[0] != '.' {
		return ""
	}
	return strings.ReplaceAll(name, "-", "_")
}

func (m kernelModules) has(d device) bool {
	for _, name := range d.modules {
		if _, ok := m[name]; !ok {
			return false
		}
	}
	return true
}

// drivers returns the modules that the initramfs of a kernel must hold for a target, and refuses a kernel that has no driver for
// any of its disks, or for the one that the target names.
func drivers(k Kernel, m kernelModules, target Target) ([]string, error) {
	p, ok := platforms[target.Platform]
	if !ok {
		return nil, refuse("platform %q is not known", target.Platform)
	}
	var list, tried []string
	add := func(d device) {
		for _, name := range d.modules {
			if builtin, ok := m[name]; ok && !builtin && !contains(list, name) {
				list = append(list, name)
			}
		}
	}
	found := false
	for _, d := range p.disks {
		wanted := target.Disk == "" || target.Disk == d.name
		if wanted {
			tried = append(tried, d.name+" ("+strings.Join(d.modules, ", ")+")")
		}
		if m.has(d) {
			found = found || wanted
			add(d)
		}
	}
	if len(tried) == 0 {
		return nil, refuse("%s has no disks of kind %q", p.name, target.Disk)
	}
	if !found {
		return nil, refuse("kernel %s has no driver for the disks of %s: %s; install a kernel with these drivers on the source "+
			"(on Debian linux-image-amd64 in place of a cloud or custom one), replicate, and try again", k.Release, p.name, strings.Join(tried, ", "))
	}
	for _, d := range p.nics {
		if m.has(d) {
			add(d)
		}
	}
	return list, nil
}

// hasNIC reports whether a kernel can drive any network card of the platform.
func hasNIC(m kernelModules, p platform) bool {
	for _, d := range p.nics {
		if m.has(d) {
			return true
		}
	}
	return false
}

func contains(list []string, s string) bool {
	for _, have := range list {
		if have == s {
			return true
		}
	}
	return false
}
