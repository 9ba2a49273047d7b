package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/e2e/vm/channel"
)

// Machine is one virtual machine. Its disks outlive its power: after Kill or PowerOff, PowerOn starts it again.
type Machine struct {
	t       testing.TB
	options Options
	dir     string // the test's
	sockets string // short, because the path of a unix socket has 107 bytes at most
	console string
	guest   string   // the program for connections out of the machine
	disks   []string // qcow2, the first on the image

	proc    *exec.Cmd
	ended   chan struct{} // closed when proc has ended
	qmp     *qmp
	channel *channel.Client
	boot    string // the guest kernel's id of this boot, once WaitBoot saw it
}

// Limits on what should take seconds. Emulation on a busy host takes several times what it takes on an idle one.
const (
	bootLimit     = 20 * time.Minute
	powerOffLimit = 2 * time.Minute
	pollPause     = 100 * time.Millisecond
)

// Start makes a machine on an overlay of the image and switches it on. It ends with the test at the latest; if the test
// fails then, the end of its console is in the test's log.
func Start(t testing.TB, image Image, o Options) *Machine {
	t.Helper()
	m := &Machine{t: t, options: o.withDefaults(), dir: t.TempDir()}
	m.console = filepath.Join(m.dir, "console.log")
	var err error
	m.sockets, err = os.MkdirTemp("", "vm-")
	fatal(t, "make folder for sockets", err)
	t.Cleanup(func() {
		m.Kill()
		_ = os.RemoveAll(m.sockets)
		if t.Failed() {
			t.Logf("end of the console:\n%s", tail(m.Console(), 8000))
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	fatal(t, "make disks", m.makeDisks(ctx, image))
	if len(o.HostPorts) > 0 {
		m.guest, err = guestProgram(ctx, m.sockets)
		fatal(t, "build guest", err)
	}
	if m.options.Firmware == UEFI {
		fatal(t, "copy UEFI variables", m.copyVars())
	}
	m.PowerOn()
	return m
}

func (m *Machine) makeDisks(ctx context.Context, image Image) error {
	for i, image := range append([]Image{image}, m.options.Images...) {
		path := filepath.Join(m.dir, fmt.Sprintf("disk%d.qcow2", i))
		if _, err := command(ctx, "qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", image.Path, path); err != nil {
			return err
		}
		m.disks = append(m.disks, path)
	}
	for _, size := range m.options.Disks {
		path := filepath.Join(m.dir, fmt.Sprintf("disk%d.qcow2", len(m.disks)))
		if _, err := command(ctx, "qemu-img", "create", "-q", "-f", "qcow2", path, fmt.Sprint(size)); err != nil {
			return err
		}
		m.disks = append(m.disks, path)
	}
	return nil
}

// PowerOn starts QEMU and returns before the machine has booted.
func (m *Machine) PowerOn() {
	m.t.Helper()
	path, err := qemuPath("qemu-system-x86_64")
	fatal(m.t, "find QEMU", err)
	log, err := os.OpenFile(filepath.Join(m.dir, "qemu.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	fatal(m.t, "open QEMU's log", err)
	defer log.Close()
	m.proc = exec.CommandContext(context.Background(), path, m.qemuArgs()...)
	m.proc.Stdout, m.proc.Stderr = log, log
	m.proc.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	fatal(m.t, "start QEMU", m.proc.Start())
	m.ended = make(chan struct{})
	go func(proc *exec.Cmd, ended chan struct{}) {
		_ = proc.Wait() // that it ended is what counts
		close(ended)
	}(m.proc, m.ended)
	ctx, cancel := context.WithTimeout(m.t.Context(), time.Minute)
	defer cancel()
	fatal(m.t, "reach QEMU", m.poll(ctx, func() (err error) {
		m.qmp, err = dialQMP(ctx, m.socket("qmp"))
		return err
	}))
}

// poll calls try until it succeeds, QEMU has ended or ctx has.
func (m *Machine) poll(ctx context.Context, try func() error) error {
	pause := time.NewTicker(pollPause)
	defer pause.Stop()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-pause.C:
		case <-m.ended:
			log, _ := os.ReadFile(filepath.Join(m.dir, "qemu.log"))
			return fmt.Errorf("QEMU ended: %s", tail(string(log), 2000))
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		}
	}
}

// WaitBoot waits until the machine runs commands, in a boot that no earlier WaitBoot saw, and returns how long it waited.
func (m *Machine) WaitBoot() time.Duration {
	m.t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(m.t.Context(), bootLimit)
	defer cancel()
	fatal(m.t, "boot", m.poll(ctx, func() error { return m.connect(ctx) }))
	return time.Since(began)
}

// connect opens the channel, unless the machine is still in the boot that is to end.
func (m *Machine) connect(ctx context.Context) error {
	m.hangUp()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "unix", m.socket("commands"))
	if err != nil {
		return err
	}
	m.channel = channel.NewClient(conn)
	r, err := m.channel.Run(ctx, nil, "cat", "/proc/sys/kernel/random/boot_id")
	if err != nil {
		return err
	}
	boot := strings.TrimSpace(string(r.Stdout))
	if boot == m.boot {
		return errors.New("the machine has not gone down yet")
	}
	m.boot = boot
	return nil
}

// WaitConsole waits until the console shows text, for images that do not answer commands.
func (m *Machine) WaitConsole(ctx context.Context, text string) error {
	return m.poll(ctx, func() error {
		if !strings.Contains(m.Console(), text) {
			return fmt.Errorf("the console does not show %q", text)
		}
		return nil
	})
}

// Run runs a program in the machine; an exit status other than 0 is no error. It is killed at ctx's deadline.
func (m *Machine) Run(ctx context.Context, args ...string) (channel.Result, error) {
	return m.RunInput(ctx, nil, args...)
}

// RunInput is Run with standard input.
func (m *Machine) RunInput(ctx context.Context, stdin []byte, args ...string) (channel.Result, error) {
	if m.channel == nil {
		return channel.Result{}, errors.New("the machine has not booted: call WaitBoot")
	}
	return m.channel.Run(ctx, stdin, args...)
}

// Shell runs a script with sh -e and returns its standard output; a failure fails the test.
func (m *Machine) Shell(ctx context.Context, script string) string {
	m.t.Helper()
	r, err := m.Run(ctx, "sh", "-e", "-c", script)
	if err != nil {
		m.t.Fatal(err)
	}
	if r.Status != 0 {
		m.t.Fatalf("in the machine: exit status %d of %q\n%s\n%s", r.Status, script, tail(string(r.Stdout), 4000), tail(string(r.Stderr), 4000))
	}
	return string(r.Stdout)
}

// Put copies a file of the host's into the machine and flushes it there.
func (m *Machine) Put(ctx context.Context, from, to string, mode os.FileMode) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	return m.channel.Put(ctx, to, f, mode)
}

// Get copies a file of the machine to w.
func (m *Machine) Get(ctx context.Context, path string, w io.Writer) error {
	return m.channel.Get(ctx, path, w)
}

// Forward lets the machine reach one of Options.HostPorts as its own 127.0.0.1:port, too, now and after every reboot, for
// programs whose certificates and URLs name no other address.
func (m *Machine) Forward(ctx context.Context, port int) {
	m.t.Helper()
	m.Shell(ctx, fmt.Sprintf(`cat >/etc/systemd/system/forward-%[1]d.service <<'END'
[Unit]
Description=port %[1]d of the host
[Service]
ExecStart=/usr/local/sbin/vm-guest forward 127.0.0.1:%[1]d %[2]s:%[1]d
Restart=always
[Install]
WantedBy=multi-user.target
END
systemctl --quiet enable --now forward-%[1]d`, port, HostAddr))
}

// Reboot restarts the machine's system in good order and waits until it is up again.
func (m *Machine) Reboot() time.Duration {
	m.t.Helper()
	m.Shell(m.t.Context(), "systemctl --no-block reboot")
	return m.WaitBoot()
}

// PowerOff shuts the system down in good order and waits until QEMU has ended.
func (m *Machine) PowerOff() {
	m.t.Helper()
	m.Shell(m.t.Context(), "systemctl --no-block poweroff")
	select {
	case <-m.ended:
	case <-time.After(powerOffLimit):
		m.t.Fatalf("the machine is not off after %v", powerOffLimit)
	}
	m.Kill()
}

// Kill cuts the power. What the machine had written is kept, flushed or not: QEMU gave it to the host's page cache.
func (m *Machine) Kill() {
	if m.proc == nil || m.ended == nil {
		return
	}
	_ = m.proc.Process.Kill()
	<-m.ended
	m.hangUp()
	if m.qmp != nil {
		m.qmp.close()
		m.qmp = nil
	}
}

func (m *Machine) hangUp() {
	if m.channel != nil {
		_ = m.channel.Close()
		m.channel = nil
	}
}

// Console is all that the machine wrote to its serial console, over all boots.
func (m *Machine) Console() string {
	b, err := os.ReadFile(m.console)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// Screenshot writes what the machine's screen shows to a PNG file.
func (m *Machine) Screenshot(path string) error {
	return m.qmp.execute("screendump", map[string]string{"filename": path, "format": "png"})
}

// Pause stops the machine's processors, as a hypervisor does that moves it; Resume lets them go on.
func (m *Machine) Pause() error { return m.qmp.execute("stop", nil) }

// Resume ends Pause.
func (m *Machine) Resume() error { return m.qmp.execute("cont", nil) }
