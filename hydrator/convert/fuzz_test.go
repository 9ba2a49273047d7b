package convert

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/openmigrate/openmigrate/hydrator/convert/disks"
)

// seeds adds the files of all machines in testdata whose names end so.
func seeds(f *testing.F, suffixes ...string) {
	names, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range names {
		a, err := txtar.ParseFile(name)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range a.Files {
			for _, s := range suffixes {
				if strings.HasSuffix(file.Name, s) {
					f.Add(file.Data)
				}
			}
		}
	}
}

// someone is an editor for a machine with a root and a swap; it has no files.
func someone() *editor {
	s := &System{ESP: -1, Volumes: []disks.Volume{
		{Disk: 0, Partition: 1, Type: "ext4", UUID: "8f2a1c5e-0f6b-4c6e-9b8f-1f1a2b3c4d5e"}, {Disk: 0, Partition: 2, Type: "swap", UUID: "11112222-3333-4444-5555-666677778888"}}}
	return &editor{system: s, target: Target{Platform: KVM}, report: &Report{}}
}

// twice fails unless what fn makes stays as it is when it is given to fn.
func twice(t *testing.T, b []byte, fn func([]byte) []byte) []byte {
	t.Helper()
	once := fn(b)
	if again := fn(once); !bytes.Equal(once, again) {
		t.Errorf("%q becomes %q and then %q", b, once, again)
	}
	return once
}

func FuzzFstab(f *testing.F) {
	seeds(f, "etc/fstab")
	f.Fuzz(func(t *testing.T, b []byte) {
		tab := parseFstab(b)
		if got := tab.bytes(); !bytes.Equal(got, b) {
			t.Errorf("%q comes back as %q", b, got)
		}
		s := someone().system
		for _, e := range tab.entries() {
			if i, how := s.findEntry(tab, e); i >= len(s.Volumes) || (i < 0) != (how == byNothing) {
				t.Errorf("%q is volume %d by %d", e.source(), i, how)
			}
			_ = e.virtual() || e.remote() || e.skipped()
			e.addOption("nofail")
		}
	})
}

func FuzzGrub(f *testing.F) {
	seeds(f, "grub.cfg", "default/grub", ".conf")
	f.Add([]byte("linux /vmlinuz root=/dev/sda1 \"a b\" 'c\nlinux16 (hd0,1)/k root=LABEL=x resume=/dev/sda9\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		e := someone()
		for _, fn := range []func([]byte) []byte{e.grubCfg, e.grubDefaults, e.oneCmdline,
			func(b []byte) []byte { return e.matching(b, optionLine) }, func(b []byte) []byte { return e.matching(b, appendLine) }} {
			if got := twice(t, b, fn); bytes.Count(got, []byte("\n")) != bytes.Count(b, []byte("\n")) {
				t.Errorf("%q has other lines than %q", got, b)
			}
		}
	})
}

func FuzzGrubEnv(f *testing.F) {
	env := grubEnvHeader + "saved_entry=x\nkernelopts=root=/dev/sda1 ro resume=/dev/sda9\n"
	f.Add([]byte(env))
	f.Fuzz(func(t *testing.T, b []byte) {
		e := someone()
		if len(b) < grubEnvSize {
			b = append(b, bytes.Repeat([]byte("#"), grubEnvSize-len(b))...)
		}
		if got := twice(t, b, e.grubEnv); len(got) != len(b) {
			t.Errorf("the block has %d bytes", len(got))
		}
	})
}

func FuzzCrypttab(f *testing.F) {
	seeds(f, "etc/crypttab", "lvm.conf", "modprobe.d/local.conf")
	f.Fuzz(func(t *testing.T, b []byte) { twice(t, b, lvmFilter) })
}

func FuzzNetworkFiles(f *testing.F) {
	seeds(f, ".network", ".link", ".yaml", "ifcfg-ens192", ".nmconnection", "interfaces")
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _, _, _ = pinned(b, "MACAddress", "Name"), forOldCard(b), ethernet(b), renderer.FindSubmatch(b)
		_ = ifaceLine.FindAllSubmatch(b, -1)
		_ = packageVersion(bytes.NewReader(b), "ifupdown")
	})
}
