package disks

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/openmigrate/openmigrate/internal/partition/fsprobe"
)

const (
	lvmSector   = 512
	maxLVs      = 1024
	maxExtents  = 1 << 40 // of a group; no sum of them overflows
	maxSegments = 4096
)

// groups collects the physical volumes of all disks, and what they say of their volume groups.
type groups struct {
	physical map[string]Volume // by UUID
	docs     map[string]*section
	seqno    map[string]int64
	names    []string
}

func newGroups() *groups {
	return &groups{physical: map[string]Volume{}, docs: map[string]*section{}, seqno: map[string]int64{}}
}

// add takes the metadata of one physical volume. Of a group the newest text counts.
func (g *groups) add(doc []byte, pv Volume) {
	g.physical[pv.UUID] = pv
	root := parseLVM(doc)
	for _, name := range root.order {
		group, ok := root.values[name].(*section)
		if !ok {
			continue
		}
		n := group.number("seqno")
		if _, ok := g.docs[name]; !ok {
			g.names = append(g.names, name)
		} else if n <= g.seqno[name] {
			continue
		}
		g.docs[name], g.seqno[name] = group, n
	}
}

// volumes returns the logical volumes that users see.
func (g *groups) volumes(disks []Disk) ([]Volume, error) {
	var all []Volume
	for _, name := range g.names {
		group := g.docs[name]
		lvs := group.section("logical_volumes")
		origins := snapshotOrigins(lvs)
		for _, lv := range lvs.order {
			s, ok := lvs.values[lv].(*section)
			if !ok || len(all) >= maxLVs || !slices.Contains(s.list("status"), any("VISIBLE")) {
				continue
			}
			v := g.place(group, s)
			v.LV, v.Snapshots = name+"/"+lv, origins[lv]
			if v.Trouble == "" {
				if err := probe(&v, disks); err != nil {
					return nil, fmt.Errorf("look at %v: %w", v, err)
				}
			}
			all = append(all, v)
		}
	}
	return all, nil
}

func snapshotOrigins(lvs *section) map[string]bool {
	origins := map[string]bool{}
	for _, lv := range lvs.order {
		if s, ok := lvs.values[lv].(*section); ok {
			if seg := s.section("segment1"); seg.text("type") == "snapshot" {
				origins[seg.text("origin")] = true
			}
		}
	}
	return origins
}

// place finds the bytes that a logical volume is.
func (g *groups) place(group, lv *section) Volume {
	extent := group.number("extent_size") * lvmSector
	if extent <= 0 || extent > 1<<40 {
		return Volume{Trouble: "its volume group has no extent size"}
	}
	if lv.number("segment_count") > maxSegments {
		return Volume{Trouble: "it lies in too many pieces"}
	}
	var pieces []Piece
	for i := int64(1); i <= lv.number("segment_count"); i++ {
		seg := lv.section(fmt.Sprintf("segment%d", i))
		stripes := seg.list("stripes")
		if kind := seg.text("type"); kind != "striped" || seg.number("stripe_count") != 1 || len(stripes) != 2 {
			if kind == "striped" {
				kind = "striped over several disks"
			}
			return Volume{Trouble: "it is " + kind + ", and only linear logical volumes can be opened without device mapper"}
		}
		pvName, _ := stripes[0].(string)
		from, _ := stripes[1].(int64)
		count := seg.number("extent_count")
		described := group.section("physical_volumes").section(pvName)
		pv, ok := g.physical[described.text("id")]
		if !ok {
			return Volume{Trouble: "its disk " + pvName + " is not among those given"}
		}
		peStart := described.number("pe_start")
		if from < 0 || count <= 0 || from > maxExtents || count > maxExtents || peStart < 0 || peStart > 1<<40 ||
			from+count > (pv.Size-peStart*lvmSector)/extent {
			return Volume{Trouble: "its metadata points outside of its disk"}
		}
		start := pv.Start + peStart*lvmSector + from*extent
		if last := len(pieces) - 1; last >= 0 && pieces[last].Disk == pv.Disk && start == pieces[last].Start+pieces[last].Size {
			pieces[last].Size += count * extent
		} else {
			pieces = append(pieces, Piece{pv.Disk, start, count * extent})
		}
	}
	switch len(pieces) {
	case 0:
		return Volume{Trouble: "it has no segments"}
	case 1:
		return Volume{Disk: pieces[0].Disk, Start: pieces[0].Start, Size: pieces[0].Size}
	}
	return Volume{Disk: pieces[0].Disk, Size: join(nil, pieces).Size(), Pieces: pieces}
}

// where is the volume as pieces, of which it may be one.
func (v Volume) where() []Piece {
	if v.Pieces != nil {
		return v.Pieces
	}
	return []Piece{{v.Disk, v.Start, v.Size}}
}

func probe(v *Volume, disks []Disk) error {
	files := make([]file, len(disks))
	for _, p := range v.where() {
		if files[p.Disk] != nil {
			continue
		}
		f, err := os.Open(disks[p.Disk].Path)
		if err != nil {
			return errors.Join(ErrNoDisk, err)
		}
		defer f.Close()
		files[p.Disk] = f
	}
	c, err := fsprobe.Probe(io.NewSectionReader(join(files, v.where()), 0, v.Size), v.Size)
	v.Type, v.UUID, v.Label = c.Type, c.UUID, c.Label
	return err
}
