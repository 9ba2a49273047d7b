package freespace

import (
	"encoding/binary"
	"math"
	"slices"
	"strings"
	"testing"
)

var ne, le = binary.NativeEndian, binary.LittleEndian

type fsmapRec struct {
	device, flags uint32
	start         uint64
	owner         uint64
	length        uint64
}

func fsmapPageOf(flags uint32, recs ...fsmapRec) []byte {
	buf := make([]byte, fsmapHead+len(recs)*fsmapRecord)
	ne.PutUint32(buf[4:], flags)
	ne.PutUint32(buf[12:], uint32(len(recs)))
	for i, r := range recs {
		b := buf[fsmapHead+i*fsmapRecord:]
		ne.PutUint32(b, r.device)
		ne.PutUint32(b[4:], r.flags)
		ne.PutUint64(b[8:], r.start)
		ne.PutUint64(b[16:], r.owner)
		ne.PutUint64(b[32:], r.length)
	}
	return buf
}

func TestFsmapPage(t *testing.T) {
	free := func(start, length uint64) fsmapRec {
		return fsmapRec{7, fsmapSpecialOwner, start, fsmapOwnFree, length}
	}
	used := func(start, length uint64) fsmapRec { return fsmapRec{7, 0, start, 128, length} }
	last := fsmapRec{7, fsmapSpecialOwner | fsmapLast, 900, fsmapOwnFree, 50}
	other := free(0, 1000)
	other.device = 8
	inode1 := free(0, 100) // the file with the inode number 1
	inode1.flags = 0
	prealloc := free(0, 100)
	prealloc.flags |= 1
	for name, c := range map[string]struct {
		page []byte
		want []Range
		done bool
		err  string
	}{
		"no records":              {page: fsmapPageOf(1), done: true},
		"free and used":           {page: fsmapPageOf(1, used(0, 10), free(10, 20), used(30, 5), free(35, 5)), want: []Range{{10, 30}, {35, 40}}},
		"last":                    {page: fsmapPageOf(1, last), want: []Range{{900, 950}}, done: true},
		"shared blocks overlap":   {page: fsmapPageOf(1, used(0, 50), used(0, 10), free(50, 10)), want: []Range{{50, 60}}},
		"another device":          {page: fsmapPageOf(1, other)},
		"a file, not the owner 1": {page: fsmapPageOf(1, inode1)},
		"preallocated":            {page: fsmapPageOf(1, prealloc)},
		"beyond the device":       {page: fsmapPageOf(1, free(990, 100)), want: []Range{{990, 1000}}},
		"free in used":            {page: fsmapPageOf(1, used(0, 50), free(40, 20)), err: "order"},
		"used in free":            {page: fsmapPageOf(1, free(0, 50), used(40, 20)), err: "order"},
		"huge":                    {page: fsmapPageOf(1, free(10, math.MaxUint64)), err: "order"},
		"devices are cookies":     {page: fsmapPageOf(0, free(0, 10)), err: "devices"},
		"cut short":               {page: fsmapPageOf(1, free(0, 10))[:fsmapHead+10], err: "records"},
		"no head":                 {page: make([]byte, 8), err: "cut short"},
	} {
		t.Run(name, func(t *testing.T) {
			var got []Range
			w := &fsmapWalk{device: 7, size: 1000}
			done, err := w.page(c.page, func(start, end int64) { got = append(got, Range{start, end}) })
			if (err == nil) != (c.err == "") || (err != nil && !strings.Contains(err.Error(), c.err)) {
				t.Fatalf("error %v, want %q", err, c.err)
			}
			if err == nil && (done != c.done || !slices.Equal(got, c.want)) {
				t.Errorf("got %v, done %v; want %v, %v", got, done, c.want, c.done)
			}
		})
	}
	w := &fsmapWalk{device: 7, size: 1000}
	page := fsmapPageOf(1, used(0, 10))
	for i, want := range []bool{false, true} {
		if _, err := w.page(page, func(int64, int64) {}); (err != nil) != want {
			t.Errorf("page %d, the same again: %v", i, err)
		}
	}
}

func FuzzFsmap(f *testing.F) {
	f.Add(fsmapPageOf(1, fsmapRec{7, 0, 0, 5, 10}, fsmapRec{7, fsmapSpecialOwner, 10, fsmapOwnFree, 20}))
	f.Add(fsmapPageOf(1, fsmapRec{7, fsmapSpecialOwner | fsmapLast, 1 << 60, fsmapOwnFree, 1 << 60}))
	f.Fuzz(func(t *testing.T, buf []byte) {
		const size = 1 << 40
		w := &fsmapWalk{device: 7, size: size}
		end := int64(0)
		_, _ = w.page(buf, func(from, to int64) {
			if from < end || to > size {
				t.Fatalf("[%d, %d) after %d", from, to, end)
			}
			end = max(to, end)
		})
	})
}

type btrfsItem struct {
	key  btrfsKey
	body []byte
}

func btrfsPageOf(items ...btrfsItem) []byte {
	buf := make([]byte, btrfsSearchHead)
	ne.PutUint32(buf[64:], uint32(len(items)))
	for _, it := range items {
		head := make([]byte, btrfsItemHead)
		ne.PutUint64(head[8:], it.key.object)
		ne.PutUint64(head[16:], it.key.offset)
		ne.PutUint32(head[24:], uint32(it.key.typ))
		ne.PutUint32(head[28:], uint32(len(it.body)))
		buf = append(append(buf, head...), it.body...)
	}
	return buf
}

func devExtentOf(device, start, length uint64) btrfsItem {
	body := make([]byte, 48)
	le.PutUint64(body[24:], length)
	return btrfsItem{btrfsKey{device, btrfsDevExtent, start}, body}
}

func chunkOf(logical, length, kind uint64, places ...[2]uint64) btrfsItem {
	body := make([]byte, 48+32*len(places))
	le.PutUint64(body, length)
	le.PutUint64(body[24:], kind)
	le.PutUint16(body[44:], uint16(len(places)))
	for i, p := range places {
		le.PutUint64(body[48+32*i:], p[0])
		le.PutUint64(body[56+32*i:], p[1])
	}
	return btrfsItem{btrfsKey{btrfsChunkTreeObject, btrfsChunkItem, logical}, body}
}

func TestBtrfsMap(t *testing.T) {
	const m = miB
	for name, c := range map[string]struct {
		devices, chunks, space []btrfsItem
		want                   []Range
		err                    string
	}{
		"between device extents": {
			devices: []btrfsItem{devExtentOf(1, 1*m, 8*m), devExtentOf(1, 20*m, 10*m), devExtentOf(2, 30*m, 10*m)},
			want:    []Range{{9 * m, 20 * m}, {30 * m, 64 * m}, {64*m + 64<<10, 100 * m}},
		},
		"overlapping device extents": {devices: []btrfsItem{devExtentOf(1, 1*m, 8*m), devExtentOf(1, 8*m, 1*m)}, err: "overlap"},
		"DUP, with the mirror in it": {
			devices: []btrfsItem{devExtentOf(1, 0, 100*m)},
			chunks:  []btrfsItem{chunkOf(1000*m, 10*m, 1|32, [2]uint64{1, 2 * m}, [2]uint64{1, 60 * m})},
			space:   []btrfsItem{{btrfsKey{1003 * m, btrfsFreeSpaceExtent, 2 * m}, nil}},
			want:    []Range{{5 * m, 7 * m}, {63 * m, 64 * m}, {64*m + 64<<10, 65 * m}},
		},
		"another device's copy": {
			devices: []btrfsItem{devExtentOf(1, 0, 100*m)},
			chunks:  []btrfsItem{chunkOf(1000*m, 10*m, 1|16, [2]uint64{2, 2 * m}, [2]uint64{1, 20 * m})},
			space:   []btrfsItem{{btrfsKey{1001 * m, btrfsFreeSpaceExtent, 1 * m}, nil}},
			want:    []Range{{21 * m, 22 * m}},
		},
		"a bitmap": {
			devices: []btrfsItem{devExtentOf(1, 0, 100*m)},
			chunks:  []btrfsItem{chunkOf(1000*m, 10*m, 4, [2]uint64{1, 10 * m})},
			space:   []btrfsItem{{btrfsKey{1000 * m, btrfsFreeSpaceBitmap, 16 * 4096}, []byte{0b1000_0110, 0b1000_0001}}},
			want:    []Range{{10*m + 4096, 10*m + 3*4096}, {10*m + 7*4096, 10*m + 9*4096}, {10*m + 15*4096, 10*m + 16*4096}},
		},
		"a bitmap cut short": {
			devices: []btrfsItem{devExtentOf(1, 0, 100*m)},
			space:   []btrfsItem{{btrfsKey{0, btrfsFreeSpaceBitmap, 16 * 4096}, []byte{0xff}}}, err: "cut short",
		},
		"striped, system, and no block group": {
			devices: []btrfsItem{devExtentOf(1, 0, 100*m)},
			chunks: []btrfsItem{
				chunkOf(1000*m, 10*m, 1|8, [2]uint64{1, 10 * m}), chunkOf(1010*m, 10*m, 2, [2]uint64{1, 20 * m}),
			},
			space: []btrfsItem{
				{btrfsKey{1000 * m, btrfsFreeSpaceExtent, 10 * m}, nil}, {btrfsKey{1010 * m, btrfsFreeSpaceExtent, 10 * m}, nil},
				{btrfsKey{5000 * m, btrfsFreeSpaceExtent, 10 * m}, nil},
			},
		},
		"longer than its block group": {
			devices: []btrfsItem{devExtentOf(1, 0, 100*m)},
			chunks:  []btrfsItem{chunkOf(1000*m, 10*m, 1, [2]uint64{1, 10 * m})},
			space:   []btrfsItem{{btrfsKey{1009 * m, btrfsFreeSpaceExtent, 50 * m}, nil}},
			want:    []Range{{19 * m, 20 * m}},
		},
		"overlapping block groups": {
			devices: []btrfsItem{devExtentOf(1, 0, 100*m)},
			chunks:  []btrfsItem{chunkOf(1000*m, 10*m, 1, [2]uint64{1, 10 * m}), chunkOf(1009*m, 10*m, 1, [2]uint64{1, 20 * m})}, err: "overlap",
		},
	} {
		t.Run(name, func(t *testing.T) {
			var got []Range
			b := &btrfsMap{device: 1, size: 100 * m, sector: 4096, add: func(s, e int64) { got = append(got, Range{s, e}) }}
			err := b.readAll(btrfsPageOf(c.devices...), btrfsPageOf(c.chunks...), btrfsPageOf(c.space...))
			if (err == nil) != (c.err == "") || (err != nil && !strings.Contains(err.Error(), c.err)) {
				t.Fatalf("error %v, want %q", err, c.err)
			}
			if err == nil && !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

// readAll reads the three trees, of one page each.
func (m *btrfsMap) readAll(devices, chunks, space []byte) error {
	if _, _, err := btrfsItems(devices, btrfsKey{}, m.devExtent); err != nil {
		return err
	}
	m.devEnd()
	if _, _, err := btrfsItems(chunks, btrfsKey{}, m.chunk); err != nil {
		return err
	}
	if err := m.sortChunks(); err != nil {
		return err
	}
	_, _, err := btrfsItems(space, btrfsKey{}, m.freeSpace)
	return err
}

func TestBtrfsItems(t *testing.T) {
	a, b := btrfsItem{btrfsKey{1, 2, 3}, []byte("abc")}, btrfsItem{btrfsKey{1, 2, math.MaxUint64}, nil}
	var got []btrfsKey
	see := func(k btrfsKey, _ []byte) error { got = append(got, k); return nil }
	next, more, err := btrfsItems(btrfsPageOf(a, b), btrfsKey{}, see)
	if err != nil || !more || next != (btrfsKey{1, 3, 0}) || !slices.Equal(got, []btrfsKey{a.key, b.key}) {
		t.Errorf("%v, then %v, %v, %v", got, next, more, err)
	}
	if _, _, err := btrfsItems(btrfsPageOf(b, a), btrfsKey{}, see); err == nil {
		t.Error("items out of order were taken")
	}
	if _, _, err := btrfsItems(btrfsPageOf(a)[:btrfsSearchHead+btrfsItemHead+1], btrfsKey{}, see); err == nil {
		t.Error("an item that is cut short was taken")
	}
	if _, more, err := btrfsItems(btrfsPageOf(), btrfsKey{}, see); more || err != nil {
		t.Errorf("no items: %v, %v", more, err)
	}
	end := btrfsItem{key: btrfsKey{math.MaxUint64, math.MaxUint8, math.MaxUint64}}
	if _, more, err := btrfsItems(btrfsPageOf(end), btrfsKey{}, see); more || err != nil {
		t.Errorf("the highest key: %v, %v", more, err)
	}
}

func FuzzBtrfs(f *testing.F) {
	f.Add(btrfsPageOf(devExtentOf(1, miB, miB)), btrfsPageOf(chunkOf(0, miB, 1, [2]uint64{1, miB})),
		btrfsPageOf(btrfsItem{btrfsKey{0, btrfsFreeSpaceBitmap, 8 * 4096}, []byte{0x5a}}))
	f.Add(btrfsPageOf(), btrfsPageOf(chunkOf(1<<60, 1<<60, 33, [2]uint64{1, 1 << 60}, [2]uint64{1, 0})),
		btrfsPageOf(btrfsItem{btrfsKey{1 << 60, btrfsFreeSpaceExtent, math.MaxUint64}, nil}))
	f.Fuzz(func(t *testing.T, devices, chunks, space []byte) {
		const size = 1 << 40
		b := &btrfsMap{device: 1, size: size, sector: 4096, add: func(from, to int64) {
			if from < miB || to > size || (from < 64*miB+64<<10 && to > 64*miB) {
				t.Fatalf("[%d, %d)", from, to)
			}
		}}
		_ = b.readAll(devices, chunks, space)
	})
}

func FuzzBtrfsSuper(f *testing.F) {
	b := make([]byte, btrfsSuperSize)
	copy(b[64:], "_BHRfS_M")
	le.PutUint64(b[48:], btrfsSuperAt)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := parseBtrfsSuper(b); err == nil && le.Uint64(b[188:])>>12&1 != 0 {
			t.Fatal("a zoned file system was taken")
		}
	})
}

func swapPage(signature string, version, last uint32) []byte {
	b := make([]byte, 4096)
	ne.PutUint32(b[swapVersionAt:], version)
	ne.PutUint32(b[swapLastPageAt:], last)
	copy(b[4086:], signature)
	return b
}

func TestSwapContent(t *testing.T) {
	for name, c := range map[string]struct {
		page []byte
		want Range
		err  string
	}{
		"active":             {page: swapPage("SWAPSPACE2", 1, 9), want: Range{4096, 40960}},
		"larger than it is":  {page: swapPage("SWAPSPACE2", 1, math.MaxUint32), want: Range{4096, 100_000}},
		"hibernated":         {page: swapPage("S1SUSPEND", 1, 9), err: "hibernated"},
		"old":                {page: swapPage("SWAP-SPACE", 1, 9), err: "signature"},
		"something else now": {page: make([]byte, 4096), err: "signature"},
		"version":            {page: swapPage("SWAPSPACE2", 2, 9), err: "version"},
		"empty":              {page: swapPage("SWAPSPACE2", 1, 0), err: "no pages"},
		"cut short":          {page: make([]byte, 8), err: "cut short"},
	} {
		got, err := swapContent(c.page, 100_000)
		if (err == nil) != (c.err == "") || (err != nil && !strings.Contains(err.Error(), c.err)) || got != c.want {
			t.Errorf("%s: %v, %v; want %v, %q", name, got, err, c.want, c.err)
		}
	}
}

func FuzzSwap(f *testing.F) {
	f.Add(swapPage("SWAPSPACE2", 1, 9))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := swapContent(b, 1<<30); err == nil && (r.Start < swapMinPage || r.End <= r.Start || r.End > 1<<30) {
			t.Fatalf("%v", r)
		}
	})
}

func TestMounts(t *testing.T) {
	const text = `22 1 8:2 / / rw,relatime shared:1 - ext4 /dev/sda2 rw,errors=remount-ro
30 22 0:25 /@home /home\040dir rw shared:9 master:1 - btrfs /dev/sdb1 rw,space_cache=v2,subvol=/@home
31 22 8:3 / /a ro - xfs /dev/sda3 ro,norecovery
32 22 0:5 / /proc rw - proc proc rw
rubbish
33 22 8:3 / /b - xfs
`
	got, err := parseMounts(strings.NewReader(text))
	want := []mount{
		{"8:2", "/", "ext4", "rw,errors=remount-ro"},
		{"0:25", "/home dir", "btrfs", "rw,space_cache=v2,subvol=/@home"},
		{"8:3", "/a", "xfs", "ro,norecovery"},
	}
	if err != nil || !slices.Equal(got, want) {
		t.Fatalf("got %v, %v", got, err)
	}
	if got[0].has("ro") || !got[1].has("space_cache=v2") || !got[2].has("ro") || !got[2].logless() || got[0].logless() {
		t.Error("options are read wrongly")
	}
	for device, why := range map[string]string{"8:2": "", "8:3": "read-only", "9:9": "unmounted"} {
		if err := writable(got, mount{device: device}); (err == nil) != (why == "") || (err != nil && !strings.Contains(err.Error(), why)) {
			t.Errorf("%s: %v, want %q", device, err, why)
		}
	}
	swaps, err := parseSwaps(strings.NewReader("Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n" +
		"/dev/sda5                               partition\t999420\t\t0\t\t-2\n/swap\\040file file 1 0 -3\n"))
	if err != nil || !slices.Equal(swaps, []string{"/dev/sda5"}) {
		t.Errorf("swaps %q, %v", swaps, err)
	}
}
