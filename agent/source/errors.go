package source

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

var (
	// ErrVanished says that the source is gone, or that something else stands in its place.
	ErrVanished = errors.New("source vanished")
	// ErrShrunk says that the source became smaller than it was when the pass started.
	ErrShrunk = errors.New("source shrank while it was read")
	// ErrLost says that the snapshot that was read is not whole: what was read of it is of no one instant.
	ErrLost = errors.New("snapshot was lost while it was read")
)

// ReadError is a read that failed.
type ReadError struct {
	Source string // its Name
	Offset int64  // first byte that could not be read
	Length int    // bytes that were asked for from there on
	Err    error
}

// Error names the device and the place.
func (e *ReadError) Error() string {
	return fmt.Sprintf("read %s at byte %d (%d bytes): %v", e.Source, e.Offset, e.Length, e.Err)
}

// Unwrap gives the cause: ErrVanished, ErrShrunk, ErrLost, os.ErrClosed, or an errno (EIO for a bad block).
func (e *ReadError) Unwrap() error { return e.Err }

// gone turns the errors by which a kernel says that a device or a file is no more into ErrVanished.
func gone(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENXIO), errors.Is(err, syscall.ENODEV), errors.Is(err, syscall.ESTALE),
		errors.Is(err, syscall.ENOMEDIUM), errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("%w: %w", ErrVanished, err)
	}
	return err
}
