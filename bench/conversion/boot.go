package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/openmigrate/openmigrate/bench/measure"
)

// How a start may end.
const (
	bootLimit    = 5 * time.Minute
	addressLimit = time.Minute // from the first login prompt on
	bootPoll     = 200 * time.Millisecond
)

// Boot is how far a machine came.
type boot struct {
	Up      bool          `json:"up"`      // it asks for a login
	Address string        `json:"address"` // that the login prompt shows; "" if it shows none
	Took    time.Duration `json:"took"`
	Stopped string        `json:"stopped,omitempty"` // the line of the console that tells why it is not up
}

func (b boot) String() string {
	switch {
	case b.Up && b.Address != "":
		return fmt.Sprintf("boots in %.0f s, with an address", b.Took.Seconds())
	case b.Up:
		return fmt.Sprintf("boots in %.0f s, without an address", b.Took.Seconds())
	}
	return "does not boot: " + b.Stopped
}

var (
	loginPrompt = regexp.MustCompile(`(?m)^Debian GNU/Linux 12 address=(10\.0\.2\.\d+|)`) // without an address it is the host name's
	deadLine    = regexp.MustCompile(`(?m)^.*(?:ALERT!|Kernel panic|grub rescue>|emergency mode|No bootable device).*$`)
)

// start boots a disk on virtio-blk, with a virtio-net card, and reads its console. The disk is not changed.
func (b *bench) start(ctx context.Context, disk, console string) (res boot, err error) {
	path, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		return res, fmt.Errorf("%w (run scripts/setup bench)", err)
	}
	ctx, cancel := context.WithTimeout(ctx, bootLimit)
	defer cancel()
	if err := os.WriteFile(console, nil, 0o600); err != nil {
		return res, err
	}
	cmd := exec.CommandContext(ctx, path, "-nodefaults", "-no-user-config", "-display", "none", "-vga", "std", "-M", "q35", "-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max", "-m", "1024",
		"-chardev", "file,id=console,path="+console, "-serial", "chardev:console", "-device", "virtio-rng-pci",
		"-drive", "if=none,id=disk,format=raw,snapshot=on,file="+disk, "-device", "virtio-blk-pci,drive=disk,bootindex=0",
		"-netdev", "user,id=net,restrict=on", "-device", "virtio-net-pci,netdev=net")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	began := time.Now()
	ended := make(chan error, 1)
	go func() {
		_, _, err := measure.Command(cmd)
		ended <- err
		close(ended)
	}()
	res, err = watch(ctx, console, began, ended)
	cancel()
	if err == nil {
		for range ended { // until it is gone
		}
	}
	return res, err
}

// watch waits for the console to show how the start ends. An error is QEMU's.
func watch(ctx context.Context, console string, began time.Time, ended <-chan error) (res boot, err error) {
	again := time.NewTicker(bootPoll)
	defer again.Stop()
	for {
		text, err := os.ReadFile(console)
		if err != nil {
			return res, err
		}
		if all := loginPrompt.FindAllSubmatch(text, -1); all != nil {
			if !res.Up {
				res.Up, res.Took = true, time.Since(began)
			}
			// The prompt is shown again when the address is there.
			res.Address = string(all[len(all)-1][1])
			if res.Address != "" || time.Since(began)-res.Took > addressLimit {
				return res, nil
			}
		} else if line := deadLine.Find(text); line != nil {
			res.Took, res.Stopped = time.Since(began), strings.TrimSpace(string(line))
			return res, nil
		}
		select {
		case <-again.C:
		case err := <-ended:
			return res, errors.Join(errors.New("QEMU ended"), err)
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				res.Stopped = fmt.Sprintf("nothing that is known after %v", bootLimit)
				return res, nil
			}
			return res, ctx.Err()
		}
	}
}
