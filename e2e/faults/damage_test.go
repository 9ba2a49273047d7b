package faults

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/e2e/lab"
)

// packsOf lists the pack files of a lab's built-in staging.
func packsOf(t *testing.T, l *lab.Lab) []string {
	t.Helper()
	var packs []string
	err := filepath.WalkDir(l.Path("master/staging"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && strings.Contains(path, "/packs/") && len(d.Name()) == 64 {
			packs = append(packs, path)
		}
		return err
	})
	if err != nil || len(packs) == 0 {
		t.Fatalf("find packs: %d, %v", len(packs), err)
	}
	return packs
}

// start makes a lab with an agent, a hydrator and a first restpoint of a disk.
func start(t *testing.T, content []byte) (l *lab.Lab, disk, restpoint string) {
	t.Helper()
	l = lab.New(t)
	disk = l.Path("disk.img")
	if err := os.WriteFile(disk, content, 0o600); err != nil {
		t.Fatal(err)
	}
	l.StartAgent(l.Token("agent"), disk)
	l.StartHydrator(l.Token("node"))
	l.Eventually(time.Minute, "first restpoint", func() error {
		out, err := l.CLI("restpoints", "ls", "web1", "-o", "json")
		if err != nil {
			return err
		}
		list, err := decode(out)
		if err == nil && len(list) == 0 {
			err = errors.New("none yet")
		}
		if err == nil {
			restpoint = list[0].ID
		}
		return err
	})
	return l, disk, restpoint
}

func pattern(n int, seed byte) []byte {
	b := make([]byte, n)
	x := uint32(seed)*2654435761 + 1
	for i := range b {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		b[i] = byte(x)
	}
	return b
}

// TestDamagedPacksAreFoundAndHealed flips a bit, cuts and removes packs under a running installation: a verification names the
// damage, the agent sends again what it still has, and the restpoint is whole again.
func TestDamagedPacksAreFoundAndHealed(t *testing.T) {
	for name, damage := range map[string]func(*testing.T, string){
		"a flipped bit": func(t *testing.T, pack string) {
			b, err := os.ReadFile(pack)
			if err != nil {
				t.Fatal(err)
			}
			b[len(b)/2] ^= 4
			if err := os.WriteFile(pack, b, 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"cut short": func(t *testing.T, pack string) {
			if err := os.Truncate(pack, 1000); err != nil {
				t.Fatal(err)
			}
		},
		"gone": func(t *testing.T, pack string) {
			if err := os.Remove(pack); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			content := pattern(12<<20, 1)
			l, _, restpoint := start(t, content)
			if _, err := l.CLI("restpoints", "verify", restpoint, "--wait"); err != nil {
				t.Fatal(err)
			}
			for _, pack := range packsOf(t, l) {
				damage(t, pack)
			}
			if _, err := l.CLI("restpoints", "verify", restpoint, "--wait"); err == nil {
				t.Fatal("a damaged restpoint verifies")
			}
			if _, err := l.CLI("restpoints", "export", restpoint, "--disk", "0", "--to", l.Path("bad.img")); err == nil {
				t.Fatal("a damaged restpoint exports without an error")
			}
			// The agent still has the data: its next cycle sends what was lost.
			l.Eventually(2*time.Minute, "the restpoint is whole again", func() error {
				if _, err := l.CLI("machines", "sync", "web1", "--wait", "--timeout", "60s"); err != nil {
					return err
				}
				_, err := l.CLI("restpoints", "verify", restpoint, "--wait")
				return err
			})
			to := l.Path("good.img")
			if _, err := l.CLI("restpoints", "export", restpoint, "--disk", "0", "--to", to); err != nil {
				t.Fatal(err)
			}
			if b, err := os.ReadFile(to); err != nil || !bytes.Equal(b, content) {
				t.Fatalf("the healed restpoint is not the disk: %d bytes, %v", len(b), err)
			}
		})
	}
}

// TestRebuildFromTheBucket loses the master's store and data directory but for the staging folder, and rebuilds all from
// the bucket with the recovery key.
func TestRebuildFromTheBucket(t *testing.T) {
	content := pattern(6<<20, 2)
	l, _, restpoint := start(t, content)
	key := l.Path("recovery.txt")
	if _, err := l.CLI("keys", "recovery", "--to", key); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"agent", "hydrator", "master"} {
		l.Proc(name).Stop()
	}
	for _, lost := range []string{"master.db", "ca", "env", "keys"} {
		if err := os.RemoveAll(l.Path("master/" + lost)); err != nil {
			t.Fatal(err)
		}
	}
	l.StartMaster("--recovery-key", key)
	if out, err := l.CLI("staging", "rebuild-index"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := l.CLI("staging", "check", "--deep"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	to := l.Path("rebuilt.img")
	if _, err := l.CLI("restpoints", "export", restpoint, "--disk", "0", "--to", to); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(to); err != nil || !bytes.Equal(b, content) {
		t.Fatalf("the rebuilt restpoint is not the disk: %d bytes, %v", len(b), err)
	}
}

// TestWrongKeysAndForeignBuckets: a master that lost its key file says so and writes nothing; one that is given another project's
// bucket refuses it.
func TestWrongKeysAndForeignBuckets(t *testing.T) {
	l, _, _ := start(t, pattern(1<<20, 3))
	for _, name := range []string{"agent", "hydrator", "master"} {
		l.Proc(name).Stop()
	}
	age := l.Path("master/keys/master.age")
	saved, err := os.ReadFile(age)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(age); err != nil {
		t.Fatal(err)
	}
	l.MasterFails("master.age|recovery-key")
	if err := os.WriteFile(age, saved, 0o600); err != nil {
		t.Fatal(err)
	}
	bucket := l.Path("master/keys/bucket.json")
	known, err := os.ReadFile(bucket)
	if err != nil {
		t.Fatal(err)
	}
	other := bytes.Replace(known, []byte(`"bucket": "`), []byte(`"bucket": "0`), 1)
	if bytes.Equal(other, known) {
		t.Fatalf("bucket.json is not as expected: %s", known)
	}
	if err := os.WriteFile(bucket, other, 0o600); err != nil {
		t.Fatal(err)
	}
	l.MasterFails("project")
	if err := os.WriteFile(bucket, known, 0o600); err != nil {
		t.Fatal(err)
	}
	marker := l.Path("master/staging/openmigrate/openmigrate")
	b, err := os.ReadFile(marker)
	if err != nil {
		t.Fatal(err)
	}
	newer := bytes.Clone(b)
	newer[4] = 9
	if err := os.WriteFile(marker, newer, 0o600); err != nil {
		t.Fatal(err)
	}
	l.MasterFails("version 9")
	if err := os.WriteFile(marker, b, 0o600); err != nil {
		t.Fatal(err)
	}
	l.StartMaster()
	if out, err := l.CLI("staging", "check", "--deep"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}
