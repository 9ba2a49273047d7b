package convert

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/openmigrate/openmigrate/hydrator/convert/converttest"
)

// inside is an initramfs in the making.
type insides map[string]string

// links start with this.
const linkTo = "→"

func (in insides) archive() []byte {
	var b bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(in)) {
		e := cpioEntry{name: name, mode: cpioRegular | 0o644, links: 1}
		content, link := strings.CutPrefix(in[name], linkTo)
		switch {
		case link:
			e.mode = cpioLink | 0o777
		case strings.HasSuffix(name, "/"):
			e.name, e.mode = name[:len(name)-1], cpioFolder|0o755
		case strings.HasPrefix(content, "twice "):
			e.links = 2
		}
		writeCpio(&b, e, []byte(content))
	}
	writeCpio(&b, cpioEntry{name: cpioTrailer, links: 1}, nil)
	return b.Bytes()
}

// unpacked is what a kernel would make of an initramfs: later entries win, and links on the way are followed.
func unpacked(t *testing.T, b []byte) map[string]string {
	t.Helper()
	files := map[string]string{}
	a := &archive{modes: map[string]cpioEntry{}, text: map[string]string{}}
	_, err := readCpio(bytes.NewReader(b), func(e cpioEntry, r io.Reader) error {
		content, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		kind := e.mode & cpioType
		if have, ok := a.modes[e.name]; ok && have.mode&cpioType != kind {
			t.Errorf("%s changes its kind", e.name)
		}
		real, err := a.real(e.name)
		if err != nil {
			return err
		}
		if kind != cpioLink && real != e.name {
			t.Errorf("%s is put where a link is", e.name)
		}
		if dir, _, ok := cutLast(e.name); ok && a.modes[dir].mode&cpioType != cpioFolder {
			t.Errorf("%s has no folder", e.name)
		}
		a.modes[e.name] = e
		if kind == cpioLink {
			a.text[e.name] = string(content)
		}
		if kind == cpioRegular {
			files[e.name] = string(content)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func cutLast(name string) (dir, base string, ok bool) {
	i := strings.LastIndex(name, "/")
	if i < 0 {
		return "", name, false
	}
	return name[:i], name[i+1:], true
}

// home is the initramfs of a machine that has LVM and once had another swap.
func home() insides {
	return insides{
		"init": "#!/bin/sh", "lib": linkTo + "usr/lib", "usr/": "", "usr/lib/": "", "usr/lib/modules/": "", "usr/lib/modules/6.1-test/": "",
		"usr/lib/modules/6.1-test/kernel/": "", "usr/lib/modules/6.1-test/kernel/virtio_pci.ko": "module virtio_pci",
		"usr/lib/modules/6.1-test/modules.dep": "old", "usr/lib/modules/6.1-test/modules.dep.bin": "old",
		"conf/": "", "conf/conf.d/": "", "conf/conf.d/zz-resume-auto": "RESUME=UUID=gone\n", "conf/initramfs.conf": "MODULES=dep\n",
		"etc/": "", "etc/modprobe.d/": "", "etc/modprobe.d/local.conf": "blacklist nvme\n", "etc/passwd": "root",
		"etc/multipath/": "", "etc/multipath/wwids": "/3600/\n",
	}
}

// extendable has that initramfs, compressed by pack.
func extendable(t *testing.T, in insides, pack func([]byte) []byte) *converttest.Machine {
	t.Helper()
	m := converttest.New(t)
	m.Drivers()
	m.Files["boot/initrd.img-6.1-test"] = string(pack(in.archive()))
	m.Files["etc/modprobe.d/local.conf"] = "blacklist nvme\n"
	m.Files["etc/multipath/wwids"] = "/3600/\n"
	return m
}

func asIs(b []byte) []byte { return b }

// What an initramfs lacks goes behind it: drivers with what they need, and new versions of what it has. The program of the machine is not run.
func TestExtend(t *testing.T) {
	for name, pack := range map[string]func([]byte) []byte{"plain": asIs, "gzip": converttest.Gzipped, "zstd": zstandard,
		"odd": func(b []byte) []byte { return append(zstandard(b), 0) }} {
		t.Run(name, func(t *testing.T) {
			m := extendable(t, home(), pack)
			path := m.Disk()
			r := mustConvert(t, path)
			got := contents(t, path)
			initramfs, old := got["boot/initrd.img-6.1-test"], m.Files["boot/initrd.img-6.1-test"]
			if !strings.HasPrefix(initramfs, old) || got["var/lib/openmigrate/backup/boot/initrd.img-6.1-test"] != old {
				t.Error("the initramfs was not kept")
			}
			if i := slices.IndexFunc(r.Changes, func(c Change) bool { return c.Path == "/boot/initrd.img-6.1-test" }); i < 0 || r.Changes[i].Action != "extended" {
				t.Errorf("the report says %+v", r.Changes)
			}
			want := unpacked(t, home().archive())
			dir := "lib/modules/6.1-test/"
			for _, name := range []string{"kernel/virtio_blk.ko", "kernel/virtio_ring.ko", "kernel/virtio_net.ko", "kernel/nvme.ko", "modules.dep", "modules.dep.bin", "modules.alias.bin"} {
				want["usr/"+dir+name] = m.Files[dir+name]
			}
			want["conf/conf.d/zz-resume-auto"] = "RESUME=none\n"
			want["etc/modprobe.d/local.conf"] = "#blacklist nvme\n"
			want["etc/multipath/wwids"] = ""
			if diff := cmp.Diff(want, unpacked(t, []byte(initramfs))); diff != "" {
				t.Errorf("in the initramfs:\n%s", diff)
			}
			if again := mustConvert(t, path); len(again.Changes) != 0 {
				t.Errorf("a second conversion changed %+v", again.Changes)
			}
			clean(t, path)
		})
	}
}

// An initramfs that has all stays as it is.
func TestNothingToExtend(t *testing.T) {
	in := insides{"init": "", "lib/": "", "lib/modules/": "", "lib/modules/6.1-test/": ""}
	for _, m := range append(converttest.Modules, "virtio_ring") {
		in["lib/modules/6.1-test/"+m+".ko"] = "module " + m
	}
	m := extendable(t, in, zstandard)
	path := m.Disk()
	r := mustConvert(t, path)
	if contents(t, path)["boot/initrd.img-6.1-test"] != m.Files["boot/initrd.img-6.1-test"] ||
		slices.ContainsFunc(r.Changes, func(c Change) bool { return strings.HasPrefix(c.Path, "/boot/initrd") }) {
		t.Errorf("it was changed: %+v", r.Changes)
	}
}

// What cannot be said by adding files is left to the machine's own program, and the report says why.
func TestMustBuild(t *testing.T) {
	for name, test := range map[string]struct {
		change func(insides, map[string]string)
		pack   func([]byte) []byte
		want   string
	}{
		"another compression": {nil, func([]byte) []byte { return []byte("\xfd7zXZ\x00\x00") }, "compression is not known"},
		"garbage":             {nil, func(b []byte) []byte { return b[:len(b)/2] }, "read initramfs"},
		"no init":             {func(in insides, _ map[string]string) { delete(in, "init") }, asIs, "it has no init"},
		"packed modules": {func(in insides, _ map[string]string) {
			delete(in, "usr/lib/modules/6.1-test/kernel/virtio_pci.ko")
			in["usr/lib/modules/6.1-test/kernel/virtio_pci.ko.xz"] = ""
		}, asIs, "packed as .ko.xz"},
		"no index":    {func(_ insides, f map[string]string) { delete(f, "lib/modules/6.1-test/modules.alias.bin") }, asIs, "modules.alias.bin is missing"},
		"lost module": {func(_ insides, f map[string]string) { delete(f, "lib/modules/6.1-test/kernel/nvme.ko") }, asIs, "kernel/nvme.ko is not where"},
		"two names":   {func(in insides, _ map[string]string) { in["conf/conf.d/zz-resume-auto"] = "twice \nRESUME=UUID=gone\n" }, asIs, "cannot be replaced"},
		"list of LVM's": {func(in insides, f map[string]string) {
			f["etc/lvm/devices/system.devices"] = "IDTYPE=sys_wwid"
			in["etc/lvm/devices/system.devices"] = f["etc/lvm/devices/system.devices"]
		}, asIs, "system.devices"},
		"a loop of links": {func(in insides, _ map[string]string) {
			for name := range in {
				if strings.HasPrefix(name, "usr/lib") {
					delete(in, name)
				}
			}
			in["usr/lib"] = linkTo + "../lib"
		}, asIs, "too many links"},
	} {
		t.Run(name, func(t *testing.T) {
			in := home()
			m := converttest.New(t)
			program := m.Files["usr/sbin/mkinitramfs"]
			m = extendable(t, in, asIs)
			m.Files["usr/sbin/mkinitramfs"] = program
			if test.change != nil {
				test.change(in, m.Files)
			}
			m.Files["boot/initrd.img-6.1-test"] = string(test.pack(in.archive()))
			path := m.Disk()
			r := mustConvert(t, path)
			if got := contents(t, path)["boot/initrd.img-6.1-test"]; got != m.Files["prepared"] {
				t.Errorf("the initramfs has %d bytes", len(got))
			}
			i := slices.IndexFunc(r.Changes, func(c Change) bool { return c.Path == "/boot/initrd.img-6.1-test" })
			if i < 0 || r.Changes[i].Action != "built" || !strings.Contains(r.Changes[i].Reason, test.want) {
				t.Errorf("the report says %+v", r.Changes)
			}
		})
	}
}

// What dracut put into an initramfs that it made for one machine only.
func TestDracutAdapts(t *testing.T) {
	path := converttest.New(t).Disk()
	s, err := Detect(context.Background(), []string{path})
	if err != nil {
		t.Fatal(err)
	}
	uuid := s.root().UUID
	e := &editor{system: s, report: &Report{}}
	for _, test := range []struct{ name, text, want string }{
		{"etc/cmdline.d/00-root.conf", "rd.lvm.lv=vg/root root=/dev/sda1 resume=/dev/sdq7\n", "rd.lvm.lv=vg/root root=UUID=" + uuid + "\n"},
		{"lib/dracut/hooks/initqueue/finished/devexists-x.sh", "[ -e \"/dev/disk/by-uuid/" + uuid + "\" ]\n", "as it is"},
		{"lib/dracut/hooks/initqueue/finished/devexists-y.sh", "[ -e \"/dev/sda1\" ]\n", "build"},
		{"lib/dracut/hooks/initqueue/finished/devexists-z.sh", "[ -e \"/dev/disk/by-uuid/1234\" ]\n", "build"},
		{"lib/dracut/hooks/cmdline/30.sh", "[ -e \"/dev/sda1\" ]\n", "as it is"},
	} {
		if test.want == "as it is" {
			test.want = test.text
		}
		got, err := dracut{}.adapt(e, test.name, []byte(test.text))
		if build := test.want == "build"; build != errors.Is(err, errBuild) || !build && string(got) != test.want {
			t.Errorf("%s: %q, %v", test.name, got, err)
		}
	}
}
