//go:build e2e

package vm

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/e2e/lab"
)

func TestMain(m *testing.M) {
	code := m.Run()
	lab.RemoveBinaries()
	os.Exit(code)
}

// limit bounds some commands in a machine. An emulated one on a busy host takes minutes for what takes seconds.
func limit(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// TestMachine shows what the harness promises on the plainest machine.
func TestMachine(t *testing.T) {
	open, closed := listen(t), listen(t)
	m := Start(t, Build(t, Recipe{}), Options{HostPorts: []int{open}})
	t.Logf("boot: %.1f s", m.WaitBoot().Seconds())
	reaches(t, m, open, closed)
	ctx := limit(t)
	t.Logf("kernel %s", m.Shell(ctx, "uname -r; cat /etc/os-release"))
	if out := m.Shell(ctx, ". /etc/os-release; echo $ID $VERSION_ID"); out != "debian 12\n" {
		t.Errorf("the machine is %q", out)
	}
	if out := m.Shell(ctx, "findmnt -no SOURCE /"); out != "/dev/sda3\n" {
		t.Errorf("the root is on %q", out)
	}

	want := make([]byte, 3<<20+7)
	if _, err := rand.Read(want); err != nil {
		t.Fatal(err)
	}
	from := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(from, want, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := m.Put(ctx, from, "/var/tmp/f", 0o600); err != nil {
		t.Fatal(err)
	}
	compare := func() {
		t.Helper()
		var got bytes.Buffer
		if err := m.Get(limit(t), "/var/tmp/f", &got); err != nil || !bytes.Equal(got.Bytes(), want) {
			t.Errorf("got %d bytes that differ from %d: %v", got.Len(), len(want), err)
		}
	}
	compare()

	if err := m.Put(ctx, filepath.Join(lab.Binaries(t), "openmigrate-agent"), "/usr/local/sbin/openmigrate-agent", 0o755); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s", m.Shell(ctx, "openmigrate-agent --version"))

	shot := filepath.Join(t.TempDir(), "screen.png")
	if err := m.Screenshot(shot); err != nil {
		t.Error(err)
	}
	if b, err := os.ReadFile(shot); err != nil || !bytes.HasPrefix(b, []byte("\x89PNG")) {
		t.Errorf("no screenshot: %v", err)
	}

	// A power cut in the middle of writes: the journal brings the root back.
	m.Shell(ctx, "(while :; do cp /var/tmp/f /var/tmp/g; mv /var/tmp/g /var/tmp/h; done) >/dev/null 2>&1 & sync")
	before := len(m.Console())
	m.Kill()
	m.PowerOn()
	t.Logf("boot after a power cut: %.1f s", m.WaitBoot().Seconds())
	if log := m.Console()[before:]; !strings.Contains(log, "recovering journal") && !strings.Contains(log, "recovery complete") {
		t.Errorf("nothing on the console says that the journal was replayed")
	}
	compare()

	t.Logf("reboot: %.1f s", m.Reboot().Seconds())
	compare()
	m.PowerOff()
}

// TestSATA starts the same disk on another bus and from the other firmware. The rest of them tests of hydrator/convert and providers/qemu start.
func TestSATA(t *testing.T) {
	m := Start(t, Build(t, Recipe{}), Options{Bus: SATA, Firmware: UEFI})
	t.Logf("boot: %.1f s", m.WaitBoot().Seconds())
	if out := m.Shell(limit(t), "findmnt -no SOURCE /"); out != "/dev/sda3\n" {
		t.Errorf("the root is on %q", out)
	}
	m.Kill()
}

// reaches makes sure that a machine reaches the named port of the host and nothing else of it.
func reaches(t *testing.T, m *Machine, open, closed int) {
	t.Helper()
	ctx := limit(t)
	m.Forward(ctx, open)
	m.Shell(ctx, "timeout 60 sh -c 'until ip -4 -o addr show scope global | grep -q 10.0.2.15; do sleep 0.2; done'")
	try := `timeout 5 bash -c 'exec 3<>/dev/tcp/%s/%d && read -r line <&3 && test "$line" = hello'`
	for _, host := range []string{HostAddr, "127.0.0.1"} {
		m.Shell(ctx, fmt.Sprintf(try, host, open))
	}
	for _, host := range []string{HostAddr, "10.0.2.2"} {
		r, err := m.Run(ctx, "sh", "-c", fmt.Sprintf(try, host, closed))
		if err != nil || r.Status == 0 {
			t.Errorf("port %d of %s, which was not named: status %d, %v", closed, host, r.Status, err)
		}
	}
}

// listen greets whoever connects to a port of the host's.
func listen(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte("hello\n"))
			_ = conn.Close()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}
