package launch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/openmigrate/openmigrate/internal/clock"
	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/providers"
	"github.com/openmigrate/openmigrate/wire"
)

// Catalog is what a launch asks of catalog.Catalog.
type Catalog interface {
	Machine(ctx context.Context, ref string) (catalog.Machine, error)
	Machines(ctx context.Context, project string) ([]catalog.Machine, error)
	Restpoint(ctx context.Context, ref string) (catalog.Restpoint, error)
	KeepRestpoint(ctx context.Context, id, keeper string) error
	LetGoRestpoint(ctx context.Context, id, keeper string) error
	CreateJob(ctx context.Context, spec catalog.JobSpec) (catalog.Job, error)
	Job(ctx context.Context, id string) (catalog.Job, error)
	JobReport(ctx context.Context, id string) (json.RawMessage, error)
	CancelJob(ctx context.Context, id string) error
	JobsEnded() <-chan struct{}
	SetHold(ctx context.Context, machine string, h *wire.Hold) error
}

// Deps is what a Service works on. Catalog, DB, Clock and System are needed.
type Deps struct {
	Catalog   Catalog
	DB        store.Store
	Providers map[string]providers.Provider // by the name that templates use
	Broken    map[string]error              // providers that could not be opened, and why
	// Writers are, by provider, the instances there in which a node runs that writes volumes: of providers whose volumes are no files of their host.
	Writers map[string]string
	System  string // see SystemID
	URL     string // of this master, for calls home
	CA      []byte // DER of its CA
	Project string // of machines whose warm volumes are kept; catalog.DefaultProject when empty
	Clock   clock.Clock
	Pause   time.Duration // between two looks at a provider or a job; a second when 0
	Log     *slog.Logger
	// Moved is told when a launch got on: progress is in no row, so whoever watches the store does not hear of it. It must not wait.
	Moved func(launch, project, machine string)
}

// Limits.
const (
	maxActive  = 64  // launches that are not over
	maxWorking = 8   // of them, that call a provider at once
	keepRows   = 200 // launches that are over and still shown
)

// Service drives launches. Make it with New, and Run it; every other method may be called by any number of goroutines at any time.
type Service struct {
	Deps
	room chan struct{} // a token for each launch that works

	mu          sync.Mutex
	workers     map[string]*worker       // guarded by mu, by launch
	shown       map[string]wire.Progress // guarded by mu, by launch: of the state that it is in
	warmTrouble map[string]warmTrouble   // guarded by mu, by machine
	news        chan struct{}            // guarded by mu; closed and replaced when a launch was added, or templates changed
}

// worker is what is known of a launch that is driven, beside its row.
type worker struct {
	wake chan struct{} // has room for one
	trouble
}

// New returns a service. What is left from an earlier one goes on with Run.
func New(d Deps) (*Service, error) {
	if d.Catalog == nil || d.DB == nil || d.Clock == nil || d.System == "" {
		return nil, errors.New("make launch service: it needs a catalog, a database, a clock and the system's id")
	}
	if d.Log == nil {
		d.Log = slog.Default()
	}
	if d.Moved == nil {
		d.Moved = func(string, string, string) {}
	}
	if d.Pause <= 0 {
		d.Pause = time.Second
	}
	if d.Project == "" {
		d.Project = catalog.DefaultProject
	}
	return &Service{Deps: d, room: make(chan struct{}, maxWorking), workers: map[string]*worker{}, shown: map[string]wire.Progress{}, warmTrouble: map[string]warmTrouble{}, news: make(chan struct{})}, nil
}

// Run drives every launch that is not over, keeps warm volumes and sweeps orphans, until ctx ends. What is under way then goes on with the
// next Run, in this process or another.
func (s *Service) Run(ctx context.Context) error {
	var all sync.WaitGroup
	defer all.Wait()
	all.Go(func() { s.keepSweeping(ctx) })
	all.Go(func() { s.keepWarm(ctx) })
	for {
		news := s.nextNews()
		ids, err := s.activeLaunches(ctx)
		if err != nil && ctx.Err() == nil {
			s.Log.Warn("launches could not be listed; it is tried again", "error", err)
		}
		for id := range ids {
			if w := s.hire(id); w != nil {
				all.Go(func() { s.drive(ctx, id, w) })
			}
		}
		timer := time.NewTimer(10 * time.Second)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-news:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// drive takes one launch on until it is over.
func (s *Service) drive(ctx context.Context, id string, w *worker) {
	defer s.fire(id)
	for {
		ended := s.Catalog.JobsEnded()
		select {
		case s.room <- struct{}{}:
		case <-ctx.Done():
			return
		}
		pause, over := s.advance(ctx, id, w)
		<-s.room
		if over || ctx.Err() != nil {
			return
		}
		if pause <= 0 {
			continue
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ended:
		case <-w.wake:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// hire returns the worker for a launch; nil when it has one.
func (s *Service) hire(id string) *worker {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.workers[id] != nil {
		return nil
	}
	w := &worker{wake: make(chan struct{}, 1)}
	s.workers[id] = w
	return w
}

// fire lets a worker go. Run looks again: somebody may have woken the launch just now.
func (s *Service) fire(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.workers, id)
	delete(s.shown, id)
	close(s.news)
	s.news = make(chan struct{})
}

// wake makes a launch look at its row now.
func (s *Service) wake(id string) {
	s.ring()
	s.mu.Lock()
	defer s.mu.Unlock()
	if w := s.workers[id]; w != nil {
		select {
		case w.wake <- struct{}{}:
		default: // it is awake
		}
	}
}

// ring makes Run and the keeper of warm volumes look at what there is.
func (s *Service) ring() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.news)
	s.news = make(chan struct{})
}

func (s *Service) nextNews() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.news
}

func (s *Service) activeLaunches(ctx context.Context) (map[string]active, error) {
	all := map[string]active{}
	err := s.DB.View(ctx, func(r store.Reader) error {
		clear(all)
		return scanActive(r, func(id string, a active) { all[id] = a })
	})
	return all, err
}

// provider returns a provider that can be used, or says why it cannot.
func (s *Service) provider(name string) (providers.Provider, error) {
	if p := s.Deps.Providers[name]; p != nil {
		return p, nil
	}
	if err := s.Broken[name]; err != nil {
		return nil, wire.NewProblem(409, wire.CodeConflict, "provider %s cannot be used: %v", name, err).WithNext("mend that and restart the master")
	}
	return nil, wire.NewProblem(404, wire.CodeNotFound, "there is no provider %.64q", name).WithNext("openmigrate providers ls lists them")
}

// change reads, changes and writes a launch's row in one transaction.
func (s *Service) change(ctx context.Context, id string, fn func(w store.Writer, l *row) error) (row, error) {
	var l row
	err := s.DB.Update(ctx, func(w store.Writer) (err error) {
		if l, err = getRow(w, id); err != nil {
			return err
		}
		if err := fn(w, &l); err != nil {
			return err
		}
		return putRow(w, &l)
	})
	if err != nil {
		return row{}, fmt.Errorf("change launch %s: %w", id, err)
	}
	return l, nil
}
