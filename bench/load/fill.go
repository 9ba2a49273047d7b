package load

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"

	"github.com/openmigrate/openmigrate/internal/aligned"
)

// Fill writes the first size bytes of a file, which is made if it is not there, or of a device, in order and durably: every block holds
// what a Writer could have written.
func Fill(ctx context.Context, path string, size int64, seed uint64) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("fill file: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	random := rand.New(rand.NewPCG(seed, 1))
	buf := aligned.Buffer(1 << 20)
	for off := int64(0); off < size; off += int64(len(buf)) {
		if err := ctx.Err(); err != nil {
			return err
		}
		buf = buf[:min(int64(len(buf)), size-off)]
		fill(buf, random)
		if _, err := f.WriteAt(buf, off); err != nil {
			return fmt.Errorf("fill file: %w", err)
		}
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("fill file: %w", err)
	}
	return nil
}

// Pieces writes n pieces of size bytes past the page cache, at random places of the first length bytes of a file, none twice.
func Pieces(ctx context.Context, path string, length, size int64, n int, seed uint64) (err error) {
	places := length / size
	if size%aligned.Size != 0 || int64(n) > places/2 {
		return fmt.Errorf("write pieces: %d of %d bytes do not spread over %d", n, size, length)
	}
	t, err := open(Options{Path: path, Size: length, Block: int(size), Seed: seed})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.f.Close()) }()
	seen := make(map[int64]bool)
	for len(seen) < n {
		if err := ctx.Err(); err != nil {
			return err
		}
		place := t.random.Int64N(places)
		if seen[place] {
			continue
		}
		seen[place] = true
		fill(t.block, t.random)
		if _, err := t.f.WriteAt(t.block, place*size); err != nil {
			return fmt.Errorf("write pieces: %w", err)
		}
	}
	return nil
}
