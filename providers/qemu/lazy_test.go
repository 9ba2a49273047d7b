package qemu

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/providers"
)

// A machine boots from content that is elsewhere, which is copied while it runs, and then needs that place no more.
func TestLazyVolume(t *testing.T) {
	t.Parallel()
	for name, serve := range map[string]func(t *testing.T, file string) providers.View{
		"file": func(_ *testing.T, file string) providers.View { return providers.View{File: file} },
		"NBD":  serveNBD,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			p := open(t, Options{Dir: dir})
			file := filepath.Join(t.TempDir(), "view")
			if err := makeDisk(file, 64<<20); err != nil {
				t.Fatal(err)
			}
			f, err := os.OpenFile(file, os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			_, err = f.Write(sector("from afar\n", halt))
			if err = errors.Join(err, f.Close()); err != nil {
				t.Fatal(err)
			}
			v, err := p.CreateLazyVolume(t.Context(), providers.VolumeSpec{Meta: testMeta("v"), Size: 64 << 20}, serve(t, file))
			if err == nil {
				v, err = providers.AwaitVolume(t.Context(), p, v.ID, pollTime)
			}
			if err != nil || !v.Lazy {
				t.Fatalf("volume is %+v, %v", v, err)
			}
			if err := p.FillVolume(t.Context(), v.ID); !errors.Is(err, providers.ErrConflict) {
				t.Errorf("fill without a machine: %v, want ErrConflict", err)
			}
			i := boot(t, p, "vm", nil, providers.Source{Kind: providers.FromVolume, ID: v.ID})
			awaitConsole(t, p, i.ID, "from afar\n", 1)
			for range 2 {
				if err := p.FillVolume(t.Context(), v.ID); err != nil {
					t.Fatal(err)
				}
			}
			// The owner may go meanwhile.
			if err := p.Close(); err != nil {
				t.Fatal(err)
			}
			p = open(t, Options{Dir: dir})
			await(t, p, i.ID, providers.StateRunning)
			_, err = providers.Await(t.Context(), pollTime, func(ctx context.Context) (providers.Volume, error) { return p.Volume(ctx, v.ID) },
				func(v providers.Volume) (bool, error) { return !v.Lazy, nil })
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(p.FillVolume(t.Context(), v.ID), os.Truncate(file, 0), p.StopInstance(t.Context(), i.ID, true)); err != nil {
				t.Fatal(err)
			}
			await(t, p, i.ID, providers.StateStopped)
			if err := p.StartInstance(t.Context(), i.ID); err != nil {
				t.Fatal(err)
			}
			awaitConsole(t, p, i.ID, "from afar\n", 2)
		})
	}
}

func serveNBD(t *testing.T, file string) providers.View {
	t.Helper()
	dir, err := os.MkdirTemp("", "nbd") // short, as a socket's path has to be
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	cmd := exec.Command("qemu-nbd", "--read-only", "--persistent", "--format=raw", "--export-name=disk", "--socket="+socket, file)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for range 1000 {
		if _, err := os.Stat(socket); err == nil {
			return providers.View{Socket: socket, Export: "disk"}
		}
		time.Sleep(pollTime)
	}
	t.Fatal("qemu-nbd does not listen")
	return providers.View{}
}

func TestLazyVolumeRefusals(t *testing.T) {
	p := open(t, Options{})
	for name, view := range map[string]providers.View{
		"nothing":       {},
		"both":          {File: "/a", Socket: "/b"},
		"relative":      {File: "a"},
		"a long socket": {Socket: "/" + string(make([]byte, 200))},
	} {
		if _, err := p.CreateLazyVolume(t.Context(), providers.VolumeSpec{Meta: testMeta("v"), Size: 512}, view); !errors.Is(err, providers.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
}
