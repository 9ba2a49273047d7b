package qemu

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"strconv"

	"github.com/openmigrate/openmigrate/providers"
)

// Firmware for UEFI as distributions install it: code, and the template of its variables.
var ovmf = [][2]string{
	{"/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"},
	{"/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"},
	{"/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"},
	{"/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"},
	{"/usr/share/qemu/ovmf-x86_64-code.bin", "/usr/share/qemu/ovmf-x86_64-vars.bin"},
}

// findOVMF returns the files of the UEFI firmware.
func findOVMF() (code, vars string, err error) {
	for _, pair := range ovmf {
		_, e1 := os.Stat(pair[0])
		_, e2 := os.Stat(pair[1])
		if e1 == nil && e2 == nil {
			return pair[0], pair[1], nil
		}
	}
	return "", "", fmt.Errorf("%w: the UEFI firmware is not installed on this host; install the package ovmf", providers.ErrInvalid)
}

const (
	consoleSize = 1 << 20 // bytes that QEMU keeps until they are read
	tbSize      = 256     // MiB of translated code
	varsName    = "vars.fd"
	userSubnet  = 2 // third byte of the first user network, as QEMU has it
)

// machine is all that a command line is made of. Names and tags of users are not in it.
type machine struct {
	id, uuid string
	typ      providers.InstanceType
	firmware providers.Firmware
	code     string // of the UEFI firmware
	vars     string
	bus      providers.Bus
	disks    []disk
	nics     []providers.InstanceNIC
	model    string
	clock    string
	accel    string
	taps     map[int]int // descriptor in QEMU by the card's index
}

// disk is one disk of a machine.
type disk struct {
	path    string
	format  string
	backing string          // raw file below a qcow2 overlay
	view    *providers.View // or what is served from elsewhere
	boot    bool
}

// object is a JSON object on a command line, where no quoting can go wrong.
type object map[string]any

func (o object) String() string {
	b, err := json.Marshal(o)
	if err != nil {
		panic(err) // made of strings and numbers here
	}
	return string(b)
}

// args is the command line, to be run in the instance's folder.
func (m *machine) args() []string {
	args := []string{
		"-nodefaults", "-no-user-config", "-display", "none", "-vga", "std",
		"-name", m.id, "-uuid", m.uuid, "-pidfile", "pid",
		"-smbios", "type=1,serial=" + m.id, // by which a system knows where it runs
		"-machine", m.machineType(), "-accel", accelArg(m.accel), "-cpu", cpuModel(m.accel),
		"-smp", strconv.Itoa(m.typ.CPUs), "-m", strconv.FormatInt(m.typ.Memory>>20, 10), "-rtc", "base=" + m.clock,
		// A machine that powers itself off stays until its console was read; one that QEMU cannot go on with is stopped, not ended.
		"-action", "shutdown=pause",
		"-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
		"-chardev", "ringbuf,id=console,size=" + strconv.Itoa(consoleSize), "-serial", "chardev:console",
		"-chardev", "socket,id=qmp,path=qmp,server=on,wait=off", "-mon", "chardev=qmp,mode=control",
		"-device", object{"driver": "virtio-rng-pci"}.String(),
	}
	if m.firmware == providers.UEFI {
		args = append(args,
			"-blockdev", object{"node-name": "code", "driver": "raw", "read-only": true, "file": object{"driver": "file", "filename": m.code}}.String(),
			"-blockdev", object{"node-name": "vars", "driver": "raw", "file": object{"driver": "file", "filename": m.vars}}.String())
	}
	args = append(args, m.diskArgs()...)
	return append(args, m.nicArgs()...)
}

func (m *machine) machineType() string {
	if m.firmware == providers.UEFI {
		return "q35,pflash0=code,pflash1=vars"
	}
	return "q35"
}

func accelArg(name string) string {
	if name == "kvm" {
		return "kvm"
	}
	return "tcg,thread=multi,tb-size=" + strconv.Itoa(tbSize)
}

// cpuModel has all that the acceleration can do.
func cpuModel(accel string) string {
	if accel == "kvm" {
		return "host"
	}
	return "max"
}

// ahciPorts is how many disks an AHCI controller takes, also the one that the machine has from the start.
const ahciPorts = 6

func (m *machine) diskArgs() []string {
	var args []string
	switch m.bus {
	case providers.VirtioSCSI:
		args = append(args, "-device", object{"driver": "virtio-scsi-pci", "id": "scsi"}.String())
	case providers.PVSCSI:
		args = append(args, "-device", object{"driver": "pvscsi", "id": "scsi"}.String())
	case providers.AHCI:
		for n := 1; n <= (len(m.disks)-1)/ahciPorts; n++ {
			args = append(args, "-device", object{"driver": "ahci", "id": fmt.Sprintf("ahci%d", n)}.String())
		}
	}
	order := 1
	for n, d := range m.disks {
		dev := object{"drive": nodeName(n), "serial": fmt.Sprintf("om-disk-%d", n), "bootindex": 0}
		if !d.boot {
			// The firmware tries the others in their order; without an index it might take the wrong one first.
			dev["bootindex"] = order
			order++
		}
		switch m.bus {
		case providers.VirtioBlk:
			dev["driver"] = "virtio-blk-pci"
		case providers.NVMe:
			dev["driver"] = "nvme"
		case providers.VirtioSCSI, providers.PVSCSI:
			dev["driver"], dev["bus"], dev["scsi-id"], dev["lun"] = "scsi-hd", "scsi.0", n, 0
		case providers.AHCI:
			controller := "ide"
			if n >= ahciPorts {
				controller = fmt.Sprintf("ahci%d", n/ahciPorts)
			}
			dev["driver"], dev["bus"] = "ide-hd", fmt.Sprintf("%s.%d", controller, n%ahciPorts)
		}
		args = append(args, "-blockdev", d.node(n).String(), "-device", dev.String())
	}
	return args
}

func nodeName(n int) string { return fmt.Sprintf("disk%d", n) }

// node is the block device of a disk. What lies below an overlay is said here and never read from the overlay, which a guest could have written.
func (d *disk) node(n int) object {
	file := object{"driver": "file", "filename": d.path, "discard": "unmap"}
	o := object{"node-name": nodeName(n), "driver": d.format, "discard": "unmap", "file": file}
	switch {
	case d.format != qcow2:
	case d.backing != "":
		o["backing"] = object{"driver": raw, "read-only": true, "file": object{"driver": "file", "filename": d.backing, "read-only": true}}
	case d.view != nil && d.view.Socket != "":
		o["backing"] = object{"driver": raw, "read-only": true, "file": object{"driver": "nbd", "read-only": true, "export": d.view.Export, "reconnect-delay": 60,
			"server": object{"type": "unix", "path": d.view.Socket}}}
	case d.view != nil:
		o["backing"] = object{"driver": raw, "read-only": true, "file": object{"driver": "file", "filename": d.view.File, "read-only": true}}
	default:
		o["backing"] = nil
	}
	return o
}

func (m *machine) nicArgs() []string {
	var args []string
	for n, nic := range m.nics {
		id := fmt.Sprintf("net%d", n)
		// Without its ROM a card cannot boot from the network, and needs no package of ROMs.
		dev := object{"driver": m.model, "netdev": id, "mac": nic.MAC, "romfile": ""}
		args = append(args, "-netdev", m.netdev(n, nic, id), "-device", dev.String())
	}
	return args
}

// netdev is made of numbers and addresses only.
func (m *machine) netdev(n int, nic providers.InstanceNIC, id string) string {
	if fd, ok := m.taps[n]; ok {
		return fmt.Sprintf("tap,id=%s,fd=%d,vhost=off", id, fd)
	}
	addr := nic.Addresses[0]
	host, dns := neighbours(addr)
	s := fmt.Sprintf("user,id=%s,ipv6=off,net=%s,host=%s,dns=%s,dhcpstart=%s", id, netip.PrefixFrom(addr, 24).Masked(), host, dns, addr)
	if nic.Network != NAT {
		s += ",restrict=on"
	}
	for _, f := range nic.Forwards {
		s += fmt.Sprintf(",hostfwd=tcp:%s-%s:%d", f.Address, addr, f.Port)
	}
	return s
}

// neighbours are the addresses of the gateway and the name server beside a machine's: .2 and .3, or others if the machine has these.
func neighbours(addr netip.Addr) (host, dns netip.Addr) {
	b := addr.As4()
	at := func(last byte) netip.Addr { b[3] = last; return netip.AddrFrom4(b) }
	switch addr.As4()[3] {
	case 2:
		return at(4), at(3)
	case 3:
		return at(2), at(4)
	}
	return at(2), at(3)
}
