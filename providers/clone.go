package providers

import (
	"context"
	"fmt"
	"time"
)

// Clone makes a volume with the content of another and waits for it: directly where the provider can, else by way of a snapshot. That has the same
// owner and goes when its owner is swept. Nobody writes to the source until Clone returns. It sets spec.From, and uses spec.Token with
// suffixes, so it has at most MaxToken-5 characters. After a crash it is called again with the same spec.
func Clone(ctx context.Context, p Provider, source string, spec VolumeSpec, pause time.Duration) (Volume, error) {
	v, err := clone(ctx, p, source, spec, pause)
	if err != nil {
		return v, fmt.Errorf("clone volume %s: %w", source, err)
	}
	return v, nil
}

func clone(ctx context.Context, p Provider, source string, spec VolumeSpec, pause time.Duration) (Volume, error) {
	c, err := p.Capabilities(ctx)
	if err != nil {
		return Volume{}, err
	}
	token := spec.Token
	spec.Token, spec.From = token+"-volu", Source{FromVolume, source}
	if !c.CanMakeVolumeFrom(FromVolume) {
		meta := spec.Meta
		meta.Token = token + "-snap"
		s, err := p.CreateSnapshot(ctx, SnapshotSpec{Meta: meta, Volume: source})
		if err != nil {
			return Volume{}, err
		}
		if _, err = AwaitSnapshot(ctx, p, s.ID, pause); err != nil {
			return Volume{}, err
		}
		spec.From = Source{FromSnapshot, s.ID}
	}
	v, err := p.CreateVolume(ctx, spec)
	if err != nil {
		return v, err
	}
	return AwaitVolume(ctx, p, v.ID, pause)
}
