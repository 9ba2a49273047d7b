package source

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ReadBatch reads directly and asynchronously where it can. What comes back short or not at all is read again the ordinary way, which
// knows what to make of it.
func (r *deviceReader) ReadBatch(pieces []Piece) error {
	rest := pieces
	if r.align > 1 {
		var fit []Piece
		rest = nil
		for _, x := range pieces {
			if x.Off >= 0 && x.Off <= r.size-int64(len(x.P)) && len(x.P) > 0 && isAligned(x.P, x.Off, r.align) {
				fit = append(fit, x)
			} else {
				rest = append(rest, x)
			}
		}
		rest = append(rest, readDirect(r.f, fit)...)
	}
	if len(rest) == 0 {
		return nil
	}
	return readEach(r, rest)
}

// readDirect reads pieces that suit direct reads, and returns those that it did not.
func readDirect(f *os.File, pieces []Piece) (left []Piece) {
	if len(pieces) == 0 {
		return nil
	}
	g := takeRing()
	if g == nil {
		return pieces
	}
	if err := control(f, func(fd int) error {
		left = g.read(fd, pieces)
		return nil
	}); err != nil { // it is closed
		left = pieces
	}
	putRing(g)
	return left
}

// ring is a context of Linux's asynchronous reads (io_setup(2)): one call hands many to the kernel, and no thread waits for each. One
// goroutine uses it at a time.
type ring struct {
	ctx    uintptr // 0: there is none any more
	cbs    [ringDepth]iocb
	pieces [ringDepth]Piece // of cbs; the buffers must not move nor be collected
	free   []uint64         // of cbs
	queue  [ringDepth]*iocb
	events [ringDepth]ioEvent
}

// ringDepth is how many reads are under way at once.
const ringDepth = 128

// iocb and ioEvent are those of Linux's include/uapi/linux/aio_abi.h on little-endian machines; what is blank stays zero. The command of the zero
// opcode is a read.
type iocb struct {
	data   uint64 // which of a ring's it is
	_      uint32 // key
	_      uint32 // flags of the read
	_      uint16 // opcode
	_      int16  // priority
	fd     uint32
	buf    uint64
	bytes  uint64
	offset int64
	_      uint64
	_      uint32 // flags
	_      uint32 // descriptor of an eventfd
}

type ioEvent struct {
	data uint64
	_    uint64 // the iocb's address
	res  int64
	_    int64
}

// rings are kept for the next batch, of whatever reader: making and ending one waits for the kernel.
var rings = make(chan *ring, 4)

// takeRing returns nil where the kernel has none for us.
func takeRing() *ring {
	select {
	case g := <-rings:
		return g
	default:
	}
	g := &ring{}
	if _, _, errno := unix.Syscall(unix.SYS_IO_SETUP, ringDepth, uintptr(unsafe.Pointer(&g.ctx)), 0); errno != 0 {
		return nil
	}
	for i := range g.cbs {
		g.free = append(g.free, uint64(i))
	}
	return g
}

func putRing(g *ring) {
	if g.ctx == 0 {
		return
	}
	select {
	case rings <- g:
	default:
		g.end()
	}
}

// end waits until nothing is under way.
func (g *ring) end() {
	_, _, _ = unix.Syscall(unix.SYS_IO_DESTROY, g.ctx, 0, 0) // fails only for what is no context
	g.ctx = 0
}

// read reads pieces from fd and returns those that it did not, for whatever reason. Nothing is under way when it returns.
func (g *ring) read(fd int, pieces []Piece) (left []Piece) {
	for next := 0; ; {
		took := g.submit(fd, pieces[next:])
		next += took
		under := ringDepth - len(g.free)
		if under == 0 && took == 0 {
			return append(left, pieces[next:]...) // there were none, or the kernel refuses
		}
		got, _, errno := unix.Syscall6(unix.SYS_IO_GETEVENTS, g.ctx, 1, ringDepth, uintptr(unsafe.Pointer(&g.events)), 0, 0)
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			g.end()
			return pieces
		}
		for _, e := range g.events[:got] {
			if x := g.pieces[e.data]; e.res != int64(len(x.P)) {
				left = append(left, x)
			}
			g.pieces[e.data] = Piece{}
			g.free = append(g.free, e.data)
		}
	}
}

// submit hands as many pieces to the kernel as it takes, and returns how many.
func (g *ring) submit(fd int, pieces []Piece) int {
	n := min(len(g.free), len(pieces))
	if n == 0 {
		return 0
	}
	for i, x := range pieces[:n] {
		at := g.free[len(g.free)-1-i]
		g.pieces[at] = x
		g.cbs[at] = iocb{data: at, fd: uint32(fd), buf: uint64(uintptr(unsafe.Pointer(unsafe.SliceData(x.P)))), bytes: uint64(len(x.P)), offset: x.Off}
		g.queue[i] = &g.cbs[at]
	}
	took, _, errno := unix.Syscall(unix.SYS_IO_SUBMIT, g.ctx, uintptr(n), uintptr(unsafe.Pointer(&g.queue)))
	if errno != 0 {
		return 0
	}
	g.free = g.free[:len(g.free)-int(took)]
	return int(took)
}
