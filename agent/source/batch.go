package source

import (
	"errors"
	"fmt"
	"io"

	"golang.org/x/sync/errgroup"
)

// Piece is one of many reads: P is filled with what stands at Off, all of which must exist.
type Piece struct {
	Off int64
	P   []byte
}

// Batcher is what a Reader may be, too: one that has many reads under way with no thread for each.
type Batcher interface {
	// ReadBatch fills all pieces, in any order. Errors are those of ReadAt; the end of the source is io.ErrUnexpectedEOF. When it returns, no
	// piece is written to any more.
	ReadBatch(pieces []Piece) error
}

// batchReads is how many reads run at once of a Reader that is no Batcher.
const batchReads = 16

// ReadBatch fills all pieces from r, many at once, as Batcher says.
func ReadBatch(r Reader, pieces []Piece) error {
	if b, ok := r.(Batcher); ok && len(pieces) > 1 {
		return b.ReadBatch(pieces)
	}
	return readEach(r, pieces)
}

func readEach(r io.ReaderAt, pieces []Piece) error {
	if len(pieces) == 1 {
		return readPiece(r, pieces[0])
	}
	var group errgroup.Group
	group.SetLimit(batchReads)
	for _, x := range pieces {
		group.Go(func() error { return readPiece(r, x) })
	}
	return group.Wait()
}

func readPiece(r io.ReaderAt, x Piece) error {
	n, err := r.ReadAt(x.P, x.Off)
	switch {
	case errors.Is(err, io.EOF) && n < len(x.P):
		return fmt.Errorf("read at %d: %w", x.Off+int64(n), io.ErrUnexpectedEOF)
	case errors.Is(err, io.EOF):
		return nil
	}
	return err
}
