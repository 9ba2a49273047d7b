package convert

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/openmigrate/openmigrate/hydrator/convert/disks"
	"github.com/openmigrate/openmigrate/hydrator/convert/tree"
)

// A machine in testdata is an archive of the files that matter, as its distribution writes them. Its comment has commands,
// one a line, and its files below want/ are what conversion makes of those without it:
//
//	target PLATFORM [MAC ADDRESS GATEWAY]
//	volume DISK PARTITION TYPE UUID [GROUP/VOLUME]
//	root INDEX
//	is INITRAMFS-TOOL NETWORK-TOOL…
//	gone FILE
//	warn TEXT
type machine struct {
	t      *testing.T
	dir    string
	files  map[string]string
	want   map[string]string
	system System
	target Target
	tool   string
	tools  []string
	warns  []string
}

func loadMachine(t *testing.T, name string) *machine {
	t.Helper()
	a, err := txtar.ParseFile(name)
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, dir: t.TempDir(), files: map[string]string{}, want: map[string]string{}, target: Target{Platform: KVM}}
	m.system.ESP = -1
	for _, f := range a.Files {
		if rest, ok := strings.CutPrefix(f.Name, "want/"); ok {
			m.want[rest] = string(f.Data)
			continue
		}
		m.files[f.Name] = string(f.Data)
		to := filepath.Join(m.dir, f.Name)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if link, ok := strings.CutPrefix(string(f.Data), "-> "); ok {
			err = os.Symlink(strings.TrimSpace(link), to)
		} else {
			err = os.WriteFile(to, f.Data, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range m.files {
		if _, ok := m.want[name]; !ok {
			m.want[name] = text
		}
	}
	for line := range strings.Lines(string(a.Comment)) {
		m.command(strings.Fields(line))
	}
	return m
}

func (m *machine) command(f []string) {
	if len(f) < 2 {
		return
	}
	number := func(s string) int {
		n, err := strconv.Atoi(s)
		if err != nil {
			m.t.Fatal(err)
		}
		return n
	}
	switch f[0] {
	case "target":
		m.target.Platform = Platform(f[1])
		if len(f) > 4 {
			m.target.NICs = append(m.target.NICs, NIC{f[2], []netip.Prefix{netip.MustParsePrefix(f[3])}, netip.MustParseAddr(f[4]),
				[]netip.Addr{netip.MustParseAddr("192.0.2.53")}})
		}
	case "volume":
		v := disks.Volume{Disk: number(f[1]), Partition: number(f[2]), Type: f[3], UUID: f[4]}
		if len(f) > 5 {
			v.LV = f[5]
		}
		m.system.Volumes = append(m.system.Volumes, v)
	case "root":
		m.system.Root = number(f[1])
	case "is":
		m.tool, m.tools = f[1], f[2:]
	case "gone":
		delete(m.want, f[1])
	case "warn":
		m.warns = append(m.warns, strings.Join(f[1:], " "))
	}
}

// convert runs every step that starts no program.
func (m *machine) convert() *Report {
	m.t.Helper()
	tr, err := tree.Open(m.dir)
	if err != nil {
		m.t.Fatal(err)
	}
	defer tr.Close()
	s := m.system
	s.describe(tr)
	if s.Initramfs != m.tool || !slices.Equal(s.Networks, m.tools) {
		m.t.Errorf("it is %q with networks by %q", s.Initramfs, s.Networks)
	}
	e := &editor{Tree: tr, system: &s, target: m.target, report: &Report{}}
	for _, step := range steps {
		if step.name == "initramfs" {
			for _, tool := range initramfsTools {
				if tool.name() == s.Initramfs {
					err = tool.configure(e, []string{"virtio_blk", "nvme"})
				}
			}
		} else {
			err = step.run(context.Background(), e)
		}
		if err != nil {
			m.t.Fatal(err)
		}
	}
	return e.report
}

// tree is all files but those that conversion keeps for itself.
func (m *machine) tree() map[string]string {
	m.t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(m.dir, func(name string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(m.dir, name)
		if err != nil {
			return err
		}
		if strings.HasPrefix("/"+rel, stateDir) {
			return nil
		}
		if d.Type()&os.ModeSymlink != 0 {
			link, err := os.Readlink(name)
			all[rel] = "-> " + link + "\n"
			return err
		}
		b, err := os.ReadFile(name)
		all[rel] = string(b)
		return err
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return all
}

func TestMachines(t *testing.T) {
	names, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(names) == 0 {
		t.Fatal("no machines", err)
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			m := loadMachine(t, name)
			report := m.convert()
			got := m.tree()
			if diff := cmp.Diff(m.want, got); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
			said := strings.Join(report.Warnings, "\n")
			for _, w := range m.warns {
				if !strings.Contains(said, w) {
					t.Errorf("no warning of %q in:\n%s", w, said)
				}
			}
			m.checkReport(report, got)
			if again := m.convert(); len(again.Changes) != 0 {
				t.Errorf("a second conversion changed %+v", again.Changes)
			}
			if diff := cmp.Diff(got, m.tree()); diff != "" {
				t.Errorf("a second conversion left other files:\n%s", diff)
			}
		})
	}
}

// checkReport compares the report with what differs, and the backups with what there was.
func (m *machine) checkReport(r *Report, got map[string]string) {
	m.t.Helper()
	listed := map[string]bool{}
	for _, c := range r.Changes {
		name := strings.TrimPrefix(c.Path, "/")
		listed[name] = true
		old, was := m.files[name]
		if was != (c.Backup != "") {
			m.t.Errorf("%s of %s has the backup %q", c.Action, c.Path, c.Backup)
		}
		if c.Backup == "" {
			continue
		}
		kept := filepath.Join(m.dir, c.Backup)
		if link, err := os.Readlink(kept); err == nil {
			if "-> "+link+"\n" != old {
				m.t.Errorf("the backup of %s is a link to %s", c.Path, link)
			}
		} else if b, err := os.ReadFile(kept); err != nil || string(b) != old {
			m.t.Errorf("the backup of %s is %q, %v", c.Path, b, err)
		}
	}
	for name := range m.files {
		if text, ok := got[name]; (!ok || text != m.files[name]) && !listed[name] {
			m.t.Errorf("the change of %s is not in the report", name)
		}
	}
	for name := range got {
		if _, ok := m.files[name]; !ok && !listed[name] {
			m.t.Errorf("the new file %s is not in the report", name)
		}
	}
	for name := range listed {
		if m.files[name] == got[name] && fmt.Sprint(m.files[name]) != "" {
			m.t.Errorf("%s is in the report and did not change", name)
		}
	}
}
