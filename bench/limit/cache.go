package limit

import (
	"cmp"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"

	"github.com/openmigrate/openmigrate/chunker"
)

// Cache is a disk's different chunks, compressed, in a file. Beside it lies the list of them, FILE.list.
type Cache struct {
	Layout chunker.Layout
	Items  []Item // in order of the file
}

// Item is one chunk of a Cache.
type Item struct {
	ID     chunker.ID
	Codec  chunker.Codec
	Offset int64 // in the file
	Stored int
	Raw    int
	Places []int64 // of the disk, in chunks
}

// maxRun is how much of a cache is read with one call, in bytes.
const maxRun = 1 << 20

// Prepare compresses a disk's chunks into the file cache, for Restore.
func Prepare(ctx context.Context, path, cache string, chunkSize int) (_ Result, err error) {
	out, err := os.Create(cache)
	if err != nil {
		return Result{}, fmt.Errorf("prepare restore: %w", err)
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	var mu sync.Mutex // guards the next three
	var offset int64
	var c Cache
	at := make(map[chunker.ID]int)
	res, err := loop(ctx, path, chunkSize, func() (func(int64, []byte) error, error) {
		enc, err := chunker.NewCompressor()
		if err != nil {
			return nil, err
		}
		h := chunker.NewHasher(&key)
		dst := make([]byte, 0, chunker.MaxSize+chunker.MaxSize/64)
		return func(index int64, content []byte) error {
			id := h.ID(content)
			if id.IsZero() {
				return nil
			}
			mu.Lock()
			i, known := at[id]
			if known {
				c.Items[i].Places = append(c.Items[i].Places, index)
			} else {
				i = len(c.Items)
				at[id] = i
				c.Items = append(c.Items, Item{ID: id, Raw: len(content), Places: []int64{index}})
			}
			mu.Unlock()
			if known {
				return nil
			}
			data, codec := enc.Compress(dst, content)
			mu.Lock()
			it := &c.Items[i]
			it.Codec, it.Stored, it.Offset = codec, len(data), offset
			offset += int64(len(data))
			to := it.Offset
			mu.Unlock()
			_, err := out.WriteAt(data, to)
			return err
		}, nil
	})
	if err != nil {
		return res, err
	}
	slices.SortFunc(c.Items, func(a, b Item) int { return cmp.Compare(a.Offset, b.Offset) })
	f, err := os.Open(path)
	if err != nil {
		return res, fmt.Errorf("prepare restore: %w", err)
	}
	defer f.Close()
	if _, c.Layout, err = pieces(f, chunkSize); err != nil {
		return res, err
	}
	list, err := os.Create(cache + ".list")
	if err != nil {
		return res, fmt.Errorf("prepare restore: %w", err)
	}
	return res, errors.Join(gob.NewEncoder(list).Encode(&c), list.Close())
}

func readList(path string) (*Cache, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	c := &Cache{}
	if err := gob.NewDecoder(f).Decode(c); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return c, nil
}

// run is items that lie together.
type run []Item

func (r run) bytes() int64 { return r[len(r)-1].Offset + int64(r[len(r)-1].Stored) - r[0].Offset }

// runs cuts a cache into reads.
func (c *Cache) runs() []run {
	var out []run
	for items := c.Items; len(items) > 0; {
		n := 1
		for n < len(items) && run(items[:n+1]).bytes() <= maxRun {
			n++
		}
		out = append(out, run(items[:n]))
		items = items[n:]
	}
	return out
}
