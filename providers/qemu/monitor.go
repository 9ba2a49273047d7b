package qemu

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/openmigrate/openmigrate/providers"
)

// consoleFile bounds the file that the console is kept in, in bytes. When it is full its first half goes.
const consoleFile = 1 << 20

// speak connects to a machine's QEMU for the time that do takes.
func (p *Provider) speak(ctx context.Context, i *instance, do func(*qmp) error) error {
	i.monitor.Lock()
	defer i.monitor.Unlock()
	q, err := dialQMP(ctx, p.path(instancesDir, i.Instance.ID, ""), "qmp")
	if err != nil {
		return err
	}
	defer q.close()
	return do(q)
}

// observe looks at a machine that should run, and notices that it is off or stuck.
func (p *Provider) observe(ctx context.Context, i *instance) {
	there, err := p.alive(i.Instance.ID)
	if err != nil {
		return
	}
	if !there {
		p.mu.Lock()
		defer p.mu.Unlock()
		if i.Instance.State == providers.StateRunning && !i.working {
			p.stopped(i, "the machine's process ended: "+p.lastWords(i.Instance.ID))
		}
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	status := ""
	err = p.speak(ctx, i, func(q *qmp) (err error) {
		status, err = q.status(ctx)
		return err
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	if i.Instance.State != providers.StateRunning || i.working || errors.Is(ctx.Err(), context.Canceled) {
		return
	}
	reason := map[string]string{
		"io-error":       "paused: the host could not read or write one of its disks, most likely because it is full",
		"internal-error": "paused: the acceleration failed; open the provider with acceleration tcg",
		"paused":         "paused",
		"guest-panicked": "its system panicked",
	}[status]
	if err != nil {
		reason = "QEMU does not answer: " + err.Error()
	}
	i.Instance.Reason = reason
	if status == "shutdown" && p.want(i, providers.StateStopped, providers.StateStopping, time.Now().UTC()) == nil {
		i.Instance.Reason = "its system powered off"
	}
}

// Console implements providers.Instances. QEMU keeps the last megabyte, and what was read from there is kept in a file of bounded size; so the console of
// a machine that writes without end costs no more, also while nobody looks.
func (p *Provider) Console(ctx context.Context, id string) ([]byte, error) {
	p.mu.Lock()
	i, err := p.machineOf(id)
	if err != nil {
		p.mu.Unlock()
		return nil, fmt.Errorf("console: %w", err)
	}
	state := i.Instance.State
	p.mu.Unlock()
	switch state {
	case providers.StateTerminated, providers.StateTerminating:
		return nil, fmt.Errorf("console of %s: %w: it is %s", id, providers.ErrConflict, state)
	case providers.StateRunning, providers.StateStopping:
		err = p.speak(ctx, i, func(q *qmp) error { return p.drain(ctx, id, q) })
		if there, lockErr := p.alive(id); err != nil && lockErr == nil && there {
			return nil, fmt.Errorf("console of %s: %w: %w", id, providers.ErrTryAgain, err)
		}
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	text, err := readTail(p.path(instancesDir, id, "console.log"), providers.ConsoleLimit)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil // it has not written anything
	}
	if err != nil {
		return nil, fmt.Errorf("console of %s: %w", id, err)
	}
	return text, nil
}

// drain moves what QEMU keeps of the console into the file. The caller holds the monitor.
func (p *Provider) drain(ctx context.Context, id string, q *qmp) error {
	const piece = 64 << 10
	var text []byte
	for range consoleSize/piece + 1 { // a machine may write faster than it is read
		var part string
		arguments := object{"device": "console", "size": piece, "format": "base64"}
		if err := q.run(ctx, "ringbuf-read", arguments, &part); err != nil {
			return err
		}
		b, err := base64.StdEncoding.DecodeString(part)
		if err != nil {
			return fmt.Errorf("ringbuf-read: %w", err)
		}
		if len(b) == 0 {
			break
		}
		text = append(text, b...)
	}
	boundLog(p.path(instancesDir, id, "qemu.log"))
	if len(text) == 0 {
		return nil
	}
	return appendBounded(p.path(instancesDir, id, "console.log"), text)
}

// appendBounded adds to a file, and drops its beginning when it gets longer than consoleFile.
func appendBounded(name string, text []byte) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return hostError(err)
	}
	_, err = f.Write(text)
	info, statErr := f.Stat()
	if err = errors.Join(hostError(err), statErr, f.Close()); err != nil {
		return err
	}
	if info.Size() <= consoleFile {
		return nil
	}
	rest, err := readTail(name, consoleFile/2)
	if err != nil {
		return err
	}
	if at := bytes.IndexByte(rest, '\n'); at >= 0 {
		rest = rest[at+1:]
	}
	if err := os.WriteFile(name+".new", rest, 0o600); err != nil {
		return hostError(err)
	}
	return os.Rename(name+".new", name)
}

// boundLog empties QEMU's log when a guest has found a way to fill it. QEMU appends.
func boundLog(name string) {
	if info, err := os.Stat(name); err == nil && info.Size() > consoleFile {
		_ = os.Truncate(name, 0) // tried again at the next look
	}
}

// Screenshot implements providers.Instances.
func (p *Provider) Screenshot(ctx context.Context, id string) ([]byte, error) {
	p.mu.Lock()
	i, err := p.machineOf(id)
	if err == nil && i.Instance.State != providers.StateRunning {
		err = fmt.Errorf("%w: %s is %s", providers.ErrConflict, id, i.Instance.State)
	}
	p.mu.Unlock()
	if err != nil {
		return nil, fmt.Errorf("screenshot: %w", err)
	}
	name := p.path(instancesDir, id, "screen.png")
	var b []byte
	err = p.speak(ctx, i, func(q *qmp) error {
		defer func() { _ = os.Remove(name) }()
		if err := q.run(ctx, "screendump", object{"filename": name, "format": "png"}, nil); err != nil {
			return err
		}
		info, err := os.Stat(name)
		if err == nil && info.Size() > providers.ScreenshotLimit {
			err = fmt.Errorf("%w: %d bytes", providers.ErrInvalid, info.Size())
		}
		if err == nil {
			b, err = os.ReadFile(name)
		}
		return err
	})
	if err != nil {
		if there, lockErr := p.alive(id); lockErr == nil && !there {
			err = fmt.Errorf("%w: it ended", providers.ErrConflict)
		}
		return nil, fmt.Errorf("screenshot of %s: %w", id, err)
	}
	return b, nil
}
