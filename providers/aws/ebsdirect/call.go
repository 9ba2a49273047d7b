package ebsdirect

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ebs/types"

	"github.com/openmigrate/openmigrate/providers"
)

// The actions, as an IAM policy names them.
const (
	actionStart    = "ebs:StartSnapshot"
	actionPut      = "ebs:PutSnapshotBlock"
	actionComplete = "ebs:CompleteSnapshot"
)

// StartSpec asks for a pending snapshot.
type StartSpec struct {
	Token       string // makes the call idempotent; 1 to 255 characters
	Size        int64  // bytes of the disk; the volume has the next whole GiB
	Parent      string // a completed snapshot of this account, not larger; empty: none
	Encrypted   bool   // only without a parent: with one its encryption is inherited
	KMSKey      string // ARN, with Encrypted; empty: the account's default key
	Description string
	Tags        map[string]string
	Timeout     time.Duration // after which the service cancels a snapshot that nobody writes to; 0: its default of 60 minutes
}

// Pending is a snapshot that is being written.
type Pending struct {
	ID      string    `json:"id"`
	Started time.Time `json:"started"` // by this host's clock
}

// visible is how long after its start a snapshot may not be found by the service's own front ends. awslabs/coldsnap waits 132 s for it.
const visible = 3 * time.Minute

// Start opens a snapshot. Calling again with the same token gives the same one, whatever became of it.
func (c *Client) Start(ctx context.Context, s *StartSpec) (Pending, error) {
	if s.Size <= 0 || s.Size > MaxVolume {
		return Pending{}, fmt.Errorf("start snapshot of %d bytes: %w: EBS volumes have 1 byte to 64 TiB", s.Size, providers.ErrInvalid)
	}
	in := &ebs.StartSnapshotInput{VolumeSize: aws.Int64((s.Size + 1<<30 - 1) >> 30), ClientToken: aws.String(s.Token)}
	if s.Parent != "" {
		in.ParentSnapshotId = aws.String(s.Parent)
	} else if s.Encrypted {
		in.Encrypted = aws.Bool(true)
		if s.KMSKey != "" {
			in.KmsKeyArn = aws.String(s.KMSKey)
		}
	}
	if s.Description != "" {
		in.Description = aws.String(s.Description)
	}
	if s.Timeout > 0 {
		in.Timeout = aws.Int32(int32((s.Timeout + time.Minute - 1) / time.Minute))
	}
	for k, v := range s.Tags {
		in.Tags = append(in.Tags, types.Tag{Key: aws.String(k), Value: aws.String(v)})
	}
	var out *ebs.StartSnapshotOutput
	err := c.do(ctx, call{action: actionStart, admit: c.o.Pacer.start, send: func(ctx context.Context) (err error) {
		out, err = c.api.StartSnapshot(ctx, in, once)
		return err
	}})
	if err != nil {
		return Pending{}, fmt.Errorf("start snapshot: %w", err)
	}
	p := Pending{ID: aws.ToString(out.SnapshotId), Started: c.o.Clock.Now()}
	if size := aws.ToInt32(out.BlockSize); p.ID == "" || size != BlockSize {
		return Pending{}, fmt.Errorf("start snapshot %q: %w: the service writes blocks of %d bytes, this program of %d; upgrade it", p.ID, providers.ErrInvalid, size, BlockSize)
	}
	return p, nil
}

// Put writes one block of exactly BlockSize bytes, whose SHA-256 is sum. It may be repeated. data is the caller's again on return.
func (c *Client) Put(ctx context.Context, p Pending, index int64, data []byte, sum *[sha256.Size]byte) error {
	if index < 0 || index >= MaxBlocks || len(data) != BlockSize {
		return fmt.Errorf("put block %d of %d bytes: %w: blocks are 0 to %d, of %d bytes", index, len(data), providers.ErrInvalid, int64(MaxBlocks)-1, BlockSize)
	}
	in := &ebs.PutSnapshotBlockInput{
		SnapshotId: &p.ID, BlockIndex: aws.Int32(int32(index)), DataLength: aws.Int32(BlockSize),
		Checksum: aws.String(base64.StdEncoding.EncodeToString(sum[:])), ChecksumAlgorithm: types.ChecksumAlgorithmChecksumAlgorithmSha256,
	}
	err := c.do(ctx, call{action: actionPut, snapshot: &p, admit: func(ctx context.Context) error { return c.o.Pacer.put(ctx, p.ID) },
		send: func(ctx context.Context) error {
			in.BlockData = bytes.NewReader(data)
			_, err := c.api.PutSnapshotBlock(ctx, in, once)
			return err
		}})
	if err != nil {
		return fmt.Errorf("put block %d of snapshot %s: %w", index, p.ID, err)
	}
	return nil
}

// Complete seals a snapshot of which that many different blocks were put. linear is the SHA-256 over the blocks' SHA-256 (32 bytes each) in
// ascending order of index; the service refuses when either is not what it has. nil: only the number is compared. The snapshot becomes completed some time later.
func (c *Client) Complete(ctx context.Context, p Pending, blocks int64, linear []byte) error {
	in := &ebs.CompleteSnapshotInput{SnapshotId: &p.ID, ChangedBlocksCount: aws.Int32(int32(blocks))}
	if linear != nil {
		in.Checksum = aws.String(base64.StdEncoding.EncodeToString(linear))
		in.ChecksumAlgorithm = types.ChecksumAlgorithmChecksumAlgorithmSha256
		in.ChecksumAggregationMethod = types.ChecksumAggregationMethodChecksumAggregationLinear
	}
	err := c.do(ctx, call{action: actionComplete, snapshot: &p, admit: c.o.Pacer.complete, send: func(ctx context.Context) error {
		_, err := c.api.CompleteSnapshot(ctx, in, once)
		return err
	}})
	if err != nil {
		return fmt.Errorf("complete snapshot %s with %d blocks: %w", p.ID, blocks, err)
	}
	return nil
}

// once leaves repeating to this package: the SDK's own retries would not ask the pacer.
func once(o *ebs.Options) { o.Retryer = aws.NopRetryer{} }

// call is one call of the service.
type call struct {
	action   string
	snapshot *Pending
	admit    func(context.Context) error
	send     func(context.Context) error
}

// do repeats a call until it succeeds, fails for good, or the patience is over.
func (c *Client) do(ctx context.Context, k call) error {
	var since time.Time
	for attempt := 0; ; attempt++ {
		if err := k.admit(ctx); err != nil {
			return err
		}
		actx, cancel := context.WithTimeout(ctx, c.o.Timeout)
		err := k.send(actx)
		cancel()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		f := c.classify(&k, err)
		if f.throttled {
			id := ""
			if k.snapshot != nil {
				id = k.snapshot.ID
			}
			c.o.Pacer.throttled(k.action, id, f.own)
		}
		now := c.o.Clock.Now()
		if since.IsZero() {
			since = now
		}
		if !f.again {
			return f.err
		}
		if now.Sub(since) > c.o.Patience {
			return fmt.Errorf("%w (repeated for %s)", f.err, now.Sub(since).Round(time.Second))
		}
		if err := c.o.Sleep(ctx, backoff(attempt)); err != nil {
			return err
		}
	}
}

const (
	firstBackoff = 200 * time.Millisecond
	maxBackoff   = 20 * time.Second
)

// backoff doubles, with half of it left to chance so that many blocks do not come back together.
func backoff(attempt int) time.Duration {
	d := min(firstBackoff<<min(attempt, 10), maxBackoff)
	return d/2 + rand.N(d/2)
}

// isGone tells that a snapshot must be begun anew.
func isGone(err error) bool { return errors.Is(err, ErrGone) }
