package inventory

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/openmigrate/openmigrate/wire"
)

var update = flag.Bool("update", false, "write the golden files anew")

// host unpacks testdata/name.txtar: the files of a host. "-> x" is a symbolic link to x, "hex x" a file of
// those bytes.
func host(t *testing.T, name string) string {
	t.Helper()
	a, err := txtar.ParseFile("testdata/" + name + ".txtar")
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	for _, f := range a.Files {
		path := filepath.Join(root, f.Name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if target, ok := strings.CutPrefix(string(f.Data), "-> "); ok {
			err = os.Symlink(strings.TrimSpace(target), path)
		} else if digits, ok := strings.CutPrefix(string(f.Data), "hex "); ok {
			var b []byte
			if b, err = hex.DecodeString(strings.TrimSpace(digits)); err == nil {
				err = os.WriteFile(path, b, 0o644)
			}
		} else {
			err = os.WriteFile(path, f.Data, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func collect(t *testing.T, name string) *wire.Inventory {
	t.Helper()
	inv, err := Collect(context.Background(), Options{
		Root:       host(t, name),
		OpenDevice: disks[name].open,
		Addresses: func() (map[string][]string, error) {
			return map[string][]string{"enp1s0": {"192.0.2.10/24", "2001:db8::10/64"}, "eth0": {"10.0.0.4/20"}}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return inv
}

func TestCollect(t *testing.T) {
	for name, selected := range map[string][]string{
		"debian-virtio-lvm": {"vda", "vdb"},
		"cloud-nvme-gpt":    {"nvme0n1", "nvme1n1"},
		"metal-md-raid":     {"sda", "sdb"},
	} {
		t.Run(name, func(t *testing.T) {
			inv := collect(t, name)
			got, err := json.MarshalIndent(inv, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, '\n')
			golden := "testdata/" + name + ".json"
			if *update {
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), string(got)); d != "" {
				t.Error(d)
			}
			var names []string
			for _, d := range Disks(inv) {
				names = append(names, d.Name)
			}
			if !cmp.Equal(names, selected) {
				t.Errorf("selected %v, want %v", names, selected)
			}
			id, err := os.ReadFile(filepath.Join(host(t, name), "etc/machine-id"))
			if err != nil {
				t.Fatal(err)
			}
			for _, secret := range []string{strings.TrimSpace(string(id)), "hunter2"} {
				if bytes.Contains(got, []byte(secret)) {
					t.Errorf("the inventory holds %q", secret)
				}
			}
		})
	}
}

func TestCollectFromAnEmptyHost(t *testing.T) {
	inv, err := Collect(context.Background(), Options{Root: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if len(inv.Devices) != 0 || len(inv.Notes) != 0 || inv.Firmware.Type != "bios" {
		t.Errorf("%+v", inv)
	}
	if b, err := json.Marshal(inv); err != nil || !bytes.Contains(b, []byte(`"devices":[]`)) {
		t.Errorf("%s, %v", b, err)
	}
}

func TestCollectNotesWhatItCannotRead(t *testing.T) {
	const name = "debian-virtio-lvm"
	root := host(t, name)
	for _, path := range []string{"proc/cpuinfo", "proc/net/route"} { // reading a folder fails, even for root
		if err := os.Remove(filepath.Join(root, path)); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(filepath.Join(root, path), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	inv, err := Collect(context.Background(), Options{
		Root:       root,
		OpenDevice: func(context.Context, string) (Device, error) { return nil, errors.New("no such luck") },
		Addresses:  func() (map[string][]string, error) { return nil, errors.New("netlink is shut") },
	})
	if err != nil {
		t.Fatal(err)
	}
	noted := map[string]int{}
	for _, n := range inv.Notes {
		noted[n.Part]++
	}
	for _, part := range []string{"cpu", "routes", "partitions", "interfaces"} {
		if noted[part] == 0 {
			t.Errorf("no note on %s: %+v", part, inv.Notes)
		}
	}
	if len(Disks(inv)) != 2 || inv.Hostname == "" {
		t.Errorf("what can be read is missing too: %+v", inv)
	}
}

func TestCollectStops(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Collect(ctx, Options{Root: t.TempDir()}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestCollectIsBounded(t *testing.T) {
	root := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for i := range wire.MaxInventoryDevices + 10 {
		write(fmt.Sprintf("sys/block/sd%04d/device/model", i), strings.Repeat("m", 3000))
	}
	for i := range wire.MaxServices + 10 {
		write(fmt.Sprintf("etc/systemd/system/a.wants/unit-%s-%d.service", strings.Repeat("x", 200), i), "")
	}
	var mounts strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&mounts, "%d 1 8:%d / /mnt/%s%d rw - ext4 /dev/%s rw\n", i, i, strings.Repeat("p", 900), i, strings.Repeat("d", 900))
	}
	write("proc/self/mountinfo", mounts.String())
	inv, err := Collect(context.Background(), Options{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(inv)
	if err != nil || len(b) > wire.MaxJSON/2+16<<10 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	if len(inv.Notes) == 0 || len(inv.Devices) > wire.MaxInventoryDevices || len(inv.Services) != 0 {
		t.Errorf("%d devices, %d services, notes %+v", len(inv.Devices), len(inv.Services), inv.Notes)
	}
}

func TestHostFingerprint(t *testing.T) {
	root := host(t, "debian-virtio-lvm")
	original := HostFingerprint(root)
	change := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	same := func(why string, want bool) {
		t.Helper()
		if got := HostFingerprint(root) == original; got != want {
			t.Errorf("%s: the same is %v, want %v", why, got, want)
		}
	}
	change("sys/block/vda/serial", "another")
	change("proc/sys/kernel/osrelease", "6.9.9")
	same("another disk and kernel", true)
	change("sys/class/dmi/id/product_uuid", "7f000000-0000-4000-8000-00000000ffff\n")
	same("another machine", false)
	change("sys/class/dmi/id/product_uuid", "00000000-0000-0000-0000-000000000000\n")
	byDisk := HostFingerprint(root)
	change("sys/block/vda/serial", "a third")
	if HostFingerprint(root) == byDisk {
		t.Error("without a UUID the disk's serial makes no difference")
	}
	if HostFingerprint(host(t, "cloud-nvme-gpt")) == original || len(original) != 32 {
		t.Error("two hosts have one fingerprint")
	}
}
