package lvm

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/openmigrate/openmigrate/agent/source"
	"github.com/openmigrate/openmigrate/agent/source/sourcetest"
)

const mib = 1 << 20

func TestRoomFor(t *testing.T) {
	const extent = 4 * mib
	for _, c := range []struct {
		what                         string
		size, free, tooLittle, wants int64 // MiB; 0: an error
	}{
		{"a fifth", 1000, 10000, 0, 200},
		{"in whole extents", 1002, 10000, 0, 204},
		{"not less than 64 MiB", 100, 10000, 0, 64},
		{"not more than all of it", 20, 10000, 0, 24},
		{"nine tenths of what is free", 1000, 150, 0, 132},
		{"too little is free", 1000, 70, 0, 0},
		{"a fiftieth is needed", 100000, 2000, 0, 0},
		{"twice what was lost", 1000, 10000, 300, 600},
		{"all of it", 1000, 10000, 600, 1016},
		{"all of it was not lost", 1000, 10000, 2000, 1016},
		{"no more than was lost", 1000, 220, 196, 0},
		{"none is free", 1000, 0, 0, 0},
	} {
		got, err := roomFor(c.size*mib, c.free*mib, extent, c.tooLittle*mib)
		if got != c.wants*mib || (err != nil) != (c.wants == 0) {
			t.Errorf("%s: %d MiB, %v; want %d", c.what, got/mib, err, c.wants)
		}
	}
	if _, err := roomFor(1000*mib, 1000*mib, 0, 0); err == nil {
		t.Error("extents of 0 bytes were believed")
	}
}

// device is a block device for a volume; tests that do not read it take the one that is always there.
func (f *fake) volume(name string, set map[string]string) (path string) {
	f.t.Helper()
	file := filepath.Join(f.t.TempDir(), name)
	if err := os.WriteFile(file, make([]byte, 4*mib), 0o600); err != nil {
		f.t.Fatal(err)
	}
	path = sourcetest.NewLoopDevice(f.t, file, sourcetest.LoopOptions{}).Path
	f.is(path, f.add(name, set))
	return path
}

func take(t *testing.T, l *LVM, path string) (*Snapshot, error) {
	t.Helper()
	p, err := l.Prepare(t.Context(), path, 0)
	if err != nil {
		return nil, err
	}
	return p.Take(t.Context())
}

var thin = map[string]string{"segtype": "thin", "pool_lv": "pool"}

func pool(data, metadata string) map[string]string {
	return map[string]string{"segtype": "thin-pool", "data_percent": data, "metadata_percent": metadata}
}

// TestNone: where no snapshot can be had, the reason is said, and nothing is left.
func TestNone(t *testing.T) {
	if !sourcetest.LoopWanted() {
		t.Log("block devices need root")
		return
	}
	for name, c := range map[string]struct {
		set, pool map[string]string
		break_    func(*fake)
		says      string
	}{
		"no room":              {set: map[string]string{"vg_free": "4194304"}, says: "vgextend"},
		"sizes are no sizes":   {set: map[string]string{"vg_free": "many"}, says: "no size"},
		"lvm2 is not there":    {break_: func(f *fake) { f.fail["lvs"] = errors.New("lvm is not there: install lvm2") }, says: "install lvm2"},
		"the pool is full":     {set: thin, pool: pool("85.12", "3.00"), says: "full to 85 %"},
		"its metadata is":      {set: thin, pool: pool("5.12", "97.00"), says: "metadata"},
		"the pool says not":    {set: thin, pool: pool("", ""), says: "does not say"},
		"the pool is missing":  {set: thin, says: "does not list the pool"},
		"lvcreate fails":       {break_: func(f *fake) { f.fail["lvcreate"] = errors.New("lvm lvcreate: exit status 5: suspended") }, says: "suspended"},
		"lvcreate stops half":  {break_: func(f *fake) { f.fail["half of lvcreate"] = errors.New("it was killed") }, says: "killed"},
		"dmsetup is not there": {break_: func(f *fake) { f.fail["status"] = errors.New("dmsetup is not there: install lvm2") }, says: "dmsetup"},
	} {
		t.Run(name, func(t *testing.T) {
			l, f := newFake(t)
			path := f.volume("data", c.set)
			if c.pool != nil {
				f.add("pool", c.pool)
			}
			before := f.names()
			if c.break_ != nil {
				c.break_(f)
			}
			_, err := take(t, l, path)
			if !errors.Is(err, ErrNone) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, want one that says %q", err, c.says)
			}
			if after := f.names(); !slices.Equal(before, after) {
				t.Errorf("left: %v", after)
			}
		})
	}
	l, _ := newFake(t)
	if _, err := l.Prepare(t.Context(), "/dev/null", 0); !errors.Is(err, ErrNone) {
		t.Errorf("of no volume: %v", err)
	}
}

// TestTake asks for what is needed, of a thick and of a thin volume.
func TestTake(t *testing.T) {
	if !sourcetest.LoopWanted() {
		t.Log("block devices need root")
		return
	}
	for name, c := range map[string]struct {
		set  map[string]string
		args string
	}{
		"thick": {nil, " --size 218103808b vg/data"},
		"thin":  {thin, " --setactivationskip n vg/data"},
	} {
		t.Run(name, func(t *testing.T) {
			l, f := newFake(t)
			path := f.volume("data", c.set)
			f.add("pool", pool("10.00", "10.00"))
			if !l.Is(path) || l.Is("/dev/null") || l.Is("/none") {
				t.Error("volumes are not told from other devices")
			}
			s, err := take(t, l, path)
			if err != nil {
				t.Fatal(err)
			}
			i := slices.IndexFunc(f.calls, func(c string) bool { return strings.HasPrefix(c, "lvm lvcreate") })
			if want := "lvm lvcreate --yes --snapshot --permission r --name " + s.made.Name + " --addtag " + tag + c.args; f.calls[i] != want {
				t.Errorf("called %q, want %q", f.calls[i], want)
			}
			if err := s.Check(t.Context()); err != nil || s.Lost() {
				t.Errorf("check: %v", err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := s.Remove(ctx); err != nil || slices.Contains(f.names(), s.made.Name) {
				t.Errorf("removed: %v, %v", err, f.names())
			}
		})
	}
}

// TestLost: a snapshot that overflowed, or whose pool fills, is lost for good.
func TestLost(t *testing.T) {
	if !sourcetest.LoopWanted() {
		t.Log("block devices need root")
		return
	}
	for name, c := range map[string]struct {
		set    map[string]string
		status string
		data   string
		says   string
	}{
		"Invalid":      {status: "0 2097152 snapshot Invalid", data: "1", says: "208 MiB"},
		"Overflow":     {status: "0 2097152 snapshot Overflow", data: "1", says: "208 MiB"},
		"another word": {status: "0 2097152 snapshot ?/?", data: "1", says: "208 MiB"},
		"no snapshot":  {status: "0 2097152 linear 8:0 2048", data: "1", says: "linear"},
		"nothing":      {status: "", data: "1", says: "the kernel says"},
		"thin: Fail":   {set: thin, status: "0 2097152 thin Fail", data: "1", says: "Fail"},
		"thin: pool":   {set: thin, status: "0 2097152 thin 8 9", data: "95.10", says: "lvextend"},
	} {
		t.Run(name, func(t *testing.T) {
			l, f := newFake(t)
			path := f.volume("data", c.set)
			p := f.add("pool", pool("10.00", "10.00"))
			s, err := take(t, l, path)
			if err != nil {
				t.Fatal(err)
			}
			f.fail["status"] = errors.New("cannot tell")
			if err := s.Check(t.Context()); err == nil || errors.Is(err, source.ErrLost) {
				t.Errorf("when it cannot be told: %v", err)
			}
			delete(f.fail, "status")
			was := f.status[s.made.Name]
			f.status[s.made.Name], p["data_percent"] = c.status, c.data
			if err := s.Check(t.Context()); !errors.Is(err, source.ErrLost) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, want one that says %q", err, c.says)
			}
			f.status[s.made.Name], p["data_percent"] = was, "1"
			if err := s.Check(t.Context()); !errors.Is(err, source.ErrLost) || !s.Lost() {
				t.Errorf("it was found again: %v", err)
			}
		})
	}
}

// TestClean removes what this agent left, and nothing else whatever its name or tag.
func TestClean(t *testing.T) {
	l, f := newFake(t)
	const name = namePrefix + "0123456789abcdef"
	f.add("data", nil)
	f.add(name, map[string]string{"lv_tags": tag + ",other"})
	others := []map[string]string{
		f.add(namePrefix+"0123456789abcde0", map[string]string{"lv_tags": tag + "2"}), // another agent's
		f.add(namePrefix+"0123456789abcde1", nil),
		f.add("snap", map[string]string{"lv_tags": tag}),
		f.add(namePrefix+"of_mine", map[string]string{"lv_tags": tag}),
		f.add("x"+name, map[string]string{"lv_tags": tag}),
	}
	removed, err := l.Clean(t.Context())
	if err != nil || !slices.Equal(removed, []string{"vg/" + name}) {
		t.Errorf("removed %v, %v", removed, err)
	}
	if left := f.names(); len(left) != 1+len(others) || left[0] != "data" {
		t.Errorf("left: %v", left)
	}
	l.Tag = ""
	if removed, err := l.Clean(t.Context()); err != nil || len(removed) > 0 {
		t.Errorf("without a tag: %v, %v", removed, err)
	}
	f.fail["lvs"] = errors.New("no")
	if _, err := l.Clean(t.Context()); err == nil {
		t.Error("a failure was not told")
	}
}

// made is a source over a snapshot whose device is a loop device.
func made(t *testing.T, image []byte) (source.Source, *fake, *Snapshot) {
	t.Helper()
	l, f := newFake(t)
	path := f.volume("data", nil)
	file := filepath.Join(t.TempDir(), "snapshot")
	if err := os.WriteFile(file, image, 0o600); err != nil {
		t.Fatal(err)
	}
	dev := sourcetest.NewLoopDevice(t, file, sourcetest.LoopOptions{ReadOnly: true})
	f.devices["data"] = dev.Path
	s, err := take(t, l, path)
	if err != nil {
		t.Fatal(err)
	}
	origin, err := source.New(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	src, err := s.Source(origin)
	if err != nil {
		t.Fatal(err)
	}
	if src.ID() != origin.ID() || src.Name() != origin.Name() {
		t.Errorf("it goes by %s, %s", src.ID(), src.Name())
	}
	return src, f, s
}

// TestConformance is that of all sources. On real snapshots it runs in e2e/vm.
func TestConformance(t *testing.T) {
	if !sourcetest.LoopWanted() {
		t.Log("block devices need root")
		return
	}
	sourcetest.Run(t, sourcetest.Harness{SizeStep: 512, New: func(t *testing.T, image []byte) sourcetest.Made {
		src, _, _ := made(t, image)
		return sourcetest.Made{Source: src} // nobody can change or remove a snapshot that is read
	}})
}

// TestReadLost: once a snapshot is lost nothing is read from it, and the reason is that and not a bad block.
func TestReadLost(t *testing.T) {
	if !sourcetest.LoopWanted() {
		t.Log("block devices need root")
		return
	}
	image := bytes.Repeat([]byte("x"), 4*mib)
	src, f, s := made(t, image)
	r, err := src.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	b := source.AlignedBuffer(4096)
	if _, err := r.ReadAt(b, 0); err != nil || !bytes.Equal(b, image[:4096]) {
		t.Fatalf("read: %v", err)
	}
	f.status[s.made.Name] = "0 2097152 snapshot Invalid"
	_ = s.Check(t.Context())
	read := new(source.ReadError)
	if _, err := r.ReadAt(b, 4096); !errors.Is(err, source.ErrLost) || !errors.As(err, &read) || read.Source != src.Name() || read.Offset != 4096 {
		t.Errorf("read after it was lost: %v", err)
	}
	if _, _, err := r.NextData(0); !errors.Is(err, source.ErrLost) {
		t.Errorf("NextData after it was lost: %v", err)
	}

	// The first read that fails finds out why.
	_, f, s = made(t, image)
	faulty := &reader{Reader: failing{}, src: &snapshotSource{name: "/dev/vg/data", snapshot: s}}
	if _, err := faulty.ReadAt(b, 0); errors.Is(err, source.ErrLost) || !errors.As(err, &read) || read.Source != "/dev/vg/data" {
		t.Errorf("a bad block: %v", err)
	}
	f.status[s.made.Name] = "0 2097152 snapshot Invalid"
	if _, err := faulty.ReadAt(b, 0); !errors.Is(err, source.ErrLost) {
		t.Errorf("a lost snapshot: %v", err)
	}
}

type failing struct{ source.Reader }

func (failing) ReadAt(p []byte, off int64) (int, error) {
	return 0, &source.ReadError{Source: "dm-7", Offset: off, Length: len(p), Err: io.ErrUnexpectedEOF}
}
