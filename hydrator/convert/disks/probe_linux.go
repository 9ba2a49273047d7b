package disks

import (
	"context"
	"errors"
	"fmt"
)

// Probe tries what Private and Mount need: a mount name space, a file system in memory, and a loop device on the disk at path.
func Probe(ctx context.Context, path string) error {
	return Private(ctx, func(s *Space) error {
		if err := s.MountScratch("", 1<<20); err != nil {
			return err
		}
		loop, err := attach(path, 0, 0, true)
		if err != nil {
			return fmt.Errorf("attach loop device: %w", err)
		}
		b := make([]byte, 512)
		_, err = loop.ReadAt(b, 0)
		return errors.Join(err, loop.Close())
	})
}
