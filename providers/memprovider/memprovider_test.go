package memprovider_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/providers"
	"github.com/openmigrate/openmigrate/providers/fault"
	"github.com/openmigrate/openmigrate/providers/memprovider"
	"github.com/openmigrate/openmigrate/providers/providertest"
)

func TestConformance(t *testing.T) {
	for _, shape := range []memprovider.Shape{memprovider.Host, memprovider.Cloud} {
		for _, polls := range []int{0, 2} {
			for _, dir := range []string{"", t.TempDir()} {
				t.Run(fmt.Sprintf("shape=%d,polls=%d,content=%v", shape, polls, dir != ""), func(t *testing.T) {
					p := memprovider.New(&memprovider.Options{Shape: shape, Polls: polls, Dir: dir})
					providertest.Run(t, p, &providertest.Options{Pause: time.Microsecond, Stories: 15, Seed: 1})
				})
			}
		}
	}
}

func meta(token string) providers.Meta {
	return providers.Meta{Token: token, Owner: providers.Owner{System: "s", Launch: "l"}}
}

func TestLimit(t *testing.T) {
	p := memprovider.New(&memprovider.Options{Limit: 1000})
	if _, err := p.CreateVolume(t.Context(), providers.VolumeSpec{Meta: meta("a"), Size: 512}); err != nil {
		t.Fatal(err)
	}
	_, err := p.CreateVolume(t.Context(), providers.VolumeSpec{Meta: meta("b"), Size: 512})
	if !errors.Is(err, providers.ErrQuota) {
		t.Errorf("second volume: %v, want ErrQuota", err)
	}
	if all, _ := p.List(t.Context(), "s"); len(all) != 1 {
		t.Errorf("list shows %v", all)
	}
}

func TestConsoleOfTheTest(t *testing.T) {
	p := memprovider.New(&memprovider.Options{Boot: func(i providers.Instance) string { return i.Name + " is up\n" }})
	v, err := p.CreateVolume(t.Context(), providers.VolumeSpec{Meta: meta("v"), Size: 512})
	if err != nil {
		t.Fatal(err)
	}
	m := meta("i")
	m.Name = "db"
	i, err := p.CreateInstance(t.Context(), providers.InstanceSpec{Meta: m, Type: memprovider.SmallType, Architecture: providers.AMD64, Firmware: providers.UEFI,
		Disks: []providers.Disk{{From: providers.Source{Kind: providers.FromVolume, ID: v.ID}}},
		NICs:  []providers.NIC{{Network: memprovider.Isolated, Forward: []uint16{22}}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(p.Write(i.ID, "login:"), p.SetScreen(i.ID, []byte("png"))); err != nil {
		t.Fatal(err)
	}
	text, err := p.Console(t.Context(), i.ID)
	if err != nil || string(text) != "db is up\nlogin:" {
		t.Errorf("console is %q, %v", text, err)
	}
	if at, ok := i.Endpoint(22); !ok || at != "127.0.0.1:22" {
		t.Errorf("port 22 is at %q", at)
	}
	if err := p.Fail(i.ID, "host broke"); err != nil {
		t.Fatal(err)
	}
	_, err = providers.AwaitInstance(t.Context(), p, i.ID, providers.StateRunning, time.Millisecond)
	if err == nil {
		t.Error("await of a failed instance succeeds")
	}
}

// A cloud that has no room leaves the image that it made, which the next try uses and the sweeper finds.
func TestLack(t *testing.T) {
	p := memprovider.New(&memprovider.Options{Shape: memprovider.Cloud})
	v, err := p.CreateVolume(t.Context(), providers.VolumeSpec{Meta: meta("v"), Size: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	s, err := p.CreateSnapshot(t.Context(), providers.SnapshotSpec{Meta: meta("s"), Volume: v.ID})
	if err != nil {
		t.Fatal(err)
	}
	images := func() (n int) {
		all, err := p.List(t.Context(), "s")
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range all {
			if r.Kind == providers.KindImage {
				n++
			}
		}
		return n
	}
	create := func(token string) error {
		_, err := p.CreateInstance(t.Context(), providers.InstanceSpec{Meta: meta(token), Type: memprovider.SmallType, Architecture: providers.AMD64,
			Firmware: providers.UEFI, Disks: []providers.Disk{{From: providers.Source{Kind: providers.FromSnapshot, ID: s.ID}}}})
		return err
	}
	p.Lack(3)
	for range 2 {
		if err := create("i"); !errors.Is(err, providers.ErrTryAgain) || images() != 1 {
			t.Errorf("create without room: %v, %d images", err, images())
		}
	}
	if err := create("given-up"); !errors.Is(err, providers.ErrTryAgain) {
		t.Errorf("create without room: %v", err)
	}
	if err := create("i"); err != nil || images() != 1 {
		t.Errorf("create with room: %v, %d images, want that of the other", err, images())
	}
	none := func(context.Context) (map[string]bool, error) { return nil, nil }
	if _, err := providers.SweepAll(t.Context(), fault.New(p), "s", none, time.Microsecond); err != nil || images() != 0 {
		t.Errorf("sweep: %v, %d images are left", err, images())
	}
}
