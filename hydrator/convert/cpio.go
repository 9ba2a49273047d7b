package convert

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"

	"github.com/klauspost/compress/zstd"
)

// An initramfs is one or more cpio archives (Documentation/driver-api/early-userspace/buffer-format.rst in Linux), each plain or
// compressed, zeros between them. What a later archive has replaces what an earlier one had. An entry of the format "newc" is
//
//	 0   6  070701 or 070702
//	 6 104  13 numbers of 8 hexadecimal digits; the 2nd is the mode, the 7th the size of the content, the 12th that of the name with its final 0
//	110  …  the name, filled to a multiple of 4 from the entry's start, then the content, filled likewise
//
// and the entry TRAILER!!! ends an archive.
const (
	cpioHeader  = 110
	cpioTrailer = "TRAILER!!!"
	maxUnpacked = 2 << 30 // bytes
	maxName     = 4096
	maxArchives = 8
)

// Types of entries, in their modes.
const (
	cpioType    = 0o170000
	cpioFolder  = 0o040000
	cpioRegular = 0o100000
	cpioLink    = 0o120000
)

// errCompression says that the archive is compressed with something that this program does not know.
var errCompression = errors.New("compression is not known")

// compression of an archive.
type compression string

// The compressions that are undone here. All others are undone by the system's own programs.
const (
	cpioPlain compression = ""
	cpioGzip  compression = "gzip"
	cpioZstd  compression = "zstd"
	cpioBzip2 compression = "bzip2"
)

// cpioEntry is one file, folder or link of an archive.
type cpioEntry struct {
	name  string // relative to the root, clean
	mode  uint32 // type and permissions
	links uint64 // of a file; of several, only the last one has the content
	size  int64
}

// readCpio calls fn with each entry of an initramfs and what the entry holds, which fn may read or leave. It returns how the last archive is
// compressed.
func readCpio(r io.Reader, fn func(cpioEntry, io.Reader) error) (compression, error) {
	b := bufio.NewReaderSize(r, 64<<10)
	last := cpioPlain
	for range maxArchives {
		if err := skipZeros(b); errors.Is(err, io.EOF) {
			return last, nil
		} else if err != nil {
			return "", err
		}
		magic, err := b.Peek(6)
		if err != nil {
			return "", fmt.Errorf("read initramfs: %w", err)
		}
		last = packing(magic)
		if last == cpioPlain {
			err = readArchive(b, magic, fn)
		} else {
			err = readPacked(b, last, fn)
		}
		if err != nil {
			return "", fmt.Errorf("read initramfs: %w", err)
		}
	}
	return "", errors.New("read initramfs: it has too many parts")
}

// packing tells a compression by how it starts.
func packing(magic []byte) compression {
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		return cpioGzip
	case bytes.HasPrefix(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return cpioZstd
	case bytes.HasPrefix(magic, []byte("BZh")):
		return cpioBzip2
	}
	return cpioPlain
}

// readPacked reads what is compressed, up to its end and not further. In it nothing is compressed again.
func readPacked(b *bufio.Reader, how compression, fn func(cpioEntry, io.Reader) error) error {
	var r io.Reader
	switch how {
	case cpioGzip:
		z, err := gzip.NewReader(b)
		if err != nil {
			return err
		}
		z.Multistream(false)
		r = z
	case cpioZstd:
		// Concurrency 1 starts no goroutine that would have to be ended.
		z, err := zstd.NewReader(&frame{r: b}, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(256<<20))
		if err != nil {
			return err
		}
		defer z.Close()
		r = z
	default:
		r = bzip2.NewReader(b)
	}
	unpacked := bufio.NewReaderSize(io.LimitReader(r, maxUnpacked), 64<<10)
	for range maxArchives {
		if err := skipZeros(unpacked); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		magic, err := unpacked.Peek(6)
		if err == nil {
			err = readArchive(unpacked, magic, fn)
		}
		if err != nil {
			return err
		}
	}
	return errors.New("it has too many parts")
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

// readArchive reads a plain archive up to its trailer.
func readArchive(b *bufio.Reader, magic []byte, fn func(cpioEntry, io.Reader) error) error {
	if !bytes.HasPrefix(magic, []byte("07070")) {
		return fmt.Errorf("%w: it starts with % x", errCompression, magic)
	}
	header := make([]byte, cpioHeader)
	for {
		if _, err := io.ReadFull(b, header); err != nil {
			return err
		}
		if !bytes.HasPrefix(header, []byte("07070")) {
			return errors.New("an entry does not start as one")
		}
		number := func(i int) (uint64, error) { return strconv.ParseUint(string(header[6+i*8:14+i*8]), 16, 32) }
		mode, err1 := number(1)
		links, err2 := number(4)
		size, err3 := number(6)
		length, err4 := number(11)
		if err := errors.Join(err1, err2, err3, err4); err != nil {
			return err
		}
		if length == 0 || length > maxName {
			return fmt.Errorf("a name has %d bytes", length)
		}
		name := make([]byte, length+fill(cpioHeader+length))
		if _, err := io.ReadFull(b, name); err != nil {
			return err
		}
		text := string(bytes.TrimRight(name[:length], "\x00"))
		content := &io.LimitedReader{R: b, N: int64(size)}
		if text != cpioTrailer {
			if err := fn(cpioEntry{path.Clean("/" + text)[1:], uint32(mode), links, int64(size)}, content); err != nil {
				return err
			}
		}
		if _, err := io.CopyN(io.Discard, b, content.N+int64(fill(size))); err != nil {
			return err
		}
		if text == cpioTrailer {
			return nil
		}
	}
}

// fill is how many bytes follow n of them up to a multiple of 4.
func fill(n uint64) uint64 { return (4 - n%4) % 4 }

// writeCpio appends an entry in the format "newc". Names and contents are short enough for the format's 32 bits.
func writeCpio(b *bytes.Buffer, e cpioEntry, content []byte) {
	name := e.name + "\x00"
	fmt.Fprintf(b, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", 0, e.mode, 0, 0, e.links, 0, len(content), 0, 0, 0, 0, len(name), 0)
	b.WriteString(name)
	b.Write(make([]byte, fill(uint64(b.Len()))))
	b.Write(content)
	b.Write(make([]byte, fill(uint64(b.Len()))))
}
