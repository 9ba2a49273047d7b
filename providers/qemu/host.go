package qemu

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/openmigrate/openmigrate/providers"
)

// overhead is the memory of a QEMU process beside its guest's: buffers, and the cache of translated code (tbSize).
const overhead = 384 << 20

// hostError puts what the host refuses into its class.
func hostError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return fmt.Errorf("%w: %w; free space on the file system of the provider's directory", providers.ErrQuota, err)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%w: %w", providers.ErrDenied, err)
	}
	return err
}

// memoryRoom checks that a machine's memory fits beside that which others were promised. The caller holds mu.
func (p *Provider) memoryRoom(size int64) error {
	free, err := availableMemory()
	if err != nil {
		return fmt.Errorf("look at the host's memory: %w", err)
	}
	for _, i := range p.instances {
		if s := i.Instance.State; s == providers.StateCreating || s == providers.StateRunning {
			if t, err := parseType(i.Instance.Type); err == nil {
				// What it has touched is not free any more.
				free -= max(0, t.Memory-residentMemory(i.Run.PID))
			}
		}
	}
	if need := size + overhead + p.opts.MemoryReserve; free < need {
		return fmt.Errorf("%w: the host has %d MiB of memory left, and the machine needs %d MiB; stop another, or choose a smaller type",
			providers.ErrQuota, max(0, free)>>20, need>>20)
	}
	return nil
}

func availableMemory() (int64, error) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if fields := strings.Fields(s.Text()); len(fields) == 3 && fields[0] == "MemAvailable:" {
			kib, err := strconv.ParseInt(fields[1], 10, 64)
			return kib << 10, err
		}
	}
	return 0, errors.New("/proc/meminfo has no MemAvailable")
}

// residentMemory is what a process has in memory, in bytes; 0 if there is none.
func residentMemory(pid int) int64 {
	if pid == 0 {
		return 0
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(b))
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize())
}

// diskRoom checks that size more bytes fit beside what other volumes are still to be filled with. The caller holds mu.
func (p *Provider) diskRoom(size int64) error {
	var s unix.Statfs_t
	if err := unix.Statfs(p.opts.Dir, &s); err != nil {
		return fmt.Errorf("look at the host's disk: %w", err)
	}
	free := int64(s.Bavail) * s.Bsize
	for id, v := range p.volumes {
		if v.Volume.State == providers.StateCreating || v.Volume.State == providers.StateAvailable {
			free -= max(0, v.Filled-allocated(p.path(volumesDir, id, diskName)))
		}
	}
	for id, s := range p.snapshots {
		if s.Snapshot.State == providers.StateCreating {
			free -= max(0, p.need(s.Snapshot.Volume)-allocated(p.path(snapshotsDir, id, diskName)))
		}
	}
	if need := size + p.opts.DiskReserve; free < need {
		return fmt.Errorf("%w: the file system of %s has %d MiB left for volumes, and this needs %d MiB (%d of them stay free); remove launches or restpoint views that are not needed",
			providers.ErrQuota, p.opts.Dir, max(0, free)>>20, need>>20, p.opts.DiskReserve>>20)
	}
	return nil
}

// CheckRoom implements providers.RoomChecker.
func (p *Provider) CheckRoom(ctx context.Context, volumes []providers.VolumeSpec, instance providers.InstanceSpec) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.checkHost(&instance); err != nil {
		return err
	}
	size := int64(0)
	for i := range volumes {
		v := &volumes[i]
		switch {
		case v.From.Kind == providers.FromVolume:
			size += p.need(v.From.ID)
		case v.Filled > 0:
			size += v.Filled
		default:
			size += v.Size
		}
	}
	if size > 0 {
		if err := p.diskRoom(size); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// need is how many bytes a copy of a volume takes. The caller holds mu.
func (p *Provider) need(volume string) int64 {
	if p.reflink {
		return 0
	}
	return allocated(p.path(volumesDir, volume, diskName))
}

// allocated is what a file takes on disk, in bytes.
func allocated(name string) int64 {
	i, err := os.Stat(name)
	if err != nil {
		return 0
	}
	return i.Sys().(*syscall.Stat_t).Blocks * 512
}

// bridges are the names of the host's bridges.
func bridges() []string {
	found, _ := filepath.Glob("/sys/class/net/*/bridge") // the pattern is well-formed
	var names []string
	for _, path := range found {
		names = append(names, filepath.Base(filepath.Dir(path)))
	}
	return names
}

// bootID tells one boot of the host from another.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(b))
}
