package launch

import (
	"slices"
	"strconv"
	"strings"

	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/providers"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

// inspectInventory takes from the source's inventory what the template leaves out, and refuses what it shows to be hopeless. The inventory is
// the agent's word; a node looks at the disks afterwards.
func (q *planner) inspectInventory() error {
	q.need = providers.Need{CPUs: q.template.CPUs, Memory: q.template.Memory, Firmware: providers.Firmware(q.template.Firmware)}
	inv := q.machine.Inventory
	if inv == nil {
		inv = &wire.Inventory{}
	}
	if q.need.CPUs == 0 {
		q.need.CPUs = inv.CPU.Count
	}
	if q.need.Memory == 0 {
		q.need.Memory = inv.MemoryBytes
	}
	if q.need.Firmware == "" {
		q.need.Firmware = providers.Firmware(inv.Firmware.Type)
	}
	q.need.Architecture = providers.Architecture(inv.Kernel.Arch)
	if q.need.Architecture == "" {
		q.need.Architecture = providers.AMD64
		q.warn("the processor of machine %s is not known: amd64 is assumed", q.machine.Name)
	}
	if q.need.Firmware != providers.BIOS && q.need.Firmware != providers.UEFI {
		return unfit("how machine %s starts is not known", q.machine.Name).WithNext("set firmware (bios or uefi) in the launch template")
	}
	if q.template.Type == "" && (q.need.CPUs <= 0 || q.need.Memory <= 0) {
		return unfit("how large machine %s is, is not known", q.machine.Name).WithNext("set type, or cpus and memory, in the launch template")
	}
	return q.inspectDisks(newDevices(inv))
}

// inspectDisks looks for the disk to start from.
func (q *planner) inspectDisks(all devices) error {
	known := true
	best, score := 0, 0
	for i, d := range q.point.Disks {
		b := all.byID(d.ID)
		if b == nil {
			known = false
			continue
		}
		if s := bootScore(b, q.need.Firmware); s > score {
			best, score = i, s
		}
	}
	if !known {
		// Images, and disks that are gone: the node that looks at them knows better.
		if score > 0 {
			q.plan.Boot = best
		}
		return nil
	}
	root, encrypted := all.root()
	switch {
	case root != nil && !slices.ContainsFunc(q.point.Disks, func(d format.Disk) bool { return d.ID == root.ID }):
		return unfit("disk %s, which holds the root file system of machine %s, is not in restpoint %s", root.Name, q.machine.Name, q.point.ID).
			WithNext("replicate it: openmigrate machines set " + q.machine.Name + " --disk …")
	case encrypted && !q.template.AsIs:
		return unfit("the root file system of machine %s is encrypted (LUKS): it cannot be converted, and nobody could type its passphrase", q.machine.Name).
			WithNext("decrypt it, or unlock it by a key that the copy has, and set as_is in the launch template")
	case score == 0:
		return unfit("restpoint %s has no disk that a machine with %s could start from: none has %s", q.point.ID, q.need.Firmware, bootNeeds[q.need.Firmware]).
			WithNext("replicate the disk that it starts from, or set firmware in the launch template")
	}
	q.plan.Boot = best
	return nil
}

var bootNeeds = map[providers.Firmware]string{
	providers.BIOS: "an MBR, or a GPT with a BIOS boot partition", providers.UEFI: "an EFI system partition",
}

// GUIDs and MBR types of partitions, as inventories write them.
const (
	espGUID      = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
	biosBootGUID = "21686148-6449-6e6f-744e-656564454649"
	espMBR       = "ef"
)

// bootScore says how likely firmware starts from a disk; 0: it cannot.
func bootScore(b *wire.BlockDevice, firmware providers.Firmware) int {
	if b.Table == nil {
		return 0
	}
	score := 0
	if firmware == providers.BIOS && b.Table.Scheme == "mbr" {
		score = 1
	}
	for _, p := range b.Table.Partitions {
		kind := strings.TrimPrefix(strings.ToLower(p.Type), "0x")
		switch {
		case firmware == providers.UEFI && (kind == espGUID || kind == espMBR),
			firmware == providers.BIOS && kind == biosBootGUID, firmware == providers.BIOS && b.Table.Scheme == "mbr" && p.Bootable:
			score = max(score, 3)
		}
	}
	return score
}

// devices finds its way through an inventory.
type devices struct {
	inv    *wire.Inventory
	byName map[string]*wire.BlockDevice
}

func newDevices(inv *wire.Inventory) devices {
	d := devices{inv, map[string]*wire.BlockDevice{}}
	for i := range inv.Devices {
		d.byName[inv.Devices[i].Name] = &inv.Devices[i]
	}
	return d
}

func (d devices) byID(id string) *wire.BlockDevice {
	for i := range d.inv.Devices {
		if d.inv.Devices[i].ID == id {
			return &d.inv.Devices[i]
		}
	}
	return nil
}

// root returns the disk that holds the root file system, nil if that is not clear, and whether encryption lies between the two.
func (d devices) root() (disk *wire.BlockDevice, encrypted bool) {
	for _, f := range d.inv.Filesystems {
		if f.Mountpoint == "/" {
			return d.below(f.Device, 0)
		}
	}
	return nil, false
}

const maxStack = 16 // devices on one another; an inventory may lie

func (d devices) below(name string, depth int) (disk *wire.BlockDevice, encrypted bool) {
	if depth > maxStack {
		return nil, false
	}
	if b := d.byName[name]; b != nil {
		encrypted = strings.HasPrefix(b.DMUUID, "CRYPT-") || b.Content != nil && b.Content.Type == "luks"
		if len(b.Slaves) == 0 {
			return b, encrypted
		}
		disk, below := d.below(b.Slaves[0], depth+1)
		return disk, encrypted || below
	}
	// A partition: sda2, nvme0n1p2.
	for i := range d.inv.Devices {
		b := &d.inv.Devices[i]
		rest, ok := strings.CutPrefix(name, b.Name)
		if !ok || b.Table == nil {
			continue
		}
		number := strings.TrimPrefix(rest, "p")
		for _, p := range b.Table.Partitions {
			if number == strconv.Itoa(p.Number) {
				return b, p.Content != nil && p.Content.Type == "luks"
			}
		}
	}
	return nil, false
}

// inspectSource refuses or warns of what a cutover would run into at its source.
func (q *planner) inspectSource(state string) error {
	m := q.machine
	rollback := "openmigrate launch cutover " + m.Name + " --restpoint " + m.Name + "/latest"
	switch {
	case m.Revoked:
		return unfit("the agent of machine %s was shut out, so its source cannot be frozen", m.Name).WithNext("bring up the newest restpoint without it: " + rollback)
	case m.Frozen != "":
		return unfit("the identity of machine %s is frozen: %s", m.Name, m.Frozen).WithNext("openmigrate machines unfreeze " + m.Name + ", or without the source: " + rollback)
	case m.Paused:
		return unfit("machine %s is paused, so no last restpoint can be made", m.Name).WithNext("openmigrate machines resume " + m.Name)
	case state == catalog.Disconnected:
		return unfit("the agent of machine %s was not heard of since %s, so its source cannot be frozen", m.Name, m.LastSeen.UTC().Format("2006-01-02 15:04:05Z")).
			WithNext("on its host: openmigrate-agent status; or without the source: " + rollback)
	case state == catalog.Stalled || state == catalog.Lagging:
		q.warn("machine %s is %s: the last restpoint has much to send while services are stopped", m.Name, state)
	}
	return nil
}
