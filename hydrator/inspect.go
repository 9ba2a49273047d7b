package hydrator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"sync"

	"github.com/openmigrate/openmigrate/hydrator/convert"
	"github.com/openmigrate/openmigrate/hydrator/convert/apart"
	"github.com/openmigrate/openmigrate/hydrator/fuse"
	"github.com/openmigrate/openmigrate/hydrator/reader"
	"github.com/openmigrate/openmigrate/hydrator/view"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

// What an inspection reads is scattered: to fetch much ahead would be in vain.
const (
	inspectMemory    = 64 << 20
	inspectReadAhead = 1 << 20
	kernelReadAhead  = 128 << 10
)

// inspect looks whether the machine in a restpoint can be converted, through a view of it. It fetches only what it reads.
func (n *node) inspect(ctx context.Context, r *reader.Reader, rp *format.Restpoint, job *wire.Job, show func(wire.Progress)) (res wire.JobResult, err error) {
	target, err := conversion(job.Convert)
	if err != nil {
		return res, err
	}
	defer func() { res.Fetched = r.Fetched() }()
	v, err := view.New(ctx, r, rp, &view.Options{Memory: inspectMemory, ReadAhead: inspectReadAhead, Log: n.o.Log})
	if err != nil {
		return res, err
	}
	defer v.Close()
	var list []fuse.Disk
	w := &watch{}
	for _, d := range v.Disks() {
		list = append(list, &watched{Disk: d, w: w})
	}
	var found *convert.System
	err = n.shown(list, func(disks []apart.Disk) (err error) {
		found, err = apart.Inspect(ctx, disks, target, n.apart(show))
		return err
	})
	if err != nil {
		return res, w.why(err)
	}
	res.Report, err = boundSystem(found)
	return res, err
}

// apart are the options of a process that converts, which tells what it does.
func (n *node) apart(show func(wire.Progress)) *apart.Options {
	return &apart.Options{Dir: n.runDir(), Progress: func(step string) { show(wire.Progress{Phase: step}) }}
}

// runDir is for what goes with the process.
func (n *node) runDir() string { return filepath.Join(n.o.DataDir, "run") }

// viewName begins the names of the files that shown shows, so that it can be told which node a loop device belongs to.
func (n *node) viewName() string { return filepath.Base(n.shortDir()) }

// shown has another process see disks as files while use runs.
func (n *node) shown(list []fuse.Disk, use func([]apart.Disk) error) (err error) {
	if len(list) == 0 || len(list) > wire.MaxLaunchDisks {
		return fmt.Errorf("show disks: there are %d; want 1 to %d", len(list), wire.MaxLaunchDisks)
	}
	m, err := fuse.NewPrivate(list, &fuse.Options{Name: n.viewName(), ReadAhead: kernelReadAhead, Log: n.o.Log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	var disks []apart.Disk
	for _, d := range list {
		disks = append(disks, apart.Disk{File: m.File(), Name: m.Name(d.Number())})
	}
	return use(disks)
}

// watch remembers why a disk could not be read. Who looks at the disk through the kernel sees an I/O error only, and may take a damaged machine for
// one that cannot be converted.
type watch struct {
	mu    sync.Mutex
	cause error // guarded by mu
}

func (w *watch) saw(err error) {
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, context.Canceled) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cause == nil {
		w.cause = err
	}
}

// why prefers what could not be read to what came of that.
func (w *watch) why(err error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cause == nil || errors.Is(err, ErrCancelled) || errors.Is(err, errLeaseLost) || errors.Is(err, context.Canceled) {
		return err
	}
	return fmt.Errorf("read the restpoint: %w", w.cause)
}

// watched is a disk that is watched.
type watched struct {
	*view.Disk
	w *watch
}

// ReadContext implements fuse.Disk.
func (d *watched) ReadContext(ctx context.Context, p []byte, off int64) (int, error) {
	n, err := d.Disk.ReadContext(ctx, p, off)
	d.w.saw(err)
	return n, err
}

// conversion is the target of a job; nil if it has none.
func conversion(c *wire.Conversion) (*convert.Target, error) {
	if c == nil {
		return nil, nil
	}
	t := &convert.Target{Platform: convert.Platform(c.Platform), Disk: c.Disk, Firmware: convert.Firmware(c.Firmware)}
	for _, nic := range c.NICs {
		t.NICs = append(t.NICs, convert.NIC{MAC: nic.MAC, Addresses: nic.Prefixes, Gateway: nic.Gateway, DNS: nic.DNS})
	}
	if c.Mark != nil {
		b, err := json.Marshal(c.Mark)
		if err != nil {
			return nil, fmt.Errorf("encode the copy's mark: %w", err)
		}
		t.Mark = append(b, '\n')
	}
	return t, nil
}

// boundSystem encodes what was found, within what the master takes: the list of volumes is left out if it is too long.
func boundSystem(s *convert.System) (json.RawMessage, error) {
	b, err := json.Marshal(s)
	if err == nil && len(b) > wire.MaxConvertReport {
		short := *s
		short.Volumes, short.Mounts, short.Root, short.ESP = nil, nil, -1, -1
		short.Notes = append(slices.Clip(short.Notes[:min(len(short.Notes), 8)]), "the volumes are too many to be listed")
		b, err = json.Marshal(short)
	}
	if err == nil && len(b) > wire.MaxConvertReport {
		err = fmt.Errorf("it has %d bytes, and the master takes %d", len(b), wire.MaxConvertReport)
	}
	if err != nil {
		return nil, fmt.Errorf("encode what was found: %w", err)
	}
	return b, nil
}

// boundReport encodes a conversion's report, likewise: the last changes are left out if there are too many.
func boundReport(r *convert.Report) (json.RawMessage, error) {
	for short := *r; ; {
		b, err := json.Marshal(short)
		if err != nil {
			return nil, fmt.Errorf("encode report: %w", err)
		}
		if len(b) <= wire.MaxConvertReport {
			return b, nil
		}
		if len(short.Changes) == 0 && len(short.Warnings) <= 1 {
			return nil, fmt.Errorf("encode report: it has %d bytes, and the master takes %d", len(b), wire.MaxConvertReport)
		}
		short.Changes = short.Changes[:len(short.Changes)/2]
		short.Warnings = append(slices.Clip(r.Warnings[:min(len(r.Warnings), len(short.Warnings)/2)]),
			fmt.Sprintf("the report was too long: %d of %d changes are listed", len(short.Changes), len(r.Changes)))
	}
}
