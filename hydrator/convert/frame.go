package convert

import (
	"bufio"
	"errors"
	"io"
)

// frame passes one frame of zstd through and ends where the frame ends (RFC 8878, 3.1.1), which the decoder itself, who expects nothing but
// frames, cannot tell.
type frame struct {
	r       *bufio.Reader
	pending []byte // read, not passed on yet
	left    int64  // of a block, to be passed on unread
	begun   bool
	last    bool // no block follows
	sum     bool // a checksum ends it
	done    bool
}

func (f *frame) Read(p []byte) (int, error) {
	for {
		switch {
		case len(f.pending) > 0:
			n := copy(p, f.pending)
			f.pending = f.pending[n:]
			return n, nil
		case f.left > 0:
			n, err := f.r.Read(p[:min(int64(len(p)), f.left)])
			f.left -= int64(n)
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return n, err
		case f.done:
			return 0, io.EOF
		}
		if err := f.next(); err != nil {
			return 0, err
		}
	}
}

// next reads the header of the frame, that of a block, or the checksum.
func (f *frame) next() error {
	switch {
	case !f.begun:
		f.begun = true
		return f.header()
	case f.last:
		f.done = true
		if !f.sum {
			return nil
		}
		return f.read(4)
	}
	if err := f.read(3); err != nil {
		return err
	}
	b := uint32(f.pending[0]) | uint32(f.pending[1])<<8 | uint32(f.pending[2])<<16
	f.last = b&1 != 0
	switch size := int64(b >> 3); b >> 1 & 3 {
	case 0, 2: // raw, compressed
		f.left = size
	case 1: // one byte, repeated
		f.left = 1
	default:
		return errors.New("a block of zstd is of a kind that is reserved")
	}
	return nil
}

// header reads the magic number and the frame's header, whose length its first byte tells.
func (f *frame) header() error {
	if err := f.read(5); err != nil {
		return err
	}
	flags := f.pending[4]
	rest := []int{0, 1, 2, 4}[flags&3] + []int{0, 2, 4, 8}[flags>>6] // dictionary, size of the content
	switch {
	case flags&0x20 == 0:
		rest++ // the window
	case flags>>6 == 0:
		rest++ // a single segment tells its size in any case
	}
	f.sum = flags&4 != 0
	start := f.pending
	if err := f.read(rest); err != nil {
		return err
	}
	f.pending = append(start, f.pending...)
	return nil
}

func (f *frame) read(n int) error {
	f.pending = make([]byte, n)
	_, err := io.ReadFull(f.r, f.pending)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}
