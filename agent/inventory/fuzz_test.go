package inventory

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"unicode/utf8"

	"github.com/openmigrate/openmigrate/wire"
)

// What people name their mounts, volumes and services ends up in these files.
func FuzzCollect(f *testing.F) {
	f.Add("28 1 8:1 / /a\\040b rw - ext4 /dev/sda1 rw\n", "head\n/dev/sda2 partition 100 0 -2\n", "ID=\"de\\\"bian\"\n", "h\n\teth0 00000000 0100A8C0 0003 0 0 100 00000000\n",
		"20010db8000000000000000000000000 40 0 00 00000000000000000000000000000000 00000100 1 0 00000001 eth0\n")
	f.Add("28 1 0:33 /@ /\\9 rw - btrfs /dev/mapper/x rw", "a b 99999999999999999999", "ID='", "a 0 0 zz 0 0 0 0", "x")
	f.Fuzz(func(t *testing.T, mounts, swaps, release, route4, route6 string) {
		root := t.TempDir()
		for name, text := range map[string]string{
			"proc/self/mountinfo": mounts, "proc/swaps": swaps, "etc/os-release": release, "proc/net/route": route4, "proc/net/ipv6_route": route6,
			"proc/cmdline": mounts, "proc/cpuinfo": release, "proc/meminfo": swaps, "etc/machine-id": release, "sys/block/sda/size": swaps, "sys/block/sda/device/model": mounts,
		} {
			path := filepath.Join(root, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		inv, err := Collect(context.Background(), Options{Root: root})
		if err != nil {
			t.Fatal(err)
		}
		b, err := json.Marshal(inv)
		if err != nil || !utf8.Valid(b) || len(b) > wire.MaxJSON {
			t.Fatalf("%d bytes of JSON, %v", len(b), err)
		}
		for _, fs := range inv.Filesystems {
			if len(fs.Mountpoint) > wire.MaxInventoryText || !utf8.ValidString(fs.Mountpoint) {
				t.Fatalf("%+v", fs)
			}
		}
	})
}
