// Package disk makes the disks that benchmarks replicate: images of real file systems with programs, incompressible
// data, free space, and free space that still holds what was deleted.
//
// Invariant: the same recipe over the same source folder gives the same content, so that an image can be kept between runs under
// the recipe's hash; an image under its final name is complete. One process at a time may use a cache folder. Needs mke2fs
// and debugfs, but neither root nor a mount. Linux only.
package disk

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// recipeVersion is part of the hash: raise it when the same Recipe begins to give other content.
const recipeVersion = 1

// Recipe says what is on a disk. Sizes are in bytes.
type Recipe struct {
	Size    int64  `json:"size"`    // of the disk
	Source  string `json:"source"`  // folder whose files it holds, or as many of them as take Files bytes
	Files   int64  `json:"files"`   // limit
	Random  int64  `json:"random"`  // incompressible files beside them
	Deleted int64  `json:"deleted"` // files that were there: their blocks are free and hold old data; half of it is incompressible
	Seed    uint64 `json:"seed"`
}

// Default fills a disk of size bytes to something like 40 %: programs and documents, then random data and deleted data.
func Default(size int64, source string) Recipe {
	return Recipe{Size: size, Source: source, Files: size / 10 * 6, Random: size / 20, Deleted: size / 20, Seed: 1}
}

// Image is a raw disk.
type Image struct {
	Path string
	Size int64 // bytes
	Data int64 // bytes that are not in holes
}

// Build makes r's disk in folder cache, or finds it there. One image is kept for each size.
func Build(ctx context.Context, cache string, r Recipe, say func(format string, args ...any)) (_ Image, err error) {
	files, err := choose(r)
	if err != nil {
		return Image{}, fmt.Errorf("build disk: %w", err)
	}
	kind := fmt.Sprintf("disk-%dMiB-", r.Size>>20)
	path := filepath.Join(cache, kind+r.hash(files)+".img")
	if _, err := os.Stat(path); err == nil {
		return Open(path)
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return Image{}, fmt.Errorf("build disk: %w", err)
	}
	if err := prune(cache, kind); err != nil {
		return Image{}, fmt.Errorf("build disk: %w", err)
	}
	work, err := os.MkdirTemp(cache, "building-")
	if err != nil {
		return Image{}, fmt.Errorf("build disk: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	say("building a disk of %d MiB from %d files of %s (once; kept as %s)", r.Size>>20, len(files.list), r.Source, path)
	tmp := filepath.Join(work, "disk.img")
	if err := build(ctx, tmp, work, r, files); err != nil {
		return Image{}, fmt.Errorf("build disk: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return Image{}, fmt.Errorf("build disk: %w", err)
	}
	return Open(path)
}

// prune removes images of an earlier source or recipe: every change of the source folder makes another one.
func prune(cache, kind string) error {
	old, err := filepath.Glob(filepath.Join(cache, kind+"*.img"))
	if err != nil {
		return err
	}
	for _, path := range old {
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	return nil
}

// Open looks at an image.
func Open(path string) (Image, error) {
	f, err := os.Open(path)
	if err != nil {
		return Image{}, fmt.Errorf("open disk: %w", err)
	}
	defer f.Close()
	extents, size, err := Extents(f)
	if err != nil {
		return Image{}, err
	}
	i := Image{Path: path, Size: size}
	for _, e := range extents {
		i.Data += e.Length
	}
	return i, nil
}

// hash names what r makes of those files.
func (r Recipe) hash(files selection) string {
	h := sha256.New()
	_ = json.NewEncoder(h).Encode(struct { // cannot fail: numbers and strings into a hash
		Version int
		Recipe  Recipe
		Files   string
	}{recipeVersion, r, files.fingerprint})
	return hex.EncodeToString(h.Sum(nil)[:12])
}
