package inventory

import (
	"strings"

	"github.com/openmigrate/openmigrate/wire"
)

// dmiFields are what hints look at: vendor, product, board, BIOS, and the chassis' asset tag, which clouds use as their mark.
var dmiFields = []string{"sys_vendor", "product_name", "board_vendor", "bios_vendor", "bios_version", "chassis_asset_tag", "product_version"}

// hint recognises a platform by words in a field of the DMI tables; sources: cloud-init's ds-identify and systemd's detect-virt.
type hint struct{ field, prefix, name string }

var clouds = []hint{
	{"sys_vendor", "Amazon EC2", "aws"},
	{"bios_vendor", "Amazon EC2", "aws"},
	{"bios_version", "4.11.amazon", "aws"},
	{"product_name", "Google Compute Engine", "gcp"},
	{"chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77", "azure"},
	{"chassis_asset_tag", "OracleCloud.com", "oracle"},
	{"chassis_asset_tag", "OpenTelekomCloud", "otc"},
	{"sys_vendor", "Alibaba Cloud", "alibaba"},
	{"sys_vendor", "DigitalOcean", "digitalocean"},
	{"sys_vendor", "Hetzner", "hetzner"},
	{"sys_vendor", "Linode", "linode"},
	{"sys_vendor", "Akamai", "linode"},
	{"sys_vendor", "Vultr", "vultr"},
	{"sys_vendor", "Scaleway", "scaleway"},
	{"sys_vendor", "UpCloud", "upcloud"},
	{"sys_vendor", "Exoscale", "exoscale"},
	{"product_name", "OpenStack", "openstack"},
	{"sys_vendor", "OpenStack", "openstack"},
}

var hypervisors = []hint{
	{"sys_vendor", "VMware", "vmware"},
	{"product_name", "VMware", "vmware"},
	{"sys_vendor", "innotek GmbH", "virtualbox"},
	{"product_name", "VirtualBox", "virtualbox"},
	{"sys_vendor", "Xen", "xen"},
	{"bios_vendor", "Xen", "xen"},
	{"bios_version", "4.11.amazon", "xen"},
	{"sys_vendor", "Parallels", "parallels"},
	{"sys_vendor", "Nutanix", "nutanix"},
	{"product_name", "KVM", "kvm"},
	{"sys_vendor", "QEMU", "kvm"},
	{"bios_vendor", "SeaBIOS", "kvm"},
	{"product_name", "Google Compute Engine", "kvm"},
	{"sys_vendor", "Amazon EC2", "kvm"},
	{"product_name", "OpenStack", "kvm"},
}

func (c *collector) platform() {
	dmi := map[string]string{}
	for _, f := range dmiFields {
		dmi[f] = attr(c.path("/sys/class/dmi/id"), f)
	}
	p := wire.Platform{Vendor: dmi["sys_vendor"], Product: dmi["product_name"], Cloud: match(clouds, dmi)}
	guest := hasHypervisorFlag(c.read("cpu", "/proc/cpuinfo"))
	switch {
	case attr(c.path("/sys/hypervisor"), "type") == "xen":
		p.Virtualization = "xen"
	case p.Vendor == "Microsoft Corporation" && p.Product == "Virtual Machine":
		p.Virtualization = "hyperv"
	case strings.HasSuffix(p.Product, ".metal"), strings.Contains(p.Product, ".metal-"):
		p.Virtualization = "none" // EC2 has bare metal too
	case match(hypervisors, dmi) != "":
		p.Virtualization = match(hypervisors, dmi)
	case guest:
		p.Virtualization = "unknown"
	case p.Vendor != "":
		p.Virtualization = "none"
	}
	c.inv.Platform = p
}

func match(hints []hint, dmi map[string]string) string {
	for _, h := range hints {
		if strings.HasPrefix(dmi[h.field], h.prefix) {
			return h.name
		}
	}
	return ""
}

// hasHypervisorFlag reports the CPU feature bit that every hypervisor of x86 sets.
func hasHypervisorFlag(cpuinfo string) bool {
	for line := range strings.Lines(cpuinfo) {
		if key, value, _ := strings.Cut(line, ":"); strings.TrimSpace(key) == "flags" {
			return strings.Contains(" "+strings.TrimSpace(value)+" ", " hypervisor ")
		}
	}
	return false
}
