package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/openmigrate/openmigrate/internal/cli"
	"github.com/openmigrate/openmigrate/providers/aws"
)

func TestProviderFlag(t *testing.T) {
	for text, want := range map[string]providerSpec{
		"qemu": {"qemu", "D/providers/qemu", "", nil}, "qemu=/vm": {"qemu", "/vm", "", nil}, "qemu,accel=tcg": {"qemu", "D/providers/qemu", "tcg", nil},
		"qemu=/vm,accel=kvm": {"qemu", "/vm", "kvm", nil},
		"aws":                {"aws", "", "", &aws.Options{}},
		"aws,region=eu-west-1,role=arn:aws:iam::1:role/om,external-id=x,writer=i-1,profile=p": {"aws", "", "", &aws.Options{Region: "eu-west-1", Role: "arn:aws:iam::1:role/om", ExternalID: "x",
			Writer: "i-1", Profile: "p"}},
		"ec2,endpoint=https://api.example.com,region=r": {"ec2", "", "", &aws.Options{Cloud: aws.Compatible, Endpoint: "https://api.example.com", Region: "r"}},
	} {
		o := providerOptions{specs: []string{text}}
		if got, err := o.parse("D"); err != nil || !reflect.DeepEqual(got, []providerSpec{want}) {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for _, bad := range [][]string{{""}, {"azure"}, {"aws=/d"}, {"aws,region"}, {"aws,size=1"}, {"ec2"}, {"aws", "aws,region=r"}, {"qemu=/vm,accel=xen"}, {"qemu,fast"}, {"qemu", "qemu=/vm"}} {
		o := providerOptions{specs: bad}
		if got, err := o.parse("D"); cli.Status(err) != cli.ExitUsage {
			t.Errorf("%q: %+v, %v", bad, got, err)
		}
	}
}

// TestOpenProviders: one that is in use elsewhere is told of and does not keep the master from starting; Close lets it go.
func TestOpenProviders(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	dir := t.TempDir()
	specs := []providerSpec{{name: qemuName, dir: dir}}
	first, err := openProviders(t.Context(), specs, log)
	if err != nil || first.usable[qemuName] == nil || len(first.broken) != 0 {
		t.Fatalf("%+v, %v", first, err)
	}
	if st, err := os.Stat(first.folders[qemuName]); err != nil || !st.IsDir() || filepath.Dir(first.folders[qemuName]) != dir {
		t.Errorf("folder %s: %v", first.folders[qemuName], err)
	}
	second, err := openProviders(t.Context(), specs, log)
	if err != nil || second.usable[qemuName] != nil || second.broken[qemuName] == nil || second.folders[qemuName] != "" {
		t.Errorf("%+v, %v", second, err)
	}
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	third, err := openProviders(t.Context(), specs, log)
	if err != nil || third.usable[qemuName] == nil {
		t.Errorf("after Close: %+v, %v", third, err)
	}
	if err := third.Close(); err != nil {
		t.Error(err)
	}
}
