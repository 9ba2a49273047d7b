package files_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/openmigrate/openmigrate/hydrator/files"
)

// damagedDisk is an image with some bytes changed.
type damagedDisk struct {
	io.ReaderAt
	changed map[int64]byte
}

func (d *damagedDisk) ReadAt(p []byte, off int64) (int, error) {
	n, err := d.ReaderAt.ReadAt(p, off)
	if len(d.changed) <= n {
		for at, v := range d.changed {
			if at >= off && at < off+int64(n) {
				p[at-off] = v
			}
		}
		return n, err
	}
	for i := range p[:n] {
		if v, ok := d.changed[off+int64(i)]; ok {
			p[i] = v
		}
	}
	return n, err
}

var errEnough = errors.New("enough")

// look reads whatever it finds, up to a limit.
func look(f files.FS, inode uint64, left *int) {
	if *left--; *left < 0 {
		return
	}
	info, err := f.Stat(inode)
	if err != nil {
		return
	}
	switch {
	case info.Mode.IsDir():
		var inside []uint64
		_ = f.ReadDir(inode, func(_ string, i uint64) error {
			if len(inside) > 200 {
				return errEnough
			}
			inside = append(inside, i)
			return nil
		})
		for _, i := range inside {
			look(f, i, left)
		}
	case info.Mode.Type() == fs.ModeSymlink:
		_, _ = f.ReadLink(inode)
	case info.Mode.IsRegular():
		if c, err := f.Open(inode); err == nil {
			b := make([]byte, 10000)
			_, _ = c.ReadAt(b, 0)
			for i, e := range c.Data() {
				if i < 10 {
					_, _ = c.ReadAt(b, e.Logical+e.Length-1)
				}
			}
		}
	}
}

// FuzzDamage changes bytes of file systems where there are any: nothing may panic, or take for ever.
func FuzzDamage(f *testing.F) {
	dir := f.TempDir()
	tree := filepath.Join(dir, "tree")
	must(f, os.MkdirAll(filepath.Join(tree, "many"), 0o755))
	for i := range 100 {
		must(f, os.WriteFile(filepath.Join(tree, "many", fmt.Sprint(i, strings.Repeat("y", i))), []byte(strings.Repeat("z", 50*i)), 0o600))
	}
	sparse, err := os.Create(filepath.Join(tree, "sparse"))
	must(f, err)
	for i := range 400 {
		_, err := sparse.WriteAt([]byte{1}, int64(i)*16384)
		must(f, err)
	}
	must(f, sparse.Close())
	must(f, os.Symlink("many", filepath.Join(tree, "link")))
	must(f, os.Symlink(strings.Repeat("l", 200), filepath.Join(tree, "long")))
	var images []*os.File
	var used [][]int64 // 512-byte blocks that hold something
	add := func(size int64, command string, args ...string) {
		name := filepath.Join(dir, fmt.Sprint(len(images)))
		must(f, os.WriteFile(name, nil, 0o600))
		must(f, os.Truncate(name, size))
		run(f, command, append(args, name)...)
		image, err := os.Open(name)
		must(f, err)
		f.Cleanup(func() { image.Close() })
		var blocks []int64
		b := make([]byte, 512)
		for at := int64(0); at < min(size, 16<<20); at += 512 {
			if _, err := image.ReadAt(b, at); err == nil && (b[0]|b[1]|b[4]|b[8]|b[40]) != 0 {
				blocks = append(blocks, at)
			}
		}
		images, used = append(images, image), append(used, blocks)
	}
	add(8<<20, "mkfs.ext4", "-q", "-d", tree, "-O", "inline_data", "-E", "no_copy_xattrs")
	add(8<<20, "mkfs.ext2", "-q", "-b", "1024", "-d", tree)
	proto := filepath.Join(dir, "proto")
	var p strings.Builder
	p.WriteString("/\n0 0\nd--755 0 0\nmany d--755 0 0\n")
	for i := range 100 {
		fmt.Fprintf(&p, "f%d%s ---600 0 0 %s\n", i, strings.Repeat("y", i), filepath.Join(tree, "sparse"))
		if i > 20 {
			break
		}
	}
	p.WriteString("$\nlink l--777 0 0 many\n$\n")
	must(f, os.WriteFile(proto, []byte(p.String()), 0o600))
	add(300<<20, "mkfs.xfs", "-q", "-p", proto)
	f.Add([]byte{0, 0, 0, 0, 0, 1})
	f.Add([]byte{1, 9, 0, 0, 40, 255, 8, 0, 0, 1, 3})
	f.Add([]byte{2, 9, 0, 0, 40, 255, 8, 0, 0, 1, 3})
	f.Fuzz(func(_ *testing.T, b []byte) {
		if len(b) == 0 {
			return
		}
		which := int(b[0]) % len(images)
		d := &damagedDisk{ReaderAt: images[which], changed: map[int64]byte{}}
		for b = b[1:]; len(b) >= 5 && len(d.changed) < 64; b = b[5:] {
			block := used[which][int(binary.LittleEndian.Uint16(b))%len(used[which])]
			d.changed[block+int64(binary.LittleEndian.Uint16(b[2:])%512)] = b[4]
		}
		st, err := images[which].Stat()
		if err != nil {
			panic(err)
		}
		fsys, err := files.Open(d, st.Size())
		if err != nil {
			return
		}
		left := 300
		look(fsys, fsys.Root(), &left)
		_, _ = files.Lookup(fsys, "link/../sparse", true)
	})
}
