package convert

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/klauspost/compress/zstd"

	"github.com/openmigrate/openmigrate/hydrator/convert/fence"
)

// An initramfs is one or more cpio archives (Documentation/driver-api/early-userspace/buffer-format.rst in Linux), each plain or
// compressed, zeros between them. An entry of the format "newc" is
//
//	 0   6  070701 or 070702
//	 6 104  13 numbers of 8 hexadecimal digits; the 7th is the size of the content, the 12th that of the name with its final 0
//	110  …  the name, filled to a multiple of 4 from the entry's start, then the content, filled likewise
//
// and the entry TRAILER!!! ends an archive.
const (
	cpioHeader  = 110
	maxUnpacked = 2 << 30 // bytes
	maxName     = 4096
	maxArchives = 8
)

// errCompression says that the archive is compressed with something that this program does not know.
var errCompression = errors.New("compression is not known")

// cpioNames calls fn with the name of each entry.
func cpioNames(r io.Reader, fn func(string)) error { return cpioParts(r, fn, false) }

// cpioParts reads one part after the other; in what was unpacked nothing is unpacked again.
func cpioParts(r io.Reader, fn func(string), unpacked bool) error {
	b := bufio.NewReaderSize(r, 64<<10)
	for range maxArchives {
		if err := skipZeros(b); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		magic, err := b.Peek(6)
		if err != nil {
			return fmt.Errorf("read initramfs: %w", err)
		}
		if bytes.HasPrefix(magic, []byte("07070")) {
			if err := cpioArchive(b, fn); err != nil {
				return fmt.Errorf("read initramfs: %w", err)
			}
			continue
		}
		if unpacked {
			return fmt.Errorf("read initramfs: %w: it starts with % x", errCompression, magic)
		}
		plain, err := unpack(b, magic)
		if err != nil {
			return err
		}
		return cpioParts(io.LimitReader(plain, maxUnpacked), fn, true)
	}
	return errors.New("read initramfs: it has too many parts")
}

// unpack decompresses the rest of an initramfs.
func unpack(r io.Reader, magic []byte) (io.Reader, error) {
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		return gzip.NewReader(r)
	case bytes.HasPrefix(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		// Concurrency 1 starts no goroutine that would have to be ended.
		return zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(256<<20))
	case bytes.HasPrefix(magic, []byte("BZh")):
		return bzip2.NewReader(r), nil
	}
	return nil, fmt.Errorf("read initramfs: %w: it starts with % x", errCompression, magic)
}

func skipZeros(b *bufio.Reader) error {
	for {
		c, err := b.ReadByte()
		if err != nil {
			return err
		}
		if c != 0 {
			return b.UnreadByte()
		}
	}
}

// cpioArchive reads up to the trailer.
func cpioArchive(b *bufio.Reader, fn func(string)) error {
	header := make([]byte, cpioHeader)
	for {
		if _, err := io.ReadFull(b, header); err != nil {
			return err
		}
		if !bytes.HasPrefix(header, []byte("07070")) {
			return errors.New("an entry does not start as one")
		}
		size, err1 := strconv.ParseUint(string(header[6+6*8:6+7*8]), 16, 32)
		length, err2 := strconv.ParseUint(string(header[6+11*8:6+12*8]), 16, 32)
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		if length == 0 || length > maxName {
			return fmt.Errorf("a name has %d bytes", length)
		}
		name := make([]byte, length)
		if _, err := io.ReadFull(b, name); err != nil {
			return err
		}
		pad := func(n uint64) uint64 { return (4 - n%4) % 4 }
		skip := pad(cpioHeader+length) + size + pad(size)
		if _, err := io.CopyN(io.Discard, b, int64(skip)); err != nil {
			return err
		}
		text := string(bytes.TrimRight(name, "\x00"))
		if text == "TRAILER!!!" {
			return nil
		}
		fn(text)
	}
}

// listInitramfs returns the modules in an initramfs. Compression that is not known here is undone by the system's own
// programs, in the fence.
func (e *editor) listInitramfs(ctx context.Context, name string) (map[string]bool, error) {
	modules, err := e.readInitramfs(name)
	if !errors.Is(err, errCompression) {
		return modules, err
	}
	plain := scratch + "/openmigrate-plain"
	script := `for tool in xz lzma lz4 lzop; do "$tool" -d -c "$1" >"$2" 2>/dev/null && exit; done; exit 1`
	if _, ferr := fence.Run(ctx, fence.Command{Root: e.dir, Args: []string{"/bin/sh", "-c", script, "sh", name, plain}, Timeout: e.options.Timeout}); ferr != nil {
		return nil, errors.Join(err, ferr)
	}
	defer func() { _ = e.Remove(plain) }()
	return e.readInitramfs(plain)
}

func (e *editor) readInitramfs(name string) (map[string]bool, error) {
	f, err := e.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	modules := map[string]bool{}
	err = cpioNames(f, func(name string) {
		if m := moduleName(name); m != "" && len(modules) < 100000 {
			modules[m] = true
		}
	})
	return modules, err
}
