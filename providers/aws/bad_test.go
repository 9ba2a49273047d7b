package aws

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/providers"
	"github.com/openmigrate/openmigrate/providers/aws/awsfake"
)

// TestRefusals: what goes wrong in accounts has its class and its next step, and leaves nothing behind.
func TestRefusals(t *testing.T) {
	const key = "arn:aws:kms:us-east-1:123456789012:key/off"
	for name, x := range map[string]struct {
		fake   awsfake.Options
		change func(*Options)
		env    map[string]string
		set    func(*awsfake.Server)
		life   life
		class  error
		words  string
	}{
		"no credentials":    {env: map[string]string{"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, class: providers.ErrDenied, words: "AWS_ACCESS_KEY_ID"},
		"unknown key":       {env: map[string]string{"AWS_ACCESS_KEY_ID": "AKIANOBODY"}, class: providers.ErrDenied, words: "check the access key"},
		"wrong secret":      {env: map[string]string{"AWS_SECRET_ACCESS_KEY": "wrong"}, class: providers.ErrDenied, words: "check the access key"},
		"wrong region":      {change: func(o *Options) { o.Region = "eu-west-9" }, class: providers.ErrDenied, words: "region"},
		"unknown session":   {env: map[string]string{"AWS_SESSION_TOKEN": "old"}, class: providers.ErrDenied, words: "check the access key"},
		"expired":           {set: func(s *awsfake.Server) { s.SetFaults(awsfake.Fault{Times: -1, Code: "RequestExpired"}) }, class: providers.ErrDenied, words: "renew the credentials"},
		"KMS key is off":    {set: func(s *awsfake.Server) { s.SetKMS(key, false) }, life: life{settings: map[string]string{"kms_key": key}}, words: "KMS key"},
		"subnet is full":    {set: func(s *awsfake.Server) { s.SetRoom(s.Subnets()[0], 0) }, class: providers.ErrQuota, words: "subnet is full"},
		"type not in zone":  {life: life{typ: "m7i.large", network: 1}, class: providers.ErrInvalid, words: "zone that offers it"},
		"type not known":    {life: life{typ: "q9.large"}, class: providers.ErrNotFound, words: "q9.large"},
		"volumes are full":  {fake: awsfake.Options{Limits: awsfake.Limits{VolumeGiB: -1, VCPUs: 1}}, class: providers.ErrQuota, words: "Service Quotas"},
		"storage is full":   {fake: awsfake.Options{Limits: awsfake.Limits{VolumeGiB: 1}}, class: providers.ErrQuota, words: "Service Quotas"},
		"role without id":   {fake: awsfake.Options{Roles: []awsfake.Role{{Name: "r", ExternalID: "x"}}}, change: func(o *Options) { o.Role = (&awsfake.Role{Name: "r"}).ARN() }, class: providers.ErrDenied, words: "sts:AssumeRole"},
		"iops out of range": {life: life{settings: map[string]string{"iops": "1"}}, class: providers.ErrInvalid, words: "1"},
	} {
		t.Run(name, func(t *testing.T) {
			// The endpoint's own environment first, the case's over it.
			p, s := open(t, &x.fake, x.change)
			if x.env != nil {
				for k, v := range x.env {
					t.Setenv(k, v)
				}
				var err error
				if p, err = Open(t.Context(), p.opts); err != nil {
					t.Fatal(err)
				}
			}
			if x.set != nil {
				x.set(s)
			}
			l := x.life
			l.p = p
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			err := l.create(ctx)
			if err == nil || x.class != nil && !errors.Is(err, x.class) || !strings.Contains(err.Error(), x.words) {
				t.Errorf("error is %v, want %v with %q", err, x.class, x.words)
			}
			t.Log(err)
			if x.env == nil && !errors.Is(err, providers.ErrDenied) {
				if err := l.sweep(t.Context()); err != nil {
					t.Error(err)
				}
			}
			left(t, s)
		})
	}
}

// TestNoCapacity: a zone without room is tried again with the same token; the image waits for it, and goes with it.
func TestNoCapacity(t *testing.T) {
	p, s := open(t, nil, nil)
	s.SetFaults(awsfake.Fault{Action: "ec2:RunInstances", Times: 9, Code: "InsufficientInstanceCapacity"})
	l := &life{p: p, network: -1}
	if err := l.create(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := s.Calls()["ec2:RunInstances"]; n < 10 {
		t.Errorf("RunInstances was called %d times", n)
	}
	if s.Live()["image"] != 0 || s.Live()["instance"] != 1 {
		t.Errorf("%v", s.Live())
	}
	if err := l.sweep(t.Context()); err != nil {
		t.Error(err)
	}
	left(t, s)
}

// TestPace: a provider that is throttled slows down until it is not: in the long run it calls no more often than the account may.
func TestPace(t *testing.T) {
	const perSecond, took = 20, 3 * time.Second
	p, s := open(t, &awsfake.Options{Limits: awsfake.Limits{CallBurst: 5, CallRate: perSecond}}, func(o *Options) { o.CallsPerSecond = 80 })
	ctx, cancel := context.WithTimeout(t.Context(), took)
	defer cancel()
	done := 0
	for ctx.Err() == nil {
		if _, err := p.Volume(ctx, "vol-00000000000000000"); errors.Is(err, providers.ErrNotFound) {
			done++
		}
	}
	calls := s.Calls()["ec2:DescribeVolumes"]
	t.Logf("%d calls in %v, %d answered, of %d a second allowed", calls, took, done, perSecond)
	if most := perSecond*int(took.Seconds()) + 5; calls > most || done < 5 {
		t.Errorf("%d calls, %d answered; want at most %d, and at least %d", calls, done, most, 5)
	}
}

// TestAssumedRole: another account's role, with its external id, makes everything.
func TestAssumedRole(t *testing.T) {
	role := awsfake.Role{Name: "openmigrate", ExternalID: "om-1234"}
	var denied []string
	fake := &awsfake.Options{Roles: []awsfake.Role{role}, Allow: func(principal, action string) bool {
		ok := strings.Contains(principal, ":assumed-role/openmigrate/") || action == "sts:AssumeRole"
		if !ok {
			denied = append(denied, principal+" "+action)
		}
		return ok
	}}
	p, s := open(t, fake, func(o *Options) { o.Role, o.ExternalID = role.ARN(), role.ExternalID })
	l := &life{p: p}
	if err := errors.Join(l.create(t.Context()), l.sweep(t.Context())); err != nil || len(denied) > 0 {
		t.Errorf("%v; by its own key: %q", err, denied)
	}
	left(t, s)
}

// TestEndpoints: signed requests never go over a network in the clear.
func TestEndpoints(t *testing.T) {
	for e, ok := range map[string]bool{"": true, "https://ec2.example.com": true, "http://127.0.0.1:4000": true, "http://localhost:1": true, "http://[::1]:1": true,
		"http://ec2.example.com": false, "ftp://x": false, "https://": false, "https://user:pw@host": false, "http://10.0.0.1": false} {
		if err := checkEndpoint(e); (err == nil) != ok {
			t.Errorf("%q: %v", e, err)
		}
	}
}
