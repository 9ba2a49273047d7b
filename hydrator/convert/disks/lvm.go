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
	lvmSector  = 512
	maxLVs     = 1024
	maxExtents = 1 << 40 // of a group; no sum of them overflows
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
				if err := probe(&v, disks[v.Disk].Path); err != nil {
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

// place finds the one range of bytes that a logical volume is.
func (g *groups) place(group, lv *section) Volume {
	extent := group.number("extent_size") * lvmSector
	if extent <= 0 || extent > 1<<40 {
		return Volume{Trouble: "its volume group has no extent size"}
	}
	var v Volume
	for i := int64(1); i <= min(lv.number("segment_count"), 4096); i++ {
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
		switch {
		case i == 1:
			v = Volume{Disk: pv.Disk, Start: start, Size: count * extent}
		case pv.Disk == v.Disk && start == v.Start+v.Size:
			v.Size += count * extent
		default:
			return Volume{Trouble: "it lies in several pieces, and only one piece can be opened without device mapper"}
		}
	}
	if v.Size == 0 {
		return Volume{Trouble: "it has no segments"}
	}
	return v
}

func probe(v *Volume, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return errors.Join(ErrNoDisk, err)
	}
	defer f.Close()
	c, err := fsprobe.Probe(io.NewSectionReader(f, v.Start, v.Size), v.Size)
	v.Type, v.UUID, v.Label = c.Type, c.UUID, c.Label
	return err
}
