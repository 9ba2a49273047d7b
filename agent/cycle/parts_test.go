package cycle_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/agent/cycle"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

// patched is a disk that is written block by block, with a freeze that always comes about.
type patched struct {
	*world
	d    *liveDisk
	conf cycle.Config
	r    *rand.Rand
}

// newPatched makes a first restpoint of 32 chunks of 256 KiB. The last chunk is shorter.
func newPatched(t *testing.T) *patched {
	w := newWorld(t)
	p := &patched{world: w, r: rand.New(rand.NewPCG(31, 32))}
	p.d = &liveDisk{id: "a", data: make([]byte, 8<<20-5*grain), t: &liveTracker{}}
	for i := range p.d.data {
		if i/grain%64 < 60 {
			p.d.data[i] = byte(p.r.Uint32())
		}
	}
	p.cycle(nil)
	return p
}

// write writes n blocks at random places.
func (p *patched) write(n int) {
	for range n {
		p.d.write(content(p.r, grain), grain*p.r.Int64N(int64(len(p.d.data))/grain))
	}
}

// writeWithin is write for who holds the disk.
func (p *patched) writeWithin(n int) {
	for range n {
		off := grain * p.r.Int64N(int64(len(p.d.data))/grain)
		copy(p.d.data[off:], content(p.r, grain))
		p.d.t.mark(p.d.id, off, grain)
	}
}

// cycle makes a restpoint, with change made to its configuration, and compares it with the disk.
func (p *patched) cycle(change func(*cycle.Config)) *cycle.Result {
	p.t.Helper()
	res, err := p.try(change)
	must(p.t, err)
	p.check(res.Restpoint, p.d.data)
	return res
}

func (p *patched) try(change func(*cycle.Config)) (*cycle.Result, error) {
	p.conf = p.config(p.d)
	p.conf.ChunkSize, p.conf.Tracker = 256<<10, p.d.t
	p.conf.Freeze = func(ctx context.Context, ahead func(context.Context) error, inside func(context.Context, bool) error) (*cycle.Frozen, error) {
		return &cycle.Frozen{Consistency: format.Filesystem, For: time.Millisecond}, inside(ctx, true)
	}
	if change != nil {
		change(&p.conf)
	}
	p.d.read = 0
	res, err := cycle.Run(p.t.Context(), p.conf)
	if err == nil {
		p.last = res.Restpoint
	}
	return res, err
}

// TestPatches: of a chunk in which few blocks were written few are read and sent, again and again, and every restpoint is whole.
func TestPatches(t *testing.T) {
	p := newPatched(t)
	again := func(round int, blocks int64, chunks ...int64) {
		t.Helper()
		for _, c := range chunks {
			p.d.write(content(p.r, grain), c*256<<10+grain*p.r.Int64N(59))
		}
		res := p.cycle(nil)
		if most := blocks * grain; res.Stats.Sent > most || p.d.read > most {
			t.Errorf("round %d: read %d bytes and sent %d, want at most %d", round, p.d.read, res.Stats.Sent, most)
		}
	}
	again(0, 2*64, 3, 4) // whole: nothing is known of blocks yet
	for round := 1; round <= 4; round++ {
		again(round, 2, 3, 4)
	}
	p.reopen() // a new agent
	for round := 5; round <= 8; round++ {
		again(round, 2, 3, 4)
	}
	again(9, 2*64, 3, 4) // whole again: eight patches stand on each other
	again(10, 2, 3, 4)
	// A chunk that is as it was before is not sent.
	was := bytes.Clone(p.d.data[3*256<<10 : 3*256<<10+grain])
	for range 3 {
		p.d.write(bytes.Repeat([]byte("x"), grain), 3*256<<10)
		p.cycle(nil)
		p.d.write(was, 3*256<<10)
		p.cycle(nil)
	}
	for range 10 {
		p.write(500)
		p.cycle(nil)
	}
	clear(p.d.data[:1<<20])
	p.d.t.mark("a", 0, 1<<20)
	p.cycle(nil)
	again(8, 64, 2)
	if res := p.cycle(func(c *cycle.Config) { c.Blocks = nil }); res.Stats.Sent != 0 {
		t.Errorf("%d bytes were sent of what did not change", res.Stats.Sent)
	}
}

// TestPatchesInPasses: blocks that are written again and again while a cycle runs, before and within the freeze.
func TestPatchesInPasses(t *testing.T) {
	p := newPatched(t)
	for round := range 12 {
		p.write(50)
		var frozen []byte
		tries := 0
		res, err := p.try(func(c *cycle.Config) {
			c.Freeze = func(ctx context.Context, ahead func(context.Context) error, inside func(context.Context, bool) error) (*cycle.Frozen, error) {
				p.write(20)
				tries++
				if (tries+round)%2 == 0 {
					p.d.onRead = func() { p.writeWithin(10) } // while it is read ahead
					if err := ahead(ctx); err != nil {
						return nil, err
					}
					p.write(20)
				}
				if tries < 3 {
					return nil, errors.Join(inside(ctx, true), context.DeadlineExceeded)
				}
				frozen = bytes.Clone(p.d.data)
				err := inside(ctx, true)
				p.write(20)
				return &cycle.Frozen{Consistency: format.Filesystem}, err
			}
		})
		must(t, err)
		if res.Passes != 2 || res.Consistency != format.Filesystem {
			t.Errorf("round %d: %d passes, %s: %q", round, res.Passes, res.Consistency, res.Why)
		}
		p.check(res.Restpoint, frozen)
	}
}

// TestBlocksDamaged: what an agent remembers of blocks may be lost, torn, of another time, or made up.
func TestBlocksDamaged(t *testing.T) {
	p := newPatched(t)
	files, err := filepath.Glob(filepath.Join(p.dirPath, "base/*/blocks-262144"))
	must(t, err)
	if len(files) != 1 {
		t.Fatalf("files of blocks: %q", files)
	}
	const slot = 65 * 32 // of a chunk: hashes, and how it was sent
	var old []byte
	for round := range 12 {
		p.write(200)
		p.cycle(nil)
		b, err := os.ReadFile(files[0])
		must(t, err)
		damaged := bytes.Clone(b)
		switch round % 6 {
		case 0:
			for range 40 {
				damaged[p.r.IntN(len(b))] ^= 1
			}
		case 1:
			damaged = b[:len(b)/2]
		case 2:
			copy(damaged, old) // hashes of then, which another restpoint had
		case 3:
			copy(damaged[slot:], b)
		case 4: // all were sent whole, it says
			for i := slot; i <= len(b); i += slot {
				damaged[i-31] = 0
			}
		case 5: // hashes of a neighbour
			copy(damaged[slot:2*slot-32], b[3*slot:])
		}
		old = b
		if round%2 == 0 {
			p.reopen()
		}
		must(t, os.WriteFile(files[0], damaged, 0o600))
		p.write(200)
		// A base that staging does not have is noticed by the master, and costs a cycle.
		res, err := p.try(nil)
		if wire.HasCode(err, wire.CodeMissing) {
			res, err = p.try(nil)
		}
		must(t, err)
		p.check(res.Restpoint, p.d.data)
	}
}

// TestPatchBaseLost: where staging has lost what a patch is made of, the next cycle sends the chunk whole.
func TestPatchBaseLost(t *testing.T) {
	p := newPatched(t)
	p.write(30)
	p.cycle(nil)
	p.write(30)
	lost := wire.NewProblem(422, wire.CodeMissing, "patches of chunks that are not there")
	_, err := p.try(func(c *cycle.Config) { c.Master = &refusing{Master: c.Master, err: lost} })
	if !wire.HasCode(err, wire.CodeMissing) {
		t.Fatalf("got %v", err)
	}
	if res := p.cycle(nil); res.Stats.Sent < 10*256<<10 {
		t.Errorf("%d bytes were sent, want whole chunks", res.Stats.Sent)
	}
}

// refusing takes no packs.
type refusing struct {
	cycle.Master
	err error
}

func (r *refusing) CommitPack(context.Context, string, format.PackID, []byte) error { return r.err }

// TestPatchesFallBehind: a cycle that dies leaves nothing that a later patch could rest on.
func TestPatchesFallBehind(t *testing.T) {
	p := newPatched(t)
	killed := errors.New("killed here")
	for round := range 9 {
		p.write(300)
		if _, err := p.try(func(c *cycle.Config) {
			l := c.Master.(*link)
			switch round % 3 {
			case 0:
				l.commit = func() error { return killed }
			case 1:
				c.Master = &refusing{Master: l, err: killed}
			case 2:
				l.after = func() error { return killed }
			}
		}); !errors.Is(err, killed) {
			t.Fatalf("round %d: %v", round, err)
		}
		if round%2 == 0 {
			p.reopen()
		}
		m, err := p.catalog.Machine(t.Context(), p.machine.ID)
		must(t, err)
		p.last = m.LastRestpoint
		p.write(30)
		res, err := p.try(nil)
		if wire.HasCode(err, wire.CodeMissing) { // a new agent cannot know what was committed
			res, err = p.try(nil)
		}
		must(t, err)
		p.check(res.Restpoint, p.d.data)
	}
}

// TestFreezeReadsLittle: what was read ahead of a freeze is not read again within it, unless it was written since.
func TestFreezeReadsLittle(t *testing.T) {
	p := newPatched(t)
	p.write(100) // so that single blocks are known
	p.cycle(nil)
	p.write(100)
	var within int64
	var frozen []byte
	res, err := p.try(func(c *cycle.Config) {
		c.Freeze = func(ctx context.Context, ahead func(context.Context) error, inside func(context.Context, bool) error) (*cycle.Frozen, error) {
			p.write(200) // while hooks run
			if err := ahead(ctx); err != nil {
				return nil, err
			}
			p.write(3)
			frozen = bytes.Clone(p.d.data)
			before := p.d.read
			err := inside(ctx, true)
			within = p.d.read - before
			return &cycle.Frozen{Consistency: format.Filesystem}, err
		}
	})
	must(t, err)
	p.check(res.Restpoint, frozen)
	if most := int64(3 * 256 << 10); within == 0 || within > most {
		t.Errorf("%d bytes were read while it was frozen, want at most %d", within, most)
	}
}
