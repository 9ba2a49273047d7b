package gc

import (
	"context"
	"fmt"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

// entryPage is how many rows of the index are read in one transaction.
const entryPage = 1 << 15

// Stats counts, and leaves out what the collector does not know: RecoveryKey and Counted. It reads the whole index, a page at a time, so it sees no single moment.
func (g *Collector) Stats(ctx context.Context) (wire.StagingStats, error) {
	s := wire.StagingStats{Packs: make(map[string]wire.Amount)}
	err := g.stats(ctx, &s)
	if err != nil {
		err = fmt.Errorf("count what is in staging: %w", err)
	}
	return s, err
}

func (g *Collector) stats(ctx context.Context, s *wire.StagingStats) error {
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
func (g *Collector) entryStats(ctx context.Context, project string, s *wire.StagingStats) error {
	var last chunker.ID // that was counted
	var cursor []byte
	for {
		next, err := g.cat.EachEntry(ctx, project, cursor, entryPage, func(p *catalog.Place) {
			stored, raw := int64(p.Entry.Stored), int64(p.Entry.Raw)
			if p.Entry.IsPatch() && !p.Damaged && p.Pack.State == catalog.PackLive {
				add(&s.Patches, stored)
			}
			switch {
			case p.Pack.State == catalog.PackTombstoned:
			case p.Damaged || p.Pack.State != catalog.PackLive:
				add(&s.Damaged, stored)
			case p.Entry.ID == last:
				add(&s.Copies, stored)
			case p.Entry.Kind == format.KindNode:
				add(&s.Nodes, raw)
				last = p.Entry.ID
			default:
				add(&s.Chunks, raw)
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

func add(a *wire.Amount, bytes int64) { a.Count++; a.Bytes += bytes }
