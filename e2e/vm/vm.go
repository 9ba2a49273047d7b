// Package vm boots real Debian machines with the distribution's own kernel for tests: what the kernel that runs the tests
// cannot show (device mapper, a frozen root file system, tracking over reboots, whether a restored disk starts at all).
//
// Its parts:
//
//   - Build makes a disk image from a Recipe, once for each recipe, in the cache folder outside the clone. It needs root
//     and, when the image is not cached, Debian's mirror.
//   - Start runs QEMU on an overlay of an image, so no test sees what another one wrote. The processor is always emulated
//     (TCG): a /dev/kvm that opens is no proof that a guest runs on it.
//   - Package channel carries commands and files through a virtio-serial port, answered by the program in guest, which is
//     part of every image that Build makes. Images from elsewhere boot, too, but only have a console.
//
// Nothing listens anywhere but on unix sockets in a folder of the machine's own. A machine reaches the loopback ports of
// the host that Options.HostPorts names and nothing else.
//
// A Machine's methods belong to the test's goroutine, except Run, Put and Get, which may be called at once.
package vm

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/e2e/lab"
)

// Root is how an image keeps its root file system.
type Root string

// The roots.
const (
	Ext4 Root = "ext4"              // a partition, with /boot in it
	LVM  Root = "lvm in two pieces" // vg0/root on ext4, as lvextend leaves it, half of the group free for snapshots; /boot is a partition
)

// Recipe says what a machine's disk holds. Every image starts from BIOS and from UEFI.
type Recipe struct {
	Packages []string // Debian packages beyond the minimal ones
	Root     Root     // "": Ext4

	// Modules are the only drivers of the initramfs (MODULES=list), as on a server that was tuned to its hardware;
	// nil: those that most hardware needs.
	Modules []string

	// RootName is what boot loader and fstab call the root, such as /dev/sda3; "": by its UUID. LVM has its own name.
	RootName string

	SizeMiB int64 // of the disk; 0: 2048, or 3072 with LVM
}

// Image is a raw disk image that must not be written.
type Image struct{ Path string }

// Bus is how a machine's disks are attached.
type Bus string

// The buses.
const (
	VirtioSCSI Bus = "virtio-scsi" // /dev/sda
	VirtioBlk  Bus = "virtio-blk"  // /dev/vda
	NVMe       Bus = "nvme"        // /dev/nvme0n1
	SATA       Bus = "sata"        // /dev/sda
)

// Firmware is what starts the boot loader.
type Firmware string

// The firmwares.
const (
	BIOS Firmware = "bios" // SeaBIOS
	UEFI Firmware = "uefi" // OVMF, without Secure Boot
)

// Options are a machine's hardware. The zero value is a machine without a network that starts from BIOS.
type Options struct {
	Images   []Image  // further disks that begin as images
	Disks    []int64  // sizes in bytes of further, empty disks
	Bus      Bus      // "": VirtioSCSI
	Buses    []Bus    // of Images and Disks, in their order; those that it does not name are on Bus
	Firmware Firmware // "": BIOS
	Memory   int      // MiB; 0: 1024
	CPUs     int      // 0: 2

	// HostPorts are TCP ports on the host's 127.0.0.1 that the machine reaches as HostAddr:port. Naming none leaves it
	// without a network card, unless MACs has one.
	HostPorts []int

	// MACs are the addresses of network cards, each on a network of its own that leases 10.0.2.15; HostPorts are in the first one's. Naming none leaves one card,
	// with QEMU's address, if there are HostPorts.
	MACs []string `json:",omitempty"`
}

// HostAddr is the host as machines see it. QEMU keeps 10.0.2.2 for an unrestricted way to all of the host's loopback.
const HostAddr = "10.0.2.100"

// withDefaults fills in what Options leaves open.
func (o Options) withDefaults() Options {
	if o.Bus == "" {
		o.Bus = VirtioSCSI
	}
	if o.Firmware == "" {
		o.Firmware = BIOS
	}
	if o.Memory == 0 {
		o.Memory = 1024
	}
	if o.CPUs == 0 {
		o.CPUs = 2
	}
	return o
}

// cacheDir is the folder for images.
func cacheDir() (string, error) {
	dir := os.Getenv("OPENMIGRATE_CACHE")
	if dir == "" {
		out, err := command(context.Background(), filepath.Join(lab.Root(), "scripts/cache-dir"))
		if err != nil {
			return "", err
		}
		dir = strings.TrimSpace(string(out))
	}
	dir, err := filepath.Abs(filepath.Join(dir, "vm"))
	if err != nil {
		return "", err
	}
	return dir, os.MkdirAll(dir, 0o700)
}

// guestProgram builds the program in guest, the same bytes for the same source.
func guestProgram(ctx context.Context, dir string) (string, error) {
	name := filepath.Join(dir, "vm-guest")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", name, "./e2e/vm/guest")
	cmd.Dir = lab.Root()
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build guest: %w\n%s", err, out)
	}
	return name, nil
}

// command runs a program and returns its standard output; the error has the end of what it said. When ctx ends,
// everything that it started ends.
func command(ctx context.Context, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	if path, err := exec.LookPath(name); err == nil {
		cmd.Path = path
	} else if path, err := exec.LookPath("/usr/sbin/" + filepath.Base(name)); err == nil {
		cmd.Path, cmd.Err = path, nil
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		said := strings.TrimSpace(stderr.String())
		return nil, fmt.Errorf("%s: %w: %s (are the packages there? run scripts/setup e2e)", name, err, said[max(0, len(said)-2000):])
	}
	return stdout.Bytes(), nil
}

// mustJSON encodes what cannot fail to be encoded.
func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

func fatal(t testing.TB, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}
