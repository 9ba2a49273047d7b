package ebpf_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/openmigrate/openmigrate/agent/track"
	"github.com/openmigrate/openmigrate/agent/track/ebpf"
)

// epochsEnv makes the torture long: how many epochs for each file system.
const epochsEnv = "OPENMIGRATE_TORTURE_EPOCHS"

const ownerEnv = "OPENMIGRATE_TEST_OWNER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(writersEnv); dir != "" {
		fmt.Fprintln(os.Stderr, writers(dir))
		os.Exit(1)
	}
	if name := os.Getenv(ownerEnv); name != "" {
		fmt.Fprintln(os.Stderr, own(name))
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

func epochs(t *testing.T) int {
	s := os.Getenv(epochsEnv)
	if s == "" {
		return 3
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// tortureSize has room for all writers and PostgreSQL.
const tortureSize = 512 << 20

// interval is how long the writers run in an epoch.
func interval() <-chan time.Time { return time.After(400 * time.Millisecond) }

// TestTorture freezes a file system under every kind of load, flips, and compares the marks with what really changed.
func TestTorture(t *testing.T) {
	for _, fs := range []string{"ext4", "xfs", "btrfs"} {
		t.Run(fs, func(t *testing.T) {
			d := loop(t, tortureSize)
			tr := openTracker(t, instance(t))
			defer func() { _ = tr.Close() }()
			dir := mount(t, fs, d.Path)
			if err := tr.Watch(t.Context(), []track.Disk{d}); err != nil {
				t.Fatal(err)
			}
			c, err := tr.Start(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			grain := tr.Status(d.ID).Grain
			thaw := freeze(t, dir)
			if _, err := c.Flip(t.Context()); err != nil {
				t.Fatal(err)
			}
			v := verifier{before: read(t, d, grain), discards: traceDiscards(t, d)}
			thaw()
			load := startAll(t, dir)
			n := epochs(t)
			for range n {
				<-interval()
				thaw := freeze(t, dir)
				marks, err := c.Flip(t.Context())
				if err != nil {
					thaw()
					t.Fatal(err)
				}
				after := read(t, d, grain)
				thaw()
				v.check(t, after, marks[d.ID])
			}
			v.report(t, n)
			load.report(t, n)
		})
	}
}

// TestTortureKilled does the same with the process that owns the tracker killed while it flips, once in each epoch.
func TestTortureKilled(t *testing.T) {
	for _, fs := range []string{"ext4", "xfs", "btrfs"} {
		t.Run(fs, func(t *testing.T) {
			d := loop(t, tortureSize)
			opts := instance(t)
			dir := mount(t, fs, d.Path)
			base := ""
			v := verifier{discards: traceDiscards(t, d)}
			var load *database
			n := epochs(t)
			for i := range n + 1 {
				if i > 0 {
					// The programs that it leaves mark on.
					killedOwner(t, opts.Instance, time.Duration(50+37*i%200)*time.Millisecond)
				}
				tr := openTracker(t, opts)
				t.Cleanup(func() { _ = tr.Close() }) // lets go of the lock when the test ended early
				if err := tr.Watch(t.Context(), []track.Disk{d}); err != nil {
					t.Fatal(err)
				}
				thaw := freeze(t, dir)
				c, err := tr.Start(t.Context())
				if err != nil {
					thaw()
					t.Fatal(err)
				}
				after := read(t, d, tr.Status(d.ID).Grain)
				thaw()
				marks, why := c.Changed(d.ID, base)
				switch {
				case i > 0 && marks == nil:
					mounts, _ := os.ReadFile("/proc/self/mountinfo")
					pins, err := os.ReadDir(opts.Dir())
					t.Fatalf("epoch %d: %s\npins now: %v, %v\n%s", i, why, pins, err, mounts)
				case i > 0:
					v.check(t, after, marks)
				case marks != nil:
					t.Fatal("marks at first contact")
				default:
					v.before = after
					load = startAll(t, dir)
				}
				base = fmt.Sprint("point-", i)
				if err := c.Intend(base); err != nil {
					t.Fatal(err)
				}
				if err := c.Settle(); err != nil {
					t.Fatal(err)
				}
				if err := tr.Close(); err != nil {
					t.Fatal(err)
				}
			}
			v.report(t, n)
			load.report(t, n)
		})
	}
}

// killedOwner runs a process that begins cycle after cycle, and kills it.
func killedOwner(t *testing.T, name string, after time.Duration) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), ownerEnv+"="+name)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil { // it owns the tracker
		t.Error(err)
	}
	<-time.After(after)
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait() // says that it was killed
}

// own is the process that is killed.
func own(name string) error {
	tr, err := ebpf.Open(ebpf.Options{Instance: name})
	if err != nil {
		return err
	}
	fmt.Print("x")
	ctx := context.Background()
	for {
		c, err := tr.Start(ctx)
		if err != nil {
			return err
		}
		if _, err := c.Flip(ctx); err != nil {
			return err
		}
	}
}
