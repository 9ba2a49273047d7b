// Package master puts the control plane together: certificate authority, staging, keys, store, catalog, identity, and the
// one HTTP door. It owns the data directory, which one master at a time may use (the store's lock sees to that).
//
// Order matters at the start: the CA before staging (whose certificate it signs), staging before the keys (which are in it), the
// store before everything that keeps state, recovery before the door opens. The end goes the other way.
package master

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/openmigrate/openmigrate/internal/clock"
	"github.com/openmigrate/openmigrate/internal/durable"
	"github.com/openmigrate/openmigrate/internal/version"
	"github.com/openmigrate/openmigrate/master/accounts"
	"github.com/openmigrate/openmigrate/master/api"
	"github.com/openmigrate/openmigrate/master/audit"
	"github.com/openmigrate/openmigrate/master/ca"
	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/master/gc"
	"github.com/openmigrate/openmigrate/master/identity"
	"github.com/openmigrate/openmigrate/master/keyring"
	"github.com/openmigrate/openmigrate/master/launch"
	"github.com/openmigrate/openmigrate/master/observe"
	"github.com/openmigrate/openmigrate/master/oidc"
	"github.com/openmigrate/openmigrate/master/outbox"
	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/master/store/boltstore"
	"github.com/openmigrate/openmigrate/master/webhook"
	"github.com/openmigrate/openmigrate/providers"
	"github.com/openmigrate/openmigrate/wire"
)

// Config says how a master runs.
type Config struct {
	DataDir       string
	Listen        string   // host:port; port 0 chooses one
	Names         []string // further names and addresses under which agents reach it; the first goes into tokens
	Staging       string   // s3:// URL; empty: built-in staging in DataDir
	StagingListen string   // host:port of built-in staging; empty: Listen's host; port 0 or empty: one is chosen, and kept
	RecoveryKey   string   // file; opens the project's keys when DataDir/keys is lost
	ServeStaging  []string // arguments with which this program serves built-in staging
	// Providers are where launches go, by name. They are the caller's to close, after Close.
	Providers       map[string]providers.Provider
	BrokenProviders map[string]error  // those that could not be opened, and why
	Writers         map[string]string // see launch.Deps
	WebhookNetworks []netip.Prefix    // private networks that webhooks may reach
	OIDC            *oidc.Config      // how people log in through a provider; nil: they do not. Its RedirectURL is the master's to say
	// Files makes what reads files of restpoints, with jobs of the master's own; nil: nobody does.
	Files func(*Jobs) Files
	// Dashboard: see api.Deps.
	Dashboard func(other http.Handler) (http.Handler, error)
	Log       *slog.Logger
}

// loop intervals.
const (
	tickEvery    = 2 * time.Second
	collectEvery = 6 * time.Hour
	stopPatience = 5 * time.Second
)

// Master is a running control plane.
type Master struct {
	conf       Config
	log        *slog.Logger
	ca         *ca.CA
	bucket     *bucket
	ring       *keyring.Ring
	db         store.Store
	Catalog    *catalog.Catalog
	Identity   *identity.Registry
	Accounts   *accounts.Service
	Audit      *audit.Log
	Webhooks   *webhook.Service
	Launches   *launch.Service
	operations *operations
	outbox     *outbox.Outbox
	metrics    *observe.Metrics
	fleet      atomic.Pointer[catalog.Fleet]
	handler    *api.Handler
	files      Files // nil: there are none
	listener   net.Listener
	names      []string
	server     *http.Server
}

// Open makes a master that is ready to Run. Close it in any case.
func Open(ctx context.Context, conf Config) (_ *Master, err error) {
	if conf.Log == nil {
		conf.Log = slog.Default()
	}
	m := &Master{conf: conf, log: conf.Log}
	defer func() {
		if err != nil {
			m.Close()
		}
	}()
	if m.conf.DataDir, err = filepath.Abs(conf.DataDir); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if err := os.MkdirAll(m.conf.DataDir, 0o700); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	db, err := boltstore.Open(m.path("master.db"), nil)
	if err != nil {
		return nil, err
	}
	m.outbox = outbox.New(uint64(clock.Real{}.Now().UnixMicro()))
	m.metrics = observe.New()
	m.db = m.metrics.Watch(outbox.Watch(db, m.told))
	if m.ca, err = ca.Open(m.path("ca"), clock.Real{}); err != nil {
		return nil, err
	}
	if m.bucket, err = openBucket(ctx, m.conf, m.ca); err != nil {
		return nil, err
	}
	if err := m.openKeys(ctx); err != nil {
		return nil, err
	}
	if err := m.openState(ctx); err != nil {
		return nil, err
	}
	return m, m.listen(ctx)
}

func (m *Master) path(name string) string { return filepath.Join(m.conf.DataDir, name) }

func (m *Master) openKeys(ctx context.Context) (err error) {
	o := keyring.Options{}
	if m.conf.RecoveryKey != "" {
		if o.Recovery, err = keyring.ReadRecoveryKey(m.conf.RecoveryKey); err != nil {
			return err
		}
	}
	m.ring, err = keyring.Open(ctx, m.bucket, m.conf.DataDir, &o)
	return err
}

func (m *Master) openState(ctx context.Context) error {
	key, err := signingKey(m.path("keys/master.ed25519"))
	if err != nil {
		return err
	}
	m.Catalog, err = catalog.New(m.db, m.bucket, m.ring, key, clock.Real{}, &catalog.Options{
		StagingHosts: []string{m.bucket.host}, StagingCA: m.bucket.ca, Logger: m.log,
		Moved: func(x catalog.Moved) {
			m.outbox.Publish(outbox.Event{Kind: x.Kind, ID: x.ID, Project: x.Project, Machine: x.Machine})
		},
	})
	if err != nil {
		return err
	}
	m.fleet.Store(catalog.NewFleet(m.Catalog))
	m.operations = newOperations(m)
	enrol := &enroller{catalog: m.Catalog, publish: m.operations.PublishMachine}
	m.Identity, err = identity.Open(ctx, m.db, m.ca, clock.Real{}, enrol, key.Public().(ed25519.PublicKey))
	if err != nil {
		return err
	}
	if m.Accounts, err = accounts.Open(ctx, m.db, clock.Real{}, nil); err != nil {
		return err
	}
	m.Webhooks = webhook.New(m.db, clock.Real{}, &webhook.Options{Allow: m.conf.WebhookNetworks, Log: m.log})
	m.Audit = audit.New(m.db, clock.Real{}, nil)
	mark, err := m.Audit.Head(ctx)
	if err != nil {
		return fmt.Errorf("read audit log: %w", err)
	}
	m.log.Info("audit log", "sequence", mark.Sequence, "hash", mark.Hash) // a place to compare with, where the store's writer may not write
	if err := m.Catalog.Recover(ctx); err != nil {
		m.log.Warn("recovery is not complete; it is tried again", "error", err)
	}
	if err := m.operations.gc.PublishMachines(ctx); err != nil {
		m.log.Warn("machine records could not be put into staging", "error", err)
	}
	return nil
}

// told hears what every transaction changed.
func (m *Master) told(events []outbox.Event) {
	m.outbox.Publish(events...)
	fleet := m.fleet.Load()
	if fleet == nil {
		return // it has read nothing yet
	}
	for i := range events {
		fleet.Hear(events[i].Kind, events[i].ID, events[i].Machine)
	}
}

// signingKey reads the key that countersigns restpoints, or makes it.
func signingKey(name string) (ed25519.PrivateKey, error) {
	seed, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		_, key, err := ed25519.GenerateKey(nil)
		if err != nil {
			return nil, fmt.Errorf("make master key: %w", err)
		}
		return key, durable.WriteFile(name, key.Seed(), 0o600)
	}
	if err != nil {
		return nil, fmt.Errorf("read master key: %w", err)
	}
	if len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("read master key: %s has %d bytes, want %d; put it back from a backup", name, len(seed), ed25519.SeedSize)
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

func (m *Master) listen(ctx context.Context) error {
	var err error
	if m.listener, err = new(net.ListenConfig).Listen(ctx, "tcp", m.conf.Listen); err != nil {
		return fmt.Errorf("listen on %s: %w", m.conf.Listen, err)
	}
	m.names = serverNames(m.conf.Names, m.conf.Listen)
	if err := m.openLaunches(ctx); err != nil {
		return err
	}
	deps := api.Deps{
		Catalog: m.Catalog, Fleet: m.fleet.Load(), Identity: m.Identity, Accounts: m.Accounts, CA: m.ca, Staging: m.operations, Launches: m.Launches, DB: m.db, Events: m.outbox, Audit: m.Audit, Webhooks: m.Webhooks,
		Dashboard: m.conf.Dashboard, URL: m.URL(), OIDC: m.oidcHost(), Version: version.String(), Log: m.log,
	}
	if m.conf.Files != nil {
		m.files = m.conf.Files(&Jobs{m.Catalog, m.bucket})
		deps.Files = m.files
	}
	if m.handler, err = api.NewHandler(deps); err != nil {
		return err
	}
	m.metrics.Start(observe.Deps{
		Catalog: fleetCatalog{m.Catalog, m.fleet.Load()}, Nodes: m.Identity, Launches: m.Launches, Webhooks: m.Webhooks, Store: m.db, Version: version.String(), Log: m.log, Emit: m.emit,
		Certificates: map[string]func() (*tls.Certificate, error){
			"server": func() (*tls.Certificate, error) { return m.ca.Server(m.names...) },
			"ca":     func() (*tls.Certificate, error) { return &tls.Certificate{Leaf: m.ca.Certificate()}, nil },
		},
	})
	door, err := m.door()
	if err != nil {
		return err
	}
	m.server = &http.Server{
		Handler: door, TLSConfig: api.TLSConfig(m.ca, m.names), ErrorLog: slog.NewLogLogger(m.log.Handler(), slog.LevelDebug),
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 2 * time.Minute, IdleTimeout: 3 * time.Minute, MaxHeaderBytes: 64 << 10,
	}
	return nil
}

func (m *Master) openLaunches(ctx context.Context) error {
	system, err := launch.SystemID(ctx, m.db)
	if err != nil {
		return err
	}
	m.Launches, err = launch.New(launch.Deps{
		Catalog: m.Catalog, DB: m.db, Providers: m.conf.Providers, Broken: m.conf.BrokenProviders, Writers: m.conf.Writers, System: system,
		URL: m.URL(), CA: m.ca.Certificate().Raw, Clock: clock.Real{}, Log: m.log,
		Moved: func(launch, project, machine string) {
			m.outbox.Publish(outbox.Event{Kind: "launch", ID: launch, Project: project, Machine: machine})
		},
	})
	return err
}

// serverNames is every name that the server's certificate is good for; the first is used in URLs.
func serverNames(wanted []string, listen string) []string {
	names := slices.Clone(wanted)
	if host, _, err := net.SplitHostPort(listen); err == nil && host != "" {
		if ip := net.ParseIP(host); ip == nil || !ip.IsUnspecified() {
			names = append(names, host)
		}
	}
	if host, err := os.Hostname(); err == nil {
		names = append(names, host)
	}
	names = append(names, "localhost", "127.0.0.1", "::1")
	seen := map[string]bool{}
	return slices.DeleteFunc(names, func(n string) bool {
		was := seen[n]
		seen[n] = true
		return was
	})
}

// URL is where agents and people reach the master.
func (m *Master) URL() string {
	_, port, _ := net.SplitHostPort(m.listener.Addr().String()) // a TCP address always splits
	u := url.URL{Scheme: "https", Host: net.JoinHostPort(m.names[0], port)}
	return u.String()
}

// CAFile is the PEM file that clients trust.
func (m *Master) CAFile() string { return m.path("ca/ca.pem") }

// Run serves until ctx ends, then stops cleanly: requests get a moment to finish.
func (m *Master) Run(ctx context.Context) error {
	loops, stop := context.WithCancel(ctx)
	var ticked sync.WaitGroup
	ticked.Go(func() { m.tick(loops) })
	ticked.Go(func() {
		if err := m.fleet.Load().Load(loops); err != nil && loops.Err() == nil {
			m.log.Warn("lists of machines will take longer at first", "error", err)
		}
	})
	ticked.Go(func() { m.Webhooks.Run(loops) })
	ticked.Go(func() { m.metrics.Run(loops) })
	ticked.Go(func() {
		if err := m.Launches.Run(loops); err != nil {
			m.log.Error("launches are not driven any more; restart the master", "error", err)
		}
	})
	served := make(chan error, 1)
	go func() { served <- m.server.ServeTLS(m.listener, "", "") }()
	var err error
	select {
	case err = <-served:
	case <-ctx.Done():
		m.handler.Stop()
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopPatience)
		if m.server.Shutdown(grace) != nil { // long polls do not end by themselves
			err = m.server.Close()
		}
		cancel()
		if serr := <-served; err == nil {
			err = serr // http.ErrServerClosed after a clean stop
		}
	}
	stop()
	ticked.Wait()
	m.handler.Close()
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	return err
}

func (m *Master) tick(ctx context.Context) {
	t := time.NewTicker(tickEvery)
	defer t.Stop()
	collect := time.NewTicker(collectEvery)
	defer collect.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-collect.C:
			// What an interrupted replication sent stays: its next cycle finds it.
			if r, err := m.operations.gc.Collect(ctx, &gc.Options{KeepUnfinished: true}); err != nil && ctx.Err() == nil {
				m.log.Warn("garbage was not collected; it is tried again", "error", err)
			} else if err == nil {
				m.log.Info("garbage collected", "report", r)
			}
			continue
		case <-t.C:
		}
		if err := m.Catalog.Tick(ctx); err != nil && ctx.Err() == nil {
			m.log.Warn("housekeeping failed; it is tried again", "error", err)
		}
	}
}

// HasRecoveryKey reports whether an offline key can open the project's keys.
func (m *Master) HasRecoveryKey() bool { return m.ring.HasRecovery() }

// Close lets go of everything that Open took.
func (m *Master) Close() {
	if m.listener != nil {
		_ = m.listener.Close() // Run has closed it already
	}
	if m.handler != nil {
		m.handler.Close()
	}
	if m.files != nil {
		m.files.Close()
	}
	if m.outbox != nil {
		m.outbox.Close()
	}
	if m.bucket != nil {
		m.bucket.close()
	}
	if m.db != nil {
		if err := m.db.Close(); err != nil {
			m.log.Error("close store", "error", err)
		}
	}
}

// fleetCatalog is the catalog for who looks at all machines again and again, and needs neither inventories nor events.
type fleetCatalog struct {
	*catalog.Catalog
	fleet *catalog.Fleet
}

// Machines returns a project's machines as lists show them.
func (c fleetCatalog) Machines(ctx context.Context, project string) ([]catalog.Machine, error) {
	return c.fleet.Machines(ctx, project)
}

// enroller makes machines for identity.
type enroller struct {
	catalog *catalog.Catalog
	publish func(ctx context.Context, machine string) error
}

// Enrol implements identity.Machines.
func (e *enroller) Enrol(ctx context.Context, project string, r *wire.EnrollRequest) (id, name string, err error) {
	m, err := e.catalog.CreateMachine(ctx, catalog.Machine{
		Project: project, Name: r.Name, SigningKey: r.SigningKey, Fingerprint: r.Fingerprint, AgentVersion: r.Version, Inventory: r.Inventory,
	})
	if err != nil {
		return "", "", err
	}
	return m.ID, m.Name, e.publish(ctx, m.ID)
}
