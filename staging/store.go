// Package staging defines what OpenMigrate asks of the bucket that holds a project's data: a flat namespace of
// immutable objects. Implementations live below (s3store, memstore), decorators beside them (retry, limit, fault), and
// storecheck holds the conformance suite that all of them pass and that a user can run on his own bucket.
//
// What the world must guarantee. An object whose Put returned nil survives a power cut of the server, and is seen whole by every
// later Get, Stat and List (read-after-write and list-after-write). An object is never seen in part. Put with IfAbsent
// admits exactly one of any number of concurrent writers. Delete of an absent object is not an error.
//
// Everything here may be called by any number of goroutines at once.
package staging

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"net/http"
	"time"
)

var (
	// ErrNotFound: there is no such object.
	ErrNotFound = errors.New("object not found")
	// ErrExists: Put with IfAbsent found an object of that name.
	ErrExists = errors.New("object already exists")
	// ErrChecksum: the bytes that arrived are not the bytes that were announced.
	ErrChecksum = errors.New("checksum does not match")
	// ErrDenied: the credentials are wrong or lack a right.
	ErrDenied = errors.New("access denied")
	// ErrFull: the store has no room left.
	ErrFull = errors.New("no space left in staging")
	// ErrRange: the object ends before the range begins.
	ErrRange = errors.New("range lies past the end of the object")
	// ErrTemporary marks errors that may pass when tried again (5xx, throttling, lost connections).
	ErrTemporary = errors.New("temporary failure")
)

// Store is a bucket, or a prefix of one. Names are slash-separated printable ASCII without a leading slash; no name
// is a directory prefix of another ("a" and "a/b" never exist together).
type Store interface {
	// Put stores body under name in one request. When it returns nil the object is durable.
	// body is read at most once per call and belongs to the caller again after return. opts may be nil.
	Put(ctx context.Context, name string, body []byte, opts *PutOptions) error
	// Get reads length bytes from off; length -1 reads to the end. A range that starts at or past the end gives io.EOF
	// on the first Read or an error from Get. Short objects give a short read, never an error of their own.
	Get(ctx context.Context, name string, off, length int64) (io.ReadCloser, error)
	// Stat returns ErrNotFound for an absent object.
	Stat(ctx context.Context, name string) (Info, error)
	// List calls fn for each object whose name starts with prefix and is greater than after, in byte order of
	// names. An error from fn ends the listing and is returned.
	List(ctx context.Context, prefix, after string, fn func(Info) error) error
	// Delete removes the object. It returns nil when there is none.
	Delete(ctx context.Context, name string) error
}

// PutOptions change a Put. The zero value overwrites.
type PutOptions struct {
	IfAbsent bool // fail with ErrExists when the object is there
}

// Info describes an object.
type Info struct {
	Name     string
	Size     int64     // bytes
	Modified time.Time // by the store's clock
}

// Signer is implemented by stores that can hand out the right to one request on one object without credentials.
type Signer interface {
	// SignPut allows one PUT of exactly Size bytes with that checksum, only if the object is absent.
	SignPut(ctx context.Context, name string, o SignPut) (SignedRequest, error)
	// SignGet allows GETs, also of ranges, of one object.
	SignGet(ctx context.Context, name string, valid time.Duration) (SignedRequest, error)
}

// SignPut says what a signed PUT is for.
type SignPut struct {
	Size   int64
	CRC32C CRC32C // of the body
	Valid  time.Duration
}

// CRC32C is the CRC-32 of a body with Castagnoli's polynomial, big-endian, as S3 wants it. It tells damage on the way, at memory speed
// on both sides; who the bytes are from is the business of the seals inside them.
type CRC32C [4]byte

// Checksum is the CRC32C of b.
func Checksum(b []byte) CRC32C {
	var c CRC32C
	binary.BigEndian.PutUint32(c[:], crc32.Checksum(b, castagnoli))
	return c
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// SignedRequest is a URL with the headers that must go with it, exactly as given.
type SignedRequest struct {
	URL    string      `json:"url"`
	Header http.Header `json:"header,omitempty"`
}
