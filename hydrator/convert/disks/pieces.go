package disks

import (
	"errors"
	"fmt"
	"io"
	"sort"
)

// Piece is a range of bytes of a disk.
type Piece struct {
	Disk  int // its place in the list of disks
	Start int64
	Size  int64
}

// file is what pieces lie in: a disk's file or device.
type file interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
}

// joined shows pieces, one after the other, as one range of bytes. It may be used by several goroutines at once.
type joined struct {
	files  []file // by the number of the disk
	pieces []Piece
	ends   []int64 // where in the whole each piece ends
}

func join(files []file, pieces []Piece) *joined {
	j := &joined{files: files, pieces: pieces}
	end := int64(0)
	for _, p := range pieces {
		end += p.Size
		j.ends = append(j.ends, end)
	}
	return j
}

// Size is that of all pieces.
func (j *joined) Size() int64 {
	if len(j.ends) == 0 {
		return 0
	}
	return j.ends[len(j.ends)-1]
}

// each calls do for the parts of p that lie in one piece each.
func (j *joined) each(p []byte, off int64, do func(f file, p []byte, off int64) (int, error)) (int, error) {
	if off < 0 {
		return 0, errors.New("negative offset")
	}
	done := 0
	for i := sort.Search(len(j.ends), func(i int) bool { return j.ends[i] > off }); done < len(p); i++ {
		if i >= len(j.pieces) {
			return done, io.EOF
		}
		piece := j.pieces[i]
		inside := off - (j.ends[i] - piece.Size)
		part := p[done : done+int(min(int64(len(p)-done), piece.Size-inside))]
		n, err := do(j.files[piece.Disk], part, piece.Start+inside)
		done, off = done+n, off+int64(n)
		if n < len(part) {
			return done, fmt.Errorf("disk %d: %w", piece.Disk, errors.Join(err, io.ErrUnexpectedEOF))
		}
	}
	return done, nil
}

// ReadAt implements io.ReaderAt.
func (j *joined) ReadAt(p []byte, off int64) (int, error) {
	return j.each(p, off, func(f file, p []byte, off int64) (int, error) { return f.ReadAt(p, off) })
}

// WriteAt implements io.WriterAt. Nothing is written past the end.
func (j *joined) WriteAt(p []byte, off int64) (int, error) {
	if off > j.Size()-int64(len(p)) {
		return 0, errors.New("write past the end")
	}
	return j.each(p, off, func(f file, p []byte, off int64) (int, error) { return f.WriteAt(p, off) })
}

// Sync has all files keep what was written.
func (j *joined) Sync() error {
	var all error
	for _, f := range j.files {
		all = errors.Join(all, f.Sync())
	}
	return all
}
