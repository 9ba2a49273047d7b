package nbd

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

const (
	magicRequest    = 0x25609513
	magicSimple     = 0x67446698
	magicStructured = 0x668e33ef

	cmdRead   = 0
	cmdLeave  = 2
	cmdFlush  = 3
	cmdCache  = 5
	cmdStatus = 7

	flagDF  = 1 << 2 // of a request: do not fragment
	flagOne = 1 << 3 // of a request: one extent is enough

	replyDone = 1 << 0 // flag of the last structured reply

	typeNone   = 0
	typeData   = 1
	typeHole   = 2
	typeStatus = 5
	typeError  = 1<<15 + 1

	ePerm  = 1
	eIO    = 5
	eInval = 22

	stateHoleZero = 1<<0 | 1<<1 // of an extent: not allocated, reads as zeros
)

// session is a connection after its handshake. Requests are answered as they are done, in any order.
type session struct {
	ctx    context.Context
	cancel context.CancelFunc
	c      net.Conn
	disk   Disk
	name   string
	log    *slog.Logger

	structured, meta bool

	busy  chan struct{}
	bytes *semaphore.Weighted
	work  sync.WaitGroup

	write sync.Mutex // one answer at a time
}

func newSession(ctx context.Context, c net.Conn, h *handshake, log *slog.Logger) *session {
	s := &session{c: c, disk: h.disk, name: h.export, log: log, structured: h.structured, meta: h.meta && h.metaFor == h.export,
		busy: make(chan struct{}, maxBusy), bytes: semaphore.NewWeighted(maxBytes)}
	s.ctx, s.cancel = context.WithCancel(ctx)
	return s
}

type request struct {
	flags, kind uint16
	cookie      uint64
	off         uint64
	length      uint32
}

func (s *session) run() error {
	defer s.work.Wait()
	defer s.cancel()
	for {
		var b [28]byte
		if _, err := io.ReadFull(s.c, b[:]); err != nil {
			if errors.Is(err, io.EOF) {
				return errBye
			}
			return fmt.Errorf("read an NBD request: %w", err)
		}
		if m := binary.BigEndian.Uint32(b[:]); m != magicRequest {
			return fmt.Errorf("read an NBD request: magic is %#x", m)
		}
		r := request{flags: binary.BigEndian.Uint16(b[4:]), kind: binary.BigEndian.Uint16(b[6:]), cookie: binary.BigEndian.Uint64(b[8:]),
			off: binary.BigEndian.Uint64(b[16:]), length: binary.BigEndian.Uint32(b[24:])}
		if r.kind == cmdLeave {
			s.work.Wait() // what it asked for before is still answered
			return errBye
		}
		if r.kind == 1 { // what it writes follows, and would be taken for requests
			if err := s.discard(&r); err != nil {
				return err
			}
			continue
		}
		if err := s.start(r); err != nil {
			return err
		}
	}
}

// discard refuses a write.
func (s *session) discard(r *request) error {
	if r.length > maxRead {
		return fmt.Errorf("an NBD client writes %d bytes to a read-only export", r.length)
	}
	if _, err := io.CopyN(io.Discard, s.c, int64(r.length)); err != nil {
		return fmt.Errorf("read an NBD request: %w", err)
	}
	return s.fail(r, ePerm, "the export is read-only")
}

// start answers a request in the background, when there is room.
func (s *session) start(r request) error {
	select {
	case s.busy <- struct{}{}:
	case <-s.ctx.Done():
		return context.Cause(s.ctx)
	}
	weight := int64(0)
	if r.kind == cmdRead && r.length <= maxRead {
		weight = int64(r.length)
		if err := s.bytes.Acquire(s.ctx, weight); err != nil {
			<-s.busy
			return err
		}
	}
	s.work.Go(func() {
		err := s.answer(&r)
		s.bytes.Release(weight)
		<-s.busy
		if err != nil {
			s.cancel()
			_ = s.c.Close() // the reader of requests ends, too
		}
	})
	return nil
}

func (s *session) answer(r *request) error {
	size := uint64(s.disk.Size())
	switch r.kind {
	case cmdFlush:
		return s.done(r)
	case cmdRead, cmdStatus, cmdCache:
		switch {
		case r.length == 0 || r.off > size || uint64(r.length) > size-r.off:
			return s.fail(r, eInval, "outside of the disk")
		case r.kind == cmdStatus && !s.meta:
			return s.fail(r, eInval, "no context was agreed on")
		case r.kind == cmdStatus:
			return s.status(r)
		case r.kind == cmdCache:
			return s.done(r)
		case r.length > maxRead:
			return s.fail(r, eInval, "more than one request may have")
		case s.structured && r.flags&flagDF == 0:
			return s.readPieces(r)
		}
		return s.readWhole(r)
	case 4, 6, 8: // trim, write zeroes, resize
		return s.fail(r, ePerm, "the export is read-only")
	}
	return s.fail(r, eInval, "not a known request")
}

func (s *session) readWhole(r *request) error {
	b := make([]byte, r.length)
	if err := s.read(b, int64(r.off)); err != nil {
		return s.fail(r, eIO, "cannot read from staging")
	}
	if s.structured {
		return s.chunk(r, replyDone, typeData, binary.BigEndian.AppendUint64(nil, r.off), b)
	}
	return s.send(simple(r, 0), b)
}

// readPieces sends data as it comes, and of holes only that they are some.
func (s *session) readPieces(r *request) error {
	b := make([]byte, min(r.length, piece))
	for off, end := int64(r.off), int64(r.off)+int64(r.length); off < end; {
		n, zero, err := s.disk.Extent(s.ctx, off, end-off)
		if err == nil && !zero {
			n = min(n, piece)
			err = s.read(b[:n], off)
		}
		if err != nil {
			return s.fail(r, eIO, "cannot read from staging")
		}
		flags := uint16(0)
		if off+n == end {
			flags = replyDone
		}
		at := binary.BigEndian.AppendUint64(nil, uint64(off))
		if zero {
			err = s.chunk(r, flags, typeHole, binary.BigEndian.AppendUint32(at, uint32(n)), nil)
		} else {
			err = s.chunk(r, flags, typeData, at, b[:n])
		}
		if err != nil {
			return err
		}
		off += n
	}
	return nil
}

// status tells which bytes are holes. It may stop before the end of what was asked for.
func (s *session) status(r *request) error {
	most := maxExtents
	if r.flags&flagOne != 0 {
		most = 1
	}
	b := binary.BigEndian.AppendUint32(nil, contextID)
	for off, end := int64(r.off), int64(r.off)+int64(r.length); off < end && most > 0; most-- {
		n, zero, err := s.extent(off, end)
		if err != nil {
			return s.fail(r, eIO, "cannot read from staging")
		}
		state := uint32(0)
		if zero {
			state = stateHoleZero
		}
		b = binary.BigEndian.AppendUint32(b, uint32(n))
		b = binary.BigEndian.AppendUint32(b, state)
		off += n
	}
	return s.chunk(r, replyDone, typeStatus, b, nil)
}

// extent joins neighbours of the same kind, as far as is cheap.
func (s *session) extent(off, end int64) (n int64, zero bool, err error) {
	n, zero, err = s.disk.Extent(s.ctx, off, end-off)
	for range maxExtents {
		if err != nil || off+n >= end {
			break
		}
		m, next, err := s.disk.Extent(s.ctx, off+n, end-off-n)
		if err != nil || next != zero {
			break // whoever asks from there is told
		}
		n += m
	}
	return n, zero, err
}

func (s *session) read(b []byte, off int64) error {
	n, err := s.disk.ReadContext(s.ctx, b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if s.ctx.Err() == nil {
		s.log.Error("read failed: the NBD client gets an I/O error", "export", s.name, "err", err)
	}
	return err
}

func simple(r *request, code uint32) []byte {
	b := binary.BigEndian.AppendUint32(nil, magicSimple)
	b = binary.BigEndian.AppendUint32(b, code)
	return binary.BigEndian.AppendUint64(b, r.cookie)
}

func (s *session) done(r *request) error {
	if s.structured {
		return s.chunk(r, replyDone, typeNone, nil, nil)
	}
	return s.send(simple(r, 0), nil)
}

func (s *session) fail(r *request, code uint32, why string) error {
	if !s.structured {
		return s.send(simple(r, code), nil)
	}
	b := binary.BigEndian.AppendUint32(nil, code)
	b = binary.BigEndian.AppendUint16(b, uint16(len(why)))
	return s.chunk(r, replyDone, typeError, append(b, why...), nil)
}

func (s *session) chunk(r *request, flags, kind uint16, head, data []byte) error {
	b := binary.BigEndian.AppendUint32(nil, magicStructured)
	b = binary.BigEndian.AppendUint16(b, flags)
	b = binary.BigEndian.AppendUint16(b, kind)
	b = binary.BigEndian.AppendUint64(b, r.cookie)
	b = binary.BigEndian.AppendUint32(b, uint32(len(head)+len(data)))
	return s.send(append(b, head...), data)
}

func (s *session) send(head, data []byte) error {
	s.write.Lock()
	defer s.write.Unlock()
	if err := s.c.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
		return fmt.Errorf("answer an NBD client: %w", err)
	}
	bufs := net.Buffers{head, data}
	if _, err := bufs.WriteTo(s.c); err != nil {
		return fmt.Errorf("answer an NBD client: %w", err)
	}
	return nil
}
