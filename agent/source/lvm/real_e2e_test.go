//go:build e2e

package lvm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/openmigrate/openmigrate/agent/source"
	"github.com/openmigrate/openmigrate/agent/source/sourcetest"
)

// The volume group that these tests may use, and a thin pool in it: those of the machine of e2e/vm that they run in.
var group, thinPool = os.Getenv("OPENMIGRATE_TEST_GROUP"), os.Getenv("OPENMIGRATE_TEST_POOL")

func command(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(context.Background(), args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return string(out)
}

var volumes atomic.Int64

// volumeOf makes a volume that holds image.
func volumeOf(t *testing.T, thin bool, image []byte) (path string) {
	t.Helper()
	if group == "" || thinPool == "" {
		t.Fatal("OPENMIGRATE_TEST_GROUP and OPENMIGRATE_TEST_POOL are for a machine of e2e/vm to say")
	}
	name := fmt.Sprintf("test%d", volumes.Add(1))
	size := fmt.Sprintf("%db", len(image))
	if thin {
		command(t, "lvcreate", "-q", "-y", "-V", size, "--thinpool", thinPool, "-n", name, group)
	} else {
		command(t, "lvcreate", "-q", "-y", "-Wn", "-L", size, "-n", name, group)
	}
	t.Cleanup(func() { command(t, "lvremove", "-q", "-y", group+"/"+name) })
	path = "/dev/" + group + "/" + name
	overwrite(t, path, image)
	return path
}

func overwrite(t *testing.T, path string, image []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteAt(image, 0)
		err = errors.Join(err, f.Sync(), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestReal runs the conformance suite on snapshots of thick and thin volumes that are overwritten after they were taken.
func TestReal(t *testing.T) {
	l := &LVM{Tag: tag}
	for _, thin := range []bool{false, true} {
		t.Run(map[bool]string{false: "thick", true: "thin"}[thin], func(t *testing.T) {
			sourcetest.Run(t, sourcetest.Harness{SizeStep: 4 * mib, New: func(t *testing.T, image []byte) sourcetest.Made {
				path := volumeOf(t, thin, image)
				s, err := take(t, l, path)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() {
					if err := errors.Join(s.Check(context.Background()), s.Remove(context.Background())); err != nil {
						t.Error(err)
					}
				})
				overwrite(t, path, bytes.Repeat([]byte("other"), len(image)/5))
				origin, err := source.New(path, nil)
				if err != nil {
					t.Fatal(err)
				}
				src, err := s.Source(origin)
				if err != nil {
					t.Fatal(err)
				}
				return sourcetest.Made{Source: src}
			}})
		})
	}
}

// TestRealOverflow: the kernel gives a snapshot up when it is full, a check and reads say so, and it can be removed.
func TestRealOverflow(t *testing.T) {
	l := &LVM{Tag: tag}
	path := volumeOf(t, false, make([]byte, 160*mib))
	s, err := take(t, l, path)
	if err != nil {
		t.Fatal(err)
	}
	if s.Room != 64*mib {
		t.Errorf("room for %d bytes", s.Room)
	}
	origin, err := source.New(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	src, err := s.Source(origin)
	if err != nil {
		t.Fatal(err)
	}
	r, err := src.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	overwrite(t, path, bytes.Repeat([]byte("x"), 100*mib))
	if _, err := r.ReadAt(source.AlignedBuffer(1*mib), 0); !errors.Is(err, source.ErrLost) {
		t.Errorf("read of a full snapshot: %v", err)
	}
	err = s.Check(t.Context())
	if !errors.Is(err, source.ErrLost) || !s.Lost() {
		t.Errorf("check of a full snapshot: %v", err)
	}
	t.Log(err)
	if err := errors.Join(r.Close(), s.Remove(t.Context())); err != nil {
		t.Error(err)
	}
}

// TestRealClean: what a killed agent left goes, and what looks like it stays.
func TestRealClean(t *testing.T) {
	l := &LVM{Tag: tag}
	path := volumeOf(t, false, make([]byte, 8*mib))
	s, err := take(t, l, path)
	if err != nil {
		t.Fatal(err)
	}
	other, err := take(t, &LVM{Tag: tag + "2"}, path)
	if err != nil {
		t.Fatal(err)
	}
	removed, err := l.Clean(t.Context())
	if err != nil || !slices.Equal(removed, []string{s.made.path()}) {
		t.Errorf("removed %v, %v", removed, err)
	}
	left := command(t, "lvs", "--noheadings", "-o", "lv_name", group)
	if strings.Contains(left, s.made.Name) || !strings.Contains(left, other.made.Name) {
		t.Errorf("left:\n%s", left)
	}
	if err := other.Remove(t.Context()); err != nil {
		t.Error(err)
	}
}
