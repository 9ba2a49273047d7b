// Package qemu is the provider on this host: volumes are files, machines are QEMU processes. It is what OpenMigrate uses when there is no cloud, so that
// the whole story runs on a laptop.
//
// Machines outlive the process that started them. Everything about them is in a state directory, written durably before it is acted upon; a
// Provider that is opened on the directory finds the machines that run, takes up what was begun, and never starts a machine that may
// already run. DESIGN.md says how. One process at a time uses a directory; within it any number of goroutines may use the Provider.
package qemu

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/openmigrate/openmigrate/providers"
)

// Options change a Provider. All but Dir have useful zero values.
type Options struct {
	Dir string // the state directory, which is made if need be; volumes are in it
	// Accel forces an acceleration, "kvm" or "tcg". Empty: KVM if a small guest ran to its end with it on this host, else TCG.
	Accel         string
	QEMU          string        // the program; qemu-system-x86_64 in PATH when empty
	QEMUImg       string        // the program; qemu-img in PATH when empty
	Grace         time.Duration // that a system has to power down before its power is cut, 2 min when 0
	MemoryReserve int64         // bytes of the host's memory that machines leave free, 256 MiB when 0
	DiskReserve   int64         // bytes of the file system that volumes leave free, 1 GiB when 0
}

// Provider implements providers.Provider, providers.LazyVolumes and providers.RoomChecker.
type Provider struct {
	opts    Options
	lock    *os.File
	reflink bool // the file system shares blocks
	accel   accelerator

	ctx    context.Context // ends with Close; work in the background hangs on it
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu        sync.Mutex
	volumes   map[string]*volume   // guarded by mu
	snapshots map[string]*snapshot // guarded by mu
	instances map[string]*instance // guarded by mu
	bell      chan struct{}        // guarded by mu; closed and replaced when a disk becomes ready or fails
}

// Open reads a state directory and takes up what was begun there. It is providers.ErrConflict when another process has the directory. It succeeds
// without QEMU on the host: then machines are refused. Close it; machines go on running.
func Open(opts Options) (*Provider, error) {
	if opts.Dir == "" || opts.Accel != "" && opts.Accel != "kvm" && opts.Accel != "tcg" {
		return nil, fmt.Errorf("open QEMU provider: %w: directory %q, acceleration %q (want kvm, tcg or none)", providers.ErrInvalid, opts.Dir, opts.Accel)
	}
	opts.defaults()
	dir, err := filepath.Abs(opts.Dir)
	if err != nil {
		return nil, fmt.Errorf("open QEMU provider: %w", err)
	}
	opts.Dir = dir
	p := &Provider{opts: opts, volumes: map[string]*volume{}, snapshots: map[string]*snapshot{}, instances: map[string]*instance{}, bell: make(chan struct{})}
	if err := p.lockDir(); err != nil {
		return nil, fmt.Errorf("open QEMU provider: %w", err)
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	if err := p.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("open QEMU provider: %w", err), p.Close())
	}
	p.resume()
	return p, nil
}

func (o *Options) defaults() {
	if o.QEMU == "" {
		o.QEMU = "qemu-system-x86_64"
	}
	if o.QEMUImg == "" {
		o.QEMUImg = "qemu-img"
	}
	if o.Grace == 0 {
		o.Grace = 2 * time.Minute
	}
	if o.MemoryReserve == 0 {
		o.MemoryReserve = 256 << 20
	}
	if o.DiskReserve == 0 {
		o.DiskReserve = 1 << 30
	}
}

func (p *Provider) lockDir() error {
	for _, name := range []string{volumesDir, snapshotsDir, instancesDir} {
		if err := os.MkdirAll(filepath.Join(p.opts.Dir, name), 0o700); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(filepath.Join(p.opts.Dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if err := takeLock(f); err != nil {
		f.Close()
		return fmt.Errorf("%w: another process uses %s (%w)", providers.ErrConflict, p.opts.Dir, err)
	}
	p.lock = f
	return nil
}

// Close stops work in the background, which the next Open takes up, and lets the directory go. Machines go on running. Nothing else may be called
// meanwhile or afterwards but Close.
func (p *Provider) Close() error {
	p.cancel()
	p.work.Wait()
	if err := p.lock.Close(); !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}

// VolumesDir is the folder that the files of all volumes lie in, below a state directory.
func VolumesDir(dir string) string { return filepath.Join(dir, volumesDir) }

// takeLock locks a file for as long as any copy of the descriptor is open, also in a child that inherited it.
func takeLock(f *os.File) error {
	return unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
}

// locked reports whether somebody holds the lock of a file, without taking it for a moment.
func locked(name string) (bool, error) {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	l := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &l); err != nil {
		return false, err
	}
	return l.Type != unix.F_UNLCK, nil
}

// idFor derives an id from a token, so that a repeated create finds what the first one made without an index.
func idFor(kind providers.Kind, token string) string {
	prefix := map[providers.Kind]string{providers.KindVolume: "vol", providers.KindSnapshot: "snap", providers.KindInstance: "vm"}[kind]
	sum := sha256.Sum256([]byte(string(kind) + "\x00" + token))
	return fmt.Sprintf("%s-%x", prefix, sum[:10])
}

// ring wakes those who wait for a disk. The caller holds mu.
func (p *Provider) ring() {
	close(p.bell)
	p.bell = make(chan struct{})
}

// step is called between the steps of whatever must survive a crash; a test kills the process in it.
var step = func(string) {}
