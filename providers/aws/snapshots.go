package aws

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/openmigrate/openmigrate/providers"
)

func isNotFound(err error) bool { return errors.Is(err, providers.ErrNotFound) }

// CreateSnapshot implements providers.Snapshots. The call has no client token, so the token is a tag that is looked up before. The SDK must not repeat
// the call by itself.
func (p *Provider) CreateSnapshot(ctx context.Context, spec providers.SnapshotSpec) (providers.Snapshot, error) {
	what := "create snapshot"
	c, err := p.Capabilities(ctx)
	if err != nil {
		return providers.Snapshot{}, err
	}
	if err := spec.Check(&c); err != nil {
		return providers.Snapshot{}, err
	}
	print := fingerprint(spec)
	s, found, err := p.snapshotByToken(ctx, spec.Token)
	if err != nil {
		return providers.Snapshot{}, wrap(what, err)
	}
	if found {
		if _, _, _, all := read(s.Tags); all[tagSpec] != print {
			return providers.Snapshot{}, fmt.Errorf("%s: %w: the token was used for another request", what, providers.ErrConflict)
		}
		return snapshotOf(s), nil
	}
	if !is("vol", spec.Volume) {
		return providers.Snapshot{}, missing("volume", spec.Volume)
	}
	out, err := p.ec2.CreateSnapshot(ctx, &ec2.CreateSnapshotInput{VolumeId: aws.String(spec.Volume), Description: aws.String("OpenMigrate " + spec.Owner.Launch),
		TagSpecifications: []types.TagSpecification{tagged(types.ResourceTypeSnapshot, tags(&spec.Meta, print))}}, p.undoneOnly)
	if err != nil {
		return providers.Snapshot{}, wrap(what+" of "+spec.Volume, err)
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

// snapshotByToken looks for what a token made. A snapshot that was made a moment ago may be unknown to reads: where an earlier try may be so young, of this
// process or of one before it, it is waited out.
func (p *Provider) snapshotByToken(ctx context.Context, token string) (*types.Snapshot, bool, error) {
	now := time.Now()
	p.mu.Lock()
	for t, at := range p.tried {
		if now.Sub(at) > p.opts.Settle {
			delete(p.tried, t)
		}
	}
	_, young := p.tried[token]
	p.tried[token] = now
	p.mu.Unlock()
	if young = young || now.Sub(p.opened) < p.opts.Settle; !young {
		return p.tokenSnapshot(ctx, token)
	}
	return settled(ctx, p, func() (*types.Snapshot, bool, error) { return p.tokenSnapshot(ctx, token) })
}

func (p *Provider) tokenSnapshot(ctx context.Context, token string) (*types.Snapshot, bool, error) {
	out, err := p.ec2.DescribeSnapshots(ctx, &ec2.DescribeSnapshotsInput{OwnerIds: []string{"self"}, Filters: []types.Filter{filter("tag:"+tagToken, token)}})
	if err != nil || len(out.Snapshots) == 0 {
		return nil, false, err
	}
	return &out.Snapshots[0], true, nil
}

// Snapshot implements providers.Snapshots.
func (p *Provider) Snapshot(ctx context.Context, id string) (providers.Snapshot, error) {
	if !is("snap", id) {
		return providers.Snapshot{}, missing("snapshot", id)
	}
	out, err := p.ec2.DescribeSnapshots(ctx, &ec2.DescribeSnapshotsInput{SnapshotIds: []string{id}})
	if err != nil {
		return providers.Snapshot{}, wrap("read snapshot "+id, err)
	}
	if len(out.Snapshots) != 1 {
		return providers.Snapshot{}, missing("snapshot", id)
	}
	return snapshotOf(&out.Snapshots[0]), nil
}

func snapshotOf(s *types.Snapshot) providers.Snapshot {
	out := providers.Snapshot{ID: aws.ToString(s.SnapshotId), Volume: aws.ToString(s.VolumeId), Size: int64(aws.ToInt32(s.VolumeSize)) * gib, Created: aws.ToTime(s.StartTime)}
	out.Owner, out.Name, out.Tags, _ = read(s.Tags)
	switch s.State {
	case types.SnapshotStateCompleted, types.SnapshotStateRecoverable:
		out.State = providers.StateAvailable
	case types.SnapshotStateError:
		out.State, out.Reason = providers.StateFailed, "EBS says: "+oneLine(aws.ToString(s.StateMessage))
	default:
		out.State = providers.StateCreating
	}
	// It holds what the volume held at the call: EC2/CreateSnapshot. One that is written by blocks has no such moment until it is complete.
	out.Taken = out.State == providers.StateAvailable || out.State == providers.StateCreating && out.Volume != noVolume
	return out
}

// noVolume is the volume that EC2 shows for snapshots which were not made of one: EC2/Snapshot.
const noVolume = "vol-ffffffff"

// undoneOnly lets the SDK repeat a call that was throttled, and so not done, and no other: an answer that was lost may have been that of a success.
func (p *Provider) undoneOnly(o *ec2.Options) {
	o.Retryer = retry.NewStandard(func(r *retry.StandardOptions) {
		r.MaxAttempts, r.MaxBackoff = attempts, p.opts.Backoff
		r.Retryables = []retry.IsErrorRetryable{retry.IsErrorRetryableFunc(func(err error) aws.Ternary {
			return aws.BoolTernary(code(err) == "RequestLimitExceeded")
		})}
	})
}

// DeleteSnapshot implements providers.Snapshots.
func (p *Provider) DeleteSnapshot(ctx context.Context, id string) error {
	if !is("snap", id) {
		return ctx.Err()
	}
	_, err := p.ec2.DeleteSnapshot(ctx, &ec2.DeleteSnapshotInput{SnapshotId: aws.String(id)})
	return absent(wrap("delete snapshot "+id, err))
}
