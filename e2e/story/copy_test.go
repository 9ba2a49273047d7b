//go:build e2e

package story

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/e2e/vm"
	"github.com/openmigrate/openmigrate/hydrator/convert"
	"github.com/openmigrate/openmigrate/internal/roottest"
	"github.com/openmigrate/openmigrate/providers"
	"github.com/openmigrate/openmigrate/providers/qemu"
)

// TestCopyBIOS and TestCopyUEFI replicate a server under load, and start what arrived: unconverted, which fails, and converted.
func TestCopyBIOS(t *testing.T) {
	testCopy(t, ifupdown, vm.BIOS, providers.BIOS)
}

func TestCopyUEFI(t *testing.T) {
	testCopy(t, networkd, vm.UEFI, providers.UEFI)
}

func testCopy(t *testing.T, network string, firmware vm.Firmware, at providers.Firmware) {
	roottest.Need(t, "making and mounting disk images")
	s := startSource(t, network, firmware)
	s.sync()
	// Again, by what was written only. Beside all else there is a file system that cannot be frozen: that of the ESP.
	p := s.sync()
	if p.Consistency != "filesystem" {
		t.Errorf("consistency %s\n%s", p.Consistency, s.journal())
	}
	for i, d := range p.Disks {
		if d.Tracker != "ebpf" {
			t.Errorf("disk %d was tracked by %s", i, d.Tracker)
		}
	}
	var disks []string
	for i := range p.Disks {
		to := s.lab.Path(fmt.Sprintf("copy%d.img", i))
		if _, err := s.lab.CLI("restpoints", "export", p.ID, "--disk", fmt.Sprint(i), "--to", to); err != nil {
			t.Fatal(err)
		}
		disks = append(disks, to)
	}
	s.waitWrites("the source goes on", time.Now())
	s.Kill()
	place := openPlace(t)
	began := time.Now()
	i := place.start(t, "unconverted", disks, at, providers.VirtioBlk)
	place.console(t, i, "ALERT!", "/dev/sda3 does not exist")
	t.Logf("unconverted, the root is not found after %.0f s", time.Since(began).Seconds())
	place.remove(t, i)

	began = time.Now()
	system, err := convert.Detect(t.Context(), disks)
	if err != nil {
		t.Fatal(err)
	}
	report, err := convert.Convert(t.Context(), system, convert.Target{Platform: convert.KVM, Firmware: convert.Firmware(at)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("converted in %.1f s, with %d changes and warnings %q", time.Since(began).Seconds(), len(report.Changes), report.Warnings)
	for _, bus := range []providers.Bus{providers.VirtioBlk, providers.NVMe} {
		began := time.Now()
		i := place.start(t, "converted", disks, at, bus)
		v := place.await(t, i)
		t.Logf("%s: serves after %.0f s", bus, time.Since(began).Seconds())
		check(t, v, p.low, p.high)
		place.remove(t, i)
	}
	if heard := s.counter.others(s.boot); len(heard) > 0 {
		t.Errorf("copies in an isolated network reached the counter: %v", heard)
	}
}

// place is a provider that machines are started at without the master.
type place struct{ *qemu.Provider }

func openPlace(t *testing.T) place {
	t.Helper()
	p, err := qemu.Open(qemu.Options{Dir: t.TempDir(), Accel: "tcg"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_, err := providers.SweepAll(ctx, p, "e2e", func(context.Context) (map[string]bool, error) { return nil, nil }, 100*time.Millisecond)
		if err = errors.Join(err, p.Close()); err != nil {
			t.Error(err)
		}
	})
	return place{p}
}

const poll = 200 * time.Millisecond

// start starts a machine on copies of disks, in an isolated network.
func (p place) start(t *testing.T, what string, disks []string, firmware providers.Firmware, bus providers.Bus) providers.Instance {
	t.Helper()
	ctx := limit(t)
	meta := func(part string) providers.Meta {
		launch := what + "-" + string(bus)
		return providers.Meta{Token: launch + "-" + part, Owner: providers.Owner{System: "e2e", Launch: launch}}
	}
	spec := providers.InstanceSpec{Meta: meta("machine"), Type: "c1-m1024", Architecture: providers.AMD64, Firmware: firmware, Bus: bus,
		NICs: []providers.NIC{{Network: qemu.Isolated, Forward: []uint16{servicePort}}}}
	for n, disk := range disks {
		spec.Disks = append(spec.Disks, providers.Disk{From: providers.Source{Kind: providers.FromVolume, ID: p.volume(ctx, t, meta(fmt.Sprint(n)), disk)}, Delete: true})
	}
	i, err := p.CreateInstance(ctx, spec)
	if err == nil {
		i, err = providers.AwaitInstance(ctx, p, i.ID, providers.StateRunning, poll)
	}
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func (p place) volume(ctx context.Context, t *testing.T, meta providers.Meta, disk string) string {
	t.Helper()
	size, err := exec.CommandContext(ctx, "stat", "-c", "%s", disk).Output()
	if err != nil {
		t.Fatal(err)
	}
	spec := providers.VolumeSpec{Meta: meta, Filled: 1 << 30}
	if _, err := fmt.Sscan(string(size), &spec.Size); err != nil {
		t.Fatal(err)
	}
	v, err := p.CreateVolume(ctx, spec)
	if err == nil {
		err = p.AttachVolume(ctx, v.ID, "")
	}
	if err == nil {
		v, err = p.Volume(ctx, v.ID)
	}
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(ctx, "cp", "--sparse=always", disk, v.Attachment.Path).CombinedOutput(); err != nil {
		t.Fatalf("copy %s: %v %s", filepath.Base(disk), err, out)
	}
	if err := p.DetachVolume(ctx, v.ID); err != nil {
		t.Fatal(err)
	}
	return v.ID
}

// console waits until the machine's console shows all of the texts.
func (p place) console(t *testing.T, i providers.Instance, texts ...string) {
	t.Helper()
	shown, err := providers.Await(limit(t), poll, func(ctx context.Context) ([]byte, error) { return p.Console(ctx, i.ID) },
		func(b []byte) (bool, error) {
			for _, text := range texts {
				if !bytes.Contains(b, []byte(text)) {
					return false, nil
				}
			}
			return true, nil
		})
	if err != nil {
		t.Fatalf("console: %v\n%s", err, shown[max(0, len(shown)-3000):])
	}
}

// await waits until the machine serves, and returns what it has.
func (p place) await(t *testing.T, i providers.Instance) rows {
	t.Helper()
	endpoint, ok := i.Endpoint(servicePort)
	if !ok {
		t.Fatalf("machine %s has no endpoint", i.ID)
	}
	v, err := providers.Await(limit(t), poll, func(ctx context.Context) (*rows, error) {
		if v, err := ask(ctx, endpoint); err == nil {
			return &v, nil
		}
		return nil, nil // not yet
	}, func(v *rows) (bool, error) { return v != nil, nil })
	if err != nil {
		shown, _ := p.Console(context.Background(), i.ID)
		t.Fatalf("machine does not serve: %v\n%s", err, shown[max(0, len(shown)-3000):])
	}
	return *v
}

func (p place) remove(t *testing.T, i providers.Instance) {
	t.Helper()
	ctx := limit(t)
	if err := p.TerminateInstance(ctx, i.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := providers.AwaitInstance(ctx, p, i.ID, providers.StateTerminated, poll); err != nil && !errors.Is(err, providers.ErrNotFound) {
		t.Fatal(err)
	}
}
