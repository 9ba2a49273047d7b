// Package convert makes the system on a machine's disks start on another hypervisor.
//
// It works offline, on a copy that nobody else uses, never on the volume that replication keeps warm: it mounts what
// the machine mounts, changes files, and extends the initramfs or has the machine's own tool build it. Nothing comes from a network.
//
//	Detect ── looks only ──► System ── Convert ──► check ─► fstab … network … boot loader ─► initramfs ─► EFI ─► Report
//	                                                 └─► ErrRefused: nothing was changed
//
// What holds: a machine that cannot be converted is refused before anything is changed; what is changed is kept in
// /var/lib/openmigrate/backup in the machine and listed in the report; a conversion that was killed can be run again, and
// one that is run twice changes nothing the second time; nothing of the machine's gets out of its own files, and its programs run
// only in package fence. DESIGN.md tells how.
//
// Detect and Convert may run for different machines at once.
package convert

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"reflect"
	"time"

	"github.com/openmigrate/openmigrate/hydrator/convert/disks"
	"github.com/openmigrate/openmigrate/hydrator/convert/tree"
)

// Target is what the machine is to run on.
type Target struct {
	Platform Platform
	Disk     string   // the kind of disk, as the platform's table names it; "": whatever the platform offers
	Firmware Firmware // "": whichever the machine can start from
	NICs     []NIC    // those with a fixed address; all others use DHCP
	Mark     []byte   // content of MarkPath, which tells an agent in the system that it is a copy; nil: none
}

// Firmware is what starts the boot loader.
type Firmware string

// The firmwares.
const (
	BIOS Firmware = "bios"
	UEFI Firmware = "uefi"
)

// NIC is a network card of the target with a fixed address.
type NIC struct {
	MAC       string // 52:54:00:12:34:56
	Addresses []netip.Prefix
	Gateway   netip.Addr // the zero Addr: none
	DNS       []netip.Addr
}

// Options may be nil.
type Options struct {
	Timeout time.Duration // for one run of one of the machine's programs; 0: ten minutes
	Scratch int64         // bytes of memory that the making of an initramfs may use; 0: 2 GiB

	Progress func(step string) // called before each step
}

const defaultScratch = 2 << 30

// step is one family of changes.
type step struct {
	name string
	run  func(context.Context, *editor) error
}

// plain is a step that waits for nothing.
func plain(fn func(*editor) error) func(context.Context, *editor) error {
	return func(_ context.Context, e *editor) error { return fn(e) }
}

// steps in their order: what the initramfs copies is right before it is built.
var steps = []step{
	{"fstab", plain(convertFstab)},
	{"storage", plain(convertStorage)},
	{"guest tools", plain(convertGuestTools)},
	{"cloud-init", plain(convertCloudInit)},
	{"network", plain(convertNetwork)},
	{"boot loader", plain(convertLoader)},
	{"initramfs", convertInitramfs},
	{"copy mark", plain(convertMark)},
	{"SELinux", plain(convertSELinux)},
}

// Convert changes the system that Detect found so that it starts on the target. Errors that are ErrRefused came before
// the first change. After any other error, the copy is good for another try and for nothing else. It needs root.
func Convert(ctx context.Context, found *System, target Target, options *Options) (*Report, error) {
	if options == nil {
		options = &Options{}
	}
	if options.Scratch == 0 {
		options.Scratch = defaultScratch
	}
	if err := target.validate(); err != nil {
		return nil, err
	}
	s := *found
	if err := s.same(); err != nil {
		return nil, err
	}
	e := &editor{system: &s, target: target, options: *options, report: &Report{}}
	err := disks.Private(ctx, func(space *disks.Space) error {
		// What has to be known is looked up again: the journals were not replayed for Detect.
		if err := s.withRoot(space, true, func(t *tree.Tree) error { return s.check(t, target) }); err != nil {
			return err
		}
		return s.withRoot(space, false, func(t *tree.Tree) error {
			if err := s.check(t, target); err != nil {
				return err
			}
			tmp, err := t.Resolve(scratch)
			if err != nil {
				return err
			}
			if err := t.MkdirAll(tmp); err != nil {
				return err
			}
			if err := space.MountScratch(tmp, options.Scratch); err != nil {
				return err
			}
			e.Tree, e.dir = t, space.Dir()
			for _, step := range steps {
				if err := ctx.Err(); err != nil {
					return err
				}
				if options.Progress != nil {
					options.Progress(step.name)
				}
				if err := step.run(ctx, e); err != nil {
					return fmt.Errorf("%s: %w", step.name, err)
				}
			}
			return nil
		})
	})
	if err == nil {
		err = convertEFI(&s, e)
	}
	if err == nil {
		err = s.sync()
	}
	if err != nil {
		return e.report, fmt.Errorf("convert system: %w", err)
	}
	return e.report, nil
}

// same makes sure that the disks are those that were looked at.
func (s *System) same() error {
	var paths []string
	for _, d := range s.Disks {
		paths = append(paths, d.Path)
	}
	_, volumes, err := disks.Scan(paths)
	if err != nil {
		return fmt.Errorf("convert system: %w", err)
	}
	if !reflect.DeepEqual(volumes, s.Volumes) {
		return errors.New("convert system: the disks are not what they were when the system was detected: detect it again")
	}
	return nil
}

// sync waits until all is on the disks.
func (s *System) sync() error {
	for _, d := range s.Disks {
		f, err := os.OpenFile(d.Path, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	return nil
}
