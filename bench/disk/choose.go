package disk

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
)

// file is one file of the source folder; path is relative to it.
type file struct {
	path string
	size int64
}

// selection is which files go onto the disk.
type selection struct {
	list        []file // regular ones, in order of path
	all         bool   // everything below the source: links, folders and owners, too
	fingerprint string // of the names, sizes and times of list
}

// shares is the grain in which files are left out.
const shares = 1000

// choose takes all files of r.Source if they take at most r.Files bytes, otherwise an even share of them, picked by their names.
func choose(r Recipe) (selection, error) {
	if r.Size < 16<<20 || r.Files < 0 || r.Random < 0 || r.Deleted < 0 || r.Files+r.Random+r.Deleted > r.Size/10*9 {
		return selection{}, fmt.Errorf("recipe %+v: want 16 MiB or more, and content that takes at most nine tenths of it", r)
	}
	var found []file
	var taken [shares]int64 // bytes by share
	sum := sha256.New()
	unreadable := false
	err := filepath.WalkDir(r.Source, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrPermission) && path != r.Source { // not everything is for everybody
			unreadable = true
			return fs.SkipDir
		}
		if err != nil {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) { // removed meanwhile
			return nil
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(r.Source, path)
		if err != nil {
			return err
		}
		fmt.Fprintf(sum, "%s\x00%s\x00%d\n", rel, info.Mode(), info.ModTime().UnixNano())
		if info.Mode().IsRegular() {
			fmt.Fprintf(sum, "%d\n", info.Size())
			taken[share(rel)] += onDisk(info.Size())
			found = append(found, file{rel, info.Size()})
		}
		return nil
	})
	if err != nil {
		return selection{}, err
	}
	s := selection{fingerprint: hex.EncodeToString(sum.Sum(nil))}
	var total int64
	limit := 0
	for ; limit < shares && total+taken[limit] <= r.Files; limit++ {
		total += taken[limit]
	}
	s.all = limit == shares && !unreadable
	for _, f := range found {
		if share(f.path) < limit {
			s.list = append(s.list, f)
		}
	}
	if len(s.list) == 0 {
		return s, fmt.Errorf("%s has no files, or none that fit into %d bytes", r.Source, r.Files)
	}
	return s, nil
}

// onDisk is what a file takes with its inode, about.
func onDisk(size int64) int64 { return (size+4095)/4096*4096 + 256 }

func share(path string) int {
	h := fnv.New64a()
	_, _ = h.Write([]byte(path)) // never fails
	return int(h.Sum64() % shares)
}

// copyTo makes a folder of the chosen files, for mke2fs to take.
func (s selection) copyTo(source, dir string) error {
	for _, f := range s.list {
		if err := copyFile(filepath.Join(source, f.path), filepath.Join(dir, f.path)); err != nil && !errors.Is(err, fs.ErrPermission) {
			return err
		}
	}
	return nil
}

func copyFile(from, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	if _, err := out.ReadFrom(in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}
