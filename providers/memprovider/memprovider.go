// Package memprovider is a provider in memory, for tests of what drives providers. Nothing boots in it: a machine's console and screen are what
// the test says. Volumes and snapshots are sparse files where a folder is given, so that a real hydrator can write them.
//
// It keeps the invariants of package providers, has their delays (everything takes a number of polls), and comes in two shapes that differ in
// all that clouds differ in. Any number of goroutines may use it.
package memprovider

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/openmigrate/openmigrate/internal/clock"
	"github.com/openmigrate/openmigrate/providers"
)

// Shape is which kind of place the provider is like.
type Shape int

// Shapes.
const (
	// Host is like QEMU: volumes are files here, are cloned directly, and become the disks of a machine.
	Host Shape = iota
	// Cloud is like EC2: volumes are attached to a writing instance, snapshots can be written by blocks, and machines are made from snapshots.
	Cloud
)

// Options change a Provider. The zero value, or nil, is a Host whose volumes have no content.
type Options struct {
	Shape Shape
	Dir   string      // for contents; the caller's to remove
	Polls int         // how often a thing is asked for until it has got where it goes
	Limit int64       // bytes in volumes, after which creates are ErrQuota; 0: none
	Clock clock.Clock // Real when nil
	// Boot is called when an instance comes up and returns what its console shows. It must not call the provider.
	Boot func(providers.Instance) string
}

// Ids of what there is.
const (
	Isolated   = "net-isolated"
	Production = "net-production"
	SmallType  = "small"
	LargeType  = "large"
)

// Provider is a providers.Provider, and in the shape Cloud of use as a providers.SnapshotWriter and a providers.ImageRemover, too.
type Provider struct {
	opts Options

	mu        sync.Mutex
	serial    int                  // guarded by mu, of ids
	tokens    map[string]token     // guarded by mu
	volumes   map[string]*volume   // guarded by mu
	snapshots map[string]*snapshot // guarded by mu
	instances map[string]*instance // guarded by mu
	// images are what a Cloud makes of an instance's disks before it runs, and removes once it does; by the instance's token.
	images  map[string]providers.Resource // guarded by mu
	lacking int                           // guarded by mu, instances for which there is no room
}

type token struct {
	id   string
	spec string // JSON
}

// New returns an empty provider. opts may be nil.
func New(opts *Options) *Provider {
	p := &Provider{tokens: map[string]token{}, volumes: map[string]*volume{}, snapshots: map[string]*snapshot{}, instances: map[string]*instance{}, images: map[string]providers.Resource{}}
	if opts != nil {
		p.opts = *opts
	}
	if p.opts.Clock == nil {
		p.opts.Clock = clock.Real{}
	}
	return p
}

// claim returns the id of what the token made before, or a new one. The caller holds mu, and registers the token once the thing is made.
func (p *Provider) claim(kind providers.Kind, meta providers.Meta, spec any) (id, key, text string, again bool, err error) {
	b, err := json.Marshal(spec)
	if err != nil {
		return "", "", "", false, err
	}
	key, text = string(kind)+" "+meta.Token, string(b)
	if t, ok := p.tokens[key]; ok {
		if t.spec != text {
			return "", "", "", false, fmt.Errorf("create %s: %w: the token was used for another request", kind, providers.ErrConflict)
		}
		return t.id, key, text, true, nil
	}
	p.serial++
	return fmt.Sprintf("mem-%s-%04d", kind, p.serial), key, text, false, nil
}

// gone is the error of a token whose thing was removed.
func gone(kind providers.Kind, id string) error {
	return fmt.Errorf("create %s: %w: the token made %s, which was removed; use a new token", kind, providers.ErrConflict, id)
}

func missing(kind providers.Kind, id string) error {
	return fmt.Errorf("%s %q: %w", kind, id, providers.ErrNotFound)
}

// Path is where the content of a volume or snapshot is; empty without Options.Dir. It is for tests that play the hydrator's instance.
func (p *Provider) Path(id string) string {
	if p.opts.Dir == "" {
		return ""
	}
	return filepath.Join(p.opts.Dir, id+".raw")
}

// content makes the file of a volume or snapshot: size bytes, the first ones of another's if from is not empty.
func (p *Provider) content(id, from string, size int64) error {
	name := p.Path(id)
	if name == "" {
		return nil
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if from != "" {
		src, err := os.Open(p.Path(from))
		if err != nil {
			return err
		}
		defer src.Close()
		if err := copySparse(f, src); err != nil {
			return err
		}
	}
	return f.Truncate(size)
}

func (p *Provider) removeContent(id string) {
	if name := p.Path(id); name != "" {
		_ = os.Remove(name) // gone or never made
	}
}
