package state

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"unsafe"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/internal/durable"
	"github.com/openmigrate/openmigrate/staging/format"
)

// A pending file begins with what its records are against: the base, or nothing, in which case they are the whole base. The version is in
// it. It is told by the file and not by whether a base is there: after a crash within apply there is none to see.
const (
	pendingMagic = "OMPEND2\n"
	fullMagic    = "OMFULL2\n" // as long as pendingMagic
)

// A record is a place, u64, and an id. The place's highest byte is 0 for a chunk, else one more than the level of a node.
const recordSize = 8 + chunker.IDSize

func place(kind int, index int64) uint64 { return uint64(kind)<<56 | uint64(index) }

// trailerSize: size i64, chunk size u32, CRC of records u32, number of records u64, root [32], restpoint [64], CRC of the trailer u32.
const (
	trailerSize  = 8 + 4 + 4 + 8 + 32 + maxRestpoint + 4
	maxRestpoint = 64
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func bytesOf[T chunker.ID | chunker.BlockHash](ids []T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(&ids[0])), len(ids)*chunker.IDSize)
}

// Apply makes the sealed record the base, once the master has listed its restpoint.
func (b *Base) Apply() error {
	p, err := readPending(b.path("pending"))
	if err != nil {
		return err
	}
	return b.apply(p)
}

type pending struct {
	f    *os.File
	info BaseInfo
	full bool
	n    uint64
}

// errPending: there is no sealed record.
var errPending = errors.New("no sealed record of a cycle")

func readPending(name string) (*pending, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errPending, err)
	}
	p := &pending{f: f}
	if err := p.check(); err != nil {
		f.Close()
		return nil, err
	}
	return p, nil
}

// check reads the trailer and the records' checksum.
func (p *pending) check() error {
	st, err := p.f.Stat()
	if err != nil {
		return fmt.Errorf("%w: %w", errPending, err)
	}
	body := st.Size() - int64(len(pendingMagic)) - trailerSize
	if body < 0 || body%recordSize != 0 {
		return errPending
	}
	var magic [len(pendingMagic)]byte
	if _, err := p.f.ReadAt(magic[:], 0); err != nil {
		return fmt.Errorf("%w: %w", errPending, err)
	}
	if p.full = string(magic[:]) == fullMagic; !p.full && string(magic[:]) != pendingMagic {
		return errPending
	}
	var t [trailerSize]byte
	if _, err := p.f.ReadAt(t[:], st.Size()-trailerSize); err != nil {
		return fmt.Errorf("%w: %w", errPending, err)
	}
	if crc32.Checksum(t[:120], castagnoli) != binary.LittleEndian.Uint32(t[120:]) {
		return errPending
	}
	p.n = binary.LittleEndian.Uint64(t[16:])
	if p.n != uint64(body/recordSize) {
		return errPending
	}
	h := crc32.New(castagnoli)
	if _, err := io.Copy(h, io.NewSectionReader(p.f, int64(len(pendingMagic)), body)); err != nil {
		return fmt.Errorf("%w: %w", errPending, err)
	}
	if h.Sum32() != binary.LittleEndian.Uint32(t[12:]) {
		return errPending
	}
	p.info = BaseInfo{Size: int64(binary.LittleEndian.Uint64(t[0:])), ChunkSize: int(binary.LittleEndian.Uint32(t[8:])),
		Root: chunker.ID(t[24:56]), Restpoint: string(trimZero(t[56:120]))}
	return nil
}

func trimZero(b []byte) []byte {
	for len(b) > 0 && b[len(b)-1] == 0 {
		b = b[:len(b)-1]
	}
	return b
}

// apply writes the records into "ids" and "nodes". The base is away while it is neither the old nor the new.
func (b *Base) apply(p *pending) (err error) {
	defer p.f.Close()
	defer func() {
		if err != nil {
			err = fmt.Errorf("apply cycle to base: %w", err)
		}
	}()
	b.Close()
	b.info = nil
	if err := os.Remove(b.path("base.json")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	// The base must be seen to be away before it changes, also after a power cut.
	if err := durable.SyncDir(b.dir.Path(b.name)); err != nil {
		return err
	}
	if err := b.write(p); err != nil {
		return err
	}
	if err := b.dir.Write(filepath.Join(b.name, "base.json"), &p.info); err != nil {
		return err
	}
	if err := os.Remove(b.path("pending")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func (b *Base) write(p *pending) (err error) {
	chunks := p.info.Layout().Chunks()
	levels := format.Levels(chunks)
	flags := os.O_CREATE | os.O_RDWR
	if p.full {
		flags |= os.O_TRUNC
	}
	open := func(name string, ids int64) (*idWriter, error) {
		f, err := os.OpenFile(b.path(name), flags, 0o600)
		if err != nil {
			return nil, err
		}
		return &idWriter{f: f, ids: ids}, f.Truncate(ids * chunker.IDSize)
	}
	ids, err := open("ids", chunks)
	if ids != nil {
		defer func() { err = errors.Join(err, ids.f.Close()) }()
	}
	if err != nil {
		return err
	}
	nodes, err := open("nodes", nodeAt(chunks, levels))
	if nodes != nil {
		defer func() { err = errors.Join(err, nodes.f.Close()) }()
	}
	if err != nil {
		return err
	}
	r := bufio.NewReaderSize(io.NewSectionReader(p.f, int64(len(pendingMagic)), int64(p.n)*recordSize), 256<<10)
	for range p.n {
		var rec [recordSize]byte
		if _, err := io.ReadFull(r, rec[:]); err != nil {
			return err
		}
		at := binary.LittleEndian.Uint64(rec[:])
		kind, index, w := int(at>>56), int64(at&(1<<56-1)), ids
		if kind > levels {
			return fmt.Errorf("%w: a node of level %d", errPending, kind-1)
		}
		if kind > 0 {
			index, w = index+nodeAt(chunks, kind-1), nodes
		}
		if err := w.put(index, chunker.ID(rec[8:])); err != nil {
			return err
		}
	}
	return errors.Join(ids.end(), nodes.end())
}

// idWriter writes runs of neighbouring ids with one call each.
type idWriter struct {
	f     *os.File
	ids   int64 // that the file has room for
	start int64
	run   []chunker.ID
}

func (w *idWriter) put(index int64, id chunker.ID) error {
	if index >= w.ids {
		return fmt.Errorf("%w: id %d of %d", errPending, index, w.ids)
	}
	if len(w.run) > 0 && (index != w.start+int64(len(w.run)) || len(w.run) == 4*maxRun) {
		if err := w.flush(); err != nil {
			return err
		}
	}
	if len(w.run) == 0 {
		w.start = index
	}
	w.run = append(w.run, id)
	return nil
}

func (w *idWriter) flush() error {
	if len(w.run) == 0 {
		return nil
	}
	_, err := w.f.WriteAt(bytesOf(w.run), w.start*chunker.IDSize)
	w.run = w.run[:0]
	return err
}

func (w *idWriter) end() error { return errors.Join(w.flush(), w.f.Sync()) }
