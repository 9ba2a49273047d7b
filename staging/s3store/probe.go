package s3store

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/openmigrate/openmigrate/staging"
)

// Capabilities are what a server was seen to enforce. Staging needs all of them.
type Capabilities struct {
	IfAbsent       bool // If-None-Match: * is honoured
	IfAbsentStatus int  // with which a conditional PUT on a name that exists is refused: 412, from some old servers 304; 0 when not
	SignedChecksum bool // a signed PUT with other bytes is refused
	SignedSize     bool // a signed PUT of another length is refused
}

// Probe asks the server what it enforces, with small objects of random names that it removes. Its errors say what to mend:
// ErrDenied for credentials and a missing bucket, ErrTemporary for a server that does not answer.
func (s *Store) Probe(ctx context.Context) (_ Capabilities, err error) {
	var c Capabilities
	id := make([]byte, 8)
	_, _ = rand.Read(id) // never fails since Go 1.24
	base := "probe/" + hex.EncodeToString(id)
	names := []string{base + "-absent", base + "-sum", base + "-size"}
	defer func() {
		for _, n := range names {
			if derr := s.Delete(ctx, n); derr != nil && err == nil {
				err = fmt.Errorf("probe staging: %w", derr)
			}
		}
	}()
	once := &staging.PutOptions{IfAbsent: true}
	if err := s.Put(ctx, names[0], []byte("1"), once); err != nil {
		return c, fmt.Errorf("probe staging: %w", err)
	}
	noted, lost := noting(ctx)
	switch err := s.put(noted, names[0], []byte("2"), once); {
	case errors.Is(err, staging.ErrExists):
		c.IfAbsent, c.IfAbsentStatus = true, int(lost.status.Load())
	case err != nil:
		return c, fmt.Errorf("probe staging: %w", err)
	}
	client := staging.NewSignedClientWith(s.transport, []string{s.host, s.bucket + "." + s.host})
	c.SignedChecksum, err = s.refuses(ctx, client, names[1], "right", "wrong")
	if err != nil {
		return c, err
	}
	c.SignedSize, err = s.refuses(ctx, client, names[2], "right", "right and longer")
	return c, err
}

// refuses signs a PUT of one body and sends another, then the right one: a server that refuses every signed PUT enforces nothing.
func (s *Store) refuses(ctx context.Context, client *staging.SignedClient, name, signed, sent string) (bool, error) {
	req, err := s.SignPut(ctx, name, staging.SignPut{Size: int64(len(signed)), CRC32C: staging.Checksum([]byte(signed)), Valid: time.Minute})
	if err != nil {
		return false, fmt.Errorf("probe staging: %w", err)
	}
	err = client.Put(ctx, req, []byte(sent), nil)
	if errors.Is(err, staging.ErrTemporary) || ctx.Err() != nil {
		return false, fmt.Errorf("probe staging: %w", err)
	}
	if err == nil {
		return false, nil
	}
	if err := client.Put(ctx, req, []byte(signed), nil); err != nil {
		return false, fmt.Errorf("probe staging: a signed PUT as it must be: %w", err)
	}
	return true, nil
}
