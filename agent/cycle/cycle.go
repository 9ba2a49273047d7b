// Package cycle makes one restpoint: it reads a machine's disks, finds what staging does not have, sends that, and commits.
//
//	            ┌── scan ──┐              ┌─ compress ─┐
//	extents ──► │ workers  │ ─ in order ─►│  workers   │ ─ in order ─► packer ─► uploaders ─► commit
//	            └──────────┘   sequencer  └────────────┘
//	             read, zero    base, tree,               seal          PUT, commit pack
//	             test, hash    offer
//
// Invariants. Memory is bounded by three pools (spans of disk, compressed chunks, packs); whoever takes a buffer passes it on
// or gives it back, also on failure. Chunks reach packs in the order in which they lie on the disk. Nothing is sent that the
// base has at the same place, that the master says it knows, or that this cycle has sent already. A manifest is committed
// only after every pack is. A cycle that fails leaves the base as it was, and the packs that it committed are found by the
// next one through offers.
package cycle

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/openmigrate/openmigrate/agent/source"
	"github.com/openmigrate/openmigrate/agent/state"
	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/staging"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

// Master is what a cycle asks of the master. *wire.Client implements it.
type Master interface {
	OpenSession(ctx context.Context, r *wire.SessionRequest) (*wire.Session, error)
	RenewSession(ctx context.Context, session string, p *wire.Progress) (*wire.SessionLease, error)
	Offer(ctx context.Context, session string, ids []chunker.ID) (wire.Bitmap, error)
	Announce(ctx context.Context, session string, packs []wire.PackAnnounce) ([]wire.PackUpload, error)
	CommitPack(ctx context.Context, session string, pack format.PackID, entries []byte) error
	CommitSession(ctx context.Context, session string, manifest []byte) (*wire.Committed, error)
	AbortSession(ctx context.Context, session string, f *wire.Failure) error
}

// Putter sends a pack. *staging.SignedClient implements it.
type Putter interface {
	Put(ctx context.Context, s staging.SignedRequest, body []byte, wrap func(io.Reader) io.Reader) error
}

// Config is what a cycle works with.
type Config struct {
	Master     Master
	Staging    Putter
	State      *state.Dir
	Keys       *format.Keys
	Project    string
	Machine    string
	SigningKey ed25519.PrivateKey
	Version    string
	Sources    []source.Source
	ChunkSize  int                       // bytes; 0: by disk size
	Sync       string                    // wish that this cycle fulfils
	Last       string                    // restpoint that the master listed last, empty when none
	Inventory  *wire.Inventory           // may be nil
	Limit      func(io.Reader) io.Reader // slows a pack's body down; nil: not
	Report     func(wire.Progress)       // is told how far the cycle is, about twice a second; may be nil
	Log        *slog.Logger
	Buffers    *Buffers // shared by the cycles of a process; nil: its own
}

// ErrBase: the master refused the manifest because the base was not what it has. The base is gone; try again at once.
var ErrBase = errors.New("base tree did not match staging")

// Result is a restpoint that was listed.
type Result struct {
	wire.Committed
	Stats wire.Progress
	Roots map[string]chunker.ID // by disk id
}

// counters are what a cycle has done so far, in bytes unless said otherwise.
type counters struct {
	total, done, zero, same, known, sent, stored, packs, chunks atomic.Int64
}

func (c *counters) progress(phase string) wire.Progress {
	return wire.Progress{Phase: phase, Total: c.total.Load(), Done: c.done.Load(), Zero: c.zero.Load(), Same: c.same.Load(),
		Known: c.known.Load(), Sent: c.sent.Load(), Stored: c.stored.Load(), Packs: c.packs.Load(), Chunks: c.chunks.Load()}
}

// disk is one disk on its way through a cycle.
type disk struct {
	src    source.Source
	reader source.Reader
	layout chunker.Layout
	base   *state.Base
	parent bool // the base is the pinned parent's tree
	rec    *state.Recorder
	root   chunker.ID
	diff   int64 // bytes of chunks that changed against the parent
}

func (d *disk) close() {
	if d.reader != nil {
		_ = d.reader.Close() // it was only read
	}
	if d.rec != nil {
		d.rec.Close()
	}
	if d.base != nil {
		d.base.Close()
	}
}

// Run makes a restpoint. Errors to test for: ErrBase, *source.ReadError, source.ErrVanished, source.ErrShrunk, wire problems
// (CodeFenced: start over), staging.ErrFull, ctx's.
func Run(ctx context.Context, conf Config) (_ *Result, err error) {
	if conf.Log == nil {
		conf.Log = slog.Default()
	}
	if conf.Buffers == nil {
		conf.Buffers = NewBuffers()
	}
	disks, err := openDisks(ctx, &conf)
	defer func() {
		for _, d := range disks {
			d.close()
		}
	}()
	if err != nil {
		return nil, err
	}
	session, err := conf.Master.OpenSession(ctx, sessionRequest(&conf, disks))
	if err != nil {
		return nil, fmt.Errorf("open session: %w", err)
	}
	r := &run{conf: &conf, session: session, disks: disks, lost: map[chunker.ID]bool{}, started: time.Now()}
	defer func() {
		if err != nil {
			r.abort(ctx, err)
		}
	}()
	if err := r.prepare(); err != nil {
		return nil, err
	}
	stop := r.keepAlive(ctx)
	ctx = stop.ctx
	err = r.send(ctx)
	if err == nil {
		return r.commit(ctx, stop)
	}
	return nil, stop.end(err)
}

// openDisks opens every source, so that one that is gone stops the cycle before anything is asked of the master.
func openDisks(ctx context.Context, conf *Config) ([]*disk, error) {
	var disks []*disk
	seen := map[string]string{}
	for _, s := range conf.Sources {
		if other, twice := seen[s.ID()]; twice {
			return disks, fmt.Errorf("%s and %s have the same id %s: are they two paths to one disk, or a copy? Name one of them with --disk", other, s.Name(), s.ID())
		}
		seen[s.ID()] = s.Name()
		d := &disk{src: s}
		disks = append(disks, d)
		var err error
		if d.reader, err = s.Open(ctx); err != nil {
			return disks, fmt.Errorf("open %s: %w", s.Name(), err)
		}
		d.layout = chunker.Layout{Size: d.reader.Size(), ChunkSize: conf.ChunkSize}
		if d.base, err = state.OpenBase(conf.State, s.ID(), conf.Last); err != nil {
			return disks, err
		}
		if conf.ChunkSize == 0 {
			d.layout.ChunkSize = chunker.SizeFor(d.layout.Size)
			if i := d.base.Info(); i != nil { // a disk keeps its chunks as it grows
				d.layout.ChunkSize = i.ChunkSize
			}
		}
		if err := d.layout.Check(); err != nil {
			return disks, fmt.Errorf("%s: %w", s.Name(), err)
		}
	}
	if len(disks) == 0 {
		return nil, errors.New("there is no disk to replicate: name one with --disk, or run the agent as root")
	}
	return disks, nil
}

func sessionRequest(conf *Config, disks []*disk) *wire.SessionRequest {
	q := &wire.SessionRequest{Sync: conf.Sync, Inventory: conf.Inventory}
	based := false
	for _, d := range disks {
		sd := wire.SessionDisk{ID: d.src.ID(), Name: d.src.Name(), Size: d.layout.Size, ChunkSize: d.layout.ChunkSize}
		if i := d.base.Info(); i != nil && i.ChunkSize == d.layout.ChunkSize {
			sd.BaseRoot = i.Root.String()
			based = true
		}
		q.Disks = append(q.Disks, sd)
	}
	if based {
		q.Parent = conf.Last
	}
	return q
}

// run is one cycle under a session.
type run struct {
	conf    *Config
	session *wire.Session
	disks   []*disk
	lost    map[chunker.ID]bool
	started time.Time
	n       counters
	phase   atomic.Value // string
}

// prepare settles which bases count and starts their records.
func (r *run) prepare() error {
	for _, s := range r.session.Lost {
		if id, err := chunker.ParseID(s); err == nil {
			r.lost[id] = true
		}
	}
	r.phase.Store("reading")
	for _, d := range r.disks {
		info := d.base.Info()
		d.parent = r.session.Parent != "" && info != nil && info.ChunkSize == d.layout.ChunkSize
		if info != nil && !d.parent {
			if err := d.base.Drop(); err != nil {
				return err
			}
		}
		var err error
		if d.rec, err = d.base.Record(); err != nil {
			return err
		}
		r.n.total.Add(d.layout.Size)
	}
	return nil
}

// send moves the data of all disks into staging.
func (r *run) send(ctx context.Context) error {
	p, err := newPipeline(ctx, r)
	if err != nil {
		return err
	}
	for _, d := range r.disks {
		if err := p.scan(d); err != nil {
			break // close has the cause
		}
	}
	return p.close()
}

// commit makes the restpoint of what was sent.
func (r *run) commit(ctx context.Context, stop *keeper) (*Result, error) {
	r.phase.Store("committing")
	stats := r.n.progress("")
	point := &format.Restpoint{
		ID: r.session.Restpoint, Project: r.conf.Project, Machine: r.conf.Machine, Created: time.Now().UTC(), Parent: r.session.Parent,
		Consistency: format.Fuzzy, Agent: r.conf.Version,
		Stats: format.Stats{Total: stats.Total, Zero: stats.Zero, Same: stats.Same, Known: stats.Known, Sent: stats.Sent, Stored: stats.Stored,
			Packs: stats.Packs, Millis: time.Since(r.started).Milliseconds()},
	}
	out := &Result{Stats: stats, Roots: map[string]chunker.ID{}}
	for i, d := range r.disks {
		out.Roots[d.src.ID()] = d.root
		point.Disks = append(point.Disks, format.Disk{Number: i, ID: d.src.ID(), Name: d.src.Name(), Size: d.layout.Size,
			ChunkSize: d.layout.ChunkSize, Root: d.root, Tracker: "scan", Consistency: format.Fuzzy, Changed: d.diff})
		info := &state.BaseInfo{Restpoint: point.ID, Root: d.root, Size: d.layout.Size, ChunkSize: d.layout.ChunkSize}
		if err := d.rec.Seal(info); err != nil {
			return nil, stop.end(err)
		}
	}
	manifest, err := format.SignRestpoint(r.conf.Keys, r.conf.SigningKey, point)
	if err != nil {
		return nil, stop.end(err)
	}
	var done *wire.Committed
	err = wire.Retry(ctx, 5*time.Minute, func() (err error) {
		done, err = r.conf.Master.CommitSession(ctx, r.session.ID, manifest)
		return err
	})
	if err = stop.end(err); err != nil {
		if wire.HasCode(err, wire.CodeMissing) || wire.HasCode(err, wire.CodeStale) {
			return nil, errors.Join(ErrBase, err, r.dropBases())
		}
		return nil, fmt.Errorf("commit restpoint: %w", err)
	}
	out.Committed = *done
	for _, d := range r.disks {
		if err := d.base.Apply(); err != nil {
			// The restpoint is listed. Without the base the next cycle offers everything.
			r.conf.Log.Warn("the base could not be kept", "disk", d.src.Name(), "error", err)
		}
	}
	return out, nil
}

func (r *run) dropBases() error {
	var errs []error
	for _, d := range r.disks {
		errs = append(errs, d.base.Drop())
	}
	return errors.Join(errs...)
}
