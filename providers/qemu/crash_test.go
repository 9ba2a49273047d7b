package qemu

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/providers"
)

// maxSteps is more than a story has.
const maxSteps = 100

// A process that is killed at any step leaves what the next one takes up: there is never a second machine, the story can be gone on with to its end,
// and what is given up is swept without a trace.
func TestOwnerKilledAtEachStep(t *testing.T) {
	t.Parallel()
	finished := make(chan struct{})
	steps := make(chan int)
	go func() {
		defer close(steps)
		for n := 1; n <= maxSteps; n++ {
			select {
			case steps <- n:
			case <-finished:
				return
			}
		}
	}()
	t.Run("steps", func(t *testing.T) {
		for worker := range 3 {
			t.Run("", func(t *testing.T) {
				t.Parallel()
				for n := range steps {
					dir := t.TempDir()
					at := runOwner(t, dir, n)
					if at == "" {
						select {
						case <-finished:
						default:
							close(finished)
						}
						t.Logf("worker %d: the story has fewer than %d steps", worker, n)
						return
					}
					goOn(t, dir, at, n%2 == 0)
					if t.Failed() {
						return
					}
				}
			})
		}
	})
}

// runOwner goes through the story in another process, which is killed at its n-th step. It returns the name of the step; empty if the story ended before.
func runOwner(t *testing.T, dir string, n int) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	t.Cleanup(func() { endMachines(t, dir) })
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), ownerEnv+"="+dir, killEnv+"="+strconv.Itoa(n))
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if at, killed := strings.CutPrefix(strings.TrimSpace(string(out)), "killed at "); killed {
		return at
	}
	if err != nil {
		t.Fatalf("owner: %v\n%s", err, stderr.String())
	}
	return ""
}

// goOn takes up what a killed owner left, to the end of the story or by sweeping it.
func goOn(t *testing.T, dir, at string, sweep bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	p, err := Open(Options{Dir: dir, Accel: "tcg"})
	if err != nil {
		t.Fatal(err)
	}
	if sweep {
		none := func(context.Context) (map[string]bool, error) { return nil, nil }
		_, err = providers.SweepAll(ctx, p, system, none, pollTime)
	} else {
		watching, stop := context.WithCancel(ctx)
		most := make(chan int)
		go func() {
			n := 0
			for watching.Err() == nil {
				n = max(n, len(processes(t, dir)))
				_ = sleep(watching, pollTime)
			}
			most <- n
		}()
		err = story(ctx, p)
		stop()
		if n := <-most; n > 1 {
			t.Errorf("killed at %s: %d machines at once", at, n)
		}
	}
	if err = errors.Join(err, p.Close()); err != nil {
		t.Errorf("killed at %s: %v", at, err)
	}
	if left := processes(t, dir); len(left) > 0 {
		t.Errorf("killed at %s: processes %v are left", at, left)
	}
	if left := files(t, dir); len(left) > 0 {
		t.Errorf("killed at %s: %q are left", at, left)
	}
}

// files are those of a state directory that are no records of what was removed.
func files(t *testing.T, dir string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && d.Name() != recordName && filepath.Dir(path) != dir {
			names = append(names, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}
