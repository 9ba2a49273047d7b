package state

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/bits"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/openmigrate/openmigrate/chunker"
)

// Blocks remembers of chunks that are written in small pieces the hashes of their blocks: as the chunk is now, and as it was when it was
// sent in full. With them a cycle reads only the blocks that were written, and those in which the chunk differs from what was sent in full,
// for its new id and for a patch.
//
// What is remembered proves itself: the hashes lead to the ids of the two chunks. So the file "blocks" beside a disk's base is
// never synced and may be lost, torn or stale; whoever loads from it makes the ids and compares. Which blocks differ is also kept in memory,
// because it is asked for while the file system with the file is frozen.
//
// It lives as long as its agent. A disk's part is used by one cycle at a time, by any of its goroutines.
type Blocks struct {
	dir   *Dir
	limit int64 // bytes of file for each disk
	disks map[string]*DiskBlocks
}

// MaxBlocks bounds the file of one disk, in bytes: hashes take a 64th of the chunks that they are of.
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
		d = &DiskBlocks{f: f, blocks: n, pages: map[int64]*blocksPage{}, now: make([]chunker.BlockHash, n), full: make([]chunker.BlockHash, n)}
		b.disks[id] = d
	}
	return d, d.begin(b.limit)
}

// DiskBlocks is what is remembered of one disk. The file holds for each chunk two arrays of block hashes: of now, and of what was sent
// in full. A hole is a chunk of which nothing is known.
type DiskBlocks struct {
	f      *os.File
	blocks int // of a chunk

	mu        sync.Mutex // guards the rest
	pages     map[int64]*blocksPage
	room      int64               // bytes that the file may grow by in this cycle
	err       error               // why something was not remembered
	now, full []chunker.BlockHash // scratch
}

const pageChunks = 512

// blocksPage is what memory has of some neighbouring chunks.
type blocksPage struct {
	known   [pageChunks / 64]uint64
	fresh   [pageChunks / 64]uint64 // sent in full by this cycle, in a pack that may not be committed
	differs []uint64                // by chunk: the blocks in which it differs from what was sent in full
}

func (d *DiskBlocks) slot() int64 { return 2 * int64(d.blocks) * chunker.IDSize }
func (d *DiskBlocks) words() int  { return (d.blocks + 63) / 64 }

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

// Err is why something could not be remembered in this cycle; nil if all was.
func (d *DiskBlocks) Err() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.err
}

// Differs marks the blocks in which a chunk differs from what was sent in full, as far as is known: what Load returns decides. ok is false
// when nothing is known of the chunk, or when what was sent in full may not be committed yet. It may look into the file, unless memory is set.
func (d *DiskBlocks) Differs(chunk int64, memory bool, dst *chunker.Blocks) (ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p, i := d.page(chunk)
	if p.fresh[i/64]>>(i%64)&1 != 0 {
		return false
	}
	if p.known[i/64]>>(i%64)&1 == 0 {
		if memory {
			return false
		}
		if !d.load(chunk, d.now, d.full) {
			return false
		}
		d.note(chunk, d.now, d.full, false)
	}
	copy(dst[:], p.differs[i*d.words():(i+1)*d.words()])
	return true
}

// Load reads the block hashes of a chunk: as it is now, and of what was sent in full. They count only if they lead to its id.
func (d *DiskBlocks) Load(chunk int64, now, full []chunker.BlockHash) (ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.load(chunk, now, full)
}

func (d *DiskBlocks) load(chunk int64, now, full []chunker.BlockHash) bool {
	half := d.slot() / 2
	for i, part := range [][]chunker.BlockHash{now, full} {
		if n, err := d.f.ReadAt(bytesOf(part), chunk*d.slot()+int64(i)*half); int64(n) != half {
			if err != nil && d.err == nil && n > 0 {
				d.err = fmt.Errorf("remember blocks: %w", err)
			}
			return false
		}
	}
	return now[0] != chunker.BlockHash{} // no hole
}

// Store remembers a chunk that is to be sent as a patch of what was sent in full, or needs not be sent.
func (d *DiskBlocks) Store(chunk int64, now, full []chunker.BlockHash) {
	d.store(chunk, now, full, false)
}

// StoreFull remembers a chunk that this cycle sends in full.
func (d *DiskBlocks) StoreFull(chunk int64, now []chunker.BlockHash) { d.store(chunk, now, now, true) }

func (d *DiskBlocks) store(chunk int64, now, full []chunker.BlockHash, fresh bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p, i := d.page(chunk)
	if p.known[i/64]>>(i%64)&1 == 0 {
		if d.room < d.slot() {
			return
		}
		d.room -= d.slot()
	}
	half := d.slot() / 2
	_, err := d.f.WriteAt(bytesOf(now), chunk*d.slot())
	if err == nil {
		_, err = d.f.WriteAt(bytesOf(full), chunk*d.slot()+half)
	}
	if err != nil {
		if d.err == nil {
			d.err = fmt.Errorf("remember blocks: %w", err)
		}
		d.forget(chunk)
		return
	}
	d.note(chunk, now, full, fresh)
}

// note puts into memory what is in the file.
func (d *DiskBlocks) note(chunk int64, now, full []chunker.BlockHash, fresh bool) {
	p, i := d.page(chunk)
	bit := uint64(1) << (i % 64)
	p.known[i/64] |= bit
	p.fresh[i/64] &^= bit
	if fresh {
		p.fresh[i/64] |= bit
	}
	words := p.differs[i*d.words() : (i+1)*d.words()]
	clear(words)
	for b := range now {
		if now[b] != full[b] {
			words[b/64] |= 1 << (b % 64)
		}
	}
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
	var first, zero chunker.BlockHash
	if _, err := d.f.ReadAt(first[:], chunk*d.slot()); err != nil || first == zero {
		return // a hole
	}
	if _, err := d.f.WriteAt(zero[:], chunk*d.slot()); err != nil && d.err == nil {
		d.err = fmt.Errorf("forget blocks: %w", err) // what stays leads to no id that counts, or to the right one
	}
}

// Fresh is how many chunks were sent in full since the last Settle.
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

// Settle says that what this cycle sent in full is in packs that are committed.
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
		p = &blocksPage{differs: make([]uint64, pageChunks*d.words())}
		d.pages[chunk/pageChunks] = p
	}
	return p, int(chunk % pageChunks)
}
