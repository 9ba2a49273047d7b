package state

import "io"

// Written is what a record has written so far.
func (r *Recorder) Written() string {
	b, err := io.ReadAll(io.NewSectionReader(r.ids, 0, 1<<40))
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// Written is what the memory has written so far.
func (d *DiskBlocks) Written() string {
	b, err := io.ReadAll(io.NewSectionReader(d.f, 0, 1<<40))
	if err != nil {
		return err.Error()
	}
	return string(b)
}
