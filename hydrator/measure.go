package hydrator

import (
	"context"
	"fmt"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/hydrator/journal"
	"github.com/openmigrate/openmigrate/hydrator/reader"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

// measure adds up, for each disk of a restpoint, what is not zeros. It reads the trees, of which there is one byte for some thousands of data, and no data. What
// lies below a node that cannot be read counts as data.
func measure(ctx context.Context, r *reader.Reader, rp *format.Restpoint, show func(wire.Progress)) (res wire.JobResult, err error) {
	defer func() { res.Fetched = r.Fetched() }()
	for i := range rp.Disks {
		d := &rp.Disks[i]
		show(wire.Progress{Phase: fmt.Sprintf("measuring disk %d of %d", i+1, len(rp.Disks))})
		data, err := measureDisk(ctx, r, d)
		if err != nil {
			return res, fmt.Errorf("measure disk %d: %w", d.Number, err)
		}
		res.Data = append(res.Data, data)
		res.Bytes += data
	}
	return res, nil
}

func measureDisk(ctx context.Context, nodes format.NodeReader, d *format.Disk) (data int64, err error) {
	span := func(first, end int64) int64 { // bytes of chunks
		return min(end*int64(d.ChunkSize), d.Size) - min(first*int64(d.ChunkSize), d.Size)
	}
	content := journal.Content{Size: d.Size, ChunkSize: d.ChunkSize, Root: d.Root}
	c := &changes{
		nodes: nodes, to: d.Tree(), state: journal.State{Over: []journal.Content{content.Zeroed()}}, unknown: d.Layout().Chunks(),
		damaged: func(_ chunker.ID, first, end int64, _ error) { data += span(first, end) },
	}
	for change, err := range c.all(ctx) {
		if err != nil {
			return 0, err
		}
		if change.id != chunker.Zero {
			data += span(change.index, change.index+change.count)
		}
	}
	return data, ctx.Err()
}
