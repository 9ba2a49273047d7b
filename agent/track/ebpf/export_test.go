package ebpf

import (
	"errors"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"

	"github.com/openmigrate/openmigrate/agent/track"
)

// Dir is where opts' pins are.
func (o Options) Dir() string { return filepath.Join(DefaultRoot, o.Instance) }

// EditMeta changes the pinned state.
func EditMeta(dir string, edit func(instance, boot *string, version *int)) error {
	m, err := ebpf.LoadPinnedMap(filepath.Join(dir, metaPin), nil)
	if err != nil {
		return err
	}
	defer func() { _ = m.Close() }()
	state, err := loadMeta(m)
	if err != nil {
		return err
	}
	edit(&state.Instance, &state.Boot, &state.Version)
	return state.save(m)
}

// CloseLink lets one link go, as Go's collector does with one that is not referenced.
func CloseLink(tr track.Tracker, name string) error { return tr.(*tracker).kernel.links[name].Close() }

// Miss makes it look as if the kernel had skipped the program since the last look.
func Miss(tr track.Tracker, name string) { tr.(*tracker).meta.Misses[name]-- }

// FailSave makes the tracker unable to keep its state until restore is called.
func FailSave(tr track.Tracker) (restore func(), err error) {
	t := tr.(*tracker)
	closed, err := t.kernel.state.Clone()
	if err != nil {
		return nil, err
	}
	if err := closed.Close(); err != nil {
		return nil, err
	}
	state := t.kernel.state
	t.kernel.state = closed
	return func() { t.kernel.state = state }, nil
}

// Lose sets a bit that the programs set.
func Lose(tr track.Tracker, disk string) {
	t := tr.(*tracker)
	t.kernel.control.slots[t.disks[disk].Slot] |= 2
}

// UseHeld makes trackers load programs that Hold can hold, until restore is called.
func UseHeld() (restore func()) {
	loadSpec = loadHeld
	return func() { loadSpec = loadPrograms }
}

// Holder holds the programs of a tracker. It is good beyond the tracker's end.
type Holder struct{ m *ebpf.Map }

// holdValue is struct hold of held.bpf.c.
type holdValue struct {
	Armed, Inside uint32
	Nanoseconds   uint64
}

// HolderOf must be closed.
func HolderOf(tr track.Tracker) (*Holder, error) {
	m, err := tr.(*tracker).kernel.maps["held"].Clone()
	return &Holder{m}, err
}

// Hold holds the next program that marks for d, after it read the epoch, and has the one after skipped, which is the copy of rq_complete.
func (h *Holder) Hold(d time.Duration) error {
	return h.m.Put(uint32(0), holdValue{Armed: 1, Nanoseconds: uint64(d)})
}

// Inside says whether one is held or was.
func (h *Holder) Inside() (bool, error) {
	var v holdValue
	err := h.m.Lookup(uint32(0), &v)
	return v.Inside > 0, err
}

// Close lets go.
func (h *Holder) Close() error { return h.m.Close() }

// HalfFlip is what an agent does that dies in a flip, before it waits.
func HalfFlip(tr track.Tracker) {
	c := tr.(*tracker).kernel.control
	atomic.StoreUint32(&c.epoch, atomic.LoadUint32(&c.epoch)^1)
}

// Proven says why a disk of that name, which has no requests, is not tracked.
func Proven(name string) error { return node{name: name}.provenBios() }

// MountBPF is what Open does first.
func MountBPF(dir string) error { return mountBPF(dir) }

// BreakFlips makes the tracker unable to wait for running programs, so that it does not know whether an epoch has ended.
func BreakFlips(tr track.Tracker) error {
	k := tr.(*tracker).kernel
	closed, err := k.maps["bitmaps"].Clone()
	if err != nil {
		return err
	}
	open := k.maps["bitmaps"]
	k.maps["bitmaps"] = closed
	return errors.Join(open.Close(), closed.Close())
}
