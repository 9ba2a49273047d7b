package catalogtest

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"time"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/staging"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

// ChunkSize is what the agent's disks are split into, in bytes.
const ChunkSize = chunker.MinSize

// packSize makes packs of a few chunks.
const packSize = 1 << 20

// Disk is a disk to replicate.
type Disk struct {
	ID   string
	Data []byte
}

// Agent is a machine's agent that does what a real one does, one thing at a time.
type Agent struct {
	Env     *Env
	Machine catalog.Machine
	Key     ed25519.PrivateKey
	Patches bool      // send a changed chunk as a patch of the one that was sent in full last
	Deep    bool      // of the one that was sent last, up to format.MaxDepth
	Now     time.Time // what its clock shows when it opens a session; zero: it does not say

	full   map[string]map[int64]Piece      // chunks that patches are made of: sent last, or known, by disk and index
	base   map[string]map[place]chunker.ID // of the last restpoint that was acknowledged, by disk
	roots  map[string]chunker.ID
	parent string
}

// place is a chunk (level -1) or node of a disk's tree.
type place struct {
	level int
	index int64
}

// NewAgent enrols a machine.
func (e *Env) NewAgent(name string) *Agent {
	e.T.Helper()
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		e.T.Fatal(err)
	}
	m, err := e.Catalog.CreateMachine(e.T.Context(), catalog.Machine{Name: name, SigningKey: pub, Fingerprint: "host of " + name})
	if err != nil {
		e.T.Fatal(err)
	}
	return &Agent{Env: e, Machine: m, Key: key}
}

// Piece is content that has an id. With a Base it goes into a pack as a patch of that.
type Piece struct {
	Kind    format.Kind
	ID      chunker.ID
	Content []byte
	Base    chunker.ID
	Depth   uint8  // as format.Entry has it; 0 with a Base: 1
	Old     []byte // content of Base

	disk  string
	index int64 // of a chunk
}

// Cycle is one session of an agent.
type Cycle struct {
	Agent   *Agent
	Session wire.Session
	Pieces  []Piece // that must be there and that the parent does not have at that place, in order of sending
	Roots   map[string]chunker.ID

	disks []Disk
	tree  map[string]map[place]chunker.ID

	refused bool // patches were, so all was sent in full
}

// Open opens a session for disks as they are now, with the last restpoint as its parent. resume may be empty.
func (a *Agent) Open(resume string, disks ...Disk) (*Cycle, error) {
	req := wire.SessionRequest{Resume: resume, Parent: a.parent, Now: a.Now}
	for _, d := range disks {
		sd := wire.SessionDisk{ID: d.ID, Name: d.ID, Size: int64(len(d.Data)), ChunkSize: ChunkSize}
		if root, ok := a.roots[d.ID]; ok {
			sd.BaseRoot = root.String()
		}
		req.Disks = append(req.Disks, sd)
	}
	m, err := a.Env.Catalog.Machine(a.Env.T.Context(), a.Machine.ID)
	if err != nil {
		return nil, err
	}
	req.Sync = m.Sync
	if m.Hold != nil {
		req.Sync = m.Hold.ID
	}
	s, err := a.Env.Catalog.OpenSession(a.Env.T.Context(), a.Machine.ID, req)
	if err != nil {
		return nil, err
	}
	c := &Cycle{Agent: a, Session: s, disks: disks, Roots: map[string]chunker.ID{}, tree: map[string]map[place]chunker.ID{}}
	return c, c.read()
}

// read makes ids and trees of all disks.
func (c *Cycle) read() error {
	keys := c.Agent.Env.Keys
	chunks, nodes := chunker.NewHasher(keys.ChunkKey()), chunker.NewHasher(keys.NodeKey())
	lost := make(map[string]bool)
	for _, id := range c.Session.Lost {
		lost[id] = true
	}
	for _, d := range c.disks {
		tree := make(map[place]chunker.ID)
		c.tree[d.ID] = tree
		base := c.Agent.base[d.ID]
		if c.Session.Parent == "" {
			base = nil
		}
		add := func(p place, kind format.Kind, id chunker.ID, content []byte) {
			tree[p] = id
			if base[p] == id && !lost[id.String()] {
				return
			}
			piece := Piece{Kind: kind, ID: id, Content: append([]byte(nil), content...), disk: d.ID, index: p.index}
			old, ok := c.Agent.full[d.ID][p.index]
			if c.Agent.Patches && kind == format.KindChunk && ok && !lost[id.String()] && old.ID != id && len(old.Content) == len(content) &&
				old.Depth < format.MaxDepth {
				piece.Base, piece.Old, piece.Depth = old.ID, old.Content, old.Depth+1
			}
			c.Pieces = append(c.Pieces, piece)
		}
		layout := chunker.Layout{Size: int64(len(d.Data)), ChunkSize: ChunkSize}
		b := format.NewTreeBuilder(nodes, layout.Chunks(), func(level int, index int64, id chunker.ID, encoded []byte) error {
			add(place{level, index}, format.KindNode, id, encoded)
			return nil
		})
		for i := range layout.Chunks() {
			off, n := layout.Extent(i)
			content := d.Data[off : off+int64(n)]
			id := chunks.ID(content)
			if id.IsZero() {
				continue
			}
			add(place{-1, i}, format.KindChunk, id, content)
			if err := b.Add(i, id); err != nil {
				return err
			}
		}
		root, err := b.Finish()
		if err != nil {
			return err
		}
		c.Roots[d.ID] = root
	}
	return nil
}

// Unknown offers all pieces and returns those that must be sent, each once.
func (c *Cycle) Unknown() ([]Piece, error) {
	var send []Piece
	seen := make(map[chunker.ID]bool)
	for rest := c.Pieces; len(rest) > 0; {
		part := rest[:min(len(rest), wire.MaxOffer)]
		rest = rest[len(part):]
		ids := make([]chunker.ID, len(part))
		for i := range part {
			ids[i] = part[i].ID
		}
		known, err := c.Agent.Env.Catalog.Offer(c.Agent.Env.T.Context(), c.Agent.Machine.ID, c.Session.ID, ids)
		if err != nil {
			return nil, err
		}
		for i := range part {
			if !known.Get(i) && !seen[part[i].ID] {
				seen[part[i].ID] = true
				send = append(send, part[i])
			}
		}
	}
	return send, nil
}

// Pack is a pack that an agent made.
type Pack struct {
	ID      format.PackID
	Object  []byte
	Entries []byte
}

// Announce is what the agent says of it.
func (p *Pack) Announce() wire.PackAnnounce {
	sum := staging.Checksum(p.Object)
	return wire.PackAnnounce{ID: p.ID.String(), Size: int64(len(p.Object)), CRC32C: sum[:]}
}

// MakePacks seals pieces into packs.
func (e *Env) MakePacks(pieces []Piece) ([]Pack, error) {
	var packs []Pack
	for len(pieces) > 0 {
		w, err := format.NewPackWriter(e.Keys, make([]byte, packSize))
		if err != nil {
			return nil, err
		}
		n := 0
		for n < len(pieces) && w.Room(len(pieces[n].Content)) {
			if err := pieces[n].append(w); err != nil {
				return nil, err
			}
			n++
		}
		if n == 0 {
			return nil, errors.New("a piece does not fit into a pack")
		}
		pieces = pieces[n:]
		object, entries, err := w.Finish()
		if err != nil {
			return nil, err
		}
		packs = append(packs, Pack{ID: w.ID(), Object: object, Entries: format.MarshalEntries(entries)})
	}
	return packs, nil
}

func (p *Piece) append(w *format.PackWriter) error {
	if p.Base.IsZero() {
		return w.Append(p.Kind, p.ID, chunker.Raw, len(p.Content), p.Content)
	}
	blocks, err := chunker.DiffBlocks(p.Old, p.Content)
	if err != nil {
		return err
	}
	comp, err := chunker.NewCompressor()
	if err != nil {
		return err
	}
	patch, err := comp.EncodePatch(nil, p.Content, &blocks)
	if err != nil {
		return err
	}
	return w.AppendPatch(p.ID, p.Base, max(1, p.Depth), len(p.Content), patch)
}

// Upload announces, puts and commits one pack.
func (c *Cycle) Upload(p *Pack) error {
	ctx, cat := c.Agent.Env.T.Context(), c.Agent.Env.Catalog
	up, err := cat.Announce(ctx, c.Agent.Machine.ID, c.Session.ID, []wire.PackAnnounce{p.Announce()})
	if err != nil {
		return err
	}
	if !up[0].Exists {
		err := c.Agent.Env.Bucket.Put(ctx, p.ID.Name(), p.Object, &staging.PutOptions{IfAbsent: true})
		if err != nil && !errors.Is(err, staging.ErrExists) {
			return err
		}
	}
	return cat.CommitPack(ctx, c.Agent.Machine.ID, c.Session.ID, p.ID, p.Entries)
}

// Send offers everything and sends what is not known, in full where a patch is refused. It returns the pieces sent.
func (c *Cycle) Send() ([]Piece, error) {
	send, err := c.Unknown()
	if err != nil {
		return nil, err
	}
	err = c.SendPieces(send)
	if wire.HasCode(err, wire.CodeMissing) {
		for i := range send {
			send[i].Base, send[i].Old, send[i].Depth = chunker.Zero, nil, 0
		}
		c.refused = true
		err = c.SendPieces(send)
	}
	return send, err
}

// SendPieces packs pieces and uploads the packs.
func (c *Cycle) SendPieces(pieces []Piece) error {
	packs, err := c.Agent.Env.MakePacks(pieces)
	if err != nil {
		return err
	}
	for i := range packs {
		if err := c.Upload(&packs[i]); err != nil {
			return fmt.Errorf("pack %d: %w", i, err)
		}
	}
	return nil
}

// Restpoint is what the manifest will say.
func (c *Cycle) Restpoint() *format.Restpoint {
	r := &format.Restpoint{
		ID: c.Session.Restpoint, Project: c.Agent.Machine.Project, Machine: c.Agent.Machine.ID, Created: c.Agent.Env.Clock.Now(),
		Parent: c.Session.Parent, Consistency: format.Fuzzy, Agent: "test",
	}
	for i, d := range c.disks {
		r.Disks = append(r.Disks, format.Disk{
			Number: i, ID: d.ID, Name: d.ID, Size: int64(len(d.Data)), ChunkSize: ChunkSize, Root: c.Roots[d.ID],
			Tracker: "scan", Consistency: format.Fuzzy,
		})
	}
	return r
}

// Manifest signs the restpoint.
func (c *Cycle) Manifest() ([]byte, error) {
	return format.SignRestpoint(c.Agent.Env.Keys, c.Agent.Key, c.Restpoint())
}

// Commit commits the manifest and, when that was acknowledged, takes the restpoint as the agent's base.
func (c *Cycle) Commit(manifest []byte) (wire.Committed, error) {
	done, err := c.Agent.Env.Catalog.CommitSession(c.Agent.Env.T.Context(), c.Agent.Machine.ID, c.Session.ID, manifest)
	if err == nil {
		c.Agent.base, c.Agent.roots, c.Agent.parent = c.tree, c.Roots, done.Restpoint
		c.noteFull()
	}
	return done, err
}

// noteFull keeps what later patches can be made of.
func (c *Cycle) noteFull() {
	a := c.Agent
	if a.full == nil {
		a.full = make(map[string]map[int64]Piece)
	}
	for _, p := range c.Pieces {
		if p.Kind != format.KindChunk || !p.Base.IsZero() && !c.refused && !a.Deep {
			continue
		}
		if c.refused {
			p.Depth = 0
		}
		if a.full[p.disk] == nil {
			a.full[p.disk] = make(map[int64]Piece)
		}
		a.full[p.disk][p.index] = p
	}
}

// ForgetBase makes the agent forget its last restpoint.
func (a *Agent) ForgetBase() { a.base, a.roots, a.parent = nil, nil, "" }

// ForgetFull makes it send chunks in full.
func (a *Agent) ForgetFull() { a.full = nil }

// Replicate makes a restpoint of disks, and returns its id and how many pieces were sent.
func (a *Agent) Replicate(disks ...Disk) (restpoint string, sent int) {
	a.Env.T.Helper()
	c, err := a.Open("", disks...)
	if err != nil {
		a.Env.T.Fatalf("open session: %v", err)
	}
	pieces, err := c.Send()
	if err != nil {
		a.Env.T.Fatalf("send: %v", err)
	}
	manifest, err := c.Manifest()
	if err != nil {
		a.Env.T.Fatal(err)
	}
	done, err := c.Commit(manifest)
	if err != nil {
		a.Env.T.Fatalf("commit: %v", err)
	}
	return done.Restpoint, len(pieces)
}
