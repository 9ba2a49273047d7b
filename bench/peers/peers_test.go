package peers

import (
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/openmigrate/openmigrate/bench/disk"
	"github.com/openmigrate/openmigrate/chunker"
)

// TestPeers needs no peer to be installed: one that is missing must say so, one that is there must store the disk.
func TestPeers(t *testing.T) {
	image := filepath.Join(t.TempDir(), "disk")
	if err := disk.Sparse(image, 8<<20, 2<<20, 4, 1); err != nil {
		t.Fatal(err)
	}
	for _, p := range []Peer{Restic(), Borg(chunker.DefaultSize)} {
		t.Run(p.Name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "peer")
			if _, err := exec.LookPath(p.Name); err != nil {
				if err := p.Init(t.Context(), dir); !errors.Is(err, exec.ErrNotFound) {
					t.Errorf("%s is missing: %v", p.Name, err)
				}
				return
			}
			version, err := p.Version(t.Context())
			if err != nil || !strings.HasPrefix(version, p.Name) {
				t.Errorf("version %q, %v", version, err)
			}
			if err := p.Init(t.Context(), dir); err != nil {
				t.Fatal(err)
			}
			res, err := p.Backup(t.Context(), dir, image)
			if err != nil {
				t.Fatal(err)
			}
			if res.Stored < 1<<20 || res.Stored > 3<<20 || res.CPU <= 0 || res.Wall <= 0 {
				t.Errorf("2 MiB, half of it random, took %+v", res)
			}
			if _, err := p.Backup(t.Context(), dir, image+"x"); err == nil {
				t.Error("a disk that is missing is backed up")
			}
		})
	}
}
