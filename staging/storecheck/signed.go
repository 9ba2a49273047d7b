package storecheck

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/openmigrate/openmigrate/staging"
)

type signedChecker struct {
	*checker
	signer staging.Signer
}

type part = struct {
	name string
	run  func(context.Context) error
}

func (c *signedChecker) parts() []part {
	return []part{{"signed put", c.put}, {"signed get", c.get}, {"expired URL", c.expired}}
}

func (c *signedChecker) client() (*staging.SignedClient, error) {
	return staging.NewSignedClient(c.opts.Hosts, c.opts.CA)
}

func (c *signedChecker) put(ctx context.Context) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	defer client.Close()
	name, b := c.prefix+"signed/put", body(8, 100_000)
	s, err := c.signer.SignPut(ctx, name, staging.SignPut{Size: int64(len(b)), CRC32C: staging.Checksum(b), Valid: time.Minute})
	if err != nil {
		return err
	}
	if err := client.Put(ctx, s, b[1:], nil); err == nil {
		return errors.New("a body of another size was taken")
	}
	if err := client.Put(ctx, s, body(9, len(b)), nil); err == nil {
		return errors.New("a body with another SHA-256 was taken")
	}
	if _, err := c.store.Stat(ctx, name); !errors.Is(err, staging.ErrNotFound) {
		return fmt.Errorf("stat after refused puts: %w, want ErrNotFound", orNone(err))
	}
	without := staging.SignedRequest{URL: s.URL, Header: s.Header.Clone()}
	without.Header.Del("If-None-Match")
	if err := client.Put(ctx, without, b, nil); err == nil {
		return errors.New("a put that leaves out the signed If-None-Match was taken")
	}
	if err := client.Put(ctx, s, b, nil); err != nil {
		return err
	}
	if err := client.Put(ctx, s, b, nil); !errors.Is(err, staging.ErrExists) {
		return fmt.Errorf("second put: %w, want ErrExists", orNone(err))
	}
	return c.holds(ctx, name, b)
}

func (c *signedChecker) get(ctx context.Context) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	defer client.Close()
	name, b := c.prefix+"signed/get", body(10, 5000)
	if err := c.store.Put(ctx, name, b, nil); err != nil {
		return err
	}
	s, err := c.signer.SignGet(ctx, name, time.Minute)
	if err != nil {
		return err
	}
	for _, r := range []struct{ off, length, from, to int64 }{{0, -1, 0, 5000}, {10, 20, 10, 30}, {4000, -1, 4000, 5000}} {
		rc, err := client.Get(ctx, s, r.off, r.length)
		if err != nil {
			return err
		}
		got, err := io.ReadAll(rc)
		if err := errors.Join(err, rc.Close()); err != nil {
			return err
		}
		if !bytes.Equal(got, b[r.from:r.to]) {
			return fmt.Errorf("signed range %d+%d: wrong bytes (%d of them)", r.off, r.length, len(got))
		}
	}
	if err := client.Put(ctx, s, b, nil); !errors.Is(err, staging.ErrDenied) {
		return fmt.Errorf("put with a URL for get: %w, want ErrDenied", orNone(err))
	}
	return nil
}

// expired waits for the store's clock to pass the shortest time that S3 can sign.
func (c *signedChecker) expired(ctx context.Context) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	defer client.Close()
	name := c.prefix + "signed/expired"
	if err := c.store.Put(ctx, name, []byte("x"), nil); err != nil {
		return err
	}
	s, err := c.signer.SignGet(ctx, name, time.Second)
	if err != nil {
		return err
	}
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for range 50 {
		rc, err := client.Get(ctx, s, 0, -1)
		if errors.Is(err, staging.ErrDenied) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := rc.Close(); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return errors.New("a URL that was valid for 1 s still works after 10 s")
}
