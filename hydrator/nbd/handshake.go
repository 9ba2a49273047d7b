package nbd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
)

const (
	magicInit   = 0x4e42444d41474943 // "NBDMAGIC"
	magicOption = 0x49484156454F5054 // "IHAVEOPT"
	magicReply  = 0x3e889045565a9

	flagFixed    = 1 << 0 // of the handshake
	flagNoZeroes = 1 << 1

	optExport     = 1
	optAbort      = 2
	optList       = 3
	optInfo       = 6
	optGo         = 7
	optStructured = 8
	optListMeta   = 9
	optSetMeta    = 10

	repAck     = 1
	repServer  = 2
	repInfo    = 3
	repMeta    = 4
	repUnsup   = 1<<31 + 1
	repInvalid = 1<<31 + 3
	repUnknown = 1<<31 + 6
	repTooBig  = 1<<31 + 9

	infoExport = 0
	infoBlock  = 3

	// transmission flags: has flags, read-only, sends flush (which does nothing), many connections are consistent, DF works.
	transmission = 1<<0 | 1<<1 | 1<<2 | 1<<7 | 1<<8

	contextName = "base:allocation"
	contextID   = 1
)

func parent(path string) string { return filepath.Dir(path) }

// handshake is what client and server agree on before the first request.
type handshake struct {
	s          *Server
	c          net.Conn
	noZeroes   bool
	structured bool
	metaFor    string // export for which base:allocation was agreed on
	meta       bool
	export     string
	disk       Disk
}

func (h *handshake) run() error {
	hello := binary.BigEndian.AppendUint64(nil, magicInit)
	hello = binary.BigEndian.AppendUint64(hello, magicOption)
	hello = binary.BigEndian.AppendUint16(hello, flagFixed|flagNoZeroes)
	if err := h.write(hello); err != nil {
		return err
	}
	var flags [4]byte
	if err := h.read(flags[:]); err != nil {
		return err
	}
	f := binary.BigEndian.Uint32(flags[:])
	if f&flagFixed == 0 || f&^(flagFixed|flagNoZeroes) != 0 {
		return fmt.Errorf("NBD handshake: client flags %#x are not known", f)
	}
	h.noZeroes = f&flagNoZeroes != 0
	for range maxOptions {
		done, err := h.option()
		if done || err != nil {
			return err
		}
	}
	return fmt.Errorf("NBD handshake: more than %d options", maxOptions)
}

func (h *handshake) option() (done bool, err error) {
	var head [16]byte
	if err := h.read(head[:]); err != nil {
		return false, err
	}
	if binary.BigEndian.Uint64(head[:]) != magicOption {
		return false, errors.New("NBD handshake: not an option")
	}
	opt, size := binary.BigEndian.Uint32(head[8:]), binary.BigEndian.Uint32(head[12:])
	if size > maxOption {
		return false, fmt.Errorf("NBD handshake: an option of %d bytes", size)
	}
	data := make([]byte, size)
	if err := h.read(data); err != nil {
		return false, err
	}
	switch opt {
	case optExport:
		return true, h.exportName(string(data))
	case optAbort:
		_ = h.reply(opt, repAck, nil) // it may be gone already
		return true, errBye
	case optList:
		return false, h.list(data)
	case optInfo, optGo:
		return h.info(opt, data)
	case optStructured:
		if len(data) != 0 {
			return false, h.refuse(opt, repInvalid, "no data belongs here")
		}
		h.structured = true
		return false, h.reply(opt, repAck, nil)
	case optListMeta, optSetMeta:
		return false, h.metaContext(opt, data)
	}
	return false, h.refuse(opt, repUnsup, "not supported")
}

// exportName answers the old way, which knows no errors: a client that asks for what is not there is left.
func (h *handshake) exportName(name string) error {
	d := h.s.exports[name]
	if d == nil {
		return fmt.Errorf("NBD handshake: there is no export %.80q", name)
	}
	h.disk, h.export = d, name
	b := binary.BigEndian.AppendUint64(nil, uint64(d.Size()))
	b = binary.BigEndian.AppendUint16(b, transmission)
	if !h.noZeroes {
		b = append(b, make([]byte, 124)...)
	}
	return h.write(b)
}

func (h *handshake) list(data []byte) error {
	if len(data) != 0 {
		return h.refuse(optList, repInvalid, "no data belongs here")
	}
	for _, name := range h.s.names {
		if err := h.reply(optList, repServer, append(binary.BigEndian.AppendUint32(nil, uint32(len(name))), name...)); err != nil {
			return err
		}
	}
	return h.reply(optList, repAck, nil)
}

// cutString takes a string with its length before it.
func cutString(b []byte) (s string, rest []byte, ok bool) {
	if len(b) < 4 {
		return "", nil, false
	}
	n := binary.BigEndian.Uint32(b)
	if uint64(n) > uint64(len(b)-4) {
		return "", nil, false
	}
	return string(b[4 : 4+n]), b[4+n:], true
}

func (h *handshake) info(opt uint32, data []byte) (done bool, err error) {
	name, rest, ok := cutString(data)
	if !ok || len(rest) < 2 || len(rest) != 2+2*int(binary.BigEndian.Uint16(rest)) {
		return false, h.refuse(opt, repInvalid, "malformed")
	}
	d := h.s.exports[name]
	if d == nil {
		return false, h.refuse(opt, repUnknown, "there is no such export")
	}
	b := binary.BigEndian.AppendUint16(nil, infoExport)
	b = binary.BigEndian.AppendUint64(b, uint64(d.Size()))
	b = binary.BigEndian.AppendUint16(b, transmission)
	if err := h.reply(opt, repInfo, b); err != nil {
		return false, err
	}
	b = binary.BigEndian.AppendUint16(nil, infoBlock)
	for _, n := range []uint32{1, 64 << 10, maxRead} { // smallest, best, largest request
		b = binary.BigEndian.AppendUint32(b, n)
	}
	if err := h.reply(opt, repInfo, b); err != nil {
		return false, err
	}
	h.disk, h.export = d, name
	return opt == optGo, h.reply(opt, repAck, nil)
}

func (h *handshake) metaContext(opt uint32, data []byte) error {
	name, rest, ok := cutString(data)
	if !ok || len(rest) < 4 {
		return h.refuse(opt, repInvalid, "malformed")
	}
	count := binary.BigEndian.Uint32(rest)
	rest = rest[4:]
	var queries []string
	for range min(count, maxOption/4) {
		var q string
		if q, rest, ok = cutString(rest); !ok {
			return h.refuse(opt, repInvalid, "malformed")
		}
		queries = append(queries, q)
	}
	switch {
	case len(rest) != 0 || int(count) != len(queries):
		return h.refuse(opt, repInvalid, "malformed")
	case h.s.exports[name] == nil:
		return h.refuse(opt, repUnknown, "there is no such export")
	case opt == optSetMeta && !h.structured:
		return h.refuse(opt, repInvalid, "structured replies come first")
	}
	if opt == optSetMeta {
		h.meta, h.metaFor = false, name
	}
	if slices.Contains(queries, contextName) || opt == optListMeta && (len(queries) == 0 || slices.Contains(queries, "base:")) {
		id := uint32(0)
		if opt == optSetMeta {
			h.meta, id = true, contextID
		}
		if err := h.reply(opt, repMeta, append(binary.BigEndian.AppendUint32(nil, id), contextName...)); err != nil {
			return err
		}
	}
	return h.reply(opt, repAck, nil)
}

func (h *handshake) refuse(opt, code uint32, why string) error {
	return h.reply(opt, code, []byte(why))
}

func (h *handshake) reply(opt, code uint32, data []byte) error {
	b := binary.BigEndian.AppendUint64(nil, magicReply)
	b = binary.BigEndian.AppendUint32(b, opt)
	b = binary.BigEndian.AppendUint32(b, code)
	b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
	return h.write(append(b, data...))
}

func (h *handshake) read(b []byte) error {
	_, err := io.ReadFull(h.c, b)
	if errors.Is(err, io.EOF) {
		return errBye
	}
	if err != nil {
		return fmt.Errorf("NBD handshake: %w", err)
	}
	return nil
}

func (h *handshake) write(b []byte) error {
	if _, err := h.c.Write(b); err != nil {
		return fmt.Errorf("NBD handshake: %w", err)
	}
	return nil
}
