package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/openmigrate/openmigrate/providers"
)

// The test program is also the owner that is killed: with this variable it goes through story in the directory it names, and dies at a step.
const (
	ownerEnv = "QEMU_TEST_OWNER" // directory
	killEnv  = "QEMU_TEST_KILL"  // the number of the step, from 1; 0: never
)

func owner() int {
	at, err := strconv.ParseInt(os.Getenv(killEnv), 10, 64)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	var n atomic.Int64
	step = func(name string) {
		if n.Add(1) == at {
			fmt.Println("killed at " + name)
			_ = unix.Kill(os.Getpid(), unix.SIGKILL)
			select {}
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	p, err := Open(Options{Dir: os.Getenv(ownerEnv), Accel: "tcg"})
	if err == nil {
		err = story(ctx, p)
		err = errors.Join(err, p.Close())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

const (
	system   = "test-system"
	pollTime = 5 * time.Millisecond
)

func testMeta(token string) providers.Meta {
	return providers.Meta{Token: token, Owner: providers.Owner{System: system, Launch: "launch"}, Name: "a name"}
}

// Ids of what story makes.
var (
	emptyID = idFor(providers.KindVolume, "empty")
	cloneID = idFor(providers.KindVolume, "clone")
	thinID  = idFor(providers.KindVolume, "thin")
	snapID  = idFor(providers.KindSnapshot, "snap")
	vmID    = idFor(providers.KindInstance, "vm")
)

// story makes disks of every kind and a machine of them, stops and starts it, and removes everything. It can be gone through again after a crash anywhere.
func story(ctx context.Context, p *Provider) error {
	if i, err := p.Instance(ctx, vmID); errors.Is(err, providers.ErrNotFound) || err == nil && i.State != providers.StateTerminating && i.State != providers.StateTerminated {
		if err := lifeOfMachine(ctx, p); err != nil {
			return err
		}
	}
	if err := p.TerminateInstance(ctx, vmID); err != nil {
		return err
	}
	if _, err := providers.AwaitInstance(ctx, p, vmID, providers.StateTerminated, pollTime); err != nil {
		return err
	}
	return errors.Join(p.DeleteVolume(ctx, thinID), p.DeleteSnapshot(ctx, snapID), p.DeleteVolume(ctx, emptyID))
}

func lifeOfMachine(ctx context.Context, p *Provider) error {
	volume := func(spec providers.VolumeSpec) error {
		v, err := p.CreateVolume(ctx, spec)
		if err == nil {
			_, err = providers.AwaitVolume(ctx, p, v.ID, pollTime)
		}
		return err
	}
	if err := volume(providers.VolumeSpec{Meta: testMeta("empty"), Size: 1 << 20}); err != nil {
		return err
	}
	_, err := p.CreateSnapshot(ctx, providers.SnapshotSpec{Meta: testMeta("snap"), Volume: emptyID})
	if err == nil {
		_, err = providers.AwaitSnapshot(ctx, p, snapID, pollTime)
	}
	if err != nil {
		return err
	}
	snap := providers.Source{Kind: providers.FromSnapshot, ID: snapID}
	if err := volume(providers.VolumeSpec{Meta: testMeta("clone"), From: providers.Source{Kind: providers.FromVolume, ID: emptyID}}); err != nil {
		return err
	}
	if err := volume(providers.VolumeSpec{Meta: testMeta("thin"), Thin: true, From: snap}); err != nil {
		return err
	}
	_, err = p.CreateInstance(ctx, providers.InstanceSpec{Meta: testMeta("vm"), Type: "c1-m64", Architecture: providers.AMD64, Firmware: providers.BIOS,
		Disks: []providers.Disk{
			{From: providers.Source{Kind: providers.FromVolume, ID: cloneID}, Delete: true},
			{From: providers.Source{Kind: providers.FromVolume, ID: thinID}},
			{From: snap, Delete: true},
		}, NICs: []providers.NIC{{Network: Isolated, Forward: []uint16{22}}}})
	if err != nil {
		return err
	}
	await := func(want providers.State) error {
		_, err := providers.AwaitInstance(ctx, p, vmID, want, pollTime)
		return err
	}
	i, err := p.Instance(ctx, vmID)
	if err == nil && (i.State == providers.StateCreating || i.State == providers.StateRunning) {
		err = await(providers.StateRunning)
	}
	if err == nil {
		err = p.StopInstance(ctx, vmID, true)
	}
	if err == nil {
		err = await(providers.StateStopped)
	}
	if err == nil {
		err = p.StartInstance(ctx, vmID)
	}
	if err == nil {
		err = await(providers.StateRunning)
	}
	return err
}

// processes are the pids of the QEMUs that run in a state directory, found by nothing that the provider goes by.
func processes(t *testing.T, dir string) (pids []int) {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		cwd, _ := os.Readlink(filepath.Join("/proc", e.Name(), "cwd"))
		name, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "comm"))
		if strings.HasPrefix(cwd, filepath.Join(dir, instancesDir)+"/") && strings.HasPrefix(string(name), "qemu") {
			pids = append(pids, pid)
		}
	}
	return pids
}

// endMachines kills the machines of a state directory and waits until they are gone.
func endMachines(t *testing.T, dir string) {
	t.Helper()
	for range 3000 {
		pids := processes(t, dir)
		if len(pids) == 0 {
			return
		}
		for _, pid := range pids {
			_ = unix.Kill(pid, unix.SIGKILL) // or it is gone
		}
		time.Sleep(2 * pollTime)
	}
	t.Errorf("processes %v do not end", processes(t, dir))
}
