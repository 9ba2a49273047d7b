package volume

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/openmigrate/openmigrate/agent/source/sourcetest"
)

// host is a folder like /sys/block, with attributes by their path.
func host(t *testing.T, attributes map[string]string) string {
	t.Helper()
	sys := t.TempDir()
	for name, text := range attributes {
		path := filepath.Join(sys, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return sys
}

func TestFindSerial(t *testing.T) {
	sys := host(t, map[string]string{
		"nvme0n1/device/serial": "vol0aaaaaaaaaaaaaaaa  \n", "nvme1n1/device/serial": "vol0bbbbbbbbbbbbbbbb\n",
		"nvme2n1/device/serial": "twice\n", "nvme2n2/device/serial": "twice\n",
		"nvme3n1/device/serial": "path0000\n", "nvme3c0n1/device/serial": "path0000\n", "nvme3c0n1/hidden": "1\n",
		"vda/serial": "0123456789abcdef0123", "vdb/serial": "short-0001", "sda/device/vpd_pg80": "\x00\x80\x00\x14scsi-serial-00000001 ",
		"vdc/serial": "", "dm-0/size": "1",
	})
	for serial, want := range map[string]string{
		"vol-0aaaaaaaaaaaaaaaa": "nvme0n1", "vol0bbbbbbbbbbbbbbbb": "nvme1n1", "path0000": "nvme3n1", "0123456789abcdef0123456789abcdef": "vda",
		"01234567-89ab-cdef-0123-456789abcdef": "vda", "short-0001": "vdb", "scsi-serial-00000001": "sda",
		"twice": "", "vol-0aaaaaaaaaaaaaaa": "", "vol-0aaaaaaaaaaaaaaaaa": "", "vol": "", "": "", "scsi-serial-000000012": "", "short": "", "../nvme0n1": "", "*": "",
		strings.Repeat("v", 100): "",
	} {
		if got, err := findSerial(sys, serial); got != want || (want == "") != errors.Is(err, ErrNoDisk) {
			t.Errorf("%q: %q, %v; want %q", serial, got, err, want)
		}
	}
}

// The device that is opened is the one that sysfs speaks of, and nobody else uses it.
func TestOpenSerial(t *testing.T) {
	if !sourcetest.LoopWanted() {
		return
	}
	backing := filepath.Join(t.TempDir(), "backing")
	if err := os.WriteFile(backing, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	d := sourcetest.NewLoopDevice(t, backing, sourcetest.LoopOptions{})
	name := filepath.Base(d.Path)
	number, err := os.ReadFile(filepath.Join("/sys/block", name, "dev"))
	if err != nil {
		t.Fatal(err)
	}
	sys := host(t, map[string]string{name + "/serial": "volume-1", name + "/dev": string(number), "null/serial": "volume-2", "null/dev": "1:3"})
	v, err := openSerial(sys, "/dev", "volume-1")
	if err != nil {
		t.Fatal(err)
	}
	if v.Size() != 1<<20 || !v.Device() || v.SetSize(1<<20+1) == nil {
		t.Errorf("a volume of %d bytes", v.Size())
	}
	if _, err := openSerial(sys, "/dev", "volume-1"); !errors.Is(err, ErrInUse) {
		t.Errorf("a second time: %v", err)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := openSerial(sys, "/dev", "volume-2"); !errors.Is(err, ErrKind) {
		t.Errorf("no block device: %v", err)
	}
	if err := os.WriteFile(filepath.Join(sys, name, "dev"), []byte("7:4000\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openSerial(sys, "/dev", "volume-1"); !errors.Is(err, ErrKind) {
		t.Errorf("another device of that name: %v", err)
	}
}
