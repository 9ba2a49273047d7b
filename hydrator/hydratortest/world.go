// Package hydratortest plays the agent, the bucket and the master for tests of what reads restpoints: it packs disk images, serves
// them by signed URLs over real HTTP, and answers for one project. A World may be used by many goroutines at once.
package hydratortest

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/internal/clock"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/staging/memstore"
	"github.com/openmigrate/openmigrate/wire"
)

// Project, Machine and Disk are the names that a World uses.
const (
	Project = "p1"
	Machine = "m1"
	Disk    = "disk-1"
)

// World is a project with one machine, a bucket and a master.
type World struct {
	Keys  *format.Keys
	Store *memstore.Store
	Host  string // host:port of the bucket

	agent, master       ed25519.PrivateKey
	agentPub, masterPub ed25519.PublicKey

	mu        sync.Mutex
	handler   func(w http.ResponseWriter, r *http.Request) (answered bool) // guarded by mu, as is all below
	locations map[chunker.ID][]wire.Location
	gone      map[format.PackID]bool
	damage    []wire.Damage
	gets      int
	sequence  uint64
	valid     time.Duration
	edit      func(*wire.Location)
	reports   []json.RawMessage
	completed []wire.JobResult
	failed    []wire.Failure
	progress  []wire.Progress
	queue     []*wire.Job
	queued    chan struct{}
	cancelled map[string]bool
}

// NewWorld starts a bucket, which ends with the test.
func NewWorld(t testing.TB, c clock.Clock) *World {
	w := &World{
		Keys: format.NewKeys(), Store: memstore.New(c), locations: map[chunker.ID][]wire.Location{}, gone: map[format.PackID]bool{},
		valid: time.Hour, queued: make(chan struct{}), cancelled: map[string]bool{},
	}
	w.agentPub, w.agent, _ = ed25519.GenerateKey(nil)
	w.masterPub, w.master, _ = ed25519.GenerateKey(nil)
	server := httptest.NewServer(w)
	t.Cleanup(server.Close)
	w.Store.SetBaseURL(server.URL)
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	w.Host = u.Host
	return w
}

// ServeHTTP is the bucket.
func (w *World) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	w.gets++
	h := w.handler
	w.mu.Unlock()
	if h != nil && h(rw, r) {
		return
	}
	w.Store.ServeHTTP(rw, r)
}

// Intercept makes h see each request of the bucket first; nil ends that.
func (w *World) Intercept(h func(http.ResponseWriter, *http.Request) (answered bool)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.handler = h
}

// Gets is how many requests the bucket had.
func (w *World) Gets() int { w.mu.Lock(); defer w.mu.Unlock(); return w.gets }

// Image is one disk's content.
type Image struct {
	Data      []byte
	ChunkSize int // bytes; 0: 64 KiB
	PackSize  int // bytes; 0: 1 MiB
	Copies    int // how often each new chunk is stored; 0: once
	// Base is an image that was replicated before. A new chunk is stored as a patch of Base's at its place, if that is stored.
	Base []byte
}

// Replicated is a restpoint in the bucket.
type Replicated struct {
	Restpoint *format.Restpoint
	Wire      wire.Restpoint
	Packs     []wire.JobPack
	Chunks    []chunker.ID // of disk 0
}

// Replicate puts disks into the bucket as an agent does, sending only what is new, and lists a restpoint.
func (w *World) Replicate(t testing.TB, name string, disks ...Image) *Replicated {
	t.Helper()
	rp := &format.Restpoint{ID: name, Project: Project, Machine: Machine, Created: time.Unix(1700000000, 0).UTC(), Consistency: format.Fuzzy, Agent: "test"}
	out := &Replicated{Restpoint: rp}
	for n, img := range disks {
		if img.ChunkSize == 0 {
			img.ChunkSize = chunker.MinSize
		}
		if img.PackSize == 0 {
			img.PackSize = 1 << 20
		}
		d := format.Disk{Number: n, ID: Disk, Name: "/dev/sda", Size: int64(len(img.Data)), ChunkSize: img.ChunkSize, Tracker: "scan", Consistency: format.Fuzzy}
		if n > 0 {
			d.ID = fmt.Sprintf("%s-%d", Disk, n)
		}
		var ids []chunker.ID
		for range max(1, img.Copies) {
			ids = w.pack(t, &d, img, out, img.Copies > 1)
		}
		if n == 0 {
			out.Chunks = ids
		}
		rp.Disks = append(rp.Disks, d)
	}
	manifest, err := format.SignRestpoint(w.Keys, w.agent, rp)
	if err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	w.sequence++
	seq := w.sequence
	w.mu.Unlock()
	object, err := format.Countersign(w.master, manifest, format.ChainLink{Machine: Machine, Sequence: seq, Time: time.Unix(1700000001, 0)})
	if err != nil {
		t.Fatal(err)
	}
	out.Wire = wire.Restpoint{ID: name, Machine: Machine, Sequence: seq, Object: object, AgentKey: w.agentPub, MasterKey: w.masterPub}
	return out
}

// packer is the part of an agent that fills packs.
type packer struct {
	w      *World
	t      testing.TB
	writer *format.PackWriter
	comp   *chunker.Compressor
	out    *Replicated
	again  bool
	mine   map[chunker.ID]bool
}

func (w *World) pack(t testing.TB, d *format.Disk, img Image, out *Replicated, again bool) []chunker.ID {
	writer, err := format.NewPackWriter(w.Keys, make([]byte, 0, max(img.PackSize, img.ChunkSize+1<<16)))
	if err != nil {
		t.Fatal(err)
	}
	comp, err := chunker.NewCompressor()
	if err != nil {
		t.Fatal(err)
	}
	p := &packer{w: w, t: t, writer: writer, comp: comp, out: out, again: again, mine: map[chunker.ID]bool{}}
	l := d.Layout()
	h := chunker.NewHasher(w.Keys.ChunkKey())
	tree := format.NewTreeBuilder(chunker.NewHasher(w.Keys.NodeKey()), l.Chunks(), func(_ int, _ int64, id chunker.ID, enc []byte) error {
		p.add(format.KindNode, id, enc)
		return nil
	})
	var ids []chunker.ID
	for i := range l.Chunks() {
		off, n := l.Extent(i)
		c := img.Data[off : off+int64(n)]
		id := h.ID(c)
		ids = append(ids, id)
		end := off + int64(n)
		if !id.IsZero() && (end > int64(len(img.Base)) || !p.patch(id, c, img.Base[off:end], h)) {
			p.add(format.KindChunk, id, c)
		}
		if err := tree.Add(i, id); err != nil {
			t.Fatal(err)
		}
	}
	if d.Root, err = tree.Finish(); err != nil {
		t.Fatal(err)
	}
	p.finish()
	return ids
}

func (p *packer) add(kind format.Kind, id chunker.ID, content []byte) {
	p.w.mu.Lock()
	known := len(p.w.locations[id]) > 0
	p.w.mu.Unlock()
	if p.mine[id] || known && !p.again {
		return
	}
	p.mine[id] = true
	data, codec := p.comp.Compress(nil, content)
	if !p.writer.Room(len(data)) {
		p.finish()
	}
	if err := p.writer.Append(kind, id, codec, len(content), data); err != nil {
		p.t.Fatal(err)
	}
}

// patch stores a chunk that is new as a patch, if it can.
func (p *packer) patch(id chunker.ID, content, base []byte, h *chunker.Hasher) bool {
	baseID := h.ID(base)
	p.w.mu.Lock()
	known := p.mine[id] || len(p.w.locations[id]) > 0
	depth := uint8(format.MaxDepth)
	for _, l := range p.w.locations[baseID] {
		depth = min(depth, l.Entry.Depth)
	}
	p.w.mu.Unlock()
	if known || depth == format.MaxDepth {
		return false
	}
	blocks, err := chunker.DiffBlocks(base, content)
	if err != nil {
		p.t.Fatal(err)
	}
	data, err := p.comp.EncodePatch(nil, content, &blocks)
	if err != nil {
		p.t.Fatal(err)
	}
	if !p.writer.Room(len(data) + chunker.IDSize) {
		p.finish()
	}
	p.mine[id] = true
	if err := p.writer.AppendPatch(id, baseID, depth+1, len(content), data); err != nil {
		p.t.Fatal(err)
	}
	return true
}

func (p *packer) finish() {
	if p.writer.Count() == 0 {
		return
	}
	p.out.Packs = append(p.out.Packs, p.w.Put(p.t, p.writer))
	if err := p.writer.Reset(); err != nil {
		p.t.Fatal(err)
	}
}

// Put finishes a pack, puts it into the bucket, and takes its entries into the index.
func (w *World) Put(t testing.TB, writer *format.PackWriter) wire.JobPack {
	t.Helper()
	object, entries, err := writer.Finish()
	if err != nil {
		t.Fatal(err)
	}
	id := writer.ID()
	if err := w.Store.Put(context.Background(), id.Name(), append([]byte(nil), object...), nil); err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range entries {
		w.locations[e.ID] = append(w.locations[e.ID], wire.Location{Found: true, Pack: id, Entry: e})
	}
	sum := sha256.Sum256(format.MarshalEntries(entries))
	return wire.JobPack{ID: id.String(), Size: int64(len(object)), Contents: sum[:]}
}

// Job is a job of that kind on a restpoint.
func (w *World) Job(kind string, rp *Replicated) *wire.Job {
	j := &wire.Job{ID: "job-" + kind, Kind: kind, Project: Project, Keys: w.Keys.MarshalBinary(), StagingHosts: []string{w.Host},
		Lease: wire.JobLease{TTL: wire.Duration(time.Minute)}}
	if rp != nil {
		r := rp.Wire
		j.Restpoint = &r
	}
	return j
}
