package qemu

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/openmigrate/openmigrate/providers"
)

// Networks that are always there. Bridges follow as "bridge:NAME".
const (
	Isolated     = "isolated"
	NAT          = "nat"
	bridgePrefix = "bridge:"
)

// Limits of a machine.
const (
	maxCPUs   = 255
	minMemory = 64 << 20 // bytes
	maxMemory = 4 << 40
	maxDisks  = 20 // every disk of some buses takes a slot of the root bus, of which there are 32
	maxNICs   = 8
	maxVolume = 16 << 40 // bytes: what ext4 takes in one file
)

// nicModels are the cards that a machine can have, the first one by default.
var nicModels = map[string]string{"virtio": "virtio-net-pci", "e1000": "e1000", "e1000e": "e1000e", "vmxnet3": "vmxnet3", "rtl8139": "rtl8139"}

// Capabilities implements providers.Catalogue. The notes say how machines are accelerated, once that has been found out.
func (p *Provider) Capabilities(ctx context.Context) (providers.Capabilities, error) {
	c := p.capabilities()
	if found, ok := p.accel.known(); ok {
		c.Notes = append(c.Notes, "machines run with "+found.Name+": "+found.Reason)
	}
	for _, program := range []string{p.opts.QEMU, p.opts.QEMUImg} {
		if _, err := exec.LookPath(program); err != nil {
			c.Notes = append(c.Notes, fmt.Sprintf("%s is missing: %v", program, err))
			if program == p.opts.QEMU {
				c.Unusable = fmt.Sprintf("%s is missing; install the package qemu-system-x86", program)
			}
		}
	}
	return c, ctx.Err()
}

func (p *Provider) capabilities() providers.Capabilities {
	_, err := exec.LookPath(p.opts.QEMUImg)
	overlays := err == nil
	sharing := "copies of volumes take their data's size; on XFS or btrfs they would share blocks"
	if p.reflink {
		sharing = "copies of volumes share blocks"
	}
	return providers.Capabilities{
		Provider: "qemu", Notes: []string{sharing},
		MinVolume: 512, MaxVolume: maxVolume, VolumeStep: 512,
		VolumeSources: []providers.SourceKind{providers.FromNothing, providers.FromVolume, providers.FromSnapshot},
		ThinClones:    overlays, Lazy: overlays, SnapshotInUse: p.reflink,
		Writers:         []providers.WriterKind{providers.WriterFile},
		InstanceSources: []providers.SourceKind{providers.FromVolume, providers.FromSnapshot},
		MaxDisks:        maxDisks, MaxNICs: maxNICs, MAC: true, Address: true, Forwards: true, Console: true, Screenshot: true,
		ConcurrentTokens: true,
		InstanceSettings: []providers.Setting{
			{Name: "nic", Help: "model of the network cards; virtio by default", Values: []string{"virtio", "e1000", "e1000e", "vmxnet3", "rtl8139"}},
			{Name: "clock", Help: "what the hardware clock shows; utc by default", Values: []string{"utc", "localtime"}},
		},
	}
}

// InstanceTypes implements providers.Catalogue: the usual sizes that this host could run. CreateInstance takes any other of the form cN-mM, with N processors and
// M MiB of memory.
func (p *Provider) InstanceTypes(ctx context.Context) ([]providers.InstanceType, error) {
	var types []providers.InstanceType
	for _, cpus := range []int{1, 2, 4, 8, 16, 32, 64} {
		if cpus > max(2, runtime.NumCPU()) {
			break
		}
		for _, mib := range []int{256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072, 262144} {
			t, err := parseType(fmt.Sprintf("c%d-m%d", cpus, mib))
			if err != nil {
				return nil, err
			}
			types = append(types, t)
		}
	}
	return types, ctx.Err()
}

// InstanceType implements providers.TypeByName.
func (p *Provider) InstanceType(id string) (providers.InstanceType, error) { return parseType(id) }

var typeForm = regexp.MustCompile(`^c([1-9][0-9]{0,2})-m([1-9][0-9]{0,7})$`)

func parseType(id string) (providers.InstanceType, error) {
	m := typeForm.FindStringSubmatch(id)
	if m == nil {
		return providers.InstanceType{}, fmt.Errorf("instance type %.80q: %w: types have the form c2-m4096, for 2 processors and 4096 MiB", id, providers.ErrNotFound)
	}
	cpus, _ := strconv.Atoi(m[1]) // the form has digits only
	mib, _ := strconv.ParseInt(m[2], 10, 64)
	if cpus > maxCPUs || mib<<20 < minMemory || mib<<20 > maxMemory {
		return providers.InstanceType{}, fmt.Errorf("instance type %s: %w: up to %d processors, and memory of %d to %d MiB", id, providers.ErrInvalid, maxCPUs, minMemory>>20, maxMemory>>20)
	}
	return providers.InstanceType{ID: id, CPUs: cpus, Memory: mib << 20, Architectures: []providers.Architecture{providers.AMD64},
		Firmware: []providers.Firmware{providers.BIOS, providers.UEFI},
		Buses:    []providers.Bus{providers.VirtioBlk, providers.VirtioSCSI, providers.NVMe, providers.AHCI, providers.PVSCSI},
		Platform: providers.PlatformKVM}, nil
}

// Networks implements providers.Catalogue.
func (p *Provider) Networks(ctx context.Context) ([]providers.Network, error) {
	all := []providers.Network{
		{ID: Isolated, Name: Isolated, Isolated: true, Help: "gives addresses and lets in what is forwarded to it; nothing gets out"},
		{ID: NAT, Name: NAT, Help: "reaches what this host reaches, the host's own loopback included; is reached through forwarded ports"},
	}
	for _, name := range bridges() {
		all = append(all, providers.Network{ID: bridgePrefix + name, Name: "bridge " + name, Direct: true, Help: "the network of the host's bridge " + name})
	}
	return all, ctx.Err()
}

// checkNICs refuses networks that are not there.
func checkNICs(nics []providers.NIC) error {
	for _, n := range nics {
		name, bridged := strings.CutPrefix(n.Network, bridgePrefix)
		switch {
		case n.Network == Isolated || n.Network == NAT:
			if n.Address.IsValid() && (!n.Address.Is4() || n.Address.IsLoopback() || n.Address.IsMulticast() || n.Address.IsUnspecified()) {
				return fmt.Errorf("%w: address %s on network %s: want one of IPv4", providers.ErrInvalid, n.Address, n.Network)
			}
		case !bridged:
			return fmt.Errorf("network %.80q: %w: there are %s, %s and bridge:NAME", n.Network, providers.ErrNotFound, Isolated, NAT)
		case !slices.Contains(bridges(), name):
			return fmt.Errorf("network %.80q: %w: this host has the bridges %q; make it with ip link add, or name another network in the launch template",
				n.Network, providers.ErrNotFound, bridges())
		case n.Address.IsValid() || len(n.Forward) > 0:
			return fmt.Errorf("%w: network %s: a bridge's addresses are given by what is on it, and its ports are not forwarded", providers.ErrInvalid, n.Network)
		}
	}
	return nil
}
