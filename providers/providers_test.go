package providers_test

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/providers"
	"github.com/openmigrate/openmigrate/providers/fault"
	"github.com/openmigrate/openmigrate/providers/memprovider"
)

func meta(token, launch string) providers.Meta {
	return providers.Meta{Token: token, Owner: providers.Owner{System: "s", Launch: launch}}
}

func TestPick(t *testing.T) {
	amd, arm := []providers.Architecture{providers.AMD64}, []providers.Architecture{providers.ARM64}
	both, bios := []providers.Firmware{providers.BIOS, providers.UEFI}, []providers.Firmware{providers.BIOS}
	nvme := []providers.Bus{providers.NVMe}
	types := []providers.InstanceType{
		{ID: "huge", CPUs: 64, Memory: 1 << 40, Architectures: amd, Firmware: both, Buses: nvme},
		{ID: "wide", CPUs: 8, Memory: 4 << 30, Architectures: amd, Firmware: bios, Buses: nvme},
		{ID: "small", CPUs: 2, Memory: 4 << 30, Architectures: amd, Firmware: bios, Buses: nvme},
		{ID: "arm", CPUs: 2, Memory: 1 << 30, Architectures: arm, Firmware: both, Buses: nvme},
	}
	for _, c := range []struct {
		need providers.Need
		want string
	}{
		{providers.Need{}, "arm"},
		{providers.Need{Architecture: providers.AMD64}, "small"},
		{providers.Need{Architecture: providers.AMD64, CPUs: 3}, "wide"},
		{providers.Need{Architecture: providers.AMD64, Firmware: providers.UEFI}, "huge"},
		{providers.Need{Memory: 5 << 30}, "huge"},
		{providers.Need{Bus: providers.AHCI}, ""},
		{providers.Need{CPUs: 65}, ""},
	} {
		got, err := providers.Pick(types, c.need)
		if got.ID != c.want || (c.want == "") != errors.Is(err, providers.ErrInvalid) {
			t.Errorf("%+v: %q, %v, want %q", c.need, got.ID, err, c.want)
		}
	}
}

func TestRoundSize(t *testing.T) {
	c := providers.Capabilities{MinVolume: 4096, MaxVolume: 1 << 30, VolumeStep: 1024}
	for size, want := range map[int64]int64{1: 4096, 4096: 4096, 4097: 5120, 1 << 30: 1 << 30, 1<<30 + 1: 0} {
		if got, err := c.RoundSize(size); got != want || (want == 0) != errors.Is(err, providers.ErrInvalid) {
			t.Errorf("%d: %d, %v, want %d", size, got, err, want)
		}
	}
	c.MinVolume = 0
	if _, err := c.RoundSize(0); !errors.Is(err, providers.ErrInvalid) {
		t.Errorf("0 bytes: %v", err)
	}
}

func TestEndpoint(t *testing.T) {
	nat, lan := netip.MustParseAddrPort("127.0.0.1:4022"), netip.MustParseAddr("fd00::5")
	i := providers.Instance{NICs: []providers.InstanceNIC{{Forwards: []providers.Forward{{Port: 22, Address: nat}}}, {Addresses: []netip.Addr{lan}}}}
	for port, want := range map[uint16]string{22: "127.0.0.1:4022", 80: "[fd00::5]:80"} {
		if got, ok := i.Endpoint(port); !ok || got != want {
			t.Errorf("port %d: %q", port, got)
		}
	}
	if _, ok := (providers.Instance{}).Endpoint(22); ok {
		t.Error("a machine without network has an endpoint")
	}
}

// What begins between the list and the question which launches live is not swept.
func TestSweepAsksForTheLivingLast(t *testing.T) {
	p := memprovider.New(nil)
	create := func(launch string) {
		if _, err := p.CreateVolume(t.Context(), providers.VolumeSpec{Meta: meta(launch, launch), Size: 512}); err != nil {
			t.Fatal(err)
		}
	}
	create("old")
	listed := fault.New(p)
	report, err := providers.Sweep(t.Context(), listed, "s", func(context.Context) (map[string]bool, error) {
		if listed.Calls("List") != 1 {
			t.Error("the living were asked for before the list")
		}
		create("new")
		return map[string]bool{}, nil
	})
	if err != nil || len(report.Removed) != 1 || report.Removed[0].Owner.Launch != "old" {
		t.Errorf("removed %v, %v", report.Removed, err)
	}
}

func TestSweepReportsWhatItMayNotRemove(t *testing.T) {
	p := memprovider.New(nil)
	for _, token := range []string{"a", "b"} {
		if _, err := p.CreateVolume(t.Context(), providers.VolumeSpec{Meta: meta(token, "dead"), Size: 512}); err != nil {
			t.Fatal(err)
		}
	}
	none := func(context.Context) (map[string]bool, error) { return nil, nil }
	denied := fault.New(p, fault.Rule{Op: "DeleteVolume", Err: providers.ErrDenied})
	report, err := providers.Sweep(t.Context(), denied, "s", none)
	if err != nil || len(report.Removed) != 1 || len(report.Left) != 1 || !errors.Is(report.Err, providers.ErrDenied) {
		t.Errorf("report %+v, %v", report, err)
	}
	broken := errors.New("store is down")
	_, err = providers.Sweep(t.Context(), p, "s", func(context.Context) (map[string]bool, error) { return nil, broken })
	if all, _ := p.List(t.Context(), "s"); !errors.Is(err, broken) || len(all) != 1 {
		t.Errorf("sweep that does not know who lives: %v, %d left", err, len(all))
	}
}

// A clone that dies after any of its calls and is called again makes one volume.
func TestCloneResumes(t *testing.T) {
	for _, shape := range []memprovider.Shape{memprovider.Host, memprovider.Cloud} {
		for nth := 1; ; nth++ {
			p := memprovider.New(&memprovider.Options{Shape: shape, Polls: 1})
			v, err := p.CreateVolume(t.Context(), providers.VolumeSpec{Meta: meta("v", "l"), Size: 1 << 20})
			if err == nil {
				v, err = providers.AwaitVolume(t.Context(), p, v.ID, time.Microsecond)
			}
			if err != nil {
				t.Fatal(err)
			}
			died := errors.New("died")
			spec := providers.VolumeSpec{Meta: meta("clone", "l")}
			_, err = providers.Clone(t.Context(), fault.New(p, fault.Rule{Nth: nth, After: true, Err: died}), v.ID, spec, time.Microsecond)
			if err == nil {
				if nth < 3 {
					t.Fatalf("shape %d: only %d calls", shape, nth)
				}
				break
			}
			if _, err := providers.Clone(t.Context(), p, v.ID, spec, time.Microsecond); err != nil {
				t.Fatalf("shape %d, call %d: %v", shape, nth, err)
			}
			all, err := p.List(t.Context(), "s")
			volumes := slices.DeleteFunc(all, func(r providers.Resource) bool { return r.Kind != providers.KindVolume })
			if err != nil || len(volumes) != 2 {
				t.Errorf("shape %d, call %d: volumes %v, %v", shape, nth, volumes, err)
			}
		}
	}
}

func TestAwaitEnds(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	never := func(int) (bool, error) { return false, nil }
	_, err := providers.Await(ctx, time.Microsecond, func(context.Context) (int, error) { return 0, providers.ErrTryAgain }, never)
	if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, providers.ErrTryAgain) {
		t.Errorf("await: %v, want both why it ended and what it waited for", err)
	}
}

func FuzzCheck(f *testing.F) {
	c, err := memprovider.New(nil).Capabilities(context.Background())
	if err != nil {
		f.Fatal(err)
	}
	f.Add("token", "system", "launch", "name", "key", "value", "vol-1", "02:00:00:00:00:01", int64(512))
	f.Add("../x", "", "\x00", "a\nb", "openmigrate:x", "\xff", "a b", "01:00:00:00:00:01,x", int64(-1))
	f.Fuzz(func(t *testing.T, token, system, launch, name, key, value, id, mac string, size int64) {
		m := providers.Meta{Token: token, Owner: providers.Owner{System: system, Launch: launch}, Name: name, Tags: map[string]string{key: value}}
		v := providers.VolumeSpec{Meta: m, Size: size, Zone: id}
		i := providers.InstanceSpec{Meta: m, Type: id, Disks: []providers.Disk{{From: providers.Source{Kind: providers.FromVolume, ID: id}}},
			NICs: []providers.NIC{{Network: id, MAC: mac}}}
		for _, err := range []error{v.Check(&c), i.Check(&c)} {
			if err == nil && strings.ContainsAny(token+name+key+value+id+mac, "\n\x00\x1b") {
				t.Errorf("control characters pass: %q", []string{token, name, key, value, id, mac})
			}
			if err != nil && !errors.Is(err, providers.ErrInvalid) {
				t.Errorf("%v is no ErrInvalid", err)
			}
		}
	})
}
