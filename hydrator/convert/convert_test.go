package convert

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/openmigrate/openmigrate/hydrator/convert/converttest"
	"github.com/openmigrate/openmigrate/hydrator/convert/disks"
	"github.com/openmigrate/openmigrate/hydrator/convert/fence"
	"github.com/openmigrate/openmigrate/hydrator/convert/tree"
	"github.com/openmigrate/openmigrate/internal/roottest"
	"github.com/openmigrate/openmigrate/wire"
)

// convertPath is set in a process that is to convert a disk and be killed.
const convertPath = "OPENMIGRATE_TEST_CONVERT"

func TestMain(m *testing.M) {
	if path := os.Getenv(convertPath); path != "" {
		s, err := Detect(context.Background(), []string{path})
		if err == nil {
			fmt.Println("detected")
			_, err = Convert(context.Background(), s, Target{Platform: KVM}, nil)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

func TestConvertSmall(t *testing.T) {
	m := converttest.New(t)
	path := m.Disk()
	before := sum(t, path)
	s, err := Detect(t.Context(), []string{path})
	if err != nil {
		t.Fatal(err)
	}
	if s.OS.ID != "debian" || s.Initramfs != "initramfs-tools" || !slices.Equal(s.Loaders, []string{"grub"}) || !slices.Equal(s.Networks, []string{"ifupdown"}) ||
		len(s.Kernels) != 1 || s.Kernels[0].Initramfs != "/boot/initrd.img-6.1-test" || s.root().Partition != 1 {
		t.Errorf("detected %+v", s)
	}
	if sum(t, path) != before {
		t.Error("detection changed the disk")
	}
	r := mustConvert(t, path)
	got := contents(t, path)
	uuid := "UUID=" + s.root().UUID
	for name, want := range map[string]string{
		"etc/fstab":                                           uuid + "\t/\text4\tdefaults\t0\t1\n/dev/sdc1\t/gone\text4\tdefaults,nofail\t0\t2\nnas:/opt /opt nfs defaults 0 0\n",
		"boot/grub/grub.cfg":                                  "linux /boot/vmlinuz-6.1-test root=" + uuid + " ro console=tty0 console=ttyS0,115200\n",
		"boot/initrd.img-6.1-test":                            m.Files["prepared"],
		"var/lib/openmigrate/backup/etc/fstab":                m.Files["etc/fstab"],
		"var/lib/openmigrate/backup/boot/initrd.img-6.1-test": m.Files["boot/initrd.img-6.1-test"],
		"etc/initramfs-tools/modules":                         strings.Join([]string{"virtio_pci", "virtio_blk", "nvme", "virtio_net"}, "\n") + "\n",
	} {
		if got[name] != want {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
	if len(r.Changes) == 0 {
		t.Error("the report is empty")
	}
	for name := range got {
		if strings.HasSuffix(name, ".openmigrate-new") || strings.HasPrefix(name, "tmp/") {
			t.Errorf("%s was left behind", name)
		}
	}
	if again := mustConvert(t, path); len(again.Changes) != 0 {
		t.Errorf("a second conversion changed %+v", again.Changes)
	}
	if diff := cmp.Diff(got, contents(t, path)); diff != "" {
		t.Errorf("a second conversion left other files:\n%s", diff)
	}
	clean(t, path)
}

func sum(t *testing.T, path string) string {
	t.Helper()
	out, err := exec.Command("sha256sum", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// A conversion that is killed at any moment leaves nothing mounted, and can be done again to the same end.
func TestKilled(t *testing.T) {
	t.Run("built", func(t *testing.T) { killed(t, converttest.New(t)) })
	t.Run("extended", func(t *testing.T) { killed(t, extendable(t, home(), zstandard)) })
}

func killed(t *testing.T, m *converttest.Machine) {
	path := m.Disk()
	original, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	start := func() *exec.Cmd {
		if err := os.WriteFile(path, original, 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), convertPath+"="+path, "TMPDIR="+t.TempDir())
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
			t.Fatalf("the process said %q: %v", line, err)
		}
		return cmd
	}
	cmd := start()
	begin := time.Now()
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	took := time.Since(begin)
	want := contents(t, path)
	const rounds = 8
	for i := range rounds {
		cmd := start()
		after := took * time.Duration(i+1) / rounds
		timer := time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
		err := cmd.Wait()
		timer.Stop()
		t.Logf("killed after %v: %v", after, err)
		clean(t, path)
		mustConvert(t, path)
		if diff := cmp.Diff(want, contents(t, path)); diff != "" {
			t.Errorf("after a kill:\n%s", diff)
		}
	}
	clean(t, path)
}

// What the machine's own program does wrong ends the conversion, and the old initramfs is still there.
func TestBadTools(t *testing.T) {
	for name, test := range map[string]struct {
		script string
		want   error
		text   string
	}{
		"fails":          {"#!/bin/sh\necho broken hook >&2\nexit 3\n", nil, "broken hook"},
		"takes for ever": {"#!/bin/sh\nsleep 1000 &\nexec sleep 1000\n", fence.ErrTimeout, ""},
		"no driver":      {"#!/bin/sh\ncat /boot/initrd.img-6.1-test >$2\n", nil, "left out the modules virtio_pci, virtio_blk"},
		"garbage":        {"#!/bin/sh\necho garbage >$2\n", errCompression, ""},
		"a link out":     {"#!/bin/sh\nls() { :; }\nrm -f $2 2>/dev/null\nln -s /proc/self/environ $2 2>/dev/null; exit 0\n", nil, "openmigrate-initramfs"},
		"fills memory":   {"#!/bin/sh\ncat /dev/zero >$2\n", nil, "No space left"},
	} {
		t.Run(name, func(t *testing.T) {
			m := converttest.New(t)
			m.Files["usr/sbin/mkinitramfs"] = test.script
			path := m.Disk()
			s, err := Detect(t.Context(), []string{path})
			if err != nil {
				t.Fatal(err)
			}
			options := &Options{Scratch: 8 << 20}
			if errors.Is(test.want, fence.ErrTimeout) {
				options.Timeout = 500 * time.Millisecond
			}
			_, err = Convert(t.Context(), s, Target{Platform: KVM}, options)
			if err == nil || test.want != nil && !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.text) || errors.Is(err, ErrRefused) {
				t.Errorf("conversion: %v", err)
			}
			if got := contents(t, path)["boot/initrd.img-6.1-test"]; got != m.Files["boot/initrd.img-6.1-test"] {
				t.Errorf("the old initramfs has %d bytes now", len(got))
			}
			clean(t, path)
		})
	}
}

// Refused before anything is changed, with a reason.
func TestRefused(t *testing.T) {
	for name, test := range map[string]struct {
		change func(files map[string]string)
		target Target
		want   string
	}{
		"no system":         {func(f map[string]string) { delete(f, "etc/os-release") }, Target{Platform: KVM}, "no root file system was found"},
		"no initramfs tool": {func(f map[string]string) { delete(f, "usr/sbin/mkinitramfs") }, Target{Platform: KVM}, "none of initramfs-tools, dracut"},
		"no kernel":         {func(f map[string]string) { delete(f, "boot/vmlinuz-6.1-test") }, Target{Platform: KVM}, "no kernel was found"},
		"no driver":         {func(map[string]string) {}, Target{Platform: VMware, Disk: "pvscsi"}, "no driver for the disks of VMware"},
		"no boot loader":    {func(f map[string]string) { delete(f, "boot/grub/grub.cfg") }, Target{Platform: KVM}, "no configuration of GRUB"},
		"no ESP":            {func(map[string]string) {}, Target{Platform: KVM, Firmware: UEFI}, "starts from BIOS only"},
		"missing disk":      {func(f map[string]string) { f["etc/fstab"] += "UUID=gone /boot ext4 defaults 0 2\n" }, Target{Platform: KVM}, "replicate the disk that holds it"},
	} {
		t.Run(name, func(t *testing.T) {
			m := converttest.New(t)
			test.change(m.Files)
			path := m.Disk()
			before := sum(t, path)
			s, err := Detect(t.Context(), []string{path})
			if err == nil {
				_, err = Convert(t.Context(), s, test.target, nil)
			}
			if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v", err)
			}
			if sum(t, path) != before {
				t.Error("the disk was changed")
			}
			clean(t, path)
		})
	}
}

func TestRefusedDisks(t *testing.T) {
	roottest.Need(t, "mounts")
	head := func(name string) []byte {
		b, err := os.ReadFile("../../internal/partition/fsprobe/testdata/" + name + ".head.gz")
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for name, want := range map[string]string{"luks2": "encrypted (LUKS)", "luks1": "encrypted (LUKS)", "ntfs": "Windows cannot be converted", "swap": "is the boot disk among them"} {
		path := filepath.Join(t.TempDir(), name)
		cmd := exec.Command("sh", "-c", `gzip -dc >"$1"; truncate -s 80M "$1"`, "sh", path)
		cmd.Stdin = bytes.NewReader(head(name))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if _, err := Detect(t.Context(), []string{path}); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Detect(t.Context(), nil); !errors.Is(err, ErrRefused) {
		t.Errorf("no disks: %v", err)
	}
	if _, err := Detect(t.Context(), []string{"/missing"}); !errors.Is(err, disks.ErrNoDisk) {
		t.Errorf("a missing disk: %v", err)
	}
}

func TestNoBootCode(t *testing.T) {
	path := converttest.New(t).Disk()
	if out, err := exec.Command("dd", "if=/dev/zero", "of="+path, "bs=440", "count=1", "conv=notrunc").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	s, err := Detect(t.Context(), []string{path})
	if err != nil {
		t.Fatal(err)
	}
	if err := Check(t.Context(), s, Target{Platform: KVM}); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "no disk can start a machine") {
		t.Errorf("%v", err)
	}
}

// The mark is for root alone, whatever was there, and changes nothing else.
func TestMark(t *testing.T) {
	if MarkPath != wire.CopyMarkPath {
		t.Errorf("the mark is at %s, and agents look at %s", MarkPath, wire.CopyMarkPath)
	}
	m := converttest.New(t)
	m.Files["var/lib/openmigrate/copy.json"] = "of an earlier copy"
	path := m.Disk()
	mustConvert(t, path)
	for _, mark := range []string{"one", "two"} {
		target := Target{Platform: KVM, Mark: []byte(mark)}
		s, err := Detect(t.Context(), []string{path})
		if err != nil {
			t.Fatal(err)
		}
		r, err := Convert(t.Context(), s, target, nil)
		if err != nil || len(r.Changes) != 1 || r.Changes[0].Path != MarkPath || r.Changes[0].Backup != "" {
			t.Errorf("%+v, %v", r, err)
		}
		got := contents(t, path)
		if got[MarkPath[1:]] != mark {
			t.Errorf("the mark is %q", got[MarkPath[1:]])
		}
		err = disks.Private(t.Context(), func(space *disks.Space) error {
			return s.withRoot(space, true, func(tr *tree.Tree) error {
				info, err := tr.Lstat(MarkPath)
				if err == nil && info.Mode() != 0o600 {
					t.Errorf("its mode is %v", info.Mode())
				}
				return err
			})
		})
		if err != nil {
			t.Error(err)
		}
		if r, err := Convert(t.Context(), s, target, nil); err != nil || len(r.Changes) != 0 {
			t.Errorf("again: %+v, %v", r, err)
		}
	}
	clean(t, path)
}

// A disk that changed since it was looked at is not converted by what was seen then.
func TestChangedDisk(t *testing.T) {
	m := converttest.New(t)
	path := m.Disk()
	s, err := Detect(t.Context(), []string{path})
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("tune2fs", "-U", "random", path+"?offset=1048576").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if _, err := Convert(t.Context(), s, Target{Platform: KVM}, nil); err == nil || !strings.Contains(err.Error(), "detect it again") {
		t.Errorf("%v", err)
	}
}

// Links of the machine's that lead to files of ours do not reach them.
func TestHostileLinks(t *testing.T) {
	m := converttest.New(t)
	victim := filepath.Join(t.TempDir(), "victim")
	if err := os.WriteFile(victim, []byte("ours"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(m.Root, "etc/network"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(m.Root, "var/lib"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"etc/netplan": filepath.Dir(victim), "var/lib/openmigrate": filepath.Dir(victim), "tmp": "/proc"} {
		if err := os.Symlink(to, filepath.Join(m.Root, name)); err != nil {
			t.Fatal(err)
		}
	}
	path := m.Disk()
	s, err := Detect(t.Context(), []string{path})
	if err == nil {
		_, err = Convert(t.Context(), s, Target{Platform: KVM}, nil)
	}
	t.Logf("conversion: %v", err)
	if b, err := os.ReadFile(victim); err != nil || string(b) != "ours" {
		t.Errorf("our file is %q, %v", b, err)
	}
	if left := slices.Sorted(maps.Keys(filesBelow(t, filepath.Dir(victim)))); !slices.Equal(left, []string{"victim"}) {
		t.Errorf("beside our file there are %q", left)
	}
	clean(t, path)
}

func filesBelow(t *testing.T, dir string) map[string]bool {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, e := range list {
		names[e.Name()] = true
	}
	return names
}
