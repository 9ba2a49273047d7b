// Package tree reads and changes the files of a system that is not running, below the folder where it is mounted.
//
// The files are hostile. A name means what it would mean inside of the system: an absolute symbolic link starts again at the
// system's root, and none leads out of it, whatever it says. What is read is a regular file of at most MaxFile bytes, never
// a pipe or a device; folders are read up to MaxEntries. A file is replaced in one step: a crash leaves the old content or
// the new one.
//
// Nothing else may change the files meanwhile. A Tree may be used by one goroutine at a time.
package tree

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
)

// Limits on what a hostile system makes us read.
const (
	MaxFile    = 4 << 20 // bytes
	MaxEntries = 20000   // of a folder
	maxLinks   = 40      // on the way to one file, as in the kernel
)

// ErrTooLarge says that a file or folder is larger than its limit.
var ErrTooLarge = errors.New("larger than anything that belongs there")

// Tree is the mounted system. Names are absolute or relative to its root, which is the same.
type Tree struct{ root *os.Root }

// Open opens the system that is mounted at dir. The mount may be one that other threads do not see.
func Open(dir string) (*Tree, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open system: %w", err)
	}
	return &Tree{root}, nil
}

// Close lets the system be unmounted.
func (t *Tree) Close() { _ = t.root.Close() }

// Resolve returns the name without symbolic links, relative to the root. The last part need not exist.
func (t *Tree) Resolve(name string) (string, error) { return t.resolve(name, true) }

func (t *Tree) resolve(name string, last bool) (string, error) {
	done, rest, links := ".", strings.Split(name, "/"), 0
	for len(rest) > 0 {
		part := rest[0]
		rest = rest[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			done = path.Dir(done) // of the root it is the root
			continue
		}
		next := path.Join(done, part)
		info, err := t.root.Lstat(next)
		if errors.Is(err, fs.ErrNotExist) && !slices.ContainsFunc(rest, func(s string) bool { return s == ".." }) {
			return path.Join(append([]string{next}, rest...)...), nil
		}
		if err != nil {
			return "", err
		}
		if info.Mode()&fs.ModeSymlink == 0 || len(rest) == 0 && !last {
			done = next
			continue
		}
		if links++; links > maxLinks {
			return "", &fs.PathError{Op: "resolve", Path: name, Err: syscall.ELOOP}
		}
		link, err := t.root.Readlink(next)
		if err != nil {
			return "", err
		}
		if path.IsAbs(link) {
			done = "."
		}
		rest = append(strings.Split(link, "/"), rest...)
	}
	return done, nil
}

// Stat describes what name leads to, and Lstat name itself.
func (t *Tree) Stat(name string) (fs.FileInfo, error) { return t.stat(name, true) }

// Lstat describes name, which may be a symbolic link.
func (t *Tree) Lstat(name string) (fs.FileInfo, error) { return t.stat(name, false) }

func (t *Tree) stat(name string, follow bool) (fs.FileInfo, error) {
	real, err := t.resolve(name, follow)
	if err != nil {
		return nil, err
	}
	return t.root.Lstat(real)
}

// Exists reports whether name leads to anything.
func (t *Tree) Exists(name string) bool {
	_, err := t.Stat(name)
	return err == nil
}

// Any returns the first of the names that leads to something, or "".
func (t *Tree) Any(names ...string) string {
	for _, name := range names {
		if t.Exists(name) {
			return name
		}
	}
	return ""
}

// Open opens a regular file for reading, of any size.
func (t *Tree) Open(name string) (*os.File, error) {
	real, err := t.Resolve(name)
	if err != nil {
		return nil, err
	}
	info, err := t.root.Lstat(real)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("open %s: it is no file", name)
	}
	return t.root.OpenFile(real, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
}

// ReadFile returns a file of at most MaxFile bytes.
func (t *Tree) ReadFile(name string) ([]byte, error) {
	f, err := t.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err == nil && len(b) > MaxFile {
		err = fmt.Errorf("read %s: %w", name, ErrTooLarge)
	}
	return b, err
}

// ReadDir returns the names in a folder, sorted; a folder that is not there is empty.
func (t *Tree) ReadDir(name string) ([]string, error) {
	real, err := t.Resolve(name)
	if err != nil {
		return nil, err
	}
	info, err := t.root.Lstat(real)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	f, err := t.root.Open(real)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(MaxEntries + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if len(names) > MaxEntries {
		return nil, fmt.Errorf("read folder %s: %w", name, ErrTooLarge)
	}
	slices.Sort(names)
	return names, nil
}

// Glob returns the names in folder dir that match a pattern of path.Match, with dir before them. A folder that cannot be read
// has none.
func (t *Tree) Glob(dir, pattern string) []string {
	names, _ := t.ReadDir(dir)
	var found []string
	for _, name := range names {
		if ok, err := path.Match(pattern, name); err == nil && ok {
			found = append(found, path.Join(dir, name))
		}
	}
	return found
}

// Readlink returns what a symbolic link says.
func (t *Tree) Readlink(name string) (string, error) {
	real, err := t.resolve(name, false)
	if err != nil {
		return "", err
	}
	return t.root.Readlink(real)
}
