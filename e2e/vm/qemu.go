package vm

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/openmigrate/openmigrate/e2e/vm/channel"
)

// Files of OVMF as Debian has them.
const (
	ovmfCode = "/usr/share/OVMF/OVMF_CODE_4M.fd"
	ovmfVars = "/usr/share/OVMF/OVMF_VARS_4M.fd"
)

// qemuArgs is the command line of a machine whose disks are these qcow2 files.
func (m *Machine) qemuArgs() []string {
	o := m.options
	args := []string{
		"-nodefaults", "-no-user-config", "-display", "none", "-vga", "std",
		"-M", "q35", "-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max",
		"-smp", fmt.Sprint(o.CPUs), "-m", fmt.Sprint(o.Memory),
		"-chardev", "file,id=console,append=on,path=" + m.console, "-serial", "chardev:console",
		"-qmp", "unix:" + m.socket("qmp") + ",server=on,wait=off",
		"-device", "virtio-serial-pci",
		"-chardev", "socket,id=commands,server=on,wait=off,path=" + m.socket("commands"),
		"-device", "virtserialport,chardev=commands,name=" + channel.PortName,
		"-device", "virtio-rng-pci",
	}
	if o.Firmware == UEFI {
		args = append(args, "-drive", "if=pflash,format=raw,readonly=on,file="+ovmfCode,
			"-drive", "if=pflash,format=raw,file="+m.vars())
	}
	buses := make([]Bus, len(m.disks))
	for i := range buses {
		buses[i] = o.Bus
		if i > 0 && i <= len(o.Buses) {
			buses[i] = o.Buses[i-1]
		}
	}
	if slices.Contains(buses, VirtioSCSI) {
		args = append(args, "-device", "virtio-scsi-pci,id=scsi")
	}
	for i, path := range m.disks {
		drive := fmt.Sprintf("d%d", i)
		// With two disks SeaBIOS takes the wrong one unless it is told.
		common := fmt.Sprintf(",drive=%s,serial=disk%d,bootindex=%d", drive, i, i)
		args = append(args, "-drive", "if=none,format=qcow2,discard=unmap,id="+drive+",file="+path, "-device", map[Bus]string{
			VirtioSCSI: "scsi-hd,bus=scsi.0",
			VirtioBlk:  "virtio-blk-pci",
			NVMe:       "nvme",
			SATA:       fmt.Sprintf("ide-hd,bus=ide.%d", i),
		}[buses[i]]+common)
	}
	cards := o.MACs
	if len(cards) == 0 && len(o.HostPorts) > 0 {
		cards = []string{""}
	}
	for i, mac := range cards {
		// Nothing gets out of a restricted network but to the ports that are forwarded, by a process for each connection.
		user := fmt.Sprintf("user,id=net%d,restrict=on", i)
		for _, port := range o.HostPorts {
			if i == 0 {
				user += fmt.Sprintf(",guestfwd=tcp:%s:%d-cmd:%s dial 127.0.0.1:%d", HostAddr, port, m.guest, port)
			}
		}
		card := fmt.Sprintf("virtio-net-pci,netdev=net%d", i)
		if mac != "" {
			card += ",mac=" + mac
		}
		args = append(args, "-netdev", user, "-device", card)
	}
	return args
}

func (m *Machine) socket(name string) string { return filepath.Join(m.sockets, name) }

func (m *Machine) vars() string { return filepath.Join(m.dir, "vars.fd") }

// copyVars gives the machine its own UEFI variables.
func (m *Machine) copyVars() error {
	b, err := os.ReadFile(ovmfVars)
	if err != nil {
		return fmt.Errorf("%w (run scripts/setup e2e)", err)
	}
	return os.WriteFile(m.vars(), b, 0o600)
}

// tail is the end of a text.
func tail(text string, n int) string { return strings.TrimSpace(text[max(0, len(text)-n):]) }
