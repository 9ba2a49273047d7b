package ebpf

import (
	"path/filepath"

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
