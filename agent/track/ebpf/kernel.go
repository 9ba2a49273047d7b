package ebpf

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

const slots = 64

// The kernel's side, by the names of pins.
var (
	mapNames     = []string{"control", "devices", "bitmaps", "bios"}
	programNames = []string{"bio_queue", "rq_issue", "rq_complete", "rq_complete_again", "bio_complete"}
)

const metaPin = "meta"

// control is the value of the map of that name, shared with the programs.
type control struct {
	epoch    uint32
	bioDisks uint32
	lost     uint64
	slots    [slots]uint64
}

// device is a value of the map "devices".
type device struct {
	Sectors, Words uint64
	Slot, Shift    uint32
	BioBased, Pad  uint32
}

// kernel holds what runs in the kernel. The links are kept referenced: a collected one detaches its program.
type kernel struct {
	dir      string
	maps     map[string]*ebpf.Map
	programs map[string]*ebpf.Program
	links    map[string]link.Link
	state    *ebpf.Map
	memory   []byte // of the map "control"
	control  *control
}

// loadSpec reads the programs; tests put others in their place.
var loadSpec = loadPrograms

// attach replaces whatever dir holds by new maps and programs that run.
func attach(dir string) (_ *kernel, err error) {
	if err := removePins(dir); err != nil {
		return nil, err
	}
	spec, err := loadSpec()
	if err != nil {
		return nil, fmt.Errorf("read the programs: %w", err)
	}
	coll, err := ebpf.NewCollection(spec)
	if err != nil {
		return nil, verifierError(err)
	}
	k := &kernel{dir: dir, maps: coll.Maps, programs: coll.Programs, links: map[string]link.Link{}}
	defer func() {
		if err != nil {
			k.close()
			err = errors.Join(err, removePins(dir))
		}
	}()
	if err := k.mapControl(); err != nil {
		return nil, err
	}
	for _, name := range programNames {
		l, err := link.AttachTracing(link.TracingOptions{Program: k.programs[name]})
		if err != nil {
			return nil, fmt.Errorf("attach the program %s: %w", name, err)
		}
		k.links[name] = l
		if err := errors.Join(l.Pin(filepath.Join(dir, "link_"+name)), k.programs[name].Pin(filepath.Join(dir, "program_"+name))); err != nil {
			return nil, fmt.Errorf("pin the program %s: %w", name, err)
		}
	}
	for _, name := range mapNames {
		if err := k.maps[name].Pin(filepath.Join(dir, name)); err != nil {
			return nil, fmt.Errorf("pin the map %s: %w", name, err)
		}
	}
	k.state, err = ebpf.NewMap(&ebpf.MapSpec{Name: "om_meta", Type: ebpf.Array, KeySize: 4, ValueSize: metaSize, MaxEntries: 1})
	if err != nil {
		return nil, fmt.Errorf("make the map of states: %w", err)
	}
	// Last, so that pins without it are known to be unfinished.
	if err := k.state.Pin(filepath.Join(dir, metaPin)); err != nil {
		return nil, fmt.Errorf("pin the map of states: %w", err)
	}
	return k, nil
}

// reattach takes over what an agent before left, if all of it is there and the same, or says why not.
func reattach(dir, instance, boot string) (*kernel, *meta, string) {
	k := &kernel{dir: dir, maps: map[string]*ebpf.Map{}, programs: map[string]*ebpf.Program{}, links: map[string]link.Link{}}
	m, why := k.load(instance, boot)
	if why != "" {
		k.close()
		return nil, nil, why
	}
	return k, m, ""
}

func (k *kernel) load(instance, boot string) (*meta, string) {
	var err error
	if k.state, err = ebpf.LoadPinnedMap(filepath.Join(k.dir, metaPin), nil); err != nil {
		pins, dirErr := os.ReadDir(k.dir)
		switch {
		case dirErr != nil || len(pins) > 0:
			return nil, fmt.Sprintf("the pinned state of tracking is gone, and %d pins are left: %v", len(pins), errors.Join(err, dirErr))
		case errors.Is(err, fs.ErrNotExist):
			return nil, "nothing has watched it before, or the machine was restarted"
		}
		return nil, fmt.Sprintf("the pinned state of tracking cannot be opened: %v", err)
	}
	m, err := loadMeta(k.state)
	if err != nil {
		return nil, fmt.Sprintf("the pinned state of tracking cannot be used: %v", err)
	}
	switch {
	case m.Version != metaVersion:
		return nil, fmt.Sprintf("the pinned tracker has format %d, not %d", m.Version, metaVersion)
	case m.Instance != instance:
		return nil, fmt.Sprintf("the pinned tracker belongs to %q", m.Instance)
	case m.Boot != boot:
		return nil, "the machine was restarted"
	}
	for _, name := range mapNames {
		if k.maps[name], err = ebpf.LoadPinnedMap(filepath.Join(k.dir, name), nil); err != nil {
			delete(k.maps, name)
			return nil, fmt.Sprintf("the pinned map %s is gone: %v", name, err)
		}
		if id := mapID(k.maps[name]); id == 0 || id != m.Maps[name] {
			return nil, fmt.Sprintf("the pinned map %s is another one", name)
		}
	}
	for _, name := range programNames {
		if k.links[name], err = link.LoadPinnedLink(filepath.Join(k.dir, "link_"+name), nil); err != nil {
			delete(k.links, name)
			return nil, fmt.Sprintf("the pinned link of program %s is gone: %v", name, err)
		}
		if k.programs[name], err = ebpf.LoadPinnedProgram(filepath.Join(k.dir, "program_"+name), nil); err != nil {
			delete(k.programs, name)
			return nil, fmt.Sprintf("the pinned program %s is gone: %v", name, err)
		}
	}
	if err := k.mapControl(); err != nil {
		return nil, err.Error()
	}
	if why := k.attached(m); why != "" {
		return nil, why
	}
	return m, ""
}

// attached compares links and programs with those that m names.
func (k *kernel) attached(m *meta) string {
	for _, name := range programNames {
		info, err := k.links[name].Info()
		if err != nil {
			return fmt.Sprintf("the link of program %s cannot be read: %v", name, err)
		}
		if uint32(info.ID) != m.Links[name] || uint32(info.Program) != m.Programs[name] || info.ID == 0 {
			return fmt.Sprintf("the link of program %s is another one", name)
		}
		if programID(k.programs[name]) != m.Programs[name] {
			return fmt.Sprintf("the program %s is another one", name)
		}
	}
	return ""
}

// meta is the state of a tracker that was just attached.
func (k *kernel) meta(instance, boot string) *meta {
	m := &meta{Version: metaVersion, Instance: instance, Boot: boot,
		Maps: map[string]uint32{}, Programs: map[string]uint32{}, Links: map[string]uint32{}, Misses: map[string]uint64{}}
	for _, name := range mapNames {
		m.Maps[name] = mapID(k.maps[name])
	}
	for _, name := range programNames {
		m.Programs[name] = programID(k.programs[name])
		if info, err := k.links[name].Info(); err == nil {
			m.Links[name] = uint32(info.ID)
		}
	}
	return m
}

// missed looks whether an event may have found every program for it busy on its processor since the last look.
func (k *kernel) missed(m *meta) (string, error) {
	now, delta := map[string]uint64{}, map[string]uint64{}
	for _, name := range programNames {
		stats, err := k.programs[name].Stats()
		if err != nil {
			return "", fmt.Errorf("count what program %s missed: %w", name, err)
		}
		now[name], delta[name] = stats.RecursionMisses, stats.RecursionMisses-m.Misses[name]
	}
	maps.Copy(m.Misses, now) // only when all are known: what is counted here is looked at once
	// An event that both copies missed is counted by both.
	delta["rq_complete"] = min(delta["rq_complete"], delta["rq_complete_again"])
	delete(delta, "rq_complete_again")
	for name, n := range delta {
		if n > 0 {
			return fmt.Sprintf("the kernel skipped the program %s %d times because it was running already", name, n), nil
		}
	}
	return "", nil
}

// grace returns when no program runs any more that had begun before: changing an entry of a map of maps makes the kernel wait for
// them (maybe_wait_bpf_programs, since 4.18).
func (k *kernel) grace() error {
	const entry = uint32(4*slots - 1) // no slot's bitmap
	inner, err := newBitmap(1)
	if err != nil {
		return err
	}
	defer func() { _ = inner.Close() }()
	if err := k.maps["bitmaps"].Put(entry, inner); err != nil {
		return fmt.Errorf("wait for running programs: %w", err)
	}
	return nil
}

// flip makes the other bitmaps those that are marked, and waits until nothing marks the old ones. It returns the old epoch.
func (k *kernel) flip() (uint32, error) {
	old := atomic.LoadUint32(&k.control.epoch)
	atomic.StoreUint32(&k.control.epoch, old^1)
	return old & 1, k.grace()
}

func (k *kernel) mapControl() error {
	size := os.Getpagesize()
	if k.maps["control"].ValueSize() != uint32(unsafe.Sizeof(control{})) {
		return errors.New("the map control is not ours")
	}
	b, err := unix.Mmap(k.maps["control"].FD(), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map the map control: %w", err)
	}
	k.memory, k.control = b, (*control)(unsafe.Pointer(&b[0]))
	return nil
}

// close lets go of the kernel's side without ending it: pins keep it.
func (k *kernel) close() {
	for _, m := range k.maps {
		_ = m.Close()
	}
	for _, p := range k.programs {
		_ = p.Close()
	}
	for _, l := range k.links {
		_ = l.Close()
	}
	if k.state != nil {
		_ = k.state.Close()
	}
	if k.memory != nil {
		_ = unix.Munmap(k.memory) // fails only for arguments that Mmap did not return
		k.memory, k.control = nil, nil
	}
}

// removePins removes every pin of dir, which is flat.
func removePins(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("read the directory of pins: %w", err)
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return fmt.Errorf("remove a pin: %w", err)
		}
	}
	return nil
}

// Remove ends the tracking that instance's pins keep, and removes them.
func Remove(opts Options) error {
	if !instanceName.MatchString(opts.Instance) {
		return fmt.Errorf("remove tracking: bad instance name %q", opts.Instance)
	}
	if opts.Root == "" {
		opts.Root = DefaultRoot
	}
	dir := filepath.Join(opts.Root, opts.Instance)
	lock, err := lockDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	return errors.Join(removePins(dir), os.Remove(dir))
}

func mapID(m *ebpf.Map) uint32 {
	info, err := m.Info()
	if err != nil {
		return 0
	}
	id, _ := info.ID()
	return uint32(id)
}

func programID(p *ebpf.Program) uint32 {
	info, err := p.Info()
	if err != nil {
		return 0
	}
	id, _ := info.ID()
	return uint32(id)
}
