// Package channel carries commands and files between a test and the program that it put into a virtual machine, over
// one byte stream: a virtio-serial port, which needs neither a network nor a login.
//
// The problem is that such a port has no beginning and no end. It outlives resets of the machine, and what one boot left
// in it arrives at the next. So each message starts with a magic word that both sides search for, and carries the number
// of the request that it answers; numbers start at random, so an answer to an earlier connection matches nothing.
//
// A message is:
//
//	magic   8 bytes   "OMVMCHN1"
//	length  4 bytes   of the body, big endian, at most maxBody
//	body              a gob stream of one request or one response
//
// A Client's methods may be called at once; their answers come in any order.
package channel

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/gob"
	"fmt"
	"io"
	"time"
)

// PortName is the virtio-serial port's; the guest finds it below /dev/virtio-ports.
const PortName = "org.openmigrate.test"

const (
	magic = "OMVMCHN1"

	// maxBody bounds a message. Outputs are cut at MaxOutput, files go in pieces of fileChunk.
	maxBody   = 2*MaxOutput + 1<<20
	fileChunk = 1 << 20
)

// MaxOutput is how many bytes of each of a command's outputs are kept: its first ones.
const MaxOutput = 4 << 20

type op uint8

const (
	opPing op = iota + 1
	opRun
	opPut
	opGet
)

type request struct {
	ID      uint64
	Op      op
	Args    []string      // opRun
	Stdin   []byte        // opRun
	Timeout time.Duration // opRun: the guest kills the command after it
	Path    string        // opPut, opGet
	Offset  int64         // opPut, opGet; 0 truncates
	Data    []byte        // opPut
	Mode    uint32        // opPut: permission bits
}

type response struct {
	ID     uint64
	Err    string // why the guest could not do it
	Status int
	Stdout []byte
	Stderr []byte
	Data   []byte // opGet; empty at the end of the file
}

// Result is what a command left.
type Result struct {
	Status         int // exit status; 128 + the signal's number after a signal
	Stdout, Stderr []byte
}

func writeMessage(w io.Writer, body any) error {
	var b bytes.Buffer
	b.WriteString(magic)
	b.Write(make([]byte, 4))
	if err := gob.NewEncoder(&b).Encode(body); err != nil {
		return fmt.Errorf("encode message: %w", err)
	}
	size := b.Len() - len(magic) - 4
	if size > maxBody {
		return fmt.Errorf("encode message: %d bytes are more than %d", size, maxBody)
	}
	binary.BigEndian.PutUint32(b.Bytes()[len(magic):], uint32(size))
	_, err := w.Write(b.Bytes())
	return err
}

// readMessage decodes the next message into body and skips whatever is none. Its errors are the reader's.
func readMessage(r *bufio.Reader, body any) error {
	for {
		if err := skipToMagic(r); err != nil {
			return err
		}
		var length [4]byte
		if _, err := io.ReadFull(r, length[:]); err != nil {
			return err
		}
		size := binary.BigEndian.Uint32(length[:])
		if size > maxBody {
			continue
		}
		// The length is not believed before that many bytes came.
		var b bytes.Buffer
		if _, err := io.CopyN(&b, r, int64(size)); err != nil {
			return err
		}
		if gob.NewDecoder(&b).Decode(body) == nil {
			return nil
		}
	}
}

func skipToMagic(r *bufio.Reader) error {
	for {
		next, err := r.Peek(len(magic))
		if err != nil {
			return err
		}
		if string(next) == magic {
			_, err = r.Discard(len(magic))
			return err
		}
		if _, err := r.Discard(1); err != nil {
			return err
		}
	}
}
