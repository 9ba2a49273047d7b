package ebsdirect

import (
	"crypto/sha256"
	"encoding"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"

	"github.com/openmigrate/openmigrate/internal/durable"
)

const maxSize = 64 << 10 // bytes of the file

var (
	// ErrCorrupt: the journal cannot be read. Remove it: the next snapshot is a full one.
	ErrCorrupt = errors.New("snapshot journal is damaged")
	// ErrVersion: a newer version wrote it.
	ErrVersion = errors.New("snapshot journal was written by a newer version")
)

var file = durable.Record{Name: "snapshot journal", Magic: "OMSJ", Version: 1, Max: maxSize, Corrupt: ErrCorrupt, Newer: ErrVersion}

// Content is one disk of one restpoint.
type Content struct {
	Machine   string `json:"machine"`
	Disk      string `json:"disk"` // stable id
	Restpoint string `json:"restpoint"`
	Size      int64  `json:"size"`       // bytes
	ChunkSize int    `json:"chunk_size"` // bytes
	Root      string `json:"root"`       // of its tree, as text
}

// Same reports whether both are the same bytes in the same chunks.
func (c Content) Same(o Content) bool {
	return c.Root == o.Root && c.Size == o.Size && c.ChunkSize == o.ChunkSize
}

// follows reports whether c's snapshot can have p's as its parent.
func (c Content) follows(p Content) bool {
	return c.Machine == p.Machine && c.Disk == p.Disk && c.ChunkSize == p.ChunkSize && c.Size >= p.Size
}

// Snapshot is a completed one, or one whose completion the service has taken.
type Snapshot struct {
	ID      string  `json:"id"`
	Content Content `json:"content"`
}

// Writing is a snapshot that is not completed.
type Writing struct {
	Token   string    `json:"token"`             // Copy's, without the attempt
	Attempt int       `json:"attempt,omitempty"` // how many snapshots were begun and lost before this one
	Pending Pending   `json:"pending,omitzero"`  // zero until StartSnapshot has answered
	Parent  *Snapshot `json:"parent,omitempty"`  // nil: a full one
	Content Content   `json:"content"`
	// Blocks before Next are settled: acknowledged or left out. Put of them were put, and Sum is the state of the SHA-256 over their checksums.
	Next int64  `json:"next,omitempty"`
	Put  int64  `json:"put,omitempty"`
	Left int64  `json:"left,omitempty"` // left out, since they are zeros
	Sum  []byte `json:"sum,omitempty"`
	// Completing: all is put, and CompleteSnapshot was or will be called.
	Completing bool `json:"completing,omitempty"`
}

// Record is what the journal says.
type Record struct {
	Holds   *Snapshot `json:"holds,omitempty"` // the last of the chain
	Writing *Writing  `json:"writing,omitempty"`
	// Abandoned are ids of pending snapshots that nobody will complete. Whoever owns the chain deletes them and says so with Forget.
	Abandoned []string `json:"abandoned,omitempty"`
}

// maxAbandoned bounds what nobody forgets; the service cancels pending snapshots by itself.
const maxAbandoned = 100

// Journal is the file of one chain of snapshots: one disk of one machine in one account and region.
type Journal struct {
	path string
	rec  Record
}

// OpenJournal reads the journal at path; one that does not exist is empty.
func OpenJournal(path string) (*Journal, error) {
	j := &Journal{path: path}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return j, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open snapshot journal: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return nil, fmt.Errorf("read snapshot journal %s: %w", path, err)
	}
	rec, err := decode(b)
	if err != nil {
		return nil, fmt.Errorf("read snapshot journal %s: %w", path, err)
	}
	j.rec = *rec
	return j, nil
}

// Record is what the journal says. A copy that is to go on wants the restpoint of Writing, if there is one.
func (j *Journal) Record() Record { return j.rec }

// Forget makes durable that those snapshots are deleted: abandoned ones, and the last of the chain, after which the next one is full.
func (j *Journal) Forget(ids ...string) error {
	gone := map[string]bool{}
	for _, id := range ids {
		gone[id] = true
	}
	r := j.rec
	r.Abandoned = nil
	for _, id := range j.rec.Abandoned {
		if !gone[id] {
			r.Abandoned = append(r.Abandoned, id)
		}
	}
	if r.Holds != nil && gone[r.Holds.ID] {
		r.Holds = nil
	}
	return j.write(r)
}

// abandon gives up what is being written.
func (j *Journal) abandon(r *Record) {
	if r.Writing != nil && r.Writing.Pending.ID != "" {
		r.Abandoned = append(r.Abandoned[:len(r.Abandoned):len(r.Abandoned)], r.Writing.Pending.ID)
		r.Abandoned = r.Abandoned[max(0, len(r.Abandoned)-maxAbandoned):]
	}
	r.Writing = nil
}

func (j *Journal) write(r Record) error {
	b, err := file.Encode(&r)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(j.path, b, 0o600); err != nil {
		return fmt.Errorf("write snapshot journal: %w", err)
	}
	j.rec = r
	return nil
}

// writing makes durable how far the snapshot is.
func (j *Journal) writing(w Writing) error {
	r := j.rec
	r.Writing = &w
	return j.write(r)
}

func decode(b []byte) (*Record, error) {
	r := new(Record)
	if err := file.Decode(b, r); err != nil {
		return nil, err
	}
	if w := r.Writing; w != nil {
		if _, err := w.sum(); err != nil || w.Next < 0 || w.Next > Blocks(w.Content.Size) || w.Put < 0 || w.Left < 0 || w.Put+w.Left > w.Next || w.Attempt < 0 {
			return nil, fmt.Errorf("%w: it says %d of %d blocks put", ErrCorrupt, w.Put, w.Next)
		}
	}
	return r, nil
}

// sum is the SHA-256 over the checksums so far, to go on with.
func (w *Writing) sum() (hash.Hash, error) {
	h := sha256.New()
	if len(w.Sum) > 0 {
		if err := h.(encoding.BinaryUnmarshaler).UnmarshalBinary(w.Sum); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
	}
	return h, nil
}
