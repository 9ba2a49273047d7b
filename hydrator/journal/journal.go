// Package journal remembers what a volume holds and what is being written over it. It keeps one invariant: a chunk of the volume
// holds what the journal says that it may hold, whenever the power goes. So "writing" is durable before the first byte of it
// is written, and "holds" only after the last.
//
//	(none) ─ Begin ─► writing ─ Finish ─► holds ─ Begin ─► writing …
//	                   │    ▲
//	                   └────┘ Advance; Begin, after a crash or for another root
//
// A journal belongs to whoever has the volume open, which is one at a time.
package journal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/hydrator/volume"
	"github.com/openmigrate/openmigrate/internal/durable"
)

// magic begins the file, which is a durable.Record.
const (
	magic   = "OMVJ"
	maxSize = 64 << 10
)

// Suffix is added to a volume's path to name its journal.
const Suffix = ".omjournal"

// maxOver is how many contents a volume may be a mixture of before it counts as unknown.
const maxOver = 4

var (
	// ErrCorrupt: the journal cannot be read.
	ErrCorrupt = errors.New("volume journal is damaged")
	// ErrVersion: a newer version wrote it.
	ErrVersion = errors.New("volume journal was written by a newer version")
)

var record = durable.Record{Name: "volume journal", Magic: magic, Version: 1, Max: maxSize, Corrupt: ErrCorrupt, Newer: ErrVersion}

// Content is one disk of one restpoint.
type Content struct {
	Machine   string     `json:"machine"`
	Disk      string     `json:"disk"` // stable id
	Restpoint string     `json:"restpoint"`
	Size      int64      `json:"size"`       // bytes
	ChunkSize int        `json:"chunk_size"` // bytes
	Root      chunker.ID `json:"root"`
}

// Same reports whether both are the same bytes.
func (c Content) Same(o Content) bool {
	return c.Root == o.Root && c.Size == o.Size && c.ChunkSize == o.ChunkSize
}

// Layout is how the content is split.
func (c Content) Layout() chunker.Layout { return chunker.Layout{Size: c.Size, ChunkSize: c.ChunkSize} }

// Zeroed is a disk like c that holds only zeros.
func (c Content) Zeroed() Content {
	c.Root, c.Restpoint = chunker.Zero, ""
	return c
}

// State is what a volume holds.
type State struct {
	Volume volume.Identity `json:"volume"` // when the journal was written
	Holds  *Content        `json:"holds,omitempty"`

	// While To is written: each chunk from Done on holds what one of Over has there, or To's, or a torn mixture where
	// they differ; where all of them are the same it holds that. Chunks before Done hold To's. Unknown: each chunk may hold
	// anything, and Over says nothing.
	To      *Content  `json:"to,omitempty"`
	Over    []Content `json:"over,omitempty"`
	Unknown bool      `json:"unknown,omitempty"`
	Done    int64     `json:"done,omitempty"` // chunks
}

// Journal is the file.
type Journal struct {
	path  string
	state State
	found bool
}

// Open reads the journal at path; one that does not exist is empty.
func Open(path string) (*Journal, error) {
	j := &Journal{path: path}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return j, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open volume journal: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return nil, fmt.Errorf("read volume journal %s: %w", path, err)
	}
	s, err := Decode(b)
	if err != nil {
		return nil, fmt.Errorf("read volume journal %s: %w", path, err)
	}
	j.state, j.found = *s, true
	return j, nil
}

// New is an empty journal at path, whatever is there now.
func New(path string) *Journal { return &Journal{path: path} }

// Found reports whether there is a journal.
func (j *Journal) Found() bool { return j.found }

// State is what the journal says.
func (j *Journal) State() State { return j.state }

// Begin makes durable that to is being written over what the volume holds.
func (j *Journal) Begin(v volume.Identity, to Content, unknown bool) error {
	s := State{Volume: v, To: &to, Unknown: unknown}
	old := j.state
	switch {
	case unknown || !j.found:
		s.Unknown = true
	case old.Holds != nil:
		s.Over = []Content{*old.Holds}
	case old.To != nil && old.To.Same(to):
		s.Over, s.Unknown, s.Done = old.Over, old.Unknown, old.Done
	default:
		s.Over, s.Unknown = append(append(s.Over, old.Over...), *old.To), old.Unknown
	}
	for _, c := range s.Over {
		s.Unknown = s.Unknown || c.ChunkSize != to.ChunkSize
	}
	if s.Unknown = s.Unknown || len(s.Over) > maxOver; s.Unknown {
		s.Over = nil
	}
	return j.write(s)
}

// BeginFresh is Begin for a volume that reads as zeros everywhere.
func (j *Journal) BeginFresh(v volume.Identity, to Content) error {
	return j.write(State{Volume: v, To: &to, Over: []Content{to.Zeroed()}})
}

// Advance makes durable that the chunks before done are written. The caller has synced them.
func (j *Journal) Advance(done int64) error {
	s := j.state
	if s.To == nil || done <= s.Done {
		return nil
	}
	s.Done = done
	return j.write(s)
}

// Forget makes durable that nothing is known of what the volume holds under To: the trees of Over cannot be read any more.
func (j *Journal) Forget() error {
	s := j.state
	s.Unknown, s.Over = true, nil
	return j.write(s)
}

// Finish makes durable that the volume holds what was written. The caller has synced it; v is how it is now.
func (j *Journal) Finish(v volume.Identity) error {
	return j.write(State{Volume: v, Holds: j.state.To})
}

func (j *Journal) write(s State) error {
	b, err := Encode(&s)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(j.path, b, 0o600); err != nil {
		return fmt.Errorf("write volume journal: %w", err)
	}
	j.state, j.found = s, true
	return nil
}

// Encode writes s as it is in the file.
func Encode(s *State) ([]byte, error) { return record.Encode(s) }

// Decode reads what Encode writes: ErrCorrupt or ErrVersion otherwise.
func Decode(b []byte) (*State, error) {
	s := new(State)
	if err := record.Decode(b, s); err != nil {
		return nil, err
	}
	if (s.Holds == nil) == (s.To == nil) || s.Done < 0 || len(s.Over) > maxOver {
		return nil, fmt.Errorf("%w: it says neither what the volume holds nor what is written", ErrCorrupt)
	}
	for _, c := range s.contents() {
		if err := c.Layout().Check(); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
	}
	return s, nil
}

func (s *State) contents() []Content {
	out := s.Over
	for _, c := range []*Content{s.Holds, s.To} {
		if c != nil {
			out = append(out[:len(out):len(out)], *c)
		}
	}
	return out
}
