package gc

import (
	"context"
	"fmt"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/staging/format"
)

// Amount is a number of objects and what they take, in bytes.
type Amount struct {
	Count int64 `json:"count"`
	Bytes int64 `json:"bytes"`
}

// StatsReport counts what is in staging, as the catalog knows it.
type StatsReport struct {
	Objects  int64 `json:"objects"` // packs that are there or may be, restpoints, machines
	Bytes    int64 `json:"bytes"`   // of packs and restpoints
	Machines int   `json:"machines"`

	Restpoints        Amount `json:"restpoints"`
	RestpointsDamaged int    `json:"restpoints_damaged"`
	// Logical is what all restpoints would take without deduplication and compression: the bytes of their disks that are not zero.
	Logical int64 `json:"logical_bytes"`

	Packs map[string]Amount `json:"packs"` // by state

	Chunks      Amount `json:"chunks"`       // different ones; bytes before compression
	ChunkStored int64  `json:"chunk_stored"` // bytes that one copy of each takes
	Nodes       Amount `json:"nodes"`        // different tree nodes; bytes before compression
	Patches     Amount `json:"patches"`      // entries that are patches of other chunks; bytes as stored
	Copies      Amount `json:"copies"`       // further copies of ids that are there already; bytes as stored
	Damaged     Amount `json:"damaged"`      // entries that can not be read; bytes as stored

	DedupRatio       float64 `json:"dedup_ratio"`       // Logical to Chunks.Bytes; 0 when there is nothing
	CompressionRatio float64 `json:"compression_ratio"` // Chunks.Bytes to ChunkStored; 0 when there is nothing
	ProvenShare      float64 `json:"proven_share"`      // of the bytes of live packs; 1 when there is nothing
}

// entryPage is how many rows of the index are read in one transaction.
const entryPage = 1 << 15

// Stats counts. It reads the whole index, a page at a time, so it sees no single moment.
func (g *Collector) Stats(ctx context.Context) (StatsReport, error) {
	s := StatsReport{Packs: make(map[string]Amount)}
	err := g.stats(ctx, &s)
	if err != nil {
		err = fmt.Errorf("count what is in staging: %w", err)
	}
	return s, err
}

func (g *Collector) stats(ctx context.Context, s *StatsReport) error {
	if err := g.eachMachine(ctx, func(*catalog.Machine) error { s.Machines++; return nil }); err != nil {
		return err
	}
	restpoints, err := g.cat.AllRestpoints(ctx)
	if err != nil {
		return err
	}
	for i := range restpoints {
		p := &restpoints[i]
		s.Restpoints.Count++
		s.Restpoints.Bytes += p.ObjectSize
		if p.State == catalog.RestpointDamaged {
			s.RestpointsDamaged++
		}
		var size int64
		for j := range p.Disks {
			size += p.Disks[j].Size
		}
		// Zero is what the agent said: it is shown, nothing depends on it.
		s.Logical += max(0, size-max(0, p.Stats.Zero))
	}
	var live, proven int64
	err = g.eachPack(ctx, func(p *catalog.Pack) error {
		a := s.Packs[p.State.String()]
		a.Count++
		a.Bytes += p.Size
		s.Packs[p.State.String()] = a
		if p.State == catalog.PackLive {
			live += p.Size
			if !p.Proven.IsZero() {
				proven += p.Size
			}
		}
		s.Objects++
		s.Bytes += p.Size
		return nil
	})
	if err != nil {
		return err
	}
	s.Objects += s.Restpoints.Count + int64(s.Machines)
	s.Bytes += s.Restpoints.Bytes
	projects, err := g.cat.Projects(ctx)
	if err != nil {
		return err
	}
	for i := range projects {
		if err := g.entryStats(ctx, projects[i].ID, s); err != nil {
			return err
		}
	}
	s.ProvenShare = 1
	if live > 0 {
		s.ProvenShare = float64(proven) / float64(live)
	}
	s.DedupRatio = ratio(s.Logical, s.Chunks.Bytes)
	s.CompressionRatio = ratio(s.Chunks.Bytes, s.ChunkStored)
	return nil
}

func ratio(a, b int64) float64 {
	if b == 0 {
		return 0
	}
	return float64(a) / float64(b)
}

// entryStats counts the index of a project. Copies of one id follow one another.
func (g *Collector) entryStats(ctx context.Context, project string, s *StatsReport) error {
	var last chunker.ID // that was counted
	var cursor []byte
	for {
		next, err := g.cat.EachEntry(ctx, project, cursor, entryPage, func(p *catalog.Place) {
			stored, raw := int64(p.Entry.Stored), int64(p.Entry.Raw)
			if p.Entry.IsPatch() && !p.Damaged && p.Pack.State == catalog.PackLive {
				s.Patches.add(stored)
			}
			switch {
			case p.Pack.State == catalog.PackTombstoned:
			case p.Damaged || p.Pack.State != catalog.PackLive:
				s.Damaged.add(stored)
			case p.Entry.ID == last:
				s.Copies.add(stored)
			case p.Entry.Kind == format.KindNode:
				s.Nodes.add(raw)
				last = p.Entry.ID
			default:
				s.Chunks.add(raw)
				s.ChunkStored += stored
				last = p.Entry.ID
			}
		})
		if err != nil || next == nil {
			return err
		}
		cursor = next
	}
}

func (a *Amount) add(bytes int64) { a.Count++; a.Bytes += bytes }
