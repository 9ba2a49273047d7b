package quiesce

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/openmigrate/openmigrate/internal/roottest"
	"github.com/openmigrate/openmigrate/staging/format"
)

// rcuEnv names the watchdog's rcuFile.
const rcuEnv = "OPENMIGRATE_TEST_RCU_FILE"

// hooksEnv names the freezer's folder of hooks.
const hooksEnv = "OPENMIGRATE_TEST_HOOKS"

// TestMain is also the watchdog and, as "freezer MOUNT", an agent that says "frozen" and never thaws.
func TestMain(m *testing.M) {
	var err error
	if file := os.Getenv(rcuEnv); file != "" {
		rcuFile = file
	}
	switch {
	case len(os.Args) > 1 && os.Args[1] == "watchdog":
		err = WatchdogMain(os.Args[2:])
	case len(os.Args) > 2 && os.Args[1] == "freezer":
		err = os.Chdir(os.Args[2])
		if err == nil {
			_, err = self().Run(context.Background(), Plan{Mounts: []Mount{{Point: os.Args[2]}}, Budget: 2 * time.Second, Hooks: os.Getenv(hooksEnv)},
				func(context.Context) error {
					fmt.Println("frozen")
					select {}
				})
		}
	default:
		goleak.VerifyTestMain(m)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func self() *Quiescer { return &Quiescer{Watchdog: []string{"/proc/self/exe", "watchdog"}} }

func sh(t *testing.T, argv ...string) string {
	t.Helper()
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", argv, err, out)
	}
	return strings.TrimSpace(string(out))
}

func mounted(t *testing.T, fs string) string {
	t.Helper()
	return mountedIn(t, fs, t.TempDir())
}

// mountedIn puts the image of a new file system and its mount point into dir.
func mountedIn(t *testing.T, fs, dir string) string {
	t.Helper()
	roottest.Need(t, "loop devices")
	img, mnt := filepath.Join(dir, "img"), filepath.Join(dir, "mnt")
	size := map[string]string{"ext4": "32M", "btrfs": "128M", "xfs": "320M"}[fs]
	sh(t, "truncate", "-s", size, img)
	sh(t, "mkfs."+fs, "-q", img)
	loop := sh(t, "losetup", "-f", "--show", img)
	t.Cleanup(func() { sh(t, "losetup", "-d", loop) })
	if err := os.Mkdir(mnt, 0o755); err != nil {
		t.Fatal(err)
	}
	sh(t, "mount", "-t", fs, loop, mnt)
	t.Cleanup(func() { sh(t, "umount", mnt) })
	return mnt
}

// write starts a writer and returns the channel on which its end is told.
func write(path string) <-chan error {
	done := make(chan error, 1)
	go func() { done <- os.WriteFile(path, []byte("x"), 0o600) }()
	return done
}

func await(t *testing.T, done <-chan error) {
	t.Helper()
	select {
	case err := <-done:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the writer is still blocked")
	}
}

func TestWriterBlockedWhileFrozen(t *testing.T) {
	for _, fs := range []string{"ext4", "xfs", "btrfs"} {
		t.Run(fs, func(t *testing.T) {
			mnt := mounted(t, fs)
			var done <-chan error
			rep, err := self().Run(t.Context(), Plan{Mounts: []Mount{{Point: mnt, FSType: fs}}, Budget: 5 * time.Second},
				func(context.Context) error {
					done = write(filepath.Join(mnt, "f"))
					select {
					case err := <-done:
						return fmt.Errorf("written while frozen: %w", errors.Join(err, ErrThawed))
					case <-time.After(100 * time.Millisecond):
						return nil
					}
				})
			if err != nil || rep.Level != format.Filesystem || rep.For < 100*time.Millisecond {
				t.Fatalf("%+v, %v", rep, err)
			}
			await(t, done)
		})
	}
}

// TestAhead: what is done ahead of the freeze keeps nobody waiting, is not of its time, and ends it if it fails.
func TestAhead(t *testing.T) {
	mnt := mounted(t, "ext4")
	plan := Plan{Mounts: []Mount{{Point: mnt}}, Budget: 5 * time.Second}
	plan.Ahead = func(context.Context) error {
		await(t, write(filepath.Join(mnt, "f")))
		time.Sleep(200 * time.Millisecond)
		return nil
	}
	rep, err := self().Run(t.Context(), plan, func(context.Context) error { return nil })
	if err != nil || rep.Level != format.Filesystem || rep.For >= 200*time.Millisecond || rep.Freezing <= 0 || rep.Thawing <= 0 || rep.Freezing+rep.Thawing > rep.For {
		t.Fatalf("%+v, %v", rep, err)
	}
	failed := errors.New("failed")
	plan.Ahead = func(context.Context) error { return failed }
	rep, err = self().Run(t.Context(), plan, func(context.Context) error {
		t.Error("it is frozen all the same")
		return nil
	})
	if !errors.Is(err, failed) || rep.Level != format.Fuzzy || len(rep.Frozen) != 0 {
		t.Fatalf("%+v, %v", rep, err)
	}
}

func TestFreezerKilledOrStopped(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGSTOP} {
		t.Run(sig.String(), func(t *testing.T) {
			mnt := mounted(t, "ext4")
			rcu := filepath.Join(t.TempDir(), "rcu_expedited")
			if err := os.WriteFile(rcu, []byte("0"), 0o600); err != nil {
				t.Fatal(err)
			}
			t.Setenv(rcuEnv, rcu)
			cmd := exec.Command("/proc/self/exe", "freezer", mnt)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			line, err := bufio.NewReader(out).ReadString('\n')
			if err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			guard := watchdogOf(t, cmd.Process.Pid)
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			await(t, write(filepath.Join(mnt, "f")))
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			// It holds the mount point open until it ends.
			if n, err := unix.Poll([]unix.PollFd{{Fd: int32(guard), Events: unix.POLLIN}}, 20000); n != 1 {
				t.Fatalf("the watchdog did not end: %v", err)
			}
			if b, err := os.ReadFile(rcu); err != nil || string(b) != "0" {
				t.Errorf("grace periods stay short: %q, %v", b, err)
			}
		})
	}
}

// TestHooksOfKilled: what was called with freeze is called with thaw also when the agent is killed, in reverse, and once; also when all of its service
// is asked to end.
func TestHooksOfKilled(t *testing.T) {
	mnt, dir := mounted(t, "ext4"), t.TempDir()
	log := filepath.Join(t.TempDir(), "log")
	for _, name := range []string{"a", "b"} {
		hook := "#!/bin/sh\necho " + name + " $1 >>" + log + "\n"
		if err := os.WriteFile(filepath.Join(dir, name), []byte(hook), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv(hooksEnv, dir)
	t.Setenv(rcuEnv, filepath.Join(dir, "none"))
	cmd := exec.Command("/proc/self/exe", "freezer", mnt)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	helpers := childrenOf(t, cmd.Process.Pid)
	if len(helpers) != 2 {
		t.Fatalf("%d helpers, want a watchdog and a guard", len(helpers))
	}
	for _, pid := range helpers {
		if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	await(t, write(filepath.Join(mnt, "f")))
	want := "a freeze\nb freeze\nb thaw\na thaw\n"
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		b, err := os.ReadFile(log)
		if err == nil && string(b) == want {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("hooks were called with %q, %v", b, err)
		}
	}
	if _, err := self().Run(t.Context(), Plan{Mounts: []Mount{{Point: mnt}}, Hooks: dir, Budget: 5 * time.Second}, func(context.Context) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(log); err != nil || string(b) != want+want {
		t.Errorf("without a death hooks were called with %q, %v", b[min(len(b), len(want)):], err)
	}
}

// childrenOf are the processes that pid started.
func childrenOf(t *testing.T, pid int) (pids []int) {
	t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		b, err := os.ReadFile(task)
		if err != nil {
			continue
		}
		for _, field := range strings.Fields(string(b)) {
			if child, err := strconv.Atoi(field); err == nil {
				pids = append(pids, child)
			}
		}
	}
	return pids
}

// watchdogOf returns a pidfd of the only child of pid.
func watchdogOf(t *testing.T, pid int) int {
	t.Helper()
	children := childrenOf(t, pid)
	if len(children) != 1 {
		t.Fatalf("%d children, want a watchdog", len(children))
	}
	fd, err := unix.PidfdOpen(children[0], 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

func TestFrozenAlready(t *testing.T) {
	a, b := mounted(t, "ext4"), mounted(t, "ext4")
	sh(t, "fsfreeze", "-f", b)
	rep, err := self().Run(t.Context(), Plan{Mounts: []Mount{{Point: a}, {Point: b}}},
		func(context.Context) error { t.Error("called"); return nil })
	sh(t, "fsfreeze", "-u", b) // fails if it was thawed for its owner
	if !errors.Is(err, ErrFrozen) || rep.Level != format.Fuzzy {
		t.Fatalf("%+v, %v", rep, err)
	}
	await(t, write(filepath.Join(a, "f")))
}

func TestOverrunIsThawed(t *testing.T) {
	mnt := mounted(t, "ext4")
	rep, err := self().Run(t.Context(), Plan{Mounts: []Mount{{Point: mnt}}, Budget: 50 * time.Millisecond, Grace: 50 * time.Millisecond},
		func(context.Context) error { return <-write(filepath.Join(mnt, "f")) })
	if !errors.Is(err, ErrThawed) || rep.Level != format.Fuzzy {
		t.Fatalf("%+v, %v", rep, err)
	}
}

func TestNestedLoop(t *testing.T) {
	outer := mounted(t, "btrfs")
	inner := mountedIn(t, "ext4", outer)
	rep, err := self().Run(t.Context(), Plan{Mounts: []Mount{{Point: inner}, {Point: outer}}, Budget: 10 * time.Second},
		func(context.Context) error { return nil })
	if err != nil || len(rep.Frozen) != 2 || rep.Level != format.Filesystem {
		t.Fatalf("%+v, %v", rep, err)
	}
	await(t, write(filepath.Join(inner, "f")))
	await(t, write(filepath.Join(outer, "f")))
}

func TestPanicThaws(t *testing.T) {
	mnt := mounted(t, "ext4")
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_, _ = self().Run(t.Context(), Plan{Mounts: []Mount{{Point: mnt}}}, func(context.Context) error { panic("x") })
	}()
	await(t, write(filepath.Join(mnt, "f")))
}

// TestGracePeriods: they are short while file systems are frozen and as before afterwards, whatever somebody else had chosen.
func TestGracePeriods(t *testing.T) {
	mnt := mounted(t, "ext4")
	file := filepath.Join(t.TempDir(), "rcu_expedited") // the kernel's own is also used by other tests that run now
	t.Setenv(rcuEnv, file)
	now := func() string {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(b))
	}
	set := func(v string) {
		if err := os.WriteFile(file, []byte(v), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, before := range []string{"0", "1"} {
		set(before)
		_, err := self().Run(t.Context(), Plan{Mounts: []Mount{{Point: mnt, FSType: "ext4"}}, Budget: 20 * time.Second}, func(ctx context.Context) error {
			for now() != "1" { // the watchdog may not have run yet
				if ctx.Err() != nil {
					return ctx.Err()
				}
				runtime.Gosched()
			}
			return nil
		})
		if err != nil || now() != before {
			t.Errorf("with %s before: %s after, %v", before, now(), err)
		}
	}
	set("0")
	if _, err := self().Run(t.Context(), Plan{Mounts: []Mount{{Point: mnt, FSType: "ext4"}}, Budget: 500 * time.Millisecond, Grace: time.Millisecond},
		func(context.Context) error {
			time.Sleep(time.Second) // the watchdog thaws
			return nil
		}); !errors.Is(err, ErrThawed) || now() != "0" {
		t.Errorf("after an overrun: %s, %v", now(), err)
	}
}

// TestFreezeOfOthersAfterwards: what a thaw hook, or anybody else, freezes after the thaw is not the watchdog's to thaw.
func TestFreezeOfOthersAfterwards(t *testing.T) {
	mnt := mounted(t, "ext4")
	dir := t.TempDir()
	hook := "#!/bin/sh\n[ $1 = freeze ] || { fsfreeze -f " + mnt + "; sleep 1; fsfreeze -u " + mnt + "; }\n" // -u fails if it is not frozen any more
	if err := os.WriteFile(filepath.Join(dir, "a"), []byte(hook), 0o700); err != nil {
		t.Fatal(err)
	}
	rep, err := self().Run(t.Context(), Plan{Mounts: []Mount{{Point: mnt, FSType: "ext4"}}, Hooks: dir, Budget: 200 * time.Millisecond, Grace: 100 * time.Millisecond},
		func(context.Context) error { return nil })
	if err != nil || rep.Level != format.Application {
		t.Errorf("%s, %v: %q", rep.Level, err, rep.Why)
	}
}
