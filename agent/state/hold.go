package state

import (
	"maps"
	"slices"

	"github.com/openmigrate/openmigrate/chunker"
)

// While the file system that the state directory is on is held frozen nothing may be written to it: the writer would wait for a thaw that may wait for
// the writer. What is recorded meanwhile stays in memory: there is as much of it as was read within the freeze.

// Hold makes the record write nothing until Release. It writes what is not written yet.
func (r *Recorder) Hold() error {
	if err := r.flush(); err != nil {
		return err
	}
	r.held = map[int64]chunker.ID{}
	return nil
}

// Release writes what was recorded since Hold.
func (r *Recorder) Release() error {
	held := r.held
	r.held = nil
	for _, i := range slices.Sorted(maps.Keys(held)) {
		if err := r.Set(i, held[i]); err != nil {
			return err
		}
	}
	return r.flush()
}

// Hold makes the memory write nothing until Release. What is stored or forgotten meanwhile is forgotten: those chunks are sent whole the next time.
func (d *DiskBlocks) Hold() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.held = map[int64]bool{}
}

// Release writes that down.
func (d *DiskBlocks) Release() {
	d.mu.Lock()
	defer d.mu.Unlock()
	held := d.held
	d.held = nil
	for chunk := range held {
		d.forget(chunk)
	}
}
