package qemu

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/openmigrate/openmigrate/internal/durable"
	"github.com/openmigrate/openmigrate/providers"
)

// probeLimit bounds the guest of the probe. It takes 0.2 s where all is well, and emulated on two busy processors 2 s.
const probeLimit = 5 * time.Second

// probeStatus is QEMU's exit status when the guest of the probe got to its end.
const probeStatus = 0x2a<<1 | 1

// accelerator finds out, once for each boot of the host, how machines are accelerated. That /dev/kvm opens proves nothing: there are hosts on which it answers
// and then hangs every guest. So a guest must run.
type accelerator struct {
	probing sync.Mutex // held while it is found out

	mu    sync.Mutex
	found *acceleration // guarded by mu
}

// acceleration is the outcome, as it is kept in accel.json.
type acceleration struct {
	Name   string // kvm or tcg
	Reason string
	Boot   string // of the host
	QEMU   string // which program was probed
}

// known returns the outcome if there is one yet.
func (a *accelerator) known() (acceleration, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.found == nil {
		return acceleration{}, false
	}
	return *a.found, true
}

// find returns the outcome, and runs the probe if nobody has.
func (a *accelerator) find(ctx context.Context, o *Options) acceleration {
	a.probing.Lock()
	defer a.probing.Unlock()
	if found, ok := a.known(); ok {
		return found
	}
	found := a.look(ctx, o)
	if ctx.Err() == nil {
		a.mu.Lock()
		a.found = &found
		a.mu.Unlock()
	}
	return found
}

// look takes what was set, or found earlier on this host, or what the probe says.
func (a *accelerator) look(ctx context.Context, o *Options) acceleration {
	if o.Accel != "" {
		return acceleration{Name: o.Accel, Reason: "as it was set"}
	}
	file := filepath.Join(o.Dir, "accel.json")
	found := acceleration{Name: "kvm", Reason: "a guest ran to its end with it", Boot: bootID(), QEMU: identity(o.QEMU)}
	var kept acceleration
	if b, err := os.ReadFile(file); err == nil && json.Unmarshal(b, &kept) == nil && kept.Boot == found.Boot && kept.QEMU == found.QEMU &&
		(kept.Name == "kvm" || kept.Name == "tcg") {
		return kept
	}
	if err := probe(ctx, o); err != nil {
		found.Name, found.Reason = "tcg", err.Error()
	}
	if b, err := json.Marshal(found); err == nil && ctx.Err() == nil && found.QEMU != "" {
		_ = durable.WriteFile(file, b, 0o600) // or it is found again
	}
	return found
}

// identity tells one build of a program from another.
func identity(program string) string {
	path, err := exec.LookPath(program)
	if err != nil {
		return ""
	}
	info, err := os.Stat(path)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%s %d %d", path, info.Size(), info.ModTime().UnixNano())
}

// probe runs a small guest with KVM. Its error says why machines must be emulated.
func probe(ctx context.Context, o *Options) error {
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("KVM cannot be used: %w", err)
	}
	f.Close()
	return runProbe(ctx, o, "kvm", probeLimit)
}

func runProbe(ctx context.Context, o *Options, accel string, limit time.Duration) error {
	image, err := probeImage()
	if err != nil {
		return err
	}
	name := filepath.Join(o.Dir, "probe.bin")
	if err := os.WriteFile(name, image, 0o600); err != nil {
		return fmt.Errorf("write the probe's guest: %w", hostError(err))
	}
	defer func() { _ = os.Remove(name) }()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, o.QEMU, "-nodefaults", "-no-user-config", "-display", "none", "-machine", "q35", "-accel", accelArg(accel), "-cpu", cpuModel(accel),
		"-m", "16", "-bios", name, "-device", "isa-debug-exit,iobase=0xf4,iosize=1")
	cmd.Dir, cmd.Env = o.Dir, environment
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("a guest that takes a fraction of a second hung for %v with %s", limit, accel)
	case errors.As(err, &exit) && exit.ExitCode() == probeStatus:
		return nil
	case errors.As(err, &exit):
		return fmt.Errorf("a guest failed with %s: %w: %.300s", accel, err, out)
	case err != nil:
		return fmt.Errorf("%w: run QEMU: %w; install the package qemu-system-x86", providers.ErrInvalid, err)
	}
	return fmt.Errorf("a guest with %s ended without an answer", accel)
}

// probeImage is what probe.S assembles to: the code at the start, and the reset vector 16 bytes before the end.
func probeImage() ([]byte, error) {
	image := make([]byte, 64<<10)
	code, err := hex.DecodeString(probeCode)
	if err != nil {
		return nil, err
	}
	copy(image, code)
	copy(image[len(image)-16:], []byte{0xea, 0x00, 0x00, 0x00, 0xf0})
	return image, nil
}

const probeCode = "" +
	"fa8cc88ed831c08ec0bf0010b9000c6631c0fc66f3ab2666c706001003200000" +
	"2666c7060020033000002666c706003083000000660f0116f00066b820060000" +
	"0f22e066b8001000000f22d866b9800000c00f32660d000100000f300f20c066" +
	"0d010000806683e0fb0f22c066ea74000f000800b8100000008ed88ec08ed0bc" +
	"00800000b9002d3101bf0000010048890f48033783c74081e7ffff010081cf00" +
	"000100ffc975e7bea0860100bf00900000488b07488b57084889f34889f1f048" +
	"0fc70f0f10070f114720ffce75e3b02ae6f4f4ebfd8d74000000000000000000" +
	"ffff0000009baf00ffff00000093cf001700d8000f000000"
