package freespace

import (
	"errors"
	"sync/atomic"

	"github.com/openmigrate/openmigrate/agent/source"
)

// minSkip is the smallest run of free bytes for which one read is split into two. Below it a second request costs more than
// the bytes do.
const minSkip = 64 << 10

// Hide makes free ranges of a pass read as zeros. Runs of minSkip bytes and more are not read at all, and NextData leaves
// them out; smaller ones are read with their neighbours and cleared. A bad sector in a free range is no error. Closing the
// result closes r.
//
// What is hidden are the ranges as they were when the map was taken: use it for the first pass only, and have what was
// written since read by a later pass, from r's source itself.
func Hide(r source.Reader, free Ranges) source.Reader {
	h := &hidden{Reader: r, free: free}
	for _, f := range free {
		if f.Len() >= minSkip {
			h.skips = append(h.skips, f)
		}
	}
	return h
}

type hidden struct {
	source.Reader
	free   Ranges
	skips  Ranges // of free, those that are worth a skip
	closed atomic.Bool
}

func (h *hidden) Close() error {
	h.closed.Store(true)
	return h.Reader.Close()
}

// ReadAt reads what is not to be skipped, piece by piece, and clears the rest.
func (h *hidden) ReadAt(p []byte, off int64) (int, error) {
	size := h.Size()
	if len(p) == 0 || off < 0 || off >= size || h.closed.Load() {
		return h.Reader.ReadAt(p, off) // has nothing to read, or knows the error
	}
	want := int(min(int64(len(p)), size-off))
	end := off + int64(want)
	for at := off; at < end; {
		if i := h.skips.from(at); i < len(h.skips) && h.skips[i].Start <= at {
			stop := min(h.skips[i].End, end)
			clear(p[at-off : stop-off])
			at = stop
			continue
		}
		stop := h.dataEnd(at, end)
		piece := p[at-off : stop-off : stop-off]
		n, err := h.Reader.ReadAt(piece, at)
		at += int64(n)
		if n == len(piece) {
			continue // err can only be io.EOF
		}
		if at = h.pastFault(err, at, stop); at < 0 {
			h.clearFree(p[:stop-off], off)
			return int(stop-off) - len(piece) + n, err
		}
	}
	h.clearFree(p[:want], off)
	if want < len(p) {
		// The end of the source: its own answer.
		n, err := h.Reader.ReadAt(p[want:], size)
		return want + n, err
	}
	return want, nil
}

// dataEnd is where the piece ends that begins at at, which is not to be skipped.
func (h *hidden) dataEnd(at, end int64) int64 {
	if i := h.skips.from(at); i < len(h.skips) {
		return min(h.skips[i].Start, end)
	}
	return end
}

// pastFault returns where to read on after a read failed at at: behind the free range that the fault is in, or -1 if it is not
// in one, or is not a fault of the medium but of the whole source.
func (h *hidden) pastFault(err error, at, stop int64) int64 {
	if errors.Is(err, source.ErrVanished) || errors.Is(err, source.ErrShrunk) || h.closed.Load() {
		return -1
	}
	if i := h.free.from(at); i < len(h.free) && h.free[i].Start <= at {
		return min(h.free[i].End, stop)
	}
	return -1
}

func (h *hidden) clearFree(p []byte, off int64) {
	end := off + int64(len(p))
	for i := h.free.from(off); i < len(h.free) && h.free[i].Start < end; i++ {
		clear(p[max(h.free[i].Start, off)-off : min(h.free[i].End, end)-off])
	}
}

// NextData asks r first, each time, because that also tells whether the source is still the one.
func (h *hidden) NextData(off int64) (start, end int64, err error) {
	for {
		start, end, err = h.Reader.NextData(off)
		if err != nil {
			return start, end, err
		}
		i := h.skips.from(start)
		if i < len(h.skips) && h.skips[i].Start <= start {
			start = h.skips[i].End
			i++ // ranges do not touch: data follows
		}
		if start < end {
			if i < len(h.skips) {
				end = min(end, h.skips[i].Start)
			}
			return start, end, nil
		}
		off = start
	}
}
