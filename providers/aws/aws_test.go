package aws

import (
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/providers"
	"github.com/openmigrate/openmigrate/providers/aws/awsfake"
	"github.com/openmigrate/openmigrate/providers/providertest"
)

const pause = 2 * time.Millisecond

// open returns a provider over a new endpoint. What is new there is unknown to reads for a moment, and everything takes its time.
func open(t *testing.T, fake *awsfake.Options, change func(*Options)) (*Provider, *awsfake.Server) {
	t.Helper()
	f := awsfake.Options{}
	if fake != nil {
		f = *fake
	}
	if f.Settle == 0 {
		f.Settle, f.Lag = 6*time.Millisecond, 3*time.Millisecond
	}
	s := awsfake.New(&f)
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	t.Setenv("AWS_ACCESS_KEY_ID", awsfake.TestKey.ID)
	t.Setenv("AWS_SECRET_ACCESS_KEY", awsfake.TestKey.Secret)
	t.Setenv("AWS_SESSION_TOKEN", "")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("AWS_CONFIG_FILE", "/dev/null")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
	o := Options{Region: s.Region(), Endpoint: server.URL, CallsPerSecond: 1e6, Pause: pause, Settle: 300 * time.Millisecond, Backoff: pause}
	if change != nil {
		change(&o)
	}
	p, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	p.opened = p.opened.Add(-time.Hour) // no process before it has just made something
	return p, s
}

func left(t *testing.T, s *awsfake.Server) {
	t.Helper()
	for kind, n := range s.Live() {
		if n != 0 {
			t.Errorf("%d %ss are left at the endpoint", n, kind)
		}
	}
}

func TestConformance(t *testing.T) {
	for name, o := range map[string]struct {
		fake  *awsfake.Options
		cloud Cloud
	}{
		"AWS":        {},
		"compatible": {cloud: Compatible},
	} {
		t.Run(name, func(t *testing.T) {
			p, s := open(t, o.fake, func(x *Options) { x.Cloud = o.cloud })
			providertest.Run(t, p, &providertest.Options{Pause: pause, Timeout: time.Minute})
			left(t, s)
		})
	}
}

// TestConformanceUnderFaults: answers are lost after the work, calls are throttled and fail inside, all the way through the suite.
func TestConformanceUnderFaults(t *testing.T) {
	p, s := open(t, nil, nil)
	var faults []awsfake.Fault
	// The provider repeats what may be repeated. An internal error or a lost answer of CreateSnapshot is the caller's to repeat, who is the suite here: it does
	// so in its own part, and TestLostAnswers does.
	for n := 7; n < 20_000; n += 61 {
		faults = append(faults, awsfake.Fault{Nth: n, Lose: true, Not: "ec2:CreateSnapshot"}, awsfake.Fault{Nth: n + 20, Code: "InternalError", Not: "ec2:CreateSnapshot"},
			awsfake.Fault{Nth: n + 40, Code: "RequestLimitExceeded"})
	}
	s.SetFaults(faults...)
	providertest.Run(t, p, &providertest.Options{Pause: pause, Timeout: time.Minute, Stories: 3})
	s.SetFaults()
	left(t, s)
}

func meta(token string) providers.Meta {
	return providers.Meta{Token: token, Owner: providers.Owner{System: "test", Launch: "l1"}, Name: "web1"}
}

// life makes everything once and removes it, each call until it is no temporary failure. It fails with the first error that is another.
type life struct {
	p        *Provider
	settings map[string]string
	typ      string
	network  int // index in Networks, from the end when negative
	instance providers.Instance
}

// again repeats a call as a master does, with the same token.
func again[T any](ctx context.Context, call func() (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return providers.Await(ctx, pause, func(context.Context) (T, error) { return call() }, func(T) (bool, error) { return true, nil })
}

func redo(ctx context.Context, call func() error) error {
	_, err := again(ctx, func() (struct{}, error) { return struct{}{}, call() })
	return err
}

func (l *life) create(ctx context.Context) error {
	p := l.p
	networks, err := again(ctx, func() ([]providers.Network, error) { return p.Networks(ctx) })
	if err != nil {
		return err
	}
	n := networks[(l.network+len(networks))%len(networks)]
	if l.typ == "" {
		l.typ = "t3.micro"
	}
	v, err := again(ctx, func() (providers.Volume, error) {
		return p.CreateVolume(ctx, providers.VolumeSpec{Meta: meta("v"), Size: 1 << 30, Zone: n.Zone, Settings: l.settings})
	})
	if err == nil {
		v, err = providers.AwaitVolume(ctx, p, v.ID, pause)
	}
	if err != nil {
		return err
	}
	s, err := again(ctx, func() (providers.Snapshot, error) {
		return p.CreateSnapshot(ctx, providers.SnapshotSpec{Meta: meta("s"), Volume: v.ID})
	})
	if err == nil {
		s, err = providers.AwaitSnapshot(ctx, p, s.ID, pause)
	}
	if err != nil {
		return err
	}
	i, err := again(ctx, func() (providers.Instance, error) {
		return p.CreateInstance(ctx, providers.InstanceSpec{Meta: meta("i"), Type: l.typ, Architecture: providers.AMD64, Firmware: providers.UEFI,
			Disks: []providers.Disk{{From: providers.Source{Kind: providers.FromSnapshot, ID: s.ID}, Delete: true}}, NICs: []providers.NIC{{Network: n.ID}}})
	})
	if err == nil {
		l.instance, err = providers.AwaitInstance(ctx, p, i.ID, providers.StateRunning, pause)
	}
	if err != nil {
		return err
	}
	if err = redo(ctx, func() error { return p.AttachVolume(ctx, v.ID, i.ID) }); err == nil {
		_, err = providers.Await(ctx, pause, func(ctx context.Context) (providers.Volume, error) { return p.Volume(ctx, v.ID) },
			func(v providers.Volume) (bool, error) { return v.Attachment != nil && v.Attachment.Ready, nil })
	}
	if err != nil {
		return err
	}
	b, err := again(ctx, func() (providers.Snapshot, error) {
		return p.BeginSnapshot(ctx, providers.BlockSnapshotSpec{Meta: meta("b"), Size: 1 << 30, Parent: s.ID})
	})
	if err == nil {
		err = redo(ctx, func() error { return p.PutBlock(ctx, b.ID, 3, make([]byte, blockSize)) })
	}
	if err == nil {
		err = redo(ctx, func() error { return p.CompleteSnapshot(ctx, b.ID, 1) })
	}
	if err == nil {
		_, err = again(ctx, func() ([]byte, error) { return p.Console(ctx, i.ID) })
	}
	if err == nil {
		_, err = again(ctx, func() ([]byte, error) { return p.Screenshot(ctx, i.ID) })
	}
	if err == nil {
		err = redo(ctx, func() error { return p.StopInstance(ctx, i.ID, true) })
	}
	if err == nil {
		_, err = providers.AwaitInstance(ctx, p, i.ID, providers.StateStopped, pause)
	}
	if err == nil {
		err = redo(ctx, func() error { return p.StartInstance(ctx, i.ID) })
	}
	if err == nil {
		err = redo(ctx, func() error { return p.DetachVolume(ctx, v.ID) })
	}
	return err
}

func none(context.Context) (map[string]bool, error) { return nil, nil }

func (l *life) sweep(ctx context.Context) error {
	time.Sleep(10 * pause) // lists lag, and the sweep ends with the first that is empty
	_, err := providers.SweepAll(ctx, l.p, "test", none, pause)
	return err
}

// TestLostAnswers: each call that changes something is done, and its answer lost, once. There is one of each thing all the same, and nothing is left.
func TestLostAnswers(t *testing.T) {
	for _, action := range []string{"ec2:CreateVolume", "ec2:CreateSnapshot", "ec2:RegisterImage", "ec2:RunInstances", "ec2:DeregisterImage", "ec2:AttachVolume", "ec2:DetachVolume",
		"ec2:DeleteVolume", "ec2:DeleteSnapshot", "ec2:StopInstances", "ec2:StartInstances", "ec2:TerminateInstances", "ec2:CreateSecurityGroup", "ec2:RevokeSecurityGroupEgress",
		"ebs:StartSnapshot", "ebs:PutSnapshotBlock", "ebs:CompleteSnapshot"} {
		t.Run(action, func(t *testing.T) {
			p, s := open(t, nil, nil)
			s.SetFaults(awsfake.Fault{Action: action, Lose: true})
			l := &life{p: p, network: -1}
			if err := l.create(t.Context()); err != nil {
				t.Fatal(err)
			}
			for kind, n := range map[string]int{"volume": 2, "snapshot": 2, "image": 0, "instance": 1} {
				if got := s.Live()[kind]; got != n {
					t.Errorf("%d %ss, want %d", got, kind, n)
				}
			}
			if err := l.sweep(t.Context()); err != nil {
				t.Error(err)
			}
			if s.Lost() != 1 {
				t.Errorf("%d answers were lost", s.Lost())
			}
			left(t, s)
		})
	}
}

// TestDenied: each action denied in turn ends with a message that names it, and what was made can be removed once it is allowed again.
func TestDenied(t *testing.T) {
	for _, action := range []string{"ec2:DescribeAvailabilityZones", "ec2:DescribeInstanceTypes", "ec2:DescribeSubnets", "ec2:DescribeSecurityGroups", "ec2:DescribeVolumes", "ec2:DescribeSnapshots",
		"ec2:DescribeImages", "ec2:DescribeInstances", "ec2:CreateVolume", "ec2:CreateSnapshot", "ec2:RegisterImage", "ec2:RunInstances", "ec2:DeregisterImage", "ec2:AttachVolume",
		"ec2:DetachVolume", "ec2:DeleteVolume", "ec2:DeleteSnapshot", "ec2:StopInstances", "ec2:StartInstances", "ec2:TerminateInstances", "ec2:CreateSecurityGroup",
		"ec2:RevokeSecurityGroupEgress", "ec2:GetConsoleOutput", "ec2:GetConsoleScreenshot", "ebs:StartSnapshot", "ebs:PutSnapshotBlock", "ebs:CompleteSnapshot"} {
		t.Run(action, func(t *testing.T) {
			p, s := open(t, nil, nil)
			s.SetFaults(awsfake.Fault{Action: action, Times: -1, Code: "UnauthorizedOperation"})
			l := &life{p: p, network: -1}
			err := l.create(t.Context())
			if err == nil {
				for n := 0; n < 200 && !errors.Is(err, providers.ErrDenied); n++ {
					var report providers.SweepReport
					report, err = providers.Sweep(t.Context(), p, "test", none)
					err = errors.Join(err, report.Err)
					time.Sleep(pause)
				}
			}
			if !errors.Is(err, providers.ErrDenied) || !strings.Contains(err.Error(), action) {
				t.Errorf("error is %v, want one that is denied and names %s", err, action)
			}
			s.SetFaults()
			if err := l.sweep(t.Context()); err != nil {
				t.Error(err)
			}
			left(t, s)
		})
	}
}
