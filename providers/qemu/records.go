package qemu

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/openmigrate/openmigrate/internal/durable"
	"github.com/openmigrate/openmigrate/providers"
)

// The state directory:
//
//	lock                     held by the process that uses it
//	accel.json               what the probe of this host found
//	volumes/ID/record.json   volumeRecord     volumes/ID/disk      raw or qcow2
//	snapshots/ID/record.json snapshotRecord   snapshots/ID/disk    raw, never written again
//	instances/ID/record.json instanceRecord   instances/ID/lock    held by the QEMU process
//	                                          instances/ID/qmp, pid, qemu.log, console.log, vars.fd, screen.png
//
// A record is there before anything else of its thing, and is replaced as a whole. What was removed leaves its record for a while, so
// that its token makes nothing new.
const (
	volumesDir   = "volumes"
	snapshotsDir = "snapshots"
	instancesDir = "instances"
	recordName   = "record.json"
	diskName     = "disk"
)

// tombTime is how long the record of what was removed is kept.
const tombTime = 30 * 24 * time.Hour

// stateGone is the state of a record whose thing was removed. Nobody sees it.
const stateGone providers.State = "gone"

// Formats of disks.
const (
	raw   = "raw"
	qcow2 = "qcow2"
)

type volumeRecord struct {
	Volume providers.Volume // without Instance, which the instances' records say
	Spec   string           // of the create, JSON
	Format string
	From   providers.Source
	View   *providers.View `json:",omitempty"`
	Filled int64           // bytes that will hold data, as far as is known
	Gone   time.Time       `json:",omitzero"`
}

type snapshotRecord struct {
	Snapshot providers.Snapshot
	Spec     string
	Gone     time.Time `json:",omitzero"`
}

type instanceRecord struct {
	Instance providers.Instance
	Spec     string
	Request  providers.InstanceSpec
	Want     providers.State // running, stopped or terminated
	Deadline time.Time       `json:",omitzero"` // of a stop, after which the power is cut
	UUID     string
	Run      run
	Gone     time.Time `json:",omitzero"`
}

// run is the last process of an instance.
type run struct {
	Boot  string // of the host
	PID   int
	Start uint64 // of the process, in the kernel's ticks since boot: a pid that was used again has another
	Ever  bool   // the machine ran before
}

type volume struct {
	volumeRecord
	readers int      // copies that read from it now
	copying *copying // that makes it; nil for one that was there at the start

	removing sync.Mutex // held while its files are removed; taken before Provider.mu
}

type snapshot struct {
	snapshotRecord
	readers int
	copying *copying

	removing sync.Mutex
}

func (p *Provider) path(dir, id, name string) string {
	return filepath.Join(p.opts.Dir, dir, id, name)
}

// save makes a record durable. The caller holds mu.
func (p *Provider) save(dir, id string, record any) error {
	b, err := json.MarshalIndent(record, "", "\t")
	if err != nil {
		return fmt.Errorf("write record of %s: %w", id, err)
	}
	fresh := false
	if err := os.Mkdir(filepath.Join(p.opts.Dir, dir, id), 0o700); err == nil {
		fresh = true
	} else if !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("write record of %s: %w", id, hostError(err))
	}
	if err = durable.WriteFile(p.path(dir, id, recordName), b, 0o600); err == nil && fresh {
		err = durable.SyncDir(filepath.Join(p.opts.Dir, dir))
	}
	if err != nil {
		return fmt.Errorf("write record of %s: %w", id, hostError(err))
	}
	return nil
}

func (p *Provider) saveVolume(v *volume) error {
	return p.save(volumesDir, v.Volume.ID, &v.volumeRecord)
}

func (p *Provider) saveSnapshot(s *snapshot) error {
	return p.save(snapshotsDir, s.Snapshot.ID, &s.snapshotRecord)
}

func (p *Provider) saveInstance(i *instance) error {
	return p.save(instancesDir, i.Instance.ID, &i.instanceRecord)
}

// discard removes all files of a thing but its record.
func (p *Provider) discard(dir, id string) error {
	entries, err := os.ReadDir(filepath.Join(p.opts.Dir, dir, id))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), recordName) { // the record may be replaced just now
			err = errors.Join(err, os.RemoveAll(p.path(dir, id, e.Name())))
		}
	}
	return err
}

// load reads all records.
func (p *Provider) load() error {
	err := loadAll(p, volumesDir, "vol-", func(r volumeRecord) (string, time.Time) {
		p.volumes[r.Volume.ID] = &volume{volumeRecord: r}
		return r.Volume.ID, r.Gone
	})
	if err == nil {
		err = loadAll(p, snapshotsDir, "snap-", func(r snapshotRecord) (string, time.Time) {
			p.snapshots[r.Snapshot.ID] = &snapshot{snapshotRecord: r}
			return r.Snapshot.ID, r.Gone
		})
	}
	if err == nil {
		err = loadAll(p, instancesDir, "vm-", func(r instanceRecord) (string, time.Time) {
			p.instances[r.Instance.ID] = newInstance(r)
			return r.Instance.ID, r.Gone
		})
	}
	return err
}

// loadAll gives every record of a folder to add, which says what its id is and since when it is gone. Old tombs are cleared away first.
func loadAll[T any](p *Provider, dir, prefix string, add func(T) (string, time.Time)) error {
	entries, err := os.ReadDir(filepath.Join(p.opts.Dir, dir))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() || !strings.HasPrefix(e.Name(), prefix) {
			continue
		}
		p.clearHalfRecords(dir, e.Name())
		b, err := os.ReadFile(p.path(dir, e.Name(), recordName))
		if errors.Is(err, os.ErrNotExist) {
			// The process died between making the folder and writing the record: there is nothing yet.
			if err := os.RemoveAll(filepath.Join(p.opts.Dir, dir, e.Name())); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		var tomb struct{ Gone time.Time }
		var record T
		if err := errors.Join(json.Unmarshal(b, &tomb), json.Unmarshal(b, &record)); err != nil {
			return fmt.Errorf("%s: %w; move the folder away if its disks are not needed", p.path(dir, e.Name(), recordName), err)
		}
		if !tomb.Gone.IsZero() && time.Since(tomb.Gone) > tombTime {
			if err := os.RemoveAll(filepath.Join(p.opts.Dir, dir, e.Name())); err != nil {
				return err
			}
			continue
		}
		if id, _ := add(record); id != e.Name() {
			return fmt.Errorf("%s is the record of %s; move the folder away", p.path(dir, e.Name(), recordName), id)
		}
	}
	return nil
}

// clearHalfRecords removes what a process left that died while it replaced a record. Nobody else replaces one now.
func (p *Provider) clearHalfRecords(dir, id string) {
	entries, _ := os.ReadDir(filepath.Join(p.opts.Dir, dir, id)) // what stays is in nobody's way
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), recordName+".") {
			_ = os.Remove(p.path(dir, id, e.Name()))
		}
	}
}

// resume takes up what an earlier process had begun.
func (p *Provider) resume() {
	p.reflink = p.probeReflink()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, v := range p.volumes {
		switch v.Volume.State {
		case providers.StateCreating:
			p.fill(v)
		case providers.StateDeleting:
			p.work.Go(func() { _ = p.removeVolume(v) }) // tried again at the next open, and by whoever asks for it
		}
	}
	for _, s := range p.snapshots {
		switch s.Snapshot.State {
		case providers.StateCreating:
			p.take(s)
		case providers.StateDeleting:
			p.work.Go(func() { _ = p.removeSnapshot(s) })
		}
	}
	for _, i := range p.instances {
		if i.Instance.State != providers.StateTerminated {
			p.kick(i)
		}
	}
	p.work.Go(func() { p.accel.find(p.ctx, &p.opts) })
}

// userOf is the instance that a volume is a disk of; nil if none. The caller holds mu.
func (p *Provider) userOf(volume string) *instance {
	for _, i := range p.instances {
		if i.Instance.State != providers.StateTerminated &&
			slices.ContainsFunc(i.Instance.Disks, func(d providers.InstanceDisk) bool { return d.Volume == volume }) {
			return i
		}
	}
	return nil
}
