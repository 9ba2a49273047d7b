// Package cycle makes one restpoint: it reads a machine's disks, finds what staging does not have, sends that, and commits.
//
//	            ┌── scan ──┐              ┌─ compress ─┐
//	extents ──► │ workers  │ ─ in order ─►│  workers   │ ─ in order ─► packer ─► uploaders ─► commit
//	            └──────────┘   sequencer  └────────────┘
//	             read, zero    base, offer               seal          PUT, commit pack
//	             test, hash    (tree at the end)
//
// A disk is read in passes. The first reads all of it, or what a tracker says was written since the base. Each later one reads what was
// written while the one before it ran. When little is left the machine's file systems are frozen, the rest is read into memory, they
// are thawed, and the rest is sent: that is a restpoint of one instant. Without a tracker or a way to freeze there is one pass, and
// the restpoint is as fuzzy as it says.
//
// Invariants. Memory is bounded by three pools (spans of disk, compressed chunks, packs); whoever takes a buffer passes it on
// or gives it back, also on failure. Chunks reach packs in the order in which they lie on the disk. Nothing is sent that the
// base has at the same place, that the master says it knows, or that this cycle has sent already; of patches the master is not asked. A manifest is committed
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

	"go.opentelemetry.io/otel/attribute"

	"github.com/openmigrate/openmigrate/agent/source"
	"github.com/openmigrate/openmigrate/agent/state"
	"github.com/openmigrate/openmigrate/agent/track"
	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/internal/telemetry"
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
	Tracker    track.Tracker             // nil: everything is scanned
	Freeze     Freeze                    // nil: restpoints are fuzzy, unless there are snapshots
	Hold       *Hold                     // the last cycle before the machine is moved; nil: one like any other. There are no snapshots then
	Snapshot   Snapshot                  // nil: the disks themselves are read
	Raw        Raw                       // nil: all that is written is taken for what Freeze froze
	Hide       Hide                      // nil: free space is sent
	Log        *slog.Logger
	Buffers    *Buffers      // shared by the cycles of a process; nil: its own
	Blocks     *state.Blocks // shared by the cycles of a process; nil: chunks are always read and sent whole
}

// Hide makes a reader that shows zeros where a disk's file systems say that nothing is. It is asked after tracking began, so what is
// written there later is read by a later pass.
type Hide func(ctx context.Context, s source.Source, r source.Reader) (source.Reader, error)

// ErrBase: the master refused the manifest because the base was not what it has. The base is gone; try again at once.
var ErrBase = errors.New("base tree did not match staging")

// Result is a restpoint that was listed.
type Result struct {
	wire.Committed
	Stats       wire.Progress
	Roots       map[string]chunker.ID // by disk id
	Consistency format.Consistency
	Frozen      time.Duration // how long writers were kept waiting
	Passes      int           // before the freeze; none where little was written
	Backlog     int64         // bytes written since the base when the cycle began; of a disk that was scanned, of chunks that differ
	Unconverged bool          // it was given up to reach one instant: disks were written faster than they were read
	Why         []string      // what kept the restpoint from being better or cheaper, for people
	Disks       []DiskResult
}

// DiskResult says by which means a disk is followed.
type DiskResult struct {
	ID, Name       string
	Tracker        string // of the cycles to come; this one may have scanned all the same, which Result.Why explains
	TrackerWhy     string // why not a better one; empty: there is none
	Consistency    format.Consistency
	ConsistencyWhy string // why not a stronger one; empty: nothing kept it
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
	src     source.Source
	reader  source.Reader
	whole   source.Reader // for a pass over all of it: reader, but for free space
	layout  chunker.Layout
	base    *state.Base
	parent  bool // the base is the pinned parent's tree
	rec     *state.Recorder
	blocks  *state.DiskBlocks // what is known of single blocks; nil: nothing, and nothing is to be
	marks   *track.Marks      // written since the base; nil: all must be read
	scan    bool              // all was read
	todo    *track.Marks      // written since it was read last
	since   *track.Marks      // of these, written since the last flip but one
	written *track.Marks      // since the base, if that is to be known
	again   []int64           // chunks that must be read whole, because what was known of their blocks was not so
	root    chunker.ID
	diff    int64 // bytes of chunks that changed against the parent
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

// tracker is by what means it was known what to read.
func (d *disk) tracker(t track.Tracker) string {
	if d.scan {
		return "scan"
	}
	return t.Status(d.src.ID()).Tracker
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
	if conf.Tracker == nil {
		conf.Tracker = &track.Scan{}
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
	l := laps{last: time.Now()}
	session, err := conf.Master.OpenSession(ctx, sessionRequest(&conf, disks))
	if err != nil {
		return nil, fmt.Errorf("open session: %w", err)
	}
	ctx, end := telemetry.Since(telemetry.Root(ctx, session.Restpoint), l.last, "restpoint", attribute.Int("openmigrate.disks", len(disks)))
	defer func() { end(&err) }()
	l.ctx = ctx
	l.lap("open")
	r := &run{conf: &conf, session: session, disks: disks, lost: map[chunker.ID]bool{}, started: time.Now(), laps: l,
		frozen: Frozen{Consistency: format.Fuzzy}}
	defer func() {
		if err != nil {
			r.abort(ctx, err)
		}
	}()
	if err := r.prepare(ctx); err != nil {
		return nil, err
	}
	defer r.track.Close()
	r.laps.lap("prepare")
	stop := r.keepAlive(ctx)
	r.ctx, r.keeper = ctx, stop
	ctx = stop.ctx
	err = r.send(ctx)
	r.laps.lap("send")
	switch {
	case r.listed != nil:
		return r.keepHeld(), nil
	case err == nil:
		return r.commit(ctx)
	}
	if wire.HasCode(err, wire.CodeMissing) {
		err = fmt.Errorf("staging has lost what patches stand on; the next cycle sends whole chunks: %w", errors.Join(err, r.dropBlocks()))
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
	q := &wire.SessionRequest{Sync: conf.Sync, Inventory: conf.Inventory, Now: time.Now().UTC()}
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
	conf     *Config
	session  *wire.Session
	disks    []*disk
	lost     map[chunker.ID]bool
	track    track.Cycle
	unread   int64 // bytes that are as in the base, says the tracker
	frozen   Frozen
	snaps    *Snapshots // nil: the disks themselves are read
	unfrozen string     // why there are no snapshots
	instant  time.Time  // that the restpoint is of; zero: of none
	passes   int
	backlog  int64 // bytes written since the base, of disks that are not scanned
	stuck    bool  // it did not converge
	why      []string
	started  time.Time
	laps     laps
	ctx      context.Context // of Run: it lives on when the session has ended
	keeper   *keeper
	listed   *Result // of a freeze that lasted
	n        counters
	phase    atomic.Value // string
}

// prepare settles which bases count, starts their records, and asks what was written since.
func (r *run) prepare(ctx context.Context) error {
	for _, s := range r.session.Lost {
		if id, err := chunker.ParseID(s); err == nil {
			r.lost[id] = true
		}
	}
	r.phase.Store("reading")
	var watch []track.Disk
	for _, d := range r.disks {
		info := d.base.Info()
		d.parent = r.session.Parent != "" && info != nil && info.ChunkSize == d.layout.ChunkSize
		if info != nil && !d.parent {
			if err := d.base.Drop(); err != nil {
				return err
			}
		}
		var err error
		if d.rec, err = d.base.Record(d.layout); err != nil {
			return err
		}
		r.n.total.Add(d.layout.Size)
		watch = append(watch, track.Disk{ID: d.src.ID(), Path: d.src.Name(), Size: d.layout.Size})
	}
	if err := r.conf.Tracker.Watch(ctx, watch); err != nil {
		return fmt.Errorf("watch disks: %w", err)
	}
	var err error
	if r.track, err = r.conf.Tracker.Start(ctx); err != nil {
		return fmt.Errorf("track changes: %w", err)
	}
	for _, d := range r.disks {
		if err := r.changed(ctx, d); err != nil {
			r.track.Close()
			return err
		}
		if r.conf.Blocks == nil || r.session.PatchDepth < format.MaxDepth || len(r.lost) > 0 || r.conf.Tracker.Status(d.src.ID()).Grain == 0 {
			continue
		}
		if d.blocks, err = r.conf.Blocks.Disk(d.src.ID(), d.layout.ChunkSize); err != nil {
			r.note("whole chunks of %s are sent: %v", d.src.Name(), err) // a full disk must not stop replication
		} else if d.scan {
			d.blocks.Doubt()
		}
	}
	return nil
}

// changed settles how much of a disk the first pass reads.
func (r *run) changed(ctx context.Context, d *disk) error {
	var why string
	switch {
	case !d.parent:
		why = "there is no restpoint yet that it could build on"
	case len(r.lost) > 0:
		why = "staging lost data that it may still have"
	case d.base.Info().Size != d.layout.Size:
		why = "its size changed"
	default:
		d.marks, why = r.track.Changed(d.src.ID(), d.base.Info().Restpoint)
	}
	if d.marks != nil && d.marks.Size() == d.layout.Size {
		r.backlog += d.marks.Bytes()
		r.remember(d, d.marks)
		return nil
	}
	d.marks, d.scan, d.whole = nil, true, d.reader
	r.note("%s is read whole: %s", d.src.Name(), why)
	if r.conf.Hide == nil || r.conf.Tracker.Status(d.src.ID()).Grain == 0 {
		return nil
	}
	hidden, err := r.conf.Hide(ctx, d.src, d.reader)
	if err != nil {
		return fmt.Errorf("find free space of %s: %w", d.src.Name(), err)
	}
	d.whole = hidden
	return nil
}

// fuzzy notes why the restpoint is of no one instant.
func (r *run) fuzzy(format string, args ...any) {
	r.frozen.Why = fmt.Sprintf(format, args...)
	r.note("the restpoint is fuzzy: %s", r.frozen.Why)
}

// note adds to what the operator should know.
func (r *run) note(format string, args ...any) { r.why = append(r.why, fmt.Sprintf(format, args...)) }

// commit makes the restpoint of what was sent.
func (r *run) commit(ctx context.Context) (*Result, error) {
	out, err := r.list(ctx, (*state.Recorder).Seal)
	if err != nil {
		return nil, err
	}
	r.keep()
	if r.conf.Hold != nil {
		r.conf.Hold.Held(r.ctx, out)
	}
	return out, nil
}

// list has the restpoint of what was sent listed, and ends the session. Before that seal makes each disk's record durable; nil: it is not.
func (r *run) list(ctx context.Context, seal func(*state.Recorder, *state.BaseInfo) error) (*Result, error) {
	stop := r.keeper
	r.phase.Store("committing")
	stats := r.n.progress("")
	stats.Total += r.unread
	stats.Same += r.unread
	if r.frozen.Consistency == format.Fuzzy {
		r.instant = r.started // nothing that it has is older
	}
	point := &format.Restpoint{
		ID: r.session.Restpoint, Project: r.conf.Project, Machine: r.conf.Machine, Created: r.instant.UTC(), Parent: r.session.Parent,
		Consistency: r.frozen.Consistency, Agent: r.conf.Version,
		Stats: format.Stats{Total: stats.Total, Zero: stats.Zero, Same: stats.Same, Known: stats.Known, Sent: stats.Sent, Stored: stats.Stored,
			Packs: stats.Packs, Millis: time.Since(r.started).Milliseconds()},
	}
	out := &Result{Stats: stats, Roots: map[string]chunker.ID{}, Consistency: r.frozen.Consistency, Frozen: r.frozen.For, Passes: r.passes, Why: r.why,
		Backlog: r.backlog, Unconverged: r.stuck}
	for i, d := range r.disks {
		out.Roots[d.src.ID()] = d.root
		if d.scan {
			out.Backlog += d.diff
		}
		status := r.conf.Tracker.Status(d.src.ID())
		out.Disks = append(out.Disks, DiskResult{ID: d.src.ID(), Name: d.src.Name(), Tracker: status.Tracker, TrackerWhy: status.Why,
			Consistency: r.consistency(d), ConsistencyWhy: r.frozen.Why})
		point.Disks = append(point.Disks, format.Disk{Number: i, ID: d.src.ID(), Name: d.src.Name(), Size: d.layout.Size,
			ChunkSize: d.layout.ChunkSize, Root: d.root, Tracker: d.tracker(r.conf.Tracker), Consistency: r.consistency(d), Changed: d.diff})
		if seal == nil {
			continue
		}
		if err := seal(d.rec, d.info(point.ID)); err != nil {
			return nil, stop.end(err)
		}
	}
	r.laps.lap("seal")
	if err := r.track.Intend(point.ID); err != nil {
		return nil, stop.end(fmt.Errorf("track changes: %w", err))
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
	r.laps.lap("commit")
	out.Committed = *done
	telemetry.Note(r.laps.ctx, attribute.String("openmigrate.consistency", string(out.Consistency)), attribute.Int64("openmigrate.bytes.sent", stats.Sent),
		attribute.Int64("openmigrate.bytes.stored", stats.Stored), attribute.Int("openmigrate.passes", out.Passes), attribute.Int64("openmigrate.frozen.us", out.Frozen.Microseconds()))
	return out, nil
}

// info says what the base is of, once it is of restpoint.
func (d *disk) info(restpoint string) *state.BaseInfo {
	return &state.BaseInfo{Restpoint: restpoint, Root: d.root, Size: d.layout.Size, ChunkSize: d.layout.ChunkSize}
}

// keep makes what was listed the base of the next cycle.
func (r *run) keep() {
	for _, d := range r.disks {
		if d.blocks != nil {
			d.blocks.Settle()
			if err := d.blocks.Err(); err != nil {
				r.conf.Log.Warn("some chunks will be read and sent whole", "disk", d.src.Name(), "error", err)
			}
		}
		if err := d.base.Apply(); err != nil {
			// The restpoint is listed. Without the base the next cycle offers everything.
			r.conf.Log.Warn("the base could not be kept", "disk", d.src.Name(), "error", err)
		}
	}
	if err := r.track.Settle(); err != nil {
		// Marks that stay cost another reading, no more.
		r.conf.Log.Warn("marks of what was sent could not be dropped", "error", err)
	}
	r.laps.lap("apply")
	r.conf.Log.Debug("cycle", r.laps.list...)
}

// laps notes what a cycle spends its time on, for those who look for it.
type laps struct {
	ctx  context.Context // of the cycle's span
	last time.Time
	list []any // of slog: names and durations
}

// lap notes the time since the last one.
func (l *laps) lap(name string) {
	now := time.Now()
	l.list = append(l.list, name, now.Sub(l.last).Round(time.Millisecond))
	telemetry.Record(l.ctx, name, l.last, now)
	l.last = now
}

func (r *run) dropBlocks() error {
	var errs []error
	for _, d := range r.disks {
		if d.blocks != nil {
			errs = append(errs, d.blocks.Reset())
		}
	}
	return errors.Join(errs...)
}

func (r *run) dropBases() error {
	var errs []error
	for _, d := range r.disks {
		errs = append(errs, d.base.Drop())
	}
	return errors.Join(errs...)
}
