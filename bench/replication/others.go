package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/openmigrate/openmigrate/bench/gateway"
	"github.com/openmigrate/openmigrate/bench/peers"
	"github.com/openmigrate/openmigrate/chunker"
)

// peerNames in the order of the table. restic-s3 is shown only, and runs once: restic is quicker with a local repository.
var peerNames = []string{"restic", "borg", "restic-s3"}

func (b *bench) peerList(g *gateway.Gateway, round int) []peers.Peer {
	list := []peers.Peer{peers.Restic(), peers.Borg(chunker.SizeFor(b.disk.Size))}
	if round%2 == 1 {
		slices.Reverse(list)
	}
	if round == 0 {
		list = append(list, peers.ResticS3(g.Bucket("restic")))
	}
	return list
}

// askVersions notes what peers there are.
func (b *bench) askVersions(ctx context.Context, res *results) {
	for _, p := range []peers.Peer{peers.Restic(), peers.Borg(chunker.DefaultSize)} {
		if v, err := p.Version(ctx); err == nil { // a missing one is said where it should run
			res.Versions[p.Name] = v
		}
	}
}

// peers runs those that are installed on the same disk.
func (b *bench) peers(ctx context.Context, round int, dir string) (_ map[string]peers.Result, err error) {
	objects := filepath.Join(dir, "gateway")
	if err := os.MkdirAll(objects, 0o700); err != nil {
		return nil, err
	}
	g, err := gateway.Start(ctx, objects, stagingArg)
	if err != nil {
		return nil, err
	}
	defer g.Close()
	out := map[string]peers.Result{}
	for _, p := range b.peerList(g, round) {
		res, err := b.peer(ctx, p, filepath.Join(dir, p.Name))
		if errors.Is(err, exec.ErrNotFound) {
			b.Say("%v", err)
			continue
		}
		if err != nil {
			return nil, err
		}
		if p.Name == "restic-s3" {
			if res.Stored, err = peers.Size(g.Dir); err != nil {
				return nil, err
			}
		}
		out[p.Name] = res
		b.Say("%s: %.2f s, CPU %.2f s, stored %s", p.Name, res.Wall.Seconds(), res.CPU.Seconds(), gib(res.Stored))
	}
	return out, nil
}

func (b *bench) peer(ctx context.Context, p peers.Peer, dir string) (_ peers.Result, err error) {
	defer removing(dir, &err)
	if err := p.Init(ctx, dir); err != nil {
		return peers.Result{}, err
	}
	if err := b.ready(ctx); err != nil {
		return peers.Result{}, err
	}
	return p.Backup(ctx, dir, b.disk.Path)
}
