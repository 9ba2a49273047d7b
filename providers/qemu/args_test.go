package qemu

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/openmigrate/openmigrate/providers"
)

// jsonArgs decodes those arguments that are JSON.
func jsonArgs(t *testing.T, args []string) (objects []map[string]any) {
	t.Helper()
	for _, a := range args {
		if strings.HasPrefix(a, "{") {
			var o map[string]any
			if err := json.Unmarshal([]byte(a), &o); err != nil {
				t.Fatalf("%s: %v", a, err)
			}
			objects = append(objects, o)
		}
	}
	return objects
}

// Paths get to QEMU as they are, and can be nothing but paths.
func TestPathsAreQuoted(t *testing.T) {
	evil := `/x",driver=host_device,filename=/dev/sda"},{"` + "\n" + `é, -device evil`
	m := machine{id: "vm-1", uuid: "u", firmware: providers.UEFI, code: evil, vars: evil, bus: providers.NVMe, accel: "tcg", clock: "utc",
		disks: []disk{{path: evil, format: qcow2, backing: evil, boot: true}, {path: evil, format: qcow2, view: &providers.View{Socket: evil, Export: evil}}}}
	var names []string
	for _, o := range jsonArgs(t, m.args()) {
		for _, x := range []any{o, o["backing"]} {
			if node, ok := x.(map[string]any); ok {
				if file, ok := node["file"].(map[string]any); ok {
					if name, ok := file["filename"].(string); ok {
						names = append(names, name)
					}
				}
			}
		}
	}
	if !slices.Equal(names, []string{evil, evil, evil, evil, evil}) {
		t.Errorf("files are %q", names)
	}
	for _, a := range m.args() {
		if !strings.HasPrefix(a, "{") && strings.Contains(a, "evil") {
			t.Errorf("%q is not JSON", a)
		}
	}
}

// Nothing that people may choose freely is on a command line.
func TestNamesAreNotOnTheCommandLine(t *testing.T) {
	p := open(t, Options{})
	disk := volumeWith(t, p, "v", nil)
	m := providers.Meta{Token: "NOT-token", Owner: providers.Owner{System: system, Launch: "NOT-launch,id=x"}, Name: "NOT-name,file=/etc/shadow",
		Tags: map[string]string{"NOT-key": "NOT-value -device evil"}}
	i, err := p.CreateInstance(t.Context(), providers.InstanceSpec{Meta: m, Type: "c1-m64", Architecture: providers.AMD64, Firmware: providers.BIOS,
		Disks: []providers.Disk{{From: disk}}, NICs: []providers.NIC{{Network: Isolated, MAC: "02-00-00-00-00-0A"}}, Settings: map[string]string{"nic": "e1000"}})
	if err != nil {
		t.Fatal(err)
	}
	await(t, p, i.ID, providers.StateRunning)
	p.mu.Lock()
	in := p.instances[i.ID]
	disks, err := p.disks(in)
	p.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	described, err := p.describe(in, disks)
	if err != nil {
		t.Fatal(err)
	}
	described.nics = i.NICs
	all := strings.Join(described.args(), "\n")
	if strings.Contains(all, "NOT-") {
		t.Errorf("command line: %s", all)
	}
	if !strings.Contains(all, `"mac":"02:00:00:00:00:0a"`) || !strings.Contains(all, `"driver":"e1000"`) {
		t.Errorf("command line lacks the card that was asked for: %s", all)
	}
}

func TestIsolation(t *testing.T) {
	m := machine{nics: []providers.InstanceNIC{
		{Network: Isolated, Addresses: []netip.Addr{netip.MustParseAddr("192.168.7.2")}, Forwards: []providers.Forward{{Port: 22, Address: netip.MustParseAddrPort("127.0.0.1:4022")}}},
		{Network: NAT, Addresses: []netip.Addr{netip.MustParseAddr("10.0.3.15")}},
		{Network: bridgePrefix + "br0"},
	}, taps: map[int]int{2: 4}}
	for n, want := range []string{
		"user,id=n,ipv6=off,net=192.168.7.0/24,host=192.168.7.4,dns=192.168.7.3,dhcpstart=192.168.7.2,restrict=on,hostfwd=tcp:127.0.0.1:4022-192.168.7.2:22",
		"user,id=n,ipv6=off,net=10.0.3.0/24,host=10.0.3.2,dns=10.0.3.3,dhcpstart=10.0.3.15",
		"tap,id=n,fd=4,vhost=off",
	} {
		if got := m.netdev(n, m.nics[n], "n"); got != want {
			t.Errorf("card %d: %s, want %s", n, got, want)
		}
	}
}

func FuzzType(f *testing.F) {
	for _, s := range []string{"c1-m64", "c255-m4194304", "c0-m64", "c1-m63", "c256-m64", "c1-m99999999", "c-1-m64", "c1-m64,id=x", "c1-m64\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		typ, err := parseType(s)
		if err == nil && (typ.ID != s || typ.CPUs < 1 || typ.CPUs > maxCPUs || typ.Memory < minMemory || typ.Memory > maxMemory || strings.ContainsAny(s, ", \n")) {
			t.Errorf("%q is taken as %+v", s, typ)
		}
	})
}
