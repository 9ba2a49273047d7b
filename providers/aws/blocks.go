package aws

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	ebstypes "github.com/aws/aws-sdk-go-v2/service/ebs/types"

	"github.com/openmigrate/openmigrate/providers"
)

// blockSize of the direct APIs, bytes: https://docs.aws.amazon.com/ebs/latest/APIReference/API_PutSnapshotBlock.html.
const blockSize = 512 << 10

// BeginSnapshot implements providers.SnapshotWriter.
func (p *Provider) BeginSnapshot(ctx context.Context, spec providers.BlockSnapshotSpec) (providers.Snapshot, error) {
	const what = "begin snapshot"
	c, err := p.Capabilities(ctx)
	if err != nil {
		return providers.Snapshot{}, err
	}
	if err := spec.Check(&c); err != nil {
		return providers.Snapshot{}, err
	}
	size, err := c.RoundSize(spec.Size)
	if err != nil {
		return providers.Snapshot{}, fmt.Errorf("%s: %w", what, err)
	}
	in := &ebs.StartSnapshotInput{VolumeSize: aws.Int64(size / gib), ClientToken: aws.String(spec.Token), Description: aws.String("OpenMigrate " + spec.Owner.Launch)}
	if spec.Parent != "" {
		if !is("snap", spec.Parent) {
			return providers.Snapshot{}, missing("snapshot", spec.Parent)
		}
		in.ParentSnapshotId = aws.String(spec.Parent)
	}
	for _, t := range tags(&spec.Meta, fingerprint(spec)) {
		in.Tags = append(in.Tags, ebstypes.Tag{Key: t.Key, Value: t.Value})
	}
	out, err := p.ebs.StartSnapshot(ctx, in)
	if err != nil {
		return providers.Snapshot{}, wrap(what, err)
	}
	got, found, err := settled(ctx, p, func() (providers.Snapshot, bool, error) {
		s, err := p.Snapshot(ctx, aws.ToString(out.SnapshotId))
		return s, err == nil, err
	})
	if err == nil && !found {
		err = fmt.Errorf("%s: %w: %s was made and is not shown yet", what, providers.ErrTryAgain, aws.ToString(out.SnapshotId))
	}
	return got, err
}

// PutBlock implements providers.SnapshotWriter. EBS checks the block against its SHA-256 before it takes it.
func (p *Provider) PutBlock(ctx context.Context, id string, index int64, data []byte) error {
	what := fmt.Sprintf("put block %d of snapshot %s", index, id)
	if !is("snap", id) {
		return missing("snapshot", id)
	}
	if len(data) != blockSize || index < 0 || index > 64<<40/blockSize {
		return fmt.Errorf("%s: %w: blocks have %d bytes, not %d", what, providers.ErrInvalid, blockSize, len(data))
	}
	sum := sha256.Sum256(data)
	_, err := p.ebs.PutSnapshotBlock(ctx, &ebs.PutSnapshotBlockInput{SnapshotId: aws.String(id), BlockIndex: aws.Int32(int32(index)), BlockData: bytes.NewReader(data),
		DataLength: aws.Int32(blockSize), Checksum: aws.String(base64.StdEncoding.EncodeToString(sum[:])), ChecksumAlgorithm: ebstypes.ChecksumAlgorithmChecksumAlgorithmSha256})
	return inState(wrap(what, err))
}

// CompleteSnapshot implements providers.SnapshotWriter.
func (p *Provider) CompleteSnapshot(ctx context.Context, id string, blocks int64) error {
	what := "complete snapshot " + id
	if !is("snap", id) {
		return missing("snapshot", id)
	}
	if blocks < 0 || blocks > 64<<40/blockSize {
		return fmt.Errorf("%s: %w: %d blocks", what, providers.ErrInvalid, blocks)
	}
	_, err := p.ebs.CompleteSnapshot(ctx, &ebs.CompleteSnapshotInput{SnapshotId: aws.String(id), ChangedBlocksCount: aws.Int32(int32(blocks))})
	return inState(wrap(what, err))
}

// inState takes a request that is valid in itself, and yet invalid, for one that comes at the wrong time: what EBS says of both is the same.
func inState(err error) error {
	if errors.Is(err, providers.ErrInvalid) {
		return fmt.Errorf("%w: %w", providers.ErrConflict, err)
	}
	return err
}
