package vm

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Derive returns the disks of a machine that was started from base with o and then changed, and makes them when the cache has none: change is called once the machine
// is up, and must leave it running. version stands for all that change does: another text gives other disks.
func Derive(t testing.TB, base Image, o Options, version string, change func(*Machine)) []Image {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), buildLimit)
	defer cancel()
	cache, err := cacheDir()
	fatal(t, "find cache", err)
	key := sha256.Sum256(mustJSON([]any{recipeVersion, filepath.Base(base.Path), o, version}))
	dir := filepath.Join(cache, fmt.Sprintf("%x.disks", key[:12]))
	disks := make([]Image, 1+len(o.Images)+len(o.Disks))
	for i := range disks {
		disks[i] = Image{filepath.Join(dir, fmt.Sprintf("disk%d.img", i))}
	}
	fatal(t, "make disks", once(ctx, dir, func(tmp string) (string, error) {
		began := time.Now()
		m := Start(t, base, o)
		m.WaitBoot()
		change(m)
		m.PowerOff()
		made := filepath.Join(tmp, "disks")
		if err := os.Mkdir(made, 0o700); err != nil {
			return "", err
		}
		for i, disk := range disks {
			if err := m.Save(ctx, i, filepath.Join(made, filepath.Base(disk.Path))); err != nil {
				return "", err
			}
		}
		t.Logf("%d disks made in %.0f s", len(disks), time.Since(began).Seconds())
		return made, nil
	}))
	return disks
}

// Save writes what a disk of the machine holds, which is off, to a raw file. Disk 0 is the one that it boots from.
func (m *Machine) Save(ctx context.Context, disk int, to string) error {
	_, err := command(ctx, "qemu-img", "convert", "-f", "qcow2", "-O", "raw", m.disks[disk], to)
	return err
}
