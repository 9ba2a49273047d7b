package state

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/openmigrate/openmigrate/chunker"
)

// Blocks remembers of chunks that are written in small pieces the hashes of their blocks, and how each chunk was sent. With them a cycle
// reads only the blocks that were written, for the chunk's new id and for a patch.
//
// What is remembered proves itself: the hashes lead to the chunk's id. So the file beside a disk's base is never synced and
// may be lost, torn or stale; whoever loads from it makes the id and compares. How a chunk was sent is for the master to check. It is also kept in
// memory, because it is asked for while the file system with the file is frozen.
//
// It lives as long as its agent. A disk's part is used by one cycle at a time, by any of its goroutines.
type Blocks struct {
	dir   *Dir
	limit int64 // bytes of file for each disk
	disks map[string]*DiskBlocks
}

// MaxBlocks bounds the file of one disk, in bytes: hashes take a 128th of the chunks that they are of.
const MaxBlocks = 512 << 20

// NewBlocks makes an empty memory, which takes up what an earlier agent left in dir. limit is in bytes of file for each disk; 0: MaxBlocks.
func NewBlocks(dir *Dir, limit int64) *Blocks {
	if limit <= 0 {
		limit = MaxBlocks
	}
	return &Blocks{dir: dir, limit: limit, disks: map[string]*DiskBlocks{}}
}

// Close lets go of the files.
func (b *Blocks) Close() {
	for _, d := range b.disks {
		_ = d.f.Close() // nothing in it needs to arrive
	}
	clear(b.disks)
}

// Disk returns a disk's part at the start of a cycle. What the cycle before it did not settle is forgotten.
func (b *Blocks) Disk(id string, chunkSize int) (*DiskBlocks, error) {
	d := b.disks[id]
	if d != nil && d.blocks*chunker.BlockSize != chunkSize {
		_ = d.f.Close()
		d = nil
	}
	if d == nil {
		sum := sha256.Sum256([]byte(id))
		dir := b.dir.Path(filepath.Join("base", hex.EncodeToString(sum[:12])))
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("remember blocks: %w", err)
		}
		// The size of chunks is in the name: files of another size are of no use.
		f, err := os.OpenFile(filepath.Join(dir, fmt.Sprintf("blocks-%d", chunkSize)), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, fmt.Errorf("remember blocks: %w", err)
		}
		n := chunkSize / chunker.BlockSize
		d = &DiskBlocks{f: f, blocks: n, pages: map[int64]*blocksPage{}}
		b.disks[id] = d
	}
	return d, d.begin(b.limit)
}

// Sent is how a chunk was sent that block hashes are of.
type Sent struct {
	Depth  uint8  // format.Entry.Depth
	Blocks uint16 // of the patches that it takes to open it
}

// DiskBlocks is what is remembered of one disk. The file holds for each chunk its block hashes and 32 bytes of how it was sent: 1, depth u8, blocks u16,
// zeros. A hole is a chunk of which nothing is known.
type DiskBlocks struct {
	f      *os.File
	blocks int // of a chunk

	mu    sync.Mutex // guards the rest
	pages map[int64]*blocksPage
	room  int64          // bytes that the file may grow by in this cycle
	err   error          // why something was not remembered
	held  map[int64]bool // chunks to forget at Release; nil: not held
}

const pageChunks = 512

// blocksPage is what memory has of some neighbouring chunks.
type blocksPage struct {
	known [pageChunks / 64]uint64
	fresh [pageChunks / 64]uint64 // sent by this cycle, in a pack that may not be committed
	sent  [pageChunks]Sent
}

func (d *DiskBlocks) slot() int64 { return int64(d.blocks+1) * chunker.IDSize }

func (d *DiskBlocks) begin(limit int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.err = nil
	for _, p := range d.pages {
		for i, w := range p.fresh {
			p.known[i] &^= w
		}
		p.fresh = [pageChunks / 64]uint64{}
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(d.f.Fd()), &st); err != nil {
		return fmt.Errorf("remember blocks: %w", err)
	}
	if d.room = limit - st.Blocks*512; d.room < d.slot() {
		// What is written now is not what was written when it began: start anew.
		if err := d.reset(); err != nil {
			return err
		}
		d.room = limit
	}
	return nil
}

// Reset forgets everything.
func (d *DiskBlocks) Reset() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.reset()
}

func (d *DiskBlocks) reset() error {
	clear(d.pages)
	if err := d.f.Truncate(0); err != nil {
		return fmt.Errorf("forget blocks: %w", err)
	}
	return nil
}

// Doubt says that chunks may have changed without being sent by whoever stores here: what is in memory counts no more than what is in the file.
func (d *DiskBlocks) Doubt() {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.pages)
}

// Err is why something could not be remembered in this cycle; nil if all was.
func (d *DiskBlocks) Err() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.err
}

// Known returns how a chunk was sent. ok is false when nothing is known of it, or when what was sent may not be committed yet. It may
// look into the file, unless memory is set. Whether the hashes fit is for who loads them.
func (d *DiskBlocks) Known(chunk int64, memory bool) (how Sent, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p, i := d.page(chunk)
	if p.fresh[i/64]>>(i%64)&1 != 0 {
		return Sent{}, false
	}
	if p.known[i/64]>>(i%64)&1 == 0 {
		var b chunker.BlockHash
		if memory || !d.read(b[:], chunk, d.blocks) || b[0] != 1 {
			return Sent{}, false
		}
		p.sent[i] = Sent{Depth: b[1], Blocks: binary.LittleEndian.Uint16(b[2:])}
		p.known[i/64] |= 1 << (i % 64)
	}
	return p.sent[i], true
}

// Load reads the block hashes of a chunk. They count only if they lead to its id.
func (d *DiskBlocks) Load(chunk int64, dst []chunker.BlockHash) (ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.read(bytesOf(dst), chunk, 0)
}

// read reads from a chunk's slot, from a hash on.
func (d *DiskBlocks) read(dst []byte, chunk int64, hash int) bool {
	n, err := d.f.ReadAt(dst, chunk*d.slot()+int64(hash)*chunker.IDSize)
	if n < len(dst) && !errors.Is(err, io.EOF) && d.err == nil {
		d.err = fmt.Errorf("remember blocks: %w", err)
	}
	return n == len(dst)
}

// Store remembers the block hashes of a chunk that this cycle sends.
func (d *DiskBlocks) Store(chunk int64, hashes []chunker.BlockHash, how Sent) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.held != nil {
		d.forget(chunk)
		return
	}
	p, i := d.page(chunk)
	bit := uint64(1) << (i % 64)
	if p.known[i/64]&bit == 0 {
		if d.room < d.slot() {
			return
		}
		d.room -= d.slot()
	}
	tail := chunker.BlockHash{1, how.Depth}
	binary.LittleEndian.PutUint16(tail[2:], how.Blocks)
	_, err := d.f.WriteAt(bytesOf(hashes), chunk*d.slot())
	if err == nil {
		_, err = d.f.WriteAt(tail[:], (chunk+1)*d.slot()-chunker.IDSize)
	}
	if err != nil {
		if d.err == nil {
			d.err = fmt.Errorf("remember blocks: %w", err)
		}
		d.forget(chunk)
		return
	}
	p.known[i/64] |= bit
	p.fresh[i/64] |= bit
	p.sent[i] = how
}

// Forget drops what is known of a chunk.
func (d *DiskBlocks) Forget(chunk int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.forget(chunk)
}

func (d *DiskBlocks) forget(chunk int64) {
	p, i := d.page(chunk)
	p.known[i/64] &^= 1 << (i % 64)
	p.fresh[i/64] &^= 1 << (i % 64)
	if d.held != nil {
		d.held[chunk] = true
		return
	}
	var b [1]byte
	at := (chunk+1)*d.slot() - chunker.IDSize
	if n, _ := d.f.ReadAt(b[:], at); n == 0 || b[0] == 0 {
		return // a hole, as far as can be told
	}
	b[0] = 0
	if _, err := d.f.WriteAt(b[:], at); err != nil && d.err == nil {
		d.err = fmt.Errorf("forget blocks: %w", err) // what stays leads to no id that counts, or to the right one
	}
}

// Fresh is how many chunks were sent since the last Settle.
func (d *DiskBlocks) Fresh() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := 0
	for _, p := range d.pages {
		for _, w := range p.fresh {
			n += bits.OnesCount64(w)
		}
	}
	return n
}

// Settle says that what this cycle sent so far is in packs that are committed.
func (d *DiskBlocks) Settle() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range d.pages {
		p.fresh = [pageChunks / 64]uint64{}
	}
}

func (d *DiskBlocks) page(chunk int64) (p *blocksPage, i int) {
	p = d.pages[chunk/pageChunks]
	if p == nil {
		p = new(blocksPage)
		d.pages[chunk/pageChunks] = p
	}
	return p, int(chunk % pageChunks)
}
