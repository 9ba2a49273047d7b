package qemu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/openmigrate/openmigrate/internal/roottest"
	"github.com/openmigrate/openmigrate/providers"
)

// What the host cannot hold is refused before anything is made.
func TestRefusesWhatDoesNotFit(t *testing.T) {
	p := open(t, Options{})
	disk := volumeWith(t, p, "v", nil)
	instance := func(typ string) error {
		_, err := p.CreateInstance(t.Context(), providers.InstanceSpec{Meta: testMeta(typ), Type: typ, Architecture: providers.AMD64, Firmware: providers.BIOS,
			Disks: []providers.Disk{{From: disk}}})
		return err
	}
	volume := func(token string, size, filled int64) error {
		_, err := p.CreateVolume(t.Context(), providers.VolumeSpec{Meta: testMeta(token), Size: size, Filled: filled})
		return err
	}
	if err := instance("c1-m4194304"); !errors.Is(err, providers.ErrQuota) {
		t.Errorf("4 TiB of memory: %v, want ErrQuota", err)
	}
	var s unix.Statfs_t
	if err := unix.Statfs(p.opts.Dir, &s); err != nil {
		t.Fatal(err)
	}
	free := int64(s.Bavail) * s.Bsize
	if err := volume("full", free, 0); !errors.Is(err, providers.ErrQuota) {
		t.Errorf("a volume of all that is free: %v, want ErrQuota", err)
	}
	if err := volume("thin", free, 1<<20); err != nil {
		t.Errorf("a volume that will hold little: %v", err)
	}
	if err := volume("half", free/2, 0); err != nil {
		t.Errorf("a volume of half of what is free: %v", err)
	}
	if err := volume("half 2", free/2, 0); err == nil {
		t.Error("a second volume of half of what is free is promised the same room")
	}
	// Asked beforehand it says the same, and makes nothing.
	room := func(typ string, specs ...providers.VolumeSpec) error {
		return p.CheckRoom(t.Context(), specs, providers.InstanceSpec{Type: typ, Architecture: providers.AMD64, Firmware: providers.BIOS})
	}
	for name, c := range map[string]struct {
		err  error
		want error
	}{
		"memory":                {room("c1-m4194304"), providers.ErrQuota},
		"no such network":       {p.CheckRoom(t.Context(), nil, providers.InstanceSpec{Type: "c1-m64", Architecture: providers.AMD64, Firmware: providers.BIOS, NICs: []providers.NIC{{Network: "dmz"}}}), providers.ErrNotFound},
		"all of a disk":         {room("c1-m64", providers.VolumeSpec{Size: free}), providers.ErrQuota},
		"what a disk holds":     {room("c1-m64", providers.VolumeSpec{Size: 100 * free, Filled: 1 << 20}), nil},
		"two that do not fit":   {room("c1-m64", providers.VolumeSpec{Size: free, Filled: free / 3}, providers.VolumeSpec{Size: free, Filled: free / 3}), providers.ErrQuota},
		"a copy of a small one": {room("c1-m64", providers.VolumeSpec{Size: free, From: disk}), nil},
	} {
		if !errors.Is(c.err, c.want) {
			t.Errorf("%s: %v, want %v", name, c.err, c.want)
		}
	}
	all, err := p.List(t.Context(), system)
	if err != nil || len(all) != 3 {
		t.Errorf("list shows %v, %v", all, err)
	}
}

func TestWithoutQEMU(t *testing.T) {
	p := open(t, Options{QEMU: "no-such-qemu", QEMUImg: "no-such-img"})
	disk := volumeWith(t, p, "v", nil)
	_, err := p.CreateInstance(t.Context(), providers.InstanceSpec{Meta: testMeta("vm"), Type: "c1-m64", Architecture: providers.AMD64, Firmware: providers.BIOS,
		Disks: []providers.Disk{{From: disk}}})
	if !errors.Is(err, providers.ErrInvalid) || !strings.Contains(err.Error(), "install") {
		t.Errorf("create instance: %v, want ErrInvalid that says what to install", err)
	}
	c, err := p.Capabilities(t.Context())
	if err != nil || c.ThinClones || c.Lazy || !strings.Contains(strings.Join(c.Notes, "\n"), "no-such-qemu is missing") {
		t.Errorf("capabilities: %+v, %v", c, err)
	}
}

func TestQEMUThatFails(t *testing.T) {
	p := open(t, Options{QEMU: program(t, "echo the reason >&2; exit 1")})
	spec := providers.InstanceSpec{Meta: testMeta("vm"), Type: "c1-m64", Architecture: providers.AMD64, Firmware: providers.BIOS,
		Disks: []providers.Disk{{From: volumeWith(t, p, "v", nil), Delete: true}}}
	i, err := p.CreateInstance(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := providers.AwaitInstance(t.Context(), p, i.ID, providers.StateRunning, pollTime); err == nil || !strings.Contains(err.Error(), "the reason") {
		t.Errorf("await: %v, want QEMU's last words", err)
	}
	none := func(context.Context) (map[string]bool, error) { return nil, nil }
	if _, err := providers.SweepAll(t.Context(), p, system, none, pollTime); err != nil {
		t.Error(err)
	}
}

func TestCopyKeepsHoles(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	const size = 1 << 30
	if err := makeDisk(from, size); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(from, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	places := []int64{0, 100 << 20, 512<<20 + 4096, size - 5000}
	for n, off := range places {
		if _, err := f.WriteAt(bytes.Repeat([]byte{byte(n + 1)}, 5000), off); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(to, []byte("of an older attempt"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := copyDisk(t.Context(), to, from, size+512); err != nil {
		t.Fatal(err)
	}
	got, err := os.Open(to)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Close()
	for n, off := range places {
		b := make([]byte, 5000)
		if _, err := got.ReadAt(b, off); err != nil || !bytes.Equal(b, bytes.Repeat([]byte{byte(n + 1)}, 5000)) {
			t.Errorf("at %d: %v, or another content", off, err)
		}
	}
	b := make([]byte, 4096)
	if _, err := got.ReadAt(b, 50<<20); err != nil || !bytes.Equal(b, make([]byte, 4096)) {
		t.Errorf("in a hole: %v, or no zeros", err)
	}
	if info, err := got.Stat(); err != nil || info.Size() != size+512 || allocated(to) > 1<<20 {
		t.Errorf("the copy has %d bytes and takes %d, %v", info.Size(), allocated(to), err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := copyDisk(over, to, from, size); !errors.Is(err, context.Canceled) {
		t.Errorf("copy without time: %v", err)
	}
}

// On a file system that shares blocks, a copy takes none, and a running machine's disk can be copied.
func TestReflink(t *testing.T) {
	t.Parallel()
	roottest.Need(t, "mounting a file system")
	dir := t.TempDir()
	image, mount := filepath.Join(dir, "image"), filepath.Join(dir, "mount")
	if err := errors.Join(makeDisk(image, 512<<20), os.Mkdir(mount, 0o700)); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"mkfs.xfs", "-q", "-m", "reflink=1", image}, {"mount", "-o", "loop", image, mount}} {
		if out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	t.Cleanup(func() {
		var err error
		for range 500 { // a process that ends lets its files go a moment after it has left the list
			if err = unix.Unmount(mount, 0); err == nil {
				return
			}
			time.Sleep(2 * pollTime)
		}
		t.Errorf("umount: %v", err)
	})
	p := open(t, Options{Dir: filepath.Join(mount, "state"), DiskReserve: 1 << 20})
	if c, err := p.Capabilities(t.Context()); err != nil || !c.SnapshotInUse {
		t.Fatalf("capabilities are %+v, %v", c, err)
	}
	b := append(sector("up\n", halt), bytes.Repeat([]byte("content "), 64<<10)...)
	disk := volumeWith(t, p, "v", b)
	boot(t, p, "vm", nil, disk)
	s, err := p.CreateSnapshot(t.Context(), providers.SnapshotSpec{Meta: testMeta("s"), Volume: disk.ID})
	if err == nil {
		s, err = providers.AwaitSnapshot(t.Context(), p, s.ID, pollTime)
	}
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(p.path(snapshotsDir, s.ID, diskName))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got, err := io.ReadAll(io.LimitReader(f, int64(len(b))))
	if err != nil || !bytes.Equal(got, b) {
		t.Errorf("snapshot of a running machine: %d bytes, %v", len(got), err)
	}
}

func TestSnapshotInUseIsRefused(t *testing.T) {
	p := open(t, Options{})
	if p.reflink {
		p.reflink = false // as elsewhere
	}
	disk := volumeWith(t, p, "v", sector("up\n", halt))
	i := boot(t, p, "vm", nil, disk)
	spec := providers.SnapshotSpec{Meta: testMeta("s"), Volume: disk.ID}
	if _, err := p.CreateSnapshot(t.Context(), spec); !errors.Is(err, providers.ErrConflict) {
		t.Errorf("snapshot of a running machine's disk: %v, want ErrConflict", err)
	}
	if err := p.StopInstance(t.Context(), i.ID, true); err != nil {
		t.Fatal(err)
	}
	await(t, p, i.ID, providers.StateStopped)
	if _, err := p.CreateSnapshot(t.Context(), spec); err != nil {
		t.Errorf("snapshot of a stopped machine's disk: %v", err)
	}
}

// A bridge is used by the name of it, its port goes with the machine, and one that is not there is refused. It runs in a network of its own.
func TestBridge(t *testing.T) {
	const inside = "QEMU_TEST_NETNS"
	if os.Getenv(inside) == "" {
		roottest.Need(t, "making a network")
		cmd := exec.CommandContext(t.Context(), "unshare", "--net", "--mount", "sh", "-e", "-c",
			`mount -t sysfs sysfs /sys; ip link add omtest type bridge; ip link set omtest up; ip link set lo up; exec "$@"`,
			"sh", os.Args[0], "-test.run=^TestBridge$", "-test.v")
		cmd.Env = append(os.Environ(), inside+"=1")
		if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS: TestBridge")) {
			t.Errorf("in its own network: %v\n%s", err, out)
		}
		return
	}
	p := open(t, Options{})
	disk := volumeWith(t, p, "v", sector("up\n", halt))
	networks, err := p.Networks(t.Context())
	if err != nil || len(networks) != 3 || networks[2].ID != "bridge:omtest" || networks[2].Isolated {
		t.Fatalf("networks are %+v, %v", networks, err)
	}
	on := func(network string) func(*providers.InstanceSpec) {
		return func(s *providers.InstanceSpec) {
			s.NICs = []providers.NIC{{Network: network}, {Network: Isolated}, {Network: network}}
		}
	}
	spec := providers.InstanceSpec{Meta: testMeta("bad"), Type: "c1-m64", Architecture: providers.AMD64, Firmware: providers.BIOS, Disks: []providers.Disk{{From: disk}}}
	on("bridge:absent")(&spec)
	if _, err := p.CreateInstance(t.Context(), spec); !errors.Is(err, providers.ErrNotFound) || !strings.Contains(err.Error(), "omtest") {
		t.Errorf("a bridge that is not there: %v, want ErrNotFound that says which there are", err)
	}
	i := boot(t, p, "vm", on("bridge:omtest"), disk)
	ports := func() int {
		entries, err := os.ReadDir("/sys/class/net/omtest/brif")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	if n := ports(); n != 2 {
		t.Errorf("the bridge has %d ports, want 2", n)
	}
	if err := p.TerminateInstance(t.Context(), i.ID); err != nil {
		t.Fatal(err)
	}
	await(t, p, i.ID, providers.StateTerminated)
	if n := ports(); n != 0 {
		t.Errorf("the bridge has %d ports after the machine", n)
	}
}

// Two machines of one owner and many forwards have their own ports.
func TestForwardsAreTheirOwn(t *testing.T) {
	p := open(t, Options{})
	seen := map[string]bool{}
	for n := range 2 {
		i := boot(t, p, fmt.Sprint("vm", n), func(s *providers.InstanceSpec) {
			s.NICs = []providers.NIC{{Network: NAT, Forward: []uint16{22, 80, 443}}, {Network: Isolated, Forward: []uint16{5432}}}
		}, volumeWith(t, p, fmt.Sprint("v", n), sector("up\n", halt)))
		for _, port := range []uint16{22, 80, 443, 5432} {
			at, ok := i.Endpoint(port)
			if !ok || seen[at] || !strings.HasPrefix(at, "127.0.0.1:") {
				t.Errorf("machine %d, port %d is at %q", n, port, at)
			}
			seen[at] = true
		}
	}
}

// A volume that is deleted while it is being made is gone, with its file, and does not come back.
func TestDeleteWhileItIsMade(t *testing.T) {
	p := open(t, Options{})
	from := volumeWith(t, p, "from", bytes.Repeat([]byte("data"), 1000))
	spec := providers.VolumeSpec{Meta: testMeta("copy"), From: from}
	c := p.capabilities()
	id := idFor(providers.KindVolume, spec.Token)
	p.mu.Lock() // the copy cannot be finished meanwhile
	v, err := p.planVolume(id, &c, spec)
	if err == nil {
		err = p.addVolume(v)
	}
	if err == nil && v.Volume.State != providers.StateCreating {
		err = fmt.Errorf("it is %s", v.Volume.State)
	}
	if err == nil {
		err = p.deleting(v)
	}
	p.mu.Unlock()
	if err == nil {
		err = p.DeleteVolume(t.Context(), id)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Volume(t.Context(), id); !errors.Is(err, providers.ErrNotFound) {
		t.Errorf("volume: %v, want ErrNotFound", err)
	}
	if _, err := os.Stat(p.path(volumesDir, id, diskName)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its file: %v", err)
	}
	if err := p.DeleteVolume(t.Context(), from.ID); err != nil {
		t.Errorf("delete its source: %v", err)
	}
}

// QEMU gets nothing of our environment, where secrets may be.
func TestEnvironmentIsNotInherited(t *testing.T) {
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret of a test")
	p := open(t, Options{})
	i := boot(t, p, "vm", nil, volumeWith(t, p, "v", nil))
	b, err := os.ReadFile(filepath.Join("/proc", pidText(t, p, i.ID), "environ"))
	if err != nil || bytes.Contains(b, []byte("secret")) || !bytes.Contains(b, []byte("PATH=")) {
		t.Errorf("environment is %q, %v", b, err)
	}
}

// On a full file system creates are refused with ErrQuota and leave nothing, and what was there goes on working.
func TestFullFileSystem(t *testing.T) {
	roottest.Need(t, "mounting a file system")
	mount := t.TempDir()
	if err := unix.Mount("tmpfs", mount, "tmpfs", 0, "size=160k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(mount, 0); err != nil {
			t.Errorf("umount: %v", err)
		}
	})
	dir := filepath.Join(mount, "state")
	p := open(t, Options{Dir: dir, DiskReserve: 1})
	made := 0
	for ; made < 1000; made++ {
		_, err := p.CreateVolume(t.Context(), providers.VolumeSpec{Meta: testMeta(fmt.Sprint("v", made)), Size: 1 << 30, Filled: 1})
		if errors.Is(err, providers.ErrQuota) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	listed := func() {
		t.Helper()
		if all, err := p.List(t.Context(), system); err != nil || len(all) != made || made == 0 || made == 1000 {
			t.Errorf("%d are listed, want %d; %v", len(all), made, err)
		}
	}
	listed()
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	p = open(t, Options{Dir: dir, DiskReserve: 1})
	listed()
	// What is gone must be written down, too, and for that there is no room until the first file has gone.
	for n := range made {
		id := idFor(providers.KindVolume, fmt.Sprint("v", n))
		if err := p.DeleteVolume(t.Context(), id); err != nil && !errors.Is(err, providers.ErrQuota) {
			t.Fatal(err)
		}
	}
}
