package catalog

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/openmigrate/openmigrate/internal/clock"
	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/staging"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

// Bucket is staging with the right to sign.
type Bucket interface {
	staging.Store
	staging.Signer
}

// KeyRing gives the keys of a project. The catalog opens tree nodes and manifests with them, and hands them to agents and nodes.
type KeyRing interface {
	Keys(ctx context.Context, project string) (*format.Keys, error)
}

// Options change a Catalog. The zero value of each field, and a nil *Options, mean the default.
type Options struct {
	SessionTTL      time.Duration // a session that is not heard of for so long is fenced; 90s
	JobTTL          time.Duration // a job that is not renewed for so long is given to another holder; 60s
	URLValid        time.Duration // how long a signed URL is good for; 1h
	DefaultInterval time.Duration // from start to start of a machine's cycles, when its policy says nothing; 15m
	MaxOutstanding  int           // packs that one session may have announced and not committed; 256
	MaxAttempts     int           // leases that a job gets before it has failed; 3
	StagingHosts    []string      // host:port that agents and nodes may talk to
	StagingCA       []byte        // DER of a CA to trust for them
	Monotonic       Monotonic     // what leases are measured with; the process's monotonic clock
	Logger          *slog.Logger  // slog.Default()

	// Moved is told when a session or a job got on: progress is in no row, so whoever watches the store does not hear of it. It must not wait.
	Moved func(Moved)
}

// Moved is a session or a job that got on.
type Moved struct{ Kind, ID, Project, Machine string }

func (o *Options) withDefaults() Options {
	var v Options
	if o != nil {
		v = *o
	}
	orDefault := func(d *time.Duration, def time.Duration) {
		if *d <= 0 {
			*d = def
		}
	}
	orDefault(&v.SessionTTL, 90*time.Second)
	orDefault(&v.JobTTL, 60*time.Second)
	orDefault(&v.URLValid, time.Hour)
	orDefault(&v.DefaultInterval, 15*time.Minute)
	if v.MaxOutstanding <= 0 {
		v.MaxOutstanding = 256
	}
	if v.MaxAttempts <= 0 {
		v.MaxAttempts = 3
	}
	if v.Monotonic == nil {
		v.Monotonic = newProcessClock()
	}
	if v.Logger == nil {
		v.Logger = slog.Default()
	}
	if v.Moved == nil {
		v.Moved = func(Moved) {}
	}
	return v
}

// Catalog is the master's knowledge. Make it with New.
type Catalog struct {
	db        store.Store
	bucket    Bucket
	keys      KeyRing
	masterKey ed25519.PrivateKey
	clock     clock.Clock
	opt       Options
	log       *slog.Logger

	sessions *leases // of sessions
	jobs     *leases // of jobs
	progress *progressMap
	seen     *seenMap
	commits  keyedMutex // by session: one commit at a time
	news     *signals   // a machine's assignment changed
	work     *signal    // a job was queued
	ended    *signal    // a job ended
}

// New returns a catalog over db, and makes the default project when the store is new. Call Recover before the first request is served, and Tick
// every few seconds from then on.
func New(db store.Store, bucket Bucket, keys KeyRing, masterKey ed25519.PrivateKey, clk clock.Clock, o *Options) (*Catalog, error) {
	if len(masterKey) != ed25519.PrivateKeySize {
		return nil, fmt.Errorf("make catalog: master key has %d bytes, want %d", len(masterKey), ed25519.PrivateKeySize)
	}
	opt := o.withDefaults()
	c := &Catalog{
		db: db, bucket: bucket, keys: keys, masterKey: masterKey, clock: clk, opt: opt, log: opt.Logger,
		sessions: newLeases(opt.Monotonic, opt.SessionTTL),
		jobs:     newLeases(opt.Monotonic, opt.JobTTL),
		progress: newProgressMap(), seen: newSeenMap(),
		news: newSignals(), work: newSignal(), ended: newSignal(),
	}
	if err := db.Update(context.Background(), c.prepare); err != nil {
		return nil, fmt.Errorf("prepare catalog: %w", err)
	}
	return c, nil
}

// prepare checks the version of the tables, makes the default project, and tells every agent when the addresses of staging changed.
func (c *Catalog) prepare(w store.Writer) error {
	version, err := getUint(w, tableMeta, metaVersion)
	if err != nil {
		return err
	}
	switch {
	case version > tablesVersion:
		return wire.NewProblem(500, wire.CodeNewerVersion, "the database has version %d, this master knows %d", version, tablesVersion).
			WithNext("use the newer master")
	case version < tablesVersion:
		if err := putUint(w, tableMeta, metaVersion, tablesVersion); err != nil {
			return err
		}
	}
	if _, err := projects.get(w, []byte(DefaultProject)); errors.Is(err, store.ErrNotFound) {
		p := Project{ID: DefaultProject, Name: DefaultProject, Created: c.clock.Now(), Number: 1}
		if err := projects.put(w, []byte(p.ID), p); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	h := sha256.New()
	for _, host := range c.opt.StagingHosts {
		fmt.Fprintf(h, "%q,", host)
	}
	fmt.Fprintf(h, "%x,%d", c.opt.StagingCA, c.opt.DefaultInterval)
	sum := h.Sum(nil)
	was, err := w.Get(tableMeta, metaStaging)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if bytes.Equal(was, sum) {
		return nil
	}
	if err := w.Put(tableMeta, metaStaging, sum); err != nil {
		return err
	}
	return forMachines(w, func(m *Machine) error {
		m.AssignmentVersion++
		return putMachine(w, m)
	})
}

// Recover finishes what a master that died left half done: commits that were decided, and removals. It is idempotent. Sessions and jobs that were
// live when the master stopped get one full lease from New on. An error is worth logging, not dying of:
// Tick tries again.
func (c *Catalog) Recover(ctx context.Context) error {
	return errors.Join(c.finishCommits(ctx), c.finishRemovals(ctx))
}

// Tick expires leases, cleans up after sessions that ended, queues prove jobs, and tries again what Recover could not finish.
func (c *Catalog) Tick(ctx context.Context) error {
	return errors.Join(
		c.expireSessions(ctx),
		c.expireJobs(ctx),
		c.finishCommits(ctx),
		c.cleanSessions(ctx),
		c.finishRemovals(ctx),
	)
}
