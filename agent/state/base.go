package state

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/internal/durable"
)

// A base is one disk's chunk ids in the last restpoint that the master listed: a sparse file "ids" of 32 bytes for each
// chunk, in which a hole is zero chunks, and "base.json" that says of which restpoint and tree.
//
// A cycle changes it in four steps, and a crash between any two leaves a base that is right or none:
//
//	record  changes go to "pending": records of chunk index and id
//	seal    a trailer (restpoint, root, CRC) ends the file; synced before the restpoint is committed
//	        ── the master lists the restpoint ──
//	apply   base.json is removed; the records are written into "ids", synced; base.json names the new restpoint
//	drop    "pending" is removed
//
// At the next start a sealed "pending" is applied if the master's last restpoint is the one it names, else dropped. Applying
// again does no harm.

// BaseInfo says what a base is of.
type BaseInfo struct {
	Restpoint string     `json:"restpoint"`
	Root      chunker.ID `json:"root"`
	Size      int64      `json:"size"`
	ChunkSize int        `json:"chunk_size"`
}

// Layout is how the disk was split.
func (b *BaseInfo) Layout() chunker.Layout {
	return chunker.Layout{Size: b.Size, ChunkSize: b.ChunkSize}
}

// Base is the base of one disk. It belongs to one goroutine.
type Base struct {
	dir  *Dir
	name string // folder below the state directory
	info *BaseInfo
	ids  *os.File // nil: no base
}

// OpenBase opens the base of a disk, after settling what an earlier cycle left: last is the master's last restpoint of this
// machine, empty when it has none. A base that is damaged is as good as none.
func OpenBase(d *Dir, disk, last string) (*Base, error) {
	sum := sha256.Sum256([]byte(disk))
	b := &Base{dir: d, name: filepath.Join("base", hex.EncodeToString(sum[:12]))}
	if err := os.MkdirAll(d.Path(b.name), 0o700); err != nil {
		return nil, fmt.Errorf("open base: %w", err)
	}
	if err := b.settle(last); err != nil {
		return nil, err
	}
	info := new(BaseInfo)
	ok, err := d.Read(filepath.Join(b.name, "base.json"), info)
	if err != nil || !ok || info.Restpoint != last || info.Layout().Check() != nil {
		return b, b.Drop() // none, or not of the last restpoint: everything is offered
	}
	f, err := os.Open(b.path("ids"))
	if err != nil {
		return b, b.Drop()
	}
	b.info, b.ids = info, f
	return b, nil
}

func (b *Base) path(name string) string { return b.dir.Path(filepath.Join(b.name, name)) }

// settle applies or drops what a cycle left behind.
func (b *Base) settle(last string) error {
	p, err := readPending(b.path("pending"))
	if err == nil && last != "" && p.info.Restpoint == last {
		return b.apply(p)
	}
	if err == nil {
		_ = p.f.Close() // it was only read
	}
	if err := os.Remove(b.path("pending")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("open base: %w", err)
	}
	return nil
}

// Info says what the base is of; nil: there is none.
func (b *Base) Info() *BaseInfo { return b.info }

// Close closes the base.
func (b *Base) Close() {
	if b.ids != nil {
		b.ids.Close()
	}
}

// Read fills dst with the ids of chunks from first on: zero past the end. Without a base it returns false.
func (b *Base) Read(first int64, dst []chunker.ID) (bool, error) {
	if b.ids == nil {
		return false, nil
	}
	buf := make([]byte, len(dst)*chunker.IDSize)
	n, err := b.ids.ReadAt(buf, first*chunker.IDSize)
	if err != nil && err != io.EOF {
		return false, fmt.Errorf("read base: %w", err)
	}
	clear(buf[n:])
	for i := range dst {
		copy(dst[i][:], buf[i*chunker.IDSize:])
	}
	return true, nil
}

// NextData returns the first range of chunks [first, end) at or after chunk from, below limit, that may have non-zero ids in the base;
// io.EOF when there is none. It lets a scan step over what was and is a hole.
func (b *Base) NextData(from, limit int64) (first, end int64, err error) {
	if b.ids == nil || from >= limit {
		return 0, 0, io.EOF
	}
	start, err := unix.Seek(int(b.ids.Fd()), from*chunker.IDSize, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) {
		return 0, 0, io.EOF
	}
	if err != nil {
		return 0, 0, fmt.Errorf("read base: %w", err)
	}
	stop, err := unix.Seek(int(b.ids.Fd()), start, unix.SEEK_HOLE)
	if err != nil {
		return 0, 0, fmt.Errorf("read base: %w", err)
	}
	first = max(from, start/chunker.IDSize)
	end = min(limit, (stop+chunker.IDSize-1)/chunker.IDSize)
	if first >= end {
		return 0, 0, io.EOF
	}
	return first, end, nil
}

// A pending file begins with what its records are against: the base, or nothing, in which case they are the whole base. The version is in
// it. It is told by the file and not by whether a base is there: after a crash within apply there is none to see.
const (
	pendingMagic = "OMPEND1\n"
	fullMagic    = "OMFULL1\n" // as long as pendingMagic
)

const recordSize = 8 + chunker.IDSize

// Recorder collects a cycle's changes. It belongs to one goroutine.
type Recorder struct {
	base *Base
	f    *os.File
	w    *bufio.Writer
	sum  uint32
	n    uint64
}

// Record starts the record of a cycle. Close it in any case.
func (b *Base) Record() (*Recorder, error) {
	f, err := os.OpenFile(b.path("pending"), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("record cycle: %w", err)
	}
	r := &Recorder{base: b, f: f, w: bufio.NewWriterSize(f, 64<<10)}
	magic := pendingMagic
	if b.ids == nil {
		magic = fullMagic
	}
	if _, err := r.w.WriteString(magic); err != nil {
		f.Close()
		return nil, fmt.Errorf("record cycle: %w", err)
	}
	return r, nil
}

// Set notes that a chunk has another id than in the base.
func (r *Recorder) Set(index int64, id chunker.ID) error {
	var b [recordSize]byte
	binary.LittleEndian.PutUint64(b[:], uint64(index))
	copy(b[8:], id[:])
	r.sum = crc32.Update(r.sum, castagnoli, b[:])
	r.n++
	if _, err := r.w.Write(b[:]); err != nil {
		return fmt.Errorf("record cycle: %w", err)
	}
	return nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// trailerSize: size i64, chunk size u32, CRC of records u32, number of records u64, root [32], restpoint [64], CRC of the trailer u32.
const trailerSize = 8 + 4 + 4 + 8 + 32 + 64 + 4

// Seal makes the record durable; after that the restpoint may be committed.
func (r *Recorder) Seal(info *BaseInfo) error {
	var t [trailerSize]byte
	binary.LittleEndian.PutUint64(t[0:], uint64(info.Size))
	binary.LittleEndian.PutUint32(t[8:], uint32(info.ChunkSize))
	binary.LittleEndian.PutUint32(t[12:], r.sum)
	binary.LittleEndian.PutUint64(t[16:], r.n)
	copy(t[24:], info.Root[:])
	if copy(t[56:120], info.Restpoint) < len(info.Restpoint) {
		return fmt.Errorf("record cycle: restpoint id %.80q is too long", info.Restpoint)
	}
	binary.LittleEndian.PutUint32(t[120:], crc32.Checksum(t[:120], castagnoli))
	_, err := r.w.Write(t[:])
	if err == nil {
		err = r.w.Flush()
	}
	if err == nil {
		err = r.f.Sync()
	}
	if err == nil {
		err = durable.SyncDir(r.base.dir.Path(r.base.name))
	}
	if err != nil {
		return fmt.Errorf("record cycle: %w", err)
	}
	return nil
}

// Close lets go of the file; what was sealed stays.
func (r *Recorder) Close() { r.f.Close() }

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

// apply writes the records into "ids". The base is away while it is neither the old nor the new.
func (b *Base) apply(p *pending) (err error) {
	defer p.f.Close()
	defer func() {
		if err != nil {
			err = fmt.Errorf("apply cycle to base: %w", err)
		}
	}()
	if b.ids != nil {
		b.ids.Close()
		b.ids, b.info = nil, nil
	}
	if err := os.Remove(b.path("base.json")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	// The base must be seen to be away before "ids" changes, also after a power cut.
	if err := durable.SyncDir(b.dir.Path(b.name)); err != nil {
		return err
	}
	flags := os.O_CREATE | os.O_RDWR
	if p.full {
		flags |= os.O_TRUNC
	}
	ids, err := os.OpenFile(b.path("ids"), flags, 0o600)
	if err != nil {
		return err
	}
	defer ids.Close()
	if err := ids.Truncate(p.info.Layout().Chunks() * chunker.IDSize); err != nil {
		return err
	}
	r := bufio.NewReaderSize(io.NewSectionReader(p.f, int64(len(pendingMagic)), int64(p.n)*recordSize), 256<<10)
	if err := writeRecords(ids, r, p.n, p.info.Layout().Chunks()); err != nil {
		return err
	}
	if err := ids.Sync(); err != nil {
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

// writeRecords writes runs of neighbouring records with one call each.
func writeRecords(ids *os.File, r io.Reader, n uint64, chunks int64) error {
	const most = 4096
	run := make([]byte, 0, most*chunker.IDSize)
	start, next := int64(-1), int64(-1)
	flush := func() error {
		if len(run) == 0 {
			return nil
		}
		_, err := ids.WriteAt(run, start*chunker.IDSize)
		run = run[:0]
		return err
	}
	for range n {
		var b [recordSize]byte
		if _, err := io.ReadFull(r, b[:]); err != nil {
			return err
		}
		index := int64(binary.LittleEndian.Uint64(b[:]))
		if index < 0 || index >= chunks {
			continue // past the end of a disk that shrank
		}
		if index != next || len(run) == cap(run) {
			if err := flush(); err != nil {
				return err
			}
			start = index
		}
		run = append(run, b[8:]...)
		next = index + 1
	}
	return flush()
}

// Drop forgets the base: the next cycle offers everything.
func (b *Base) Drop() error {
	b.Close()
	b.ids, b.info = nil, nil
	for _, name := range []string{"base.json", "pending"} {
		if err := os.Remove(b.path(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("drop base: %w", err)
		}
	}
	return nil
}
