package main

import (
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/staging"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

// The disk of an agent: what counts here is what the master does with ids, so it is small.
const (
	chunkSize = 64 << 10
	chunks    = 64
)

// agent plays one server's agent. poll runs in a goroutine of its own; one cycle at a time runs beside it.
type agent struct {
	*wire.Client
	number            int
	id, name, project string
	signing           ed25519.PrivateKey
	keys              *format.Keys
	tools             *sharedTools
	version           uint64 // of the assignment; poll's

	mu     sync.Mutex // a cycle runs
	rng    *rand.Rand // guarded by mu, as is all below
	ids    [chunks]chunker.ID
	parent string
	root   chunker.ID
}

func newRand(number int) *rand.Rand { return rand.New(rand.NewPCG(uint64(number), 1)) }

// poll reports and waits for assignments until ctx ends. Every request starts every after the one before.
func (a *agent) poll(ctx context.Context, every time.Duration, tell func(time.Duration, error)) {
	select { // so that not all come at once
	case <-time.After(time.Duration(float64(every) * float64(a.number%997) / 997)):
	case <-ctx.Done():
		return
	}
	for ctx.Err() == nil {
		began := time.Now()
		err := a.Report(ctx, &wire.Report{State: "idle"})
		if ctx.Err() != nil {
			return
		}
		tell(time.Since(began), err)
		rest := max(every-time.Since(began), 100*time.Millisecond)
		as, err := a.Assignment(ctx, a.version, rest)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			tell(0, err)
		case as != nil:
			a.version = as.Version
		}
		select {
		case <-time.After(max(0, every-time.Since(began))):
		case <-ctx.Done():
		}
	}
}

// cycle makes a restpoint. With fresh a chunk has changed since the last one.
func (a *agent) cycle(ctx context.Context, fresh bool) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var send []piece
	ids, first := a.ids, a.parent == ""
	if fresh || first {
		p := piece{kind: format.KindChunk, content: make([]byte, chunkSize)}
		for i := 0; i < len(p.content); i += 512 {
			binary.LittleEndian.PutUint64(p.content[i:], a.rng.Uint64())
		}
		p.id = chunker.NewHasher(a.keys.ChunkKey()).ID(p.content)
		ids[a.rng.IntN(chunks)] = p.id
		send = append(send, p)
	}
	tree := format.NewTreeBuilder(chunker.NewHasher(a.keys.NodeKey()), chunks, func(_ int, _ int64, id chunker.ID, encoded []byte) error {
		send = append(send, piece{kind: format.KindNode, id: id, content: append([]byte(nil), encoded...)})
		return nil
	})
	for i, id := range ids {
		if id.IsZero() {
			continue
		}
		if err := tree.Add(int64(i), id); err != nil {
			return err
		}
	}
	root, err := tree.Finish()
	if err != nil {
		return err
	}
	disk := wire.SessionDisk{ID: "disk", Name: "/dev/sda", Size: chunks * chunkSize, ChunkSize: chunkSize}
	if !first {
		disk.BaseRoot = a.root.String()
	}
	s, err := a.OpenSession(ctx, &wire.SessionRequest{Parent: a.parent, Disks: []wire.SessionDisk{disk}, Now: time.Now()})
	if err != nil {
		return fmt.Errorf("open session: %w", err)
	}
	if fresh || first {
		if err := a.send(ctx, s.ID, send); err != nil {
			return err
		}
	}
	manifest, err := format.SignRestpoint(a.keys, a.signing, &format.Restpoint{ID: s.Restpoint, Project: a.project, Machine: a.id, Created: time.Now(), Parent: s.Parent,
		Consistency: format.Crash, Agent: "bench", Disks: []format.Disk{{ID: disk.ID, Name: disk.Name, Size: disk.Size, ChunkSize: disk.ChunkSize, Root: root, Tracker: "ebpf", Consistency: format.Crash}}})
	if err != nil {
		return err
	}
	done, err := a.CommitSession(ctx, s.ID, manifest)
	if err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	a.ids, a.parent, a.root = ids, done.Restpoint, root
	return nil
}

// piece is content that has an id.
type piece struct {
	kind    format.Kind
	id      chunker.ID
	content []byte
}

// send offers pieces, and puts what is not known into staging in one pack.
func (a *agent) send(ctx context.Context, session string, pieces []piece) error {
	ids := make([]chunker.ID, len(pieces))
	for i := range pieces {
		ids[i] = pieces[i].id
	}
	known, err := a.Offer(ctx, session, ids)
	if err != nil {
		return fmt.Errorf("offer: %w", err)
	}
	comp, err := chunker.NewCompressor()
	if err != nil {
		return err
	}
	w, err := format.NewPackWriter(a.keys, make([]byte, 0, 256<<10))
	if err != nil {
		return err
	}
	for i := range pieces {
		if known.Get(i) {
			continue
		}
		p := &pieces[i]
		stored, codec := comp.Compress(nil, p.content)
		if err := w.Append(p.kind, p.id, codec, len(p.content), stored); err != nil {
			return err
		}
	}
	if w.Count() == 0 {
		return nil
	}
	object, entries, err := w.Finish()
	if err != nil {
		return err
	}
	return a.put(ctx, session, w.ID(), object, entries)
}

func (a *agent) put(ctx context.Context, session string, id format.PackID, object []byte, entries []format.Entry) error {
	sum := staging.Checksum(object)
	up, err := a.Announce(ctx, session, []wire.PackAnnounce{{ID: id.String(), Size: int64(len(object)), CRC32C: sum[:]}})
	if err != nil {
		return fmt.Errorf("announce: %w", err)
	}
	if err := a.tools.client.put(ctx, staging.SignedRequest{URL: up[0].URL, Header: up[0].Header}, object); err != nil {
		return err
	}
	if err := a.CommitPack(ctx, session, id, format.MarshalEntries(entries)); err != nil {
		return fmt.Errorf("commit pack: %w", err)
	}
	return nil
}

// stagingClient is one client of staging for all agents: it is the master that is measured.
type stagingClient struct {
	mu sync.Mutex
	c  *staging.SignedClient // guarded by mu
}

func (s *stagingClient) use(as *wire.Assignment) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.c == nil {
		s.c, err = staging.NewSignedClient(as.StagingHosts, as.StagingCA)
	}
	return err
}

func (s *stagingClient) put(ctx context.Context, to staging.SignedRequest, object []byte) error {
	s.mu.Lock()
	c := s.c
	s.mu.Unlock()
	return c.Put(ctx, to, object, nil)
}

func (s *stagingClient) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.c != nil {
		s.c.Close()
	}
}
