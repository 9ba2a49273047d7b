//go:build e2e

package story

import (
	"crypto/sha256"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/openmigrate/openmigrate/e2e/lab"
	"github.com/openmigrate/openmigrate/e2e/vm"
)

// packages are what both source servers have beyond the plain machine.
var packages = []string{"postgresql-15", "ifupdown", "isc-dhcp-client"}

// tune makes the plain machine one that was tuned to the disk controller that it has, with names that it has nowhere else, and takes out what a test
// need not carry.
const tune = `
root=$(sed -n 's|^\(UUID=[^ ]*\) / .*|\1|p' /etc/fstab)
sed -i "s|$root|/dev/sda3|" /etc/fstab
sed -i "s|root=$root |root=/dev/sda3 |" /boot/grub/grub.cfg
grep -q '^/dev/sda3 / ' /etc/fstab
grep -q 'root=/dev/sda3 ' /boot/grub/grub.cfg
rm -rf /usr/share/doc /usr/share/locale /usr/share/man /usr/share/i18n /usr/share/postgresql/15/man \
	/usr/lib/x86_64-linux-gnu/libLLVM* /usr/lib/postgresql/15/lib/bitcode
release=$(ls /lib/modules)
cd "/lib/modules/$release/kernel"
# What an initramfs is made of is copied by one process for each file, several for some: with all of Debian's drivers that takes minutes on a small host.
rm -rf sound
find drivers -name '*.ko' | grep -Ev 'virtio|nvme|ahci|libata|ata_piix|ata_generic|sd_mod|sr_mod|cdrom|scsi_(mod|common)|e1000|dm-|md-mod|failover|button|evdev|serio|8250' | xargs rm
find fs net -name '*.ko' | grep -Ev 'ext4|jbd2|mbcache|fat|nls|autofs|efivarfs|fuse|configfs|failover' | xargs rm
cd /
depmod "$release"
rm -f /etc/initramfs-tools/conf.d/vm
echo MODULES=list >/etc/initramfs-tools/conf.d/tuned
printf '%s\n' virtio_pci virtio_scsi sd_mod ext4 >>/etc/initramfs-tools/modules
update-initramfs -u -k "$release"
# Without its compiler, which is the largest file of the system.
echo 'jit = off' >>/etc/postgresql/15/main/postgresql.conf
`

// dataSize is that of the second disk, which has PostgreSQL's volume group on it.
const dataSize = 1 << 30

// The controllers of the two disks. They differ because names on one controller depend on which disk answers first, and the root is called /dev/sda3.
const (
	rootBus = vm.VirtioSCSI
	dataBus = vm.SATA
)

// The ways in which the network card, by its name, is given an address.
const (
	ifupdown = "ifupdown"
	networkd = "networkd"
)

//go:embed source.sh
var sourceScript string

const (
	serverPath  = "/usr/local/sbin/story-server"
	servicePort = 7000 // of the server's HTTP
)

const serverUnit = `[Unit]
Description=the load of a test
Wants=postgresql.service
After=postgresql.service
StartLimitIntervalSec=0
[Service]
User=postgres
EnvironmentFile=-/etc/default/story
ExecStart=` + serverPath + ` -counter ${COUNTERS}
Restart=always
[Install]
WantedBy=multi-user.target
`

// sourceDisks returns the disks of a source server, which are made once and kept in the cache.
func sourceDisks(t *testing.T, network string) []vm.Image {
	t.Helper()
	program := filepath.Join(t.TempDir(), "story-server")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", program, "./e2e/story/server")
	cmd.Dir = lab.Root()
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build server: %v\n%s", err, out)
	}
	b, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	version := fmt.Sprintf("%s %x %s %s", network, sha256.Sum256(b), sourceScript, serverUnit)
	o := hardware(vm.BIOS)
	o.Disks, o.HostPorts = []int64{dataSize}, []int{9} // for the card, which has the name that it will have
	return vm.Derive(t, vm.Modify(t, vm.Build(t, vm.Recipe{}), packages, tune), o, version, func(m *vm.Machine) {
		ctx := limit(t)
		if err := m.Put(ctx, program, serverPath, 0o755); err != nil {
			t.Fatal(err)
		}
		put(t, m, "/etc/systemd/system/story-server.service", serverUnit)
		put(t, m, "/root/source.sh", sourceScript)
		t.Log(m.Shell(ctx, "sh -eux /root/source.sh "+network+" 2>&1; rm /root/source.sh"))
	})
}

// hardware is the source's.
func hardware(firmware vm.Firmware) vm.Options {
	// On a busy host a second emulated processor may lose its timer and hang the kernel's start.
	return vm.Options{Bus: rootBus, Buses: []vm.Bus{dataBus}, Firmware: firmware, CPUs: 1}
}

// put writes a file of the machine.
func put(t *testing.T, m *vm.Machine, name, text string) {
	t.Helper()
	r, err := m.RunInput(limit(t), []byte(text), "sh", "-ec", `mkdir -p "$(dirname "$1")"; umask 077; cat >"$1"`, "sh", name)
	if err != nil || r.Status != 0 {
		t.Fatalf("write %s in the machine: %v %s", name, err, strings.TrimSpace(string(r.Stderr)))
	}
}
