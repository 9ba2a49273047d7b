package catalog

import (
	"context"
	"math/bits"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

// DiskDiff is how one disk differs between two restpoints.
type DiskDiff struct {
	Disk    string `json:"disk"` // id
	Name    string `json:"name"`
	Size    int64  `json:"size"`    // bytes, in the second; in the first when it is gone
	Change  string `json:"change"`  // same, changed, added, removed, rechunked (other chunk size: not comparable, all counts)
	Chunks  int64  `json:"chunks"`  // of the second that the first does not have at that place
	Changed int64  `json:"changed"` // bytes of these
	// Map divides the disk into at most wire.DiffParts equal parts: the bytes of each that changed.
	Map []int64 `json:"map"`
}

// DiffRestpoints tells what b has that a has not. It costs in proportion to the difference.
func (c *Catalog) DiffRestpoints(ctx context.Context, a, b string) ([]DiskDiff, error) {
	from, err := c.Restpoint(ctx, a)
	if err != nil {
		return nil, err
	}
	to, err := c.Restpoint(ctx, b)
	if err != nil {
		return nil, err
	}
	if from.Project != to.Project {
		return nil, conflict("restpoints %s and %s are of different projects", from.ID, to.ID)
	}
	var readers [2]format.NodeReader
	for i, p := range []*Restpoint{&from, &to} {
		if readers[i], err = c.NodeReader(ctx, p.Project, p.Machine); err != nil {
			return nil, err
		}
	}
	nodes := eitherReader(readers)
	diffs := make([]DiskDiff, 0, len(to.Disks))
	for i := range to.Disks {
		d := &to.Disks[i]
		diff := DiskDiff{Disk: d.ID, Name: d.Name, Size: d.Size, Change: "added"}
		layout := d.Layout()
		parts := min(layout.Chunks(), wire.DiffParts)
		diff.Map = make([]int64, parts)
		old := format.Tree{Chunks: layout.Chunks()}
		if was := from.disk(d.ID); was != nil && was.ChunkSize == d.ChunkSize {
			old, diff.Change = was.Tree(), "changed"
		} else if was != nil {
			diff.Change = "rechunked"
		}
		err := format.Diff(ctx, nodes, old, d.Tree(), &format.DiffOptions{Leaf: func(index int64, _, _ chunker.ID) error {
			_, n := layout.Extent(index)
			diff.Chunks++
			diff.Changed += int64(n)
			// Of 128 bits, as disks are large; index is below the number of chunks, so the part is below parts.
			hi, lo := bits.Mul64(uint64(index), uint64(parts))
			part, _ := bits.Div64(hi, lo, uint64(layout.Chunks()))
			diff.Map[part] += int64(n)
			return nil
		}})
		if err != nil {
			return nil, stagingProblem("compare disk "+d.ID, err)
		}
		if was := from.disk(d.ID); diff.Change == "changed" && diff.Chunks == 0 && was.Size == d.Size {
			diff.Change = "same"
		}
		diffs = append(diffs, diff)
	}
	for i := range from.Disks {
		if d := &from.Disks[i]; to.disk(d.ID) == nil {
			diffs = append(diffs, DiskDiff{Disk: d.ID, Name: d.Name, Size: d.Size, Change: "removed", Map: []int64{}})
		}
	}
	return diffs, nil
}

// eitherReader reads nodes that one of two machines may read: restpoints of both are compared.
type eitherReader [2]format.NodeReader

// Nodes implements format.NodeReader.
func (e eitherReader) Nodes(ctx context.Context, ids []chunker.ID) ([][]byte, error) {
	if nodes, err := e[0].Nodes(ctx, ids); err == nil {
		return nodes, nil
	}
	nodes := make([][]byte, len(ids))
	for i := range ids {
		b, err := e[0].Nodes(ctx, ids[i:i+1])
		if err != nil {
			b, err = e[1].Nodes(ctx, ids[i:i+1])
		}
		if err != nil {
			return nil, err
		}
		nodes[i] = b[0]
	}
	return nodes, nil
}
