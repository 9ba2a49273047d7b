// Package inventory finds out what a host is: what the master shows, what a launch at the target needs to know, and which disks
// there are to replicate.
//
// It reads procfs, sysfs, a few files below /etc, and the first and last sectors of block devices; it starts no programs and
// changes nothing. Hosts are unusual in many ways, so a part that cannot be read is left out with a note that says why, and
// never fails the whole. The result is bounded (see the limits in package wire) whatever the host says, and carries
// no secrets: of the kernel's command line only harmless words, of the machine id only a hash.
//
// The package holds no state; its functions may be called from many goroutines at once.
package inventory

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode"

	"github.com/openmigrate/openmigrate/agent/source"
	"github.com/openmigrate/openmigrate/wire"
)

// Options change where the host is read from; for tests. The zero value reads this host.
type Options struct {
	// Root is put before /proc, /sys, /etc and /dev.
	Root string
	// OpenDevice opens a block device's bytes; nil: as a source.Source.
	OpenDevice func(ctx context.Context, path string) (Device, error)
	// Addresses gives the addresses of each network interface, in CIDR form; nil: the kernel's, where Root is empty.
	Addresses func() (map[string][]string, error)
}

// Device is an open block device.
type Device interface {
	io.ReaderAt
	io.Closer
}

// Collect takes the inventory. The only error is that of ctx.
func Collect(ctx context.Context, opts Options) (*wire.Inventory, error) {
	if opts.OpenDevice == nil {
		opts.OpenDevice = openDevice
	}
	c := &collector{Options: opts, ctx: ctx, inv: &wire.Inventory{Version: wire.InventoryVersion, Devices: []wire.BlockDevice{}}}
	for _, part := range []func(){c.host, c.platform, c.devices, c.filesystems, c.swaps, c.interfaces, c.routes, c.services} {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("take inventory: %w", err)
		}
		part()
	}
	c.inv.Fingerprint = HostFingerprint(opts.Root)
	c.shrink()
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("take inventory: %w", err)
	}
	return c.inv, nil
}

// Disks returns the devices that are replicated unless someone says otherwise: whole disks with a size, no ram, loop, zram,
// device mapper, md, optical or floppy devices, and only the first of several with the same id.
func Disks(inv *wire.Inventory) []wire.BlockDevice {
	var disks []wire.BlockDevice
	for _, d := range inv.Devices {
		if d.Selected {
			disks = append(disks, d)
		}
	}
	return disks
}

func openDevice(ctx context.Context, path string) (Device, error) {
	s, err := source.New(path, &source.Options{ID: "inventory"})
	if err != nil {
		return nil, err
	}
	return s.Open(ctx)
}

// collector is one run of Collect. Each part is a method that fills in inv.
type collector struct {
	Options
	ctx context.Context
	inv *wire.Inventory
}

// note says what is missing, within the limit of notes. An absent file is not worth a note: hosts differ.
func (c *collector) note(part string, err error) {
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return
	}
	c.notef(part, "%v", err)
}

func (c *collector) notef(part, format string, args ...any) {
	if len(c.inv.Notes) < wire.MaxInventoryNotes {
		c.inv.Notes = append(c.inv.Notes, wire.InventoryNote{Part: part, Message: clip(fmt.Sprintf(format, args...))})
	}
}

func (c *collector) path(name string) string { return filepath.Join(c.Root, name) }

// read returns the text of a file of the host, trimmed, and notes why it cannot.
func (c *collector) read(part, name string) string {
	b, err := readFile(c.path(name))
	c.note(part, err)
	return strings.TrimSpace(b)
}

// attr returns one attribute, a line.
func attr(dir, name string) string {
	b, _ := readFile(filepath.Join(dir, name))
	return clip(strings.TrimSpace(b))
}

// names lists a folder in order; an absent one is empty.
func names(dir string) []string {
	entries, _ := os.ReadDir(dir)
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

// maxFile bounds what is read of a file: procfs of a big host is some MiB.
const maxFile = 8 << 20

func readFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, maxFile))
	return string(b), err
}

// clip makes text safe to show: valid, without control characters, not too long.
func clip(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "\ufffd"))
	if len(s) > wire.MaxInventoryText {
		s = strings.ToValidUTF8(s[:wire.MaxInventoryText], "")
	}
	return s
}

// cut keeps a list within its limit.
func cut[T any](c *collector, part string, list []T, limit int) []T {
	if len(list) <= limit {
		return list
	}
	c.notef(part, "only %d of %d are listed", limit, len(list))
	return list[:limit]
}

// shrink keeps the whole below half of what a message may be, so that it fits beside what else a message says. What goes first
// is what is least needed.
func (c *collector) shrink() {
	for _, drop := range []struct {
		part string
		fn   func()
	}{
		{"services", func() { c.inv.Services = nil }},
		{"routes", func() { c.inv.Routes = nil }},
		{"filesystems", func() { c.inv.Filesystems = nil }},
		{"volume_groups", func() { c.inv.VolumeGroups = nil }},
		{"interfaces", func() { c.inv.Interfaces = nil }},
		{"partitions", func() {
			for i := range c.inv.Devices {
				c.inv.Devices[i].Table = nil
			}
		}},
		{"devices", func() { c.inv.Devices = Disks(c.inv) }},
	} {
		if b, err := json.Marshal(c.inv); err == nil && len(b) <= wire.MaxJSON/2 {
			return
		}
		drop.fn()
		c.notef(drop.part, "left out: the inventory is too large")
	}
}
