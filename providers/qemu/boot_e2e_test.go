//go:build e2e

package qemu_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/e2e/vm"
	"github.com/openmigrate/openmigrate/internal/roottest"
	"github.com/openmigrate/openmigrate/providers"
	"github.com/openmigrate/openmigrate/providers/qemu"
)

// rootOffset is where the root file system of vm's images begins, in bytes.
const rootOffset = 66 << 20

// What the machine says on its console, once it has an address, and the service behind a forwarded port. It says it again and again, because whoever opens a
// terminal for logins hangs up on those who write to it.
const (
	checkScript = `#!/bin/sh
until ip -4 -br addr show scope global | grep -q /; do sleep 0.2; done
address=$(ip -4 -br addr show scope global | awk '{print $3}')
host=blocked
timeout 10 /usr/local/sbin/vm-guest dial %s </dev/null | grep -q hello && host=reached
firmware=bios
[ -d /sys/firmware/efi ] && firmware=uefi
while :; do
	echo "CHECK address $address host $host firmware $firmware root $(findmnt -no SOURCE /) serial $(cat /sys/class/dmi/id/product_serial) done" >/dev/ttyS0
	sleep 1
done
`
	checkUnit  = "[Service]\nExecStart=/usr/local/sbin/check\n[Install]\nWantedBy=multi-user.target\n"
	echoSocket = "[Socket]\nListenStream=7777\nAccept=yes\n[Install]\nWantedBy=sockets.target\n"
	echoUnit   = "[Service]\nExecStart=/bin/cat\nStandardInput=socket\n"
)

// A real system boots on different hardware, gets its address, is reached through its forward, reaches the host or does not, and powers off when it is
// asked to.
func TestBootsDebian(t *testing.T) {
	roottest.Need(t, "making and mounting disk images")
	image := vm.Build(t, vm.Recipe{})
	p, err := qemu.Open(qemu.Options{Dir: t.TempDir(), Accel: "tcg"})
	if err != nil {
		t.Fatal(err)
	}
	none := func(context.Context) (map[string]bool, error) { return nil, nil }
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_, err := providers.SweepAll(ctx, p, "e2e", none, 100*time.Millisecond)
		if err = errors.Join(err, p.Close()); err != nil {
			t.Error(err)
		}
	})
	host := sayHello(t)
	for _, c := range []struct {
		firmware        providers.Firmware
		bus             providers.Bus
		network         string
		reached, device string
	}{
		{providers.BIOS, providers.VirtioBlk, qemu.Isolated, "blocked", "/dev/vda3"},
		{providers.UEFI, providers.NVMe, qemu.NAT, "reached", "/dev/nvme0n1p3"},
	} {
		t.Run(fmt.Sprint(c.firmware, "-", c.bus, "-", c.network), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
			defer cancel()
			meta := providers.Meta{Token: string(c.firmware), Owner: providers.Owner{System: "e2e", Launch: string(c.bus)}}
			v := importImage(ctx, t, p, meta, image.Path, host)
			began := time.Now()
			i, err := p.CreateInstance(ctx, providers.InstanceSpec{Meta: meta, Type: "c2-m1024", Architecture: providers.AMD64, Firmware: c.firmware, Bus: c.bus,
				Disks: []providers.Disk{{From: providers.Source{Kind: providers.FromVolume, ID: v}, Delete: true}},
				NICs:  []providers.NIC{{Network: c.network, Forward: []uint16{7777}}}})
			if err == nil {
				i, err = providers.AwaitInstance(ctx, p, i.ID, providers.StateRunning, 100*time.Millisecond)
			}
			if err != nil {
				t.Fatal(err)
			}
			console, err := providers.Await(ctx, 200*time.Millisecond, func(ctx context.Context) ([]byte, error) { return p.Console(ctx, i.ID) },
				func(b []byte) (bool, error) {
					return bytes.Contains(b, []byte("CHECK address")) && bytes.Contains(b, []byte(i.ID+" done")), nil
				})
			if err != nil {
				t.Fatalf("boot: %v\n%s", err, console)
			}
			t.Logf("up after %v", time.Since(began))
			want := fmt.Sprintf("CHECK address 10.0.2.15/24 host %s firmware %s root %s serial %s done", c.reached, c.firmware, c.device, i.ID)
			if !bytes.Contains(console, []byte(want)) {
				t.Errorf("the console lacks %q:\n%s", want, console[max(0, len(console)-3000):])
			}
			echo(ctx, t, i)
			if b, err := p.Screenshot(ctx, i.ID); err != nil || len(b) < 1000 {
				t.Errorf("screenshot of %d bytes, %v", len(b), err)
			}
			began = time.Now()
			if err := p.StopInstance(ctx, i.ID, false); err != nil {
				t.Fatal(err)
			}
			if _, err := providers.AwaitInstance(ctx, p, i.ID, providers.StateStopped, 100*time.Millisecond); err != nil {
				t.Fatal(err)
			}
			t.Logf("down after %v", time.Since(began))
			console, err = p.Console(ctx, i.ID)
			if err != nil || !bytes.Contains(console, []byte("Power down")) {
				t.Errorf("the system did not power off by itself: %v\n%s", err, console[max(0, len(console)-2000):])
			}
		})
	}
}

// sayHello listens on the host's loopback and returns where machines on an open network reach it.
func sayHello(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, "hello\n") // the machine says whether it came
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-ended
	})
	return fmt.Sprintf("10.0.2.2:%d", l.Addr().(*net.TCPAddr).Port)
}

// importImage makes a volume of an image to which the checks were added.
func importImage(ctx context.Context, t *testing.T, p *qemu.Provider, meta providers.Meta, image, host string) string {
	t.Helper()
	info, err := os.Stat(image)
	if err != nil {
		t.Fatal(err)
	}
	v, err := p.CreateVolume(ctx, providers.VolumeSpec{Meta: meta, Size: info.Size()})
	if err == nil {
		err = p.AttachVolume(ctx, v.ID, "")
	}
	if err == nil {
		v, err = p.Volume(ctx, v.ID)
	}
	if err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	run("cp", "--sparse=always", image, v.Attachment.Path)
	root := filepath.Join(t.TempDir(), "root")
	if err := os.Mkdir(root, 0o700); err != nil {
		t.Fatal(err)
	}
	run("mount", "-o", fmt.Sprintf("loop,offset=%d", rootOffset), v.Attachment.Path, root)
	for name, text := range map[string]string{
		"usr/local/sbin/check":             fmt.Sprintf(checkScript, host),
		"etc/systemd/system/check.service": checkUnit,
		"etc/systemd/system/echo.socket":   echoSocket,
		"etc/systemd/system/echo@.service": echoUnit,
	} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o755); err != nil {
			t.Error(err)
		}
	}
	for link, unit := range map[string]string{"multi-user.target.wants/check.service": "check.service", "sockets.target.wants/echo.socket": "echo.socket"} {
		link = filepath.Join(root, "etc/systemd/system", link)
		if err := errors.Join(os.MkdirAll(filepath.Dir(link), 0o755), os.Symlink("/etc/systemd/system/"+unit, link)); err != nil {
			t.Error(err)
		}
	}
	run("umount", root)
	if err := p.DetachVolume(ctx, v.ID); err != nil {
		t.Fatal(err)
	}
	return v.ID
}

// echo sends a line through the machine's forwarded port and wants it back.
func echo(ctx context.Context, t *testing.T, i providers.Instance) {
	t.Helper()
	at, ok := i.Endpoint(7777)
	if !ok {
		t.Error("port 7777 has no endpoint")
		return
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", at)
	if err != nil {
		t.Errorf("forward: %v", err)
		return
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.WriteString(conn, "over there\n"); err != nil {
		t.Errorf("forward: %v", err)
	}
	if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || strings.TrimSpace(line) != "over there" {
		t.Errorf("forward: got %q, %v", line, err)
	}
}
