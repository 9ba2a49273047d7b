package disks

import (
	"os"
	"reflect"
	"strings"
	"testing"
)

const pvUUID = "Cxd7Wq-aaaa-bbbb-cccc-dddd-eeee-ffffff"

// placed returns what the metadata in testdata, as LVM wrote it for one disk of 8 GiB, says of its volumes.
func placed(t *testing.T) map[string]Volume {
	t.Helper()
	doc, err := os.ReadFile("testdata/vg0.txt")
	if err != nil {
		t.Fatal(err)
	}
	g := newGroups()
	g.add(doc, Volume{Disk: 0, Partition: 3, Start: 1 << 30, Size: 7 << 30, UUID: pvUUID})
	found := map[string]Volume{}
	group := g.docs["vg0"]
	lvs := group.section("logical_volumes")
	for _, name := range lvs.order {
		found[name] = g.place(group, lvs.section(name))
	}
	return found
}

func TestPlaces(t *testing.T) {
	const extent, data = 4 << 20, 1<<30 + 2048*512
	found := placed(t)
	for name, want := range map[string]Volume{
		"root": {Start: data, Size: 512 * extent},
		"swap": {Start: data + 512*extent, Size: 128 * extent},
		"home": {Start: data + 640*extent, Size: 50 * extent}, // two segments that follow each other
	} {
		if got := found[name]; !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
	scattered := found["scattered"]
	if len(scattered.Pieces) < 2 || scattered.Trouble != "" {
		t.Errorf("scattered: %+v", scattered)
	}
	for name, why := range map[string]string{
		"thin": "thin", "striped": "striped over several disks", "mirror": "raid1",
		"elsewhere": "pv7 is not among", "outside": "outside of its disk",
	} {
		if got := found[name].Trouble; !strings.Contains(got, why) {
			t.Errorf("%s: %q, want %q in it", name, got, why)
		}
	}
}

func TestNewestMetadataCounts(t *testing.T) {
	g := newGroups()
	for _, seqno := range []string{"7", "9", "8"} {
		g.add([]byte("vg { seqno = "+seqno+" extent_size = "+seqno+" }"), Volume{UUID: "x"})
	}
	if got := g.docs["vg"].number("extent_size"); got != 9 {
		t.Errorf("the metadata with number %d counts", got)
	}
}

func FuzzLVM(f *testing.F) {
	doc, err := os.ReadFile("testdata/vg0.txt")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(doc)
	f.Add([]byte(`a { b = [ "x", 1, [ ] c { d = "\`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		g := newGroups()
		pv := Volume{Start: 1 << 20, Size: 1 << 30, UUID: pvUUID}
		g.add(doc, pv)
		for _, name := range g.names {
			lvs := g.docs[name].section("logical_volumes")
			for _, lv := range lvs.order {
				v := g.place(g.docs[name], lvs.section(lv))
				for _, p := range v.where() {
					if v.Trouble == "" && (p.Start < pv.Start || p.Size <= 0 || p.Start+p.Size > pv.Start+pv.Size) {
						t.Errorf("%s is at %d with %d bytes", lv, p.Start, p.Size)
					}
				}
			}
		}
	})
}
