package quiesce

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/staging/format"
)

// TestHold: a freeze lasts longer than any budget as long as the work in it goes on, and ends when that hangs.
func TestHold(t *testing.T) {
	mnt := mounted(t, "ext4")
	hold := &Hold{}
	hold.Extend(time.Minute)
	plan := Plan{Mounts: []Mount{{Point: mnt, FSType: "ext4"}}, Budget: 5 * time.Second, Grace: time.Second, Hold: hold}
	var done <-chan error
	rep, err := self().Run(t.Context(), plan, func(ctx context.Context) error {
		done = write(filepath.Join(mnt, "f"))
		select {
		case err := <-done:
			return errors.Join(err, errors.New("written while frozen"))
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(7 * time.Second): // Budget and Grace are over
		}
		if hold.Level != format.Filesystem {
			t.Errorf("within it is %s: %q", hold.Level, hold.Why)
		}
		return nil
	})
	if err != nil || rep.Level != format.Filesystem {
		t.Fatalf("%+v, %v", rep, err)
	}
	await(t, done)

	hold.Extend(100 * time.Millisecond)
	plan.Grace = time.Second
	rep, err = self().Run(t.Context(), plan, func(ctx context.Context) error {
		done = write(filepath.Join(mnt, "g"))
		<-ctx.Done()
		if cause := context.Cause(ctx); !errors.Is(cause, ErrThawed) {
			t.Errorf("it ended for %v", cause)
		}
		return <-done // the watchdog thaws, though this never comes back by itself
	})
	if !errors.Is(err, ErrThawed) || rep.Level != format.Fuzzy {
		t.Errorf("hanging: %+v, %v", rep, err)
	}
}

// TestHoldWatchdogKilled: a freeze that nobody watches over ends.
func TestHoldWatchdogKilled(t *testing.T) {
	mnt := mounted(t, "ext4")
	hold := &Hold{}
	hold.Extend(time.Minute)
	q := self()
	plan := Plan{Mounts: []Mount{{Point: mnt, FSType: "ext4"}}, Budget: 5 * time.Second, Grace: 8 * time.Second, Hold: hold}
	_, err := q.Run(t.Context(), plan, func(ctx context.Context) error {
		// The watchdog is this process's only child.
		killed := 0
		all, _ := filepath.Glob("/proc/self/task/*/children")
		for _, name := range all {
			b, _ := os.ReadFile(name) // of a thread that ended
			for _, pid := range strings.Fields(string(b)) {
				n, _ := strconv.Atoi(pid)
				if err := syscall.Kill(n, syscall.SIGKILL); err == nil {
					killed++
				}
			}
		}
		if killed != 1 {
			t.Errorf("%d children were killed", killed)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(20 * time.Second):
			return errors.New("it goes on")
		}
	})
	if !errors.Is(err, ErrThawed) {
		t.Errorf("got %v", err)
	}
	await(t, write(filepath.Join(mnt, "f")))
}
