package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/openmigrate/openmigrate/internal/cli"
	"github.com/openmigrate/openmigrate/wire"
)

// applied parses flags over a template and returns it as JSON.
func applied(t *testing.T, base string, args ...string) (string, error) {
	t.Helper()
	o := &templateOptions{}
	c := &cobra.Command{}
	o.flags(c)
	if err := c.ParseFlags(args); err != nil {
		t.Fatal(err)
	}
	template, err := parseTemplate("base", []byte(base))
	if err != nil {
		t.Fatal(err)
	}
	if len(args) > 0 && !o.given(c) {
		t.Errorf("%q count as nothing", args)
	}
	if err := o.apply(c, template); err != nil {
		return "", err
	}
	b, err := json.Marshal(template)
	if err != nil {
		t.Fatal(err)
	}
	return string(b), nil
}

// TestTemplateFlags change what they name and nothing else.
func TestTemplateFlags(t *testing.T) {
	const base = `{"provider":"p","cpus":2,"memory":1024,"network":"n","checks":[{"kind":"boot"}]}`
	for args, want := range map[string]string{
		"":                            base,
		"--type c1":                   `{"provider":"p","type":"c1","network":"n","checks":[{"kind":"boot"}]}`,
		"--memory 2GiB --network iso": `{"provider":"p","cpus":2,"memory":2147483648,"network":"iso","checks":[{"kind":"boot"}]}`,
		"--check tcp:5432 --check http:80/a/b?c --check console:a:b --check call-home --check-timeout 1m": `{"provider":"p","cpus":2,"memory":1024,"network":"n","checks":[{"kind":"tcp","port":5432,"timeout":"1m0s"},` +
			`{"kind":"http","port":80,"path":"/a/b?c","timeout":"1m0s"},{"kind":"console","text":"a:b","timeout":"1m0s"},{"kind":"call-home","timeout":"1m0s"}]}`,
		"--forward 22,443 --setting nic=e1000 --warm --deadline -1s":  `{"provider":"p","cpus":2,"memory":1024,"network":"n","forward":[22,443],"settings":{"nic":"e1000"},"checks":[{"kind":"boot"}],"deadline":"-1s","warm":true}`,
		"--address 192.0.2.7/24 --gateway 192.0.2.1 --dns 192.0.2.53": `{"provider":"p","cpus":2,"memory":1024,"network":"n","address":{"prefixes":["192.0.2.7/24"],"gateway":"192.0.2.1","dns":["192.0.2.53"]},"checks":[{"kind":"boot"}]}`,
	} {
		var list []string
		if args != "" {
			list = strings.Split(args, " ")
		}
		got, err := applied(t, base, list...)
		if err != nil || same(t, got) != same(t, want) {
			t.Errorf("%s: got %s, %v; want %s", args, got, err, want)
		}
	}
	for _, args := range []string{"--memory 2X", "--memory -1", "--memory 99999999T", "--check ping", "--check tcp", "--check tcp:0", "--check http:x/", "--check console:", "--check boot:1",
		"--forward 0", "--forward x", "--forward 70000", "--address 192.0.2.7", "--gateway 192.0.2.1", "--dns x", "--setting x", "--check-timeout 1m --warm"} {
		if got, err := applied(t, base, strings.Split(args, " ")...); cli.Status(err) != cli.ExitUsage {
			t.Errorf("%s: got %s, %v", args, got, err)
		}
	}
}

func same(t *testing.T, s string) string {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(s), &v); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestReadTemplate takes YAML and JSON, and no field that there is not.
func TestReadTemplate(t *testing.T) {
	name := filepath.Join(t.TempDir(), "t.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("network: nat\nforward: [22]\ncheck" + "s:\n- kind: http\n  port: 80\n  path: /health\n  timeout: 2m\naddress:\n  prefixes: [192.0.2.7/24]\n")
	got, err := readTemplate(name)
	if err != nil || got.Network != "nat" || got.Checks[0] != (wire.LaunchCheck{Kind: "http", Port: 80, Path: "/health", Timeout: 120e9}) || got.Address.Prefixes[0].Bits() != 24 {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []string{"nets: nat", "checks: 5", "- a", "a: b: c", "deadline: soon", "1: 2\nnetwork: nat", "network: nat\nnetwork: isolated", "a: &a [*a]"} {
		write(bad)
		if got, err := readTemplate(name); cli.Status(err) != cli.ExitUsage {
			t.Errorf("%q: got %+v, %v", bad, got, err)
		}
	}
	write(strings.Repeat("#", maxTemplate+1))
	if _, err := readTemplate(name); err == nil {
		t.Error("a file without an end was taken")
	}
}
