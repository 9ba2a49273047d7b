package ebpf

import (
	"fmt"
	"math/bits"
	"os"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/openmigrate/openmigrate/agent/track"
)

// grainFor is the grain of a disk of size bytes: the smallest from 4 KiB to 64 KiB with which a bitmap takes at most 4 MiB.
func grainFor(size int64) int64 {
	grain := int64(4 << 10)
	for grain < 64<<10 && size/grain > 4<<20*8 {
		grain *= 2
	}
	return grain
}

// shape is how many words the fine and the coarse part of a bitmap have. A bit of the coarse part stands for a word of the fine one.
func shape(size, grain int64) (fine, coarse int64) {
	fine = ((size+grain-1)/grain + 63) / 64
	return fine, (fine + 63) / 64
}

func newBitmap(words int64) (*ebpf.Map, error) {
	m, err := ebpf.NewMap(&ebpf.MapSpec{Name: "om_bitmap", Type: ebpf.Array, KeySize: 4, ValueSize: 8,
		MaxEntries: uint32(words), Flags: unix.BPF_F_MMAPABLE | unix.BPF_F_INNER_MAP})
	if err != nil {
		return nil, fmt.Errorf("make a bitmap of %d words: %w", words, err)
	}
	return m, nil
}

// bitmap is one bitmap's memory, shared with the kernel.
type bitmap struct {
	bytes        []byte
	fine, coarse []uint64
}

func mapBitmap(m *ebpf.Map, fine, coarse int64) (*bitmap, error) {
	if m.Type() != ebpf.Array || m.ValueSize() != 8 || int64(m.MaxEntries()) != fine+coarse {
		return nil, fmt.Errorf("map a bitmap: it has %d words, not %d", m.MaxEntries(), fine+coarse)
	}
	page := int64(os.Getpagesize())
	size := (8*(fine+coarse) + page - 1) / page * page
	b, err := unix.Mmap(m.FD(), 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map a bitmap: %w", err)
	}
	words := unsafe.Slice((*uint64)(unsafe.Pointer(&b[0])), fine+coarse)
	return &bitmap{bytes: b, fine: words[:fine], coarse: words[fine:]}, nil
}

func (b *bitmap) close() {
	if b != nil && b.bytes != nil {
		_ = unix.Munmap(b.bytes) // fails only for arguments that Mmap did not return
		b.bytes, b.fine, b.coarse = nil, nil, nil
	}
}

// each calls f with the marks of b by word; a word may come twice.
func (b *bitmap) each(f func(i int, w uint64)) {
	for i := range b.coarse {
		for w := atomic.LoadUint64(&b.coarse[i]); w != 0; w &= w - 1 {
			if j := i*64 + bits.TrailingZeros64(w); j < len(b.fine) {
				f(j, ^uint64(0))
			}
		}
	}
	for i := range b.fine {
		if w := atomic.LoadUint64(&b.fine[i]); w != 0 {
			f(i, w)
		}
	}
}

// drain moves what is marked in b to pending and to out, which may be nil. Each mark is in pending before it leaves b, so a process that is
// killed at any place loses none. Nobody else may write b.
func (b *bitmap) drain(pending *bitmap, out *track.Marks) {
	move := func(i int, w uint64) {
		atomic.OrUint64(&pending.fine[i], w)
		if out != nil {
			out.AddWord(i, w)
		}
	}
	for i := range b.coarse {
		c := atomic.LoadUint64(&b.coarse[i])
		if c == 0 {
			continue
		}
		for w := c; w != 0; w &= w - 1 {
			if j := i*64 + bits.TrailingZeros64(w); j < len(b.fine) {
				move(j, ^uint64(0))
			}
		}
		atomic.StoreUint64(&b.coarse[i], 0)
	}
	for i := range b.fine {
		if w := atomic.LoadUint64(&b.fine[i]); w != 0 {
			move(i, w)
			atomic.StoreUint64(&b.fine[i], 0)
		}
	}
}

// clear drops all marks. What is clear is not written: it may be the most, and need not become memory.
func (b *bitmap) clear() {
	for _, words := range [][]uint64{b.fine, b.coarse} {
		for i := range words {
			if atomic.LoadUint64(&words[i]) != 0 {
				atomic.StoreUint64(&words[i], 0)
			}
		}
	}
}
