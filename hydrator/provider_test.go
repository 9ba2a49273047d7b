package hydrator

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/openmigrate/openmigrate/hydrator/hydratortest"
	"github.com/openmigrate/openmigrate/hydrator/reader"
	"github.com/openmigrate/openmigrate/hydrator/volume"
	"github.com/openmigrate/openmigrate/wire"
)

// testNode is a node that writes volumes of provider p in folder.
func testNode(t testing.TB, w *hydratortest.World, folder string) *node {
	t.Helper()
	n := &node{o: Options{Client: w, DataDir: t.TempDir(), Reader: quick, Log: slog.New(slog.DiscardHandler), Providers: map[string]string{"p": folder}}}
	if err := n.makeRun(); err != nil {
		t.Fatal(err)
	}
	return n
}

// raw is an empty volume of a provider's.
func raw(t testing.TB, folder, name string, size int64) string {
	t.Helper()
	path := filepath.Join(folder, name)
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	return path
}

func onto(w *hydratortest.World, rp *hydratortest.Replicated, v wire.Volume) *wire.Job {
	j, zero := w.Job(wire.JobHydrate, rp), 0
	j.Disk, j.Provider, j.Volumes = &zero, "p", []wire.Volume{v}
	return j
}

func TestHydrateVolume(t *testing.T) {
	w := hydratortest.NewWorld(t, nil)
	large := image(70, 80, 512)
	small := changed(71, large[:60*testChunk+512], 5)
	first, second := w.Replicate(t, "r1", hydratortest.Image{Data: large}), w.Replicate(t, "r2", hydratortest.Image{Data: small})
	folder := t.TempDir()
	size := int64(100 * testChunk)
	path := raw(t, folder, "disk.raw", size)
	one, two := testNode(t, w, folder), testNode(t, w, folder)
	hydrate := func(n *node, rp *hydratortest.Replicated, want []byte) wire.JobResult {
		t.Helper()
		res, err := n.work(t.Context(), onto(w, rp, wire.Volume{ID: "vol-1", Path: path, Size: size}), func(wire.Progress) {})
		if err != nil {
			t.Fatal(err)
		}
		mustHold(t, path, append(bytes.Clone(want), make([]byte, size-int64(len(want)))...))
		if st, err := os.Stat(path); err != nil || st.Size() != size {
			t.Errorf("the volume has %d bytes now, %v", st.Size(), err)
		}
		return res
	}
	all := hydrate(one, first, large)
	if got, err := allocated(path); err != nil || got >= int64(len(large)) {
		t.Errorf("%d bytes are allocated for %d, of which many are zeros: %v", got, len(large), err)
	}
	if res := hydrate(one, first, large); res.Written != 0 {
		t.Errorf("again: %+v", res)
	}
	// A smaller disk: what the larger one left behind it goes.
	if res := hydrate(one, second, small); res.Fetched >= all.Fetched/2 {
		t.Errorf("a difference of a few chunks: %+v of %+v", res, all)
	}
	// A node that has never seen the volume reads it.
	if res := hydrate(two, first, large); res.Fetched == 0 || res.Fetched >= all.Fetched*3/4 {
		t.Errorf("by another node: %+v of %+v", res, all)
	}
	// The first one notices that.
	hydrate(one, second, small)
	// What was changed by a conversion is nothing that is known.
	v, name, err := one.openVolume("p", &wire.Volume{ID: "vol-1", Path: path})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(spoil(v, name), v.Close()); err != nil {
		t.Fatal(err)
	}
	if j, damaged := openJournal(name); damaged != nil || !j.State().Unknown {
		t.Errorf("the journal says %+v, %v", j.State(), damaged)
	}
	if res := hydrate(one, second, small); res.Fetched > all.Fetched/4 {
		t.Errorf("after a conversion that changed nothing: %+v", res)
	}
}

func TestVolumeRefusals(t *testing.T) {
	w := hydratortest.NewWorld(t, nil)
	img := image(72, 4, 0)
	rp := w.Replicate(t, "r", hydratortest.Image{Data: img})
	dir := t.TempDir()
	folder, other := filepath.Join(dir, "volumes"), filepath.Join(dir, "other")
	for _, d := range []string{folder, other, filepath.Join(folder, "sub")} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	size := int64(len(img))
	secret := raw(t, other, "secret", size)
	if err := os.WriteFile(secret, bytes.Repeat([]byte("s"), int(size)), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"absolute": secret, "relative": "../other/secret", "folder": other, "good": "sub/in"} {
		if err := os.Symlink(to, filepath.Join(folder, name)); err != nil {
			t.Fatal(err)
		}
	}
	raw(t, filepath.Join(folder, "sub"), "in", size)
	raw(t, folder, "short", size-1)
	raw(t, folder, "running", size)
	if err := unix.Mkfifo(filepath.Join(folder, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := unix.Mknod(filepath.Join(folder, "device"), unix.S_IFBLK|0o600, int(unix.Mkdev(7, 250))); err != nil {
			t.Fatal(err)
		}
	} else if err := unix.Mkfifo(filepath.Join(folder, "device"), 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(folder, link); err != nil {
		t.Fatal(err)
	}
	n := testNode(t, w, link)
	n.o.Providers["disks"] = ""
	// QEMU holds record locks on the disks of a running machine.
	running, err := os.OpenFile(filepath.Join(folder, "running"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer running.Close()
	if err := unix.FcntlFlock(running.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_RDLCK, Start: 100, Len: 1}); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		provider string
		v        wire.Volume
		want     error
	}{
		"no provider":        {"", wire.Volume{ID: "v", Path: link + "/sub/in"}, ErrProvider},
		"another provider":   {"q", wire.Volume{ID: "v", Path: link + "/sub/in"}, ErrProvider},
		"no folder":          {"disks", wire.Volume{ID: "v", Path: link + "/sub/in"}, volume.ErrOutside},
		"outside":            {"p", wire.Volume{ID: "v", Path: secret}, volume.ErrOutside},
		"dots":               {"p", wire.Volume{ID: "v", Path: link + "/../other/secret"}, volume.ErrOutside},
		"dots within":        {"p", wire.Volume{ID: "v", Path: link + "/sub/../../other/secret"}, volume.ErrOutside},
		"relative path":      {"p", wire.Volume{ID: "v", Path: "sub/in"}, volume.ErrOutside},
		"the folder itself":  {"p", wire.Volume{ID: "v", Path: link}, volume.ErrOutside},
		"a name like it":     {"p", wire.Volume{ID: "v", Path: folder + "x/in"}, volume.ErrOutside},
		"absolute link":      {"p", wire.Volume{ID: "v", Path: link + "/absolute"}, volume.ErrOutside},
		"relative link":      {"p", wire.Volume{ID: "v", Path: link + "/relative"}, volume.ErrOutside},
		"link to a folder":   {"p", wire.Volume{ID: "v", Path: link + "/folder/secret"}, volume.ErrOutside},
		"folder":             {"p", wire.Volume{ID: "v", Path: link + "/sub"}, volume.ErrKind},
		"pipe":               {"p", wire.Volume{ID: "v", Path: link + "/pipe"}, volume.ErrKind},
		"device":             {"p", wire.Volume{ID: "v", Path: link + "/device"}, volume.ErrKind},
		"missing":            {"p", wire.Volume{ID: "v", Path: link + "/none"}, os.ErrNotExist},
		"short":              {"p", wire.Volume{ID: "v", Path: link + "/short"}, volume.ErrTooSmall},
		"shorter than said":  {"p", wire.Volume{ID: "v", Path: link + "/sub/in", Size: size + 1}, volume.ErrTooSmall},
		"a running machine":  {"p", wire.Volume{ID: "v", Path: link + "/running"}, volume.ErrInUse},
		"name of a journal":  {"p", wire.Volume{ID: "../v", Path: link + "/sub/in"}, ErrName},
		"no serial":          {"disks", wire.Volume{ID: "v", Serial: "vol-0123456789"}, volume.ErrNoDisk},
		"hostile serial":     {"disks", wire.Volume{ID: "v", Serial: "../../x"}, volume.ErrNoDisk},
		"link in the folder": {"p", wire.Volume{ID: "v", Path: link + "/good"}, nil},
		"the real folder":    {"p", wire.Volume{ID: "v", Path: folder + "/sub/in"}, nil},
	} {
		j := onto(w, rp, c.v)
		j.Provider = c.provider
		if _, err := n.work(t.Context(), j, func(wire.Progress) {}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	for name, j := range map[string]*wire.Job{
		"both": onto(w, rp, wire.Volume{ID: "v", Path: link + "/good", Serial: "vol-0123"}), "neither": onto(w, rp, wire.Volume{ID: "v"}),
		"two": {ID: "j", Kind: wire.JobHydrate, Provider: "p", Volumes: make([]wire.Volume, 2)},
	} {
		if name == "two" {
			two := onto(w, rp, wire.Volume{})
			two.Volumes = j.Volumes
			j = two
		}
		if _, err := n.work(t.Context(), j, func(wire.Progress) {}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if b, err := os.ReadFile(secret); err != nil || !bytes.Equal(b, bytes.Repeat([]byte("s"), int(size))) {
		t.Errorf("a file outside was changed: %v", err)
	}
	mustHold(t, filepath.Join(folder, "sub", "in"), img)
	if err := Run(context.Background(), Options{Client: w, DataDir: t.TempDir(), Reader: reader.Options{}, Providers: map[string]string{"p": dir + "/none"}}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a folder that is not there: %v", err)
	}
}
