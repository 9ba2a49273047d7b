package ebpf

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/openmigrate/openmigrate/agent/track"
)

// lossReasons are the bits that the programs set for a disk.
var lossReasons = []string{
	"a write reached past the end of the disk",
	"a program sent the disk commands that may write",
	"the kernel lost a bitmap",
	"more writes were on their way than the table of bios holds",
	"a write ended whose beginning was not seen",
	"a discard had more ranges than can be followed",
}

type tracker struct {
	lock   *os.File
	kernel *kernel
	meta   *meta
	disks  map[string]*disk
	// refused says why a disk is not watched.
	refused map[string]string
	current *cycle
	broken  error // the tracker can go no further
}

// disk is a watched disk.
type disk struct {
	*diskMeta
	nvme bool
	maps [3]*bitmap // of two epochs, and pending
}

func (d *disk) close() {
	for _, b := range d.maps {
		b.close()
	}
}

// recover goes on where an agent before stopped, at whatever place.
func (t *tracker) recover() error {
	kept := t.meta.Disks
	t.meta.Disks = nil
	maps.Copy(t.refused, t.meta.Refused)
	for i := range kept {
		d := &kept[i]
		w, err := t.reopen(d)
		if err != nil {
			t.refused[d.ID] = err.Error()
			if t.meta.Refused == nil {
				t.meta.Refused = map[string]string{}
			}
			t.meta.Refused[d.ID] = err.Error()
			if err := t.forget(d); err != nil {
				return err
			}
			continue
		}
		t.disks[d.ID] = w
	}
	if err := t.recount(); err != nil {
		return err
	}
	if err := t.kernel.grace(); err != nil {
		return err
	}
	idle := atomic.LoadUint32(&t.kernel.control.epoch)&1 ^ 1
	for _, d := range t.disks {
		if d.Settling {
			d.maps[2].clear()
			d.Settling = false
		}
		d.maps[idle].drain(d.maps[2], nil)
	}
	return t.save()
}

// reopen maps the bitmaps that the pinned map of bitmaps holds for a disk.
func (t *tracker) reopen(m *diskMeta) (*disk, error) {
	var dev device
	fine, coarse := shape(m.Size, m.Grain)
	if err := t.kernel.maps["devices"].Lookup(m.Dev, &dev); err != nil || dev.Slot != uint32(m.Slot) || dev.Words != uint64(fine) {
		return nil, errors.New("the pinned map of devices does not hold the disk")
	}
	d := &disk{diskMeta: m, nvme: isNVMe(m.Path)}
	for i := range d.maps {
		var inner *ebpf.Map
		if err := t.kernel.maps["bitmaps"].Lookup(uint32(4*m.Slot+i), &inner); err != nil {
			d.close()
			return nil, fmt.Errorf("a pinned bitmap is gone: %w", err)
		}
		var err error
		if id := mapID(inner); id != m.BitMaps[i] {
			err = errors.New("a pinned bitmap is another one")
		} else {
			d.maps[i], err = mapBitmap(inner, fine, coarse)
		}
		_ = inner.Close()
		if err != nil {
			d.close()
			return nil, err
		}
	}
	return d, nil
}

func isNVMe(path string) bool {
	n, _ := find(path)
	return strings.HasPrefix(n.name, "nvme")
}

func (t *tracker) save() error {
	t.meta.Disks = t.meta.Disks[:0]
	for _, d := range t.disks {
		t.meta.Disks = append(t.meta.Disks, *d.diskMeta)
	}
	return t.meta.save(t.kernel.state)
}

// forget takes a disk out of what the programs mark.
func (t *tracker) forget(d *diskMeta) error {
	var errs []error
	if err := t.kernel.maps["devices"].Delete(d.Dev); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		errs = append(errs, err)
	}
	for i := range 3 {
		if err := t.kernel.maps["bitmaps"].Delete(uint32(4*d.Slot + i)); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			errs = append(errs, err)
		}
	}
	if w := t.disks[d.ID]; w != nil {
		w.close()
		delete(t.disks, d.ID)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("stop watching %s: %w", d.Path, err)
	}
	return nil
}

// recount tells the programs how many disks have no requests.
func (t *tracker) recount() error {
	var n uint32
	for _, d := range t.disks {
		var dev device
		if err := t.kernel.maps["devices"].Lookup(d.Dev, &dev); err != nil {
			return fmt.Errorf("look up %s among the watched devices: %w", d.Path, err)
		}
		n += dev.BioBased
	}
	atomic.StoreUint32(&t.kernel.control.bioDisks, n)
	return nil
}

func (t *tracker) Watch(_ context.Context, disks []track.Disk) error {
	return brokenBy(t.watch(disks))
}

// brokenBy makes a failure one that this tracker cannot be trusted after.
func brokenBy(err error) error {
	if err == nil || errors.Is(err, track.ErrLost) || errors.Is(err, track.ErrBroken) {
		return err
	}
	return fmt.Errorf("%w: %w", track.ErrBroken, err)
}

func (t *tracker) watch(disks []track.Disk) error {
	if t.broken != nil {
		return t.broken
	}
	// A cycle's disks are those of its Start.
	if t.current != nil {
		t.current.Close()
	}
	want := map[string]track.Disk{}
	for _, d := range disks {
		want[d.ID] = d
	}
	for id, d := range t.disks {
		if _, ok := want[id]; !ok {
			if err := t.forget(d.diskMeta); err != nil {
				return err
			}
		}
	}
	why := t.refused
	t.refused = map[string]string{}
	for _, d := range disks {
		reason := t.meta.First
		if reason == "" {
			reason = "nothing has watched it before"
		}
		if r, ok := why[d.ID]; ok {
			reason = r
		}
		if old := t.disks[d.ID]; old != nil {
			changed := old.changed(d.Path, d.Size)
			if changed == "" {
				old.Path = d.Path
				continue
			}
			reason = changed
			if err := t.forget(old.diskMeta); err != nil {
				return err
			}
		}
		if err := t.add(d, reason); err != nil {
			t.refused[d.ID] = err.Error()
		}
	}
	if err := t.recount(); err != nil {
		return err
	}
	if len(disks) > 0 {
		t.meta.First, t.meta.Refused = "", nil // the disks have it
	}
	if err := t.save(); err != nil {
		return err
	}
	return t.kernel.grace()
}

// changed says in what the disk at path is not the one that is watched.
func (d *disk) changed(path string, size int64) string {
	n, err := find(path)
	switch {
	case err != nil:
		return err.Error()
	case n.dev != d.Dev || n.seq != d.Seq:
		return "the disk was taken away, and this is another one or came later"
	case n.size != d.Size || size != d.Size:
		return fmt.Sprintf("its size changed from %d to %d", d.Size, n.size)
	}
	return ""
}

// add begins to watch a disk, whose marks count from no restpoint because of why.
func (t *tracker) add(d track.Disk, why string) (err error) {
	n, err := find(d.Path)
	if err != nil {
		return err
	}
	if n.size != d.Size || n.size == 0 {
		return fmt.Errorf("the device has %d bytes, not %d", n.size, d.Size)
	}
	used := map[int]bool{}
	for _, o := range t.disks {
		if o.Dev == n.dev {
			return errors.New("it is watched by another name")
		}
		used[o.Slot] = true
	}
	slot := 0
	for ; used[slot]; slot++ {
	}
	if slot >= slots-1 {
		return fmt.Errorf("%d disks are watched already", slot)
	}
	m := &diskMeta{ID: d.ID, Path: d.Path, Slot: slot, Dev: n.dev, Seq: n.seq, Size: n.size, Grain: grainFor(n.size), Why: why}
	w := &disk{diskMeta: m, nvme: strings.HasPrefix(n.name, "nvme")}
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	fine, coarse := shape(m.Size, m.Grain)
	for i := range w.maps {
		inner, err := newBitmap(fine + coarse)
		if err != nil {
			return err
		}
		m.BitMaps[i] = mapID(inner)
		if w.maps[i], err = mapBitmap(inner, fine, coarse); err == nil {
			err = t.kernel.maps["bitmaps"].Put(uint32(4*slot+i), inner)
		}
		_ = inner.Close()
		if err != nil {
			return fmt.Errorf("give the disk a bitmap: %w", err)
		}
	}
	atomic.StoreUint64(&t.kernel.control.slots[slot], 0)
	dev := device{Sectors: uint64(n.size / 512), Words: uint64(fine), Slot: uint32(slot)}
	for g := m.Grain / 512; g > 1; g /= 2 {
		dev.Shift++
	}
	if n.bioBased {
		dev.BioBased = 1
		// Before the first bio is remembered, so that its completion is not taken for an unknown one.
		atomic.AddUint32(&t.kernel.control.bioDisks, 1)
	}
	if err := t.kernel.maps["devices"].Put(n.dev, &dev); err != nil {
		return fmt.Errorf("watch the disk: %w", err)
	}
	t.disks[d.ID] = w
	return nil
}

func (t *tracker) Status(id string) track.Status {
	d := t.disks[id]
	if d == nil {
		why := t.refused[id]
		if why == "" {
			why = "the disk is not watched"
		}
		return track.Status{Tracker: "scan", Why: why}
	}
	fine, coarse := shape(d.Size, d.Grain)
	return track.Status{Tracker: "ebpf", Grain: d.Grain, Memory: 3 * 8 * (fine + coarse)}
}

// inspect finds out which disks were lost since the last look, and remembers it, also for an agent after this one.
func (t *tracker) inspect() (lost map[string]string, err error) {
	lost = map[string]string{}
	all := t.kernel.attached(t.meta)
	missed, err := t.kernel.missed(t.meta)
	if err != nil {
		return nil, err
	}
	if all == "" {
		all = missed
	}
	flags := map[*disk]uint64{}
	passthrough := atomic.LoadUint64(&t.kernel.control.lost)
	for id, d := range t.disks {
		why := all
		if f := atomic.LoadUint64(&t.kernel.control.slots[d.Slot]); f != 0 {
			flags[d] = f
			for i, reason := range lossReasons {
				if f>>i&1 == 1 && why == "" {
					why = reason
				}
			}
			if why == "" {
				why = "the kernel's programs lost it"
			}
		}
		if passthrough != 0 && (d.nvme || anyQueueHasDisks()) && why == "" {
			why = "a program sent commands that may write to a controller"
		}
		if why == "" {
			why = d.changed(d.Path, d.Size)
		}
		if why != "" {
			lost[id] = why
			d.Bases, d.Why = nil, why
		}
	}
	// First remembered, then forgotten in the kernel.
	if err := t.save(); err != nil {
		return nil, err
	}
	for d, f := range flags {
		atomic.AndUint64(&t.kernel.control.slots[d.Slot], ^f)
	}
	if passthrough != 0 {
		atomic.StoreUint64(&t.kernel.control.lost, 0)
	}
	return lost, nil
}

// anyQueueHasDisks: until Linux 5.16 a command that a program sent may name no disk although it is for one.
func anyQueueHasDisks() bool {
	spec, err := btf.LoadKernelSpec()
	if err != nil {
		return true
	}
	var s *btf.Struct
	if err := spec.TypeByName("request", &s); err != nil {
		return true
	}
	return slices.ContainsFunc(s.Members, func(m btf.Member) bool { return m.Name == "rq_disk" })
}

// flip ends the epoch of all disks and returns what it marked.
func (t *tracker) flip() (map[string]*track.Marks, map[string]string, error) {
	old, err := t.kernel.flip()
	if err != nil {
		// Which bitmap is marked is known, but not whether the other one still is.
		t.broken = err
		return nil, nil, err
	}
	// Before anything that may fail: the next flip makes these bitmaps those that are marked again.
	out := map[string]*track.Marks{}
	for id, d := range t.disks {
		m := track.NewMarks(d.Size, d.Grain)
		d.maps[old].drain(d.maps[2], m)
		out[id] = m
	}
	lost, err := t.inspect()
	if err != nil {
		return nil, nil, err
	}
	return out, lost, nil
}

// peek returns what the epoch that goes on has marked.
func (t *tracker) peek() map[string]*track.Marks {
	now := atomic.LoadUint32(&t.kernel.control.epoch) & 1
	out := map[string]*track.Marks{}
	for id, d := range t.disks {
		m := track.NewMarks(d.Size, d.Grain)
		d.maps[now].each(m.AddWord)
		out[id] = m
	}
	return out
}

func (t *tracker) Start(context.Context) (track.Cycle, error) {
	if t.broken != nil {
		return nil, brokenBy(t.broken)
	}
	if t.current != nil {
		t.current.Close()
	}
	if _, _, err := t.flip(); err != nil {
		return nil, brokenBy(fmt.Errorf("start a cycle: %w", err))
	}
	c := &cycle{t: t, changed: map[string]*track.Marks{}}
	for id, d := range t.disks {
		m := track.NewMarks(d.Size, d.Grain)
		d.maps[2].each(m.AddWord)
		c.changed[id] = m
	}
	t.current = c
	return c, nil
}

// Close lets go. The programs stay attached through their pins.
func (t *tracker) Close() error {
	if t.current != nil {
		t.current.Close()
	}
	for _, d := range t.disks {
		d.close()
	}
	t.disks = map[string]*disk{}
	t.kernel.close()
	t.broken = errors.New("the tracker is closed")
	return t.lock.Close()
}
