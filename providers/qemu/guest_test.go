package qemu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/providers"
)

// What a boot sector does after it has written its text to the serial port.
var (
	halt   = []byte{0xf4, 0xeb, 0xfd}                                          // hlt; jmp $-1
	off    = append([]byte{0xba, 0x04, 0x06, 0xb8, 0x00, 0x20, 0xef}, halt...) // PM1a control: sleep, S5
	repeat = []byte{0xeb, 0xeb}                                                // jmp to the start
	// Enable the power button in PM1a, wait for it in its status, and power off.
	obey = append([]byte{0xfa, 0xba, 0x02, 0x06, 0xb8, 0x00, 0x01, 0xef, 0xba, 0x00, 0x06, 0xed, 0xf6, 0xc4, 0x01, 0x74, 0xfa}, off...)
)

// sector is a boot sector that writes text to the serial port and then does what then says.
func sector(text string, then []byte) []byte {
	code := []byte{
		0x31, 0xc0, 0x8e, 0xd8, 0xfc, // ds = 0, cld
		0xbe, 0, 0x7c, // mov si, text
		0xba, 0xf8, 0x03, // mov dx, COM1
		0xac, 0x84, 0xc0, 0x74, 0x03, 0xee, 0xeb, 0xf8, // lodsb; test al; jz end; out; jmp
	}
	code = append(code, then...)
	code[6] = byte(len(code))
	b := make([]byte, 512)
	copy(b[copy(b, code):510], text)
	b[510], b[511] = 0x55, 0xaa
	return b
}

// volumeWith makes a volume that begins with b.
func volumeWith(t *testing.T, p *Provider, token string, b []byte) providers.Source {
	t.Helper()
	v, err := p.CreateVolume(t.Context(), providers.VolumeSpec{Meta: testMeta(token), Size: 1 << 20})
	if err == nil {
		err = p.AttachVolume(t.Context(), v.ID, "")
	}
	if err == nil {
		v, err = p.Volume(t.Context(), v.ID)
	}
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(v.Attachment.Path, os.O_WRONLY, 0)
	if err == nil {
		_, err = f.Write(b)
		err = errors.Join(err, f.Close(), p.DetachVolume(t.Context(), v.ID))
	}
	if err != nil {
		t.Fatal(err)
	}
	return providers.Source{Kind: providers.FromVolume, ID: v.ID}
}

// boot starts a machine from disks and waits until it runs.
func boot(t *testing.T, p *Provider, token string, change func(*providers.InstanceSpec), sources ...providers.Source) providers.Instance {
	t.Helper()
	spec := providers.InstanceSpec{Meta: testMeta(token), Type: "c1-m64", Architecture: providers.AMD64, Firmware: providers.BIOS}
	for _, s := range sources {
		spec.Disks = append(spec.Disks, providers.Disk{From: s})
	}
	if change != nil {
		change(&spec)
	}
	i, err := p.CreateInstance(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	return await(t, p, i.ID, providers.StateRunning)
}

func await(t *testing.T, p *Provider, id string, want providers.State) providers.Instance {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	i, err := providers.AwaitInstance(ctx, p, id, want, pollTime)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// awaitConsole waits until the console holds text n times.
func awaitConsole(t *testing.T, p *Provider, id, text string, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	got, err := providers.Await(ctx, 4*pollTime, func(ctx context.Context) ([]byte, error) { return p.Console(ctx, id) },
		func(b []byte) (bool, error) { return bytes.Count(b, []byte(text)) >= n, nil })
	if err != nil {
		t.Fatalf("console: %v\n%s", err, got)
	}
}

// On every bus the disk that was named boots, wherever it stands.
func TestBootsTheRightDisk(t *testing.T) {
	t.Parallel()
	p := open(t, Options{})
	for _, bus := range []providers.Bus{providers.VirtioBlk, providers.VirtioSCSI, providers.NVMe, providers.AHCI, providers.PVSCSI} {
		t.Run(string(bus), func(t *testing.T) {
			t.Parallel()
			var disks []providers.Source
			for n := range 8 { // more than one AHCI controller takes
				disks = append(disks, volumeWith(t, p, string(bus)+string(rune('0'+n)), sector("this is disk "+string(rune('0'+n))+"\n", halt)))
			}
			i := boot(t, p, string(bus), func(s *providers.InstanceSpec) { s.Bus, s.Boot = bus, 7 }, disks...)
			awaitConsole(t, p, i.ID, "this is disk 7\n", 1)
		})
	}
}

func TestPowersOffByItself(t *testing.T) {
	t.Parallel()
	p := open(t, Options{})
	i := boot(t, p, "vm", nil, volumeWith(t, p, "v", sector("going down\n", off)))
	got := await(t, p, i.ID, providers.StateStopped)
	if got.Reason != "its system powered off" {
		t.Errorf("reason is %q", got.Reason)
	}
	awaitConsole(t, p, i.ID, "going down\n", 1)
	if err := p.StartInstance(t.Context(), i.ID); err != nil {
		t.Fatal(err)
	}
	await(t, p, i.ID, providers.StateStopped)
	awaitConsole(t, p, i.ID, "going down\n", 2)
}

func TestStopAsksAndThenForces(t *testing.T) {
	t.Parallel()
	p := open(t, Options{Grace: time.Hour})
	polite := boot(t, p, "polite", nil, volumeWith(t, p, "p", sector("polite\n", obey)))
	awaitConsole(t, p, polite.ID, "polite\n", 1)
	if err := p.StopInstance(t.Context(), polite.ID, false); err != nil {
		t.Fatal(err)
	}
	await(t, p, polite.ID, providers.StateStopped)

	stubborn := boot(t, p, "stubborn", nil, volumeWith(t, p, "s", sector("stubborn\n", halt)))
	awaitConsole(t, p, stubborn.ID, "stubborn\n", 1)
	if err := p.StopInstance(t.Context(), stubborn.ID, false); err != nil {
		t.Fatal(err)
	}
	if i, err := p.Instance(t.Context(), stubborn.ID); err != nil || i.State != providers.StateStopping {
		t.Errorf("state is %s, %v", i.State, err)
	}
	if err := p.StartInstance(t.Context(), stubborn.ID); !errors.Is(err, providers.ErrConflict) {
		t.Errorf("start while it stops: %v, want ErrConflict", err)
	}
	if err := p.StopInstance(t.Context(), stubborn.ID, true); err != nil {
		t.Fatal(err)
	}
	await(t, p, stubborn.ID, providers.StateStopped)
}

// The time of grace ends also when the owner that began it is gone.
func TestGraceEndsWithTheNextOwner(t *testing.T) {
	dir := t.TempDir()
	p := open(t, Options{Dir: dir, Grace: 100 * time.Millisecond})
	i := boot(t, p, "vm", nil, volumeWith(t, p, "v", sector("up\n", halt)))
	if err := errors.Join(p.StopInstance(t.Context(), i.ID, false), p.Close()); err != nil {
		t.Fatal(err)
	}
	next := open(t, Options{Dir: dir})
	await(t, next, i.ID, providers.StateStopped)
}

// A machine that writes to its console without end costs a bounded file, and the end of it is what is shown.
func TestConsoleIsBounded(t *testing.T) {
	t.Parallel()
	p := open(t, Options{})
	i := boot(t, p, "vm", nil, volumeWith(t, p, "v", sector("again and again\n", repeat)))
	awaitConsole(t, p, i.ID, "again and again\n", 100)

	name := p.path(instancesDir, i.ID, "console.log")
	i.ID = "" // not to be looked at while the file is written here
	piece := bytes.Repeat([]byte("0123456789abcde\n"), 6400)
	for n := range 40 {
		if err := appendBounded(name, append(piece, byte('A'+n%26), '\n')); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(name)
		if err != nil || len(b) > consoleFile || n > 10 && len(b) < consoleFile/2-16 || !bytes.HasSuffix(b, []byte{'e', '\n', byte('A' + n%26), '\n'}) {
			t.Fatalf("after %d pieces the file has %d bytes, %v", n+1, len(b), err)
		}
	}
}

// A machine of as many disks and cards as are allowed starts, also where each disk takes a slot.
func TestMostDevices(t *testing.T) {
	t.Parallel()
	p := open(t, Options{})
	for _, bus := range []providers.Bus{providers.NVMe, providers.AHCI} {
		var disks []providers.Source
		for n := range maxDisks {
			disks = append(disks, volumeWith(t, p, fmt.Sprint(bus, n), nil))
		}
		i := boot(t, p, string(bus), func(s *providers.InstanceSpec) {
			s.Bus = bus
			for range maxNICs {
				s.NICs = append(s.NICs, providers.NIC{Network: Isolated})
			}
		}, disks...)
		if err := p.TerminateInstance(t.Context(), i.ID); err != nil {
			t.Fatal(err)
		}
	}
}

// Every machine has UEFI variables of its own, which outlive its power.
func TestUEFIVariables(t *testing.T) {
	t.Parallel()
	p := open(t, Options{})
	var names []string
	for n := range 2 {
		i := boot(t, p, fmt.Sprint("vm", n), func(s *providers.InstanceSpec) { s.Firmware = providers.UEFI }, volumeWith(t, p, fmt.Sprint("v", n), nil))
		name := p.path(instancesDir, i.ID, varsName)
		if names = append(names, name); n == 1 {
			break
		}
		if err := p.StopInstance(t.Context(), i.ID, true); err != nil {
			t.Fatal(err)
		}
		await(t, p, i.ID, providers.StateStopped)
		b, err := os.ReadFile(name)
		if err == nil {
			b[len(b)-1] ^= 0xff // as if the firmware had written
			err = os.WriteFile(name, b, 0o600)
		}
		if err == nil {
			err = p.StartInstance(t.Context(), i.ID)
		}
		if err != nil {
			t.Fatal(err)
		}
		await(t, p, i.ID, providers.StateRunning)
	}
	a, err1 := os.ReadFile(names[0])
	b, err2 := os.ReadFile(names[1])
	if err := errors.Join(err1, err2); err != nil || len(a) != len(b) || a[len(a)-1] == b[len(b)-1] {
		t.Errorf("variables of %d and %d bytes, %v; the first machine's should have kept their change", len(a), len(b), err)
	}
}
