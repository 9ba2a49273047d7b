package freespace

import (
	"slices"
	"strings"
	"testing"
)

// tableOf makes what DM_TABLE_STATUS gives for lines of "start length kind parameters".
func tableOf(lines ...target) []byte {
	buf := make([]byte, dmHead)
	ne.PutUint32(buf[16:], dmHead)
	ne.PutUint32(buf[20:], uint32(len(lines)))
	for _, l := range lines {
		spec := make([]byte, dmTarget)
		ne.PutUint64(spec, l.start)
		ne.PutUint64(spec[8:], l.length)
		copy(spec[24:39], l.kind)
		spec = append(spec, l.params+"\x00"...)
		for len(spec)%8 != 0 {
			spec = append(spec, 0)
		}
		ne.PutUint32(spec[20:], uint32(len(buf)-dmHead+len(spec)))
		buf = append(buf, spec...)
	}
	return buf
}

func TestParseTable(t *testing.T) {
	lines := []target{{0, 8, "linear", "8:2 2048"}, {8, 16, "linear", "8:3 0"}, {24, 1, "snapshot-origin", "253:4"}}
	if got, err := parseTable(tableOf(lines...)); err != nil || !slices.Equal(got, lines) {
		t.Errorf("got %v, %v", got, err)
	}
	for name, buf := range map[string][]byte{
		"a gap":          tableOf(lines[0], lines[2]),
		"cut short":      tableOf(lines...)[:dmHead+50],
		"no end of text": tableOf(target{0, 8, "linear", strings.Repeat("x", 300)}),
		"empty line":     tableOf(target{0, 0, "linear", ""}),
		"no head":        make([]byte, 10),
	} {
		if got, err := parseTable(buf); err == nil {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func TestLinear(t *testing.T) {
	for _, c := range []struct {
		in     target
		device string
		sector uint64
	}{
		{target{kind: "linear", params: "8:2 2048"}, "8:2", 2048},
		{target{kind: "linear", params: "259:0 0"}, "259:0", 0},
		{target{kind: "linear", params: "8:2 2048 more"}, "", 0},
		{target{kind: "linear", params: "8:2"}, "", 0},
		{target{kind: "linear", params: "/dev/sda 1"}, "", 0},
		{target{kind: "linear", params: "8:2 -1"}, "", 0},
		{target{kind: "crypt", params: "8:2 2048"}, "", 0},
	} {
		device, sector, err := c.in.linear()
		if device != c.device || sector != c.sector || (err == nil) != (c.device != "") {
			t.Errorf("%v: %q, %d, %v", c.in, device, sector, err)
		}
	}
}

func TestPlace(t *testing.T) {
	const s = sysfsSector
	disk := &volume{name: "sda", major: 8, minor: 0, size: 10000 * s, segs: []segment{{0, 0, 10000 * s}}}
	a := &volume{name: "sda1", major: 8, minor: 1, size: 1000 * s, segs: disk.part(0, 2048*s, 1000*s), below: []*volume{disk}}
	b := &volume{name: "sda2", major: 8, minor: 2, size: 1000 * s, segs: disk.part(0, 4096*s, 1000*s), below: []*volume{disk}}
	segs, below, err := place([]target{
		{0, 100, "linear", "8:2 10"}, {100, 50, "linear", "8:99 0"}, {150, 2000, "linear", "8:1 900"},
	}, []*volume{disk, a, b})
	want := []segment{{0, 4106 * s, 100 * s}, {150 * s, 2948 * s, 100 * s}} // the last is cut where sda1 ends
	if err != nil || !slices.Equal(segs, want) {
		t.Fatalf("got %v, %v; want %v", segs, err, want)
	}
	if !slices.Contains(below, disk) || !slices.Contains(below, a) || !slices.Contains(below, b) {
		t.Errorf("it lies on %v", below)
	}
	lv := &volume{name: "dm-0", size: 2150 * s, segs: segs, below: below}
	c := &collector{max: 10}
	if n := lv.toDisk(Range{90 * s, 160 * s}, c); n != 20*s || !slices.Equal(c.list, []Range{{4196 * s, 4206 * s}, {2948 * s, 2958 * s}}) {
		t.Errorf("%d bytes at %v", n, c.list)
	}
	if _, _, err := place([]target{{0, 100, "linear", "8:2 10"}, {100, 50, "thin", "253:1 1"}}, nil); err == nil {
		t.Error("a thin volume was taken for linear")
	}
}

func TestRefuseOverlaps(t *testing.T) {
	disk := &volume{name: "sda", segs: []segment{{0, 0, 1000}}}
	over := func(name string, below []*volume, segs ...segment) *volume {
		return &volume{name: name, segs: segs, below: append(below, disk)}
	}
	a, b := over("sda1", nil, segment{0, 0, 100}), over("sda2", nil, segment{0, 100, 100})
	c, d := over("sda3", nil, segment{0, 300, 100}), over("sda4", nil, segment{0, 399, 10})
	lv := over("dm-0", []*volume{b}, segment{0, 150, 20}, segment{20, 100, 10})
	twice := over("dm-1", []*volume{a}, segment{0, 0, 20}, segment{20, 10, 10})
	snap := over("dm-2", []*volume{b}, segment{0, 165, 10})
	refuseOverlaps([]*volume{disk, a, b, c, d, lv, twice, snap})
	for v, why := range map[*volume]string{disk: "", a: "", b: "", c: "overlaps with sda4", d: "overlaps with sda3",
		lv: "overlaps with dm-2", twice: "twice", snap: "overlaps with dm-0"} {
		if (v.why == "") != (why == "") || !strings.Contains(v.why, why) {
			t.Errorf("%s: %q, want %q", v.name, v.why, why)
		}
	}
}

func FuzzTable(f *testing.F) {
	f.Add(tableOf(target{0, 8, "linear", "8:2 2048"}, target{8, 8, "crypt", "aes"}))
	f.Fuzz(func(t *testing.T, buf []byte) {
		lines, err := parseTable(buf)
		if err != nil {
			return
		}
		disk := &volume{size: 1 << 40, major: 8, minor: 2, segs: []segment{{0, 0, 1 << 40}}}
		segs, _, err := place(lines, []*volume{disk})
		if err != nil {
			return
		}
		for _, s := range segs {
			if s.size <= 0 || s.disk < 0 || s.disk+s.size > 1<<40 {
				t.Fatalf("%v", segs)
			}
		}
	})
}
