package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

const (
	maxSteps = 40   // symbolic links on one way, as in Linux
	maxPath  = 4096 // bytes
)

// errFound ends a search.
var errFound = errors.New("found")

// Lookup finds a path from the topmost folder. Symbolic links are followed inside the file system; the last one only if follow is set.
// Errors: fs.ErrNotExist, which names the part that is missing, and what FS gives.
func Lookup(f FS, path string, follow bool) (Info, error) {
	type place struct{ inode uint64 }
	way := []place{{f.Root()}}
	left := split(path)
	if len(path) > maxPath {
		return Info{}, fmt.Errorf("find %.80s…: the path is too long", path)
	}
	steps := 0
	for len(left) > 0 {
		name := left[0]
		left = left[1:]
		if name == ".." {
			way = way[:max(1, len(way)-1)]
			continue
		}
		inode, err := child(f, way[len(way)-1].inode, name)
		if err != nil {
			return Info{}, fmt.Errorf("find %s: %s: %w", path, name, err)
		}
		info, err := f.Stat(inode)
		if err != nil {
			return Info{}, fmt.Errorf("find %s: %w", path, err)
		}
		if info.Mode.Type() != fs.ModeSymlink || len(left) == 0 && !follow {
			if len(left) > 0 && !info.Mode.IsDir() {
				return Info{}, fmt.Errorf("find %s: %s is no folder: %w", path, name, fs.ErrNotExist)
			}
			way = append(way, place{inode})
			continue
		}
		if steps++; steps > maxSteps {
			return Info{}, fmt.Errorf("find %s: more than %d symbolic links: %w", path, maxSteps, fs.ErrInvalid)
		}
		link, err := f.ReadLink(inode)
		if err != nil {
			return Info{}, fmt.Errorf("find %s: %w", path, err)
		}
		if strings.HasPrefix(link, "/") {
			way = way[:1]
		}
		left = append(split(link), left...)
	}
	return f.Stat(way[len(way)-1].inode)
}

func split(path string) []string {
	var out []string
	for p := range strings.SplitSeq(path, "/") {
		if p != "" && p != "." {
			out = append(out, p)
		}
	}
	return out
}

func child(f FS, folder uint64, name string) (inode uint64, err error) {
	err = f.ReadDir(folder, func(n string, i uint64) error {
		if n == name {
			inode = i
			return errFound
		}
		return nil
	})
	switch {
	case errors.Is(err, errFound):
		return inode, nil
	case err == nil:
		return 0, fs.ErrNotExist
	}
	return 0, err
}

// copyPiece is how much is read at once, in bytes.
const copyPiece = 1 << 20

// Copy writes a file's content to to, which must be empty; holes stay holes. done is told of bytes of the file that are through; it may be nil.
func Copy(ctx context.Context, to *os.File, c *Content, done func(int64)) error {
	buf := make([]byte, copyPiece)
	for _, e := range c.Data() {
		for off := e.Logical; off < e.Logical+e.Length; {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			b := buf[:min(copyPiece, e.Logical+e.Length-off)]
			if n, err := c.ReadAt(b, off); n < len(b) && !errors.Is(err, io.EOF) {
				return fmt.Errorf("copy: %w", err)
			}
			if _, err := to.WriteAt(b, off); err != nil {
				return fmt.Errorf("copy to %s: %w", to.Name(), err)
			}
			off += int64(len(b))
			if done != nil {
				done(off)
			}
		}
	}
	if err := to.Truncate(c.Size()); err != nil {
		return fmt.Errorf("copy to %s: %w", to.Name(), err)
	}
	return nil
}
