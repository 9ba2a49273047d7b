package hydrator

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/openmigrate/openmigrate/hydrator/reader"
	"github.com/openmigrate/openmigrate/wire"
)

// NodeClient is what a node says to the master. wire.Client is one.
type NodeClient interface {
	JobClient
	Hello(ctx context.Context, path string, h *wire.Hello) (*wire.HelloResponse, error)
	LeaseJob(ctx context.Context, r *wire.LeaseRequest) (*wire.Job, error)
	ReportJob(ctx context.Context, job string, report json.RawMessage) error
}

var _ NodeClient = (*wire.Client)(nil)

// Options say what a node is.
type Options struct {
	Client NodeClient
	// Hello makes what the node says first. It is called for every try, and each has a generation of its own: the master may have heard one whose
	// answer was lost. nil: nothing is said of the process.
	Hello     func() (*wire.Hello, error)
	DataDir   string            // volumes lie in its folder volumes
	MasterKey ed25519.PublicKey // from enrolment; nil: what a job says is believed
	Kinds     []string          // of jobs; nil: all that this node can do, which is tried at the start
	// Providers are those whose volumes this node may write: by name, the folder that the files of its volumes must lie in, whatever links say.
	// An empty folder: its volumes are disks of this host, known by their serial numbers.
	Providers   map[string]string
	Concurrency int           // jobs at once, besides those that serve; 0: 1
	Serves      int           // serve jobs at once, which wait most of the time; 0: 4
	Wait        time.Duration // of a long poll; 0: 30 s
	Retry       time.Duration // first pause after an error, doubled up to a minute; 0: 1 s
	Reader      reader.Options
	Log         *slog.Logger // nil: slog.Default
}

// node is a running hydrator.
type node struct{ o Options }

const maxRetry = time.Minute

// Run says hello and works on jobs until ctx ends: then it stops at once, and what was written stays noted in the volumes'
// journals. It returns nil then, and an error when the master does not want this node any more. A failing job ends only
// itself.
func Run(ctx context.Context, o Options) error {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if err := checkProviders(o.Providers); err != nil {
		return err
	}
	o.Concurrency = max(o.Concurrency, 1)
	if o.Serves <= 0 {
		o.Serves = defaultServes
	}
	if o.Wait <= 0 {
		o.Wait = 30 * time.Second
	}
	if o.Retry <= 0 {
		o.Retry = time.Second
	}
	n := &node{o: o}
	if err := n.makeRun(); err != nil {
		return err
	}
	defer n.removeRun()
	if n.o.Kinds == nil {
		n.o.Kinds = n.kinds(ctx)
	}
	err := n.again(ctx, "say hello", func() error {
		hello := &wire.Hello{}
		if o.Hello != nil {
			var err error
			if hello, err = o.Hello(); err != nil {
				return err
			}
		}
		_, err := o.Client.Hello(ctx, wire.PathNodeHello, hello)
		return err
	})
	if err != nil {
		return quiet(ctx, err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var lanes sync.WaitGroup
	kinds, serves := n.split()
	start := func(lane func(context.Context) error) {
		lanes.Go(func() {
			if err := lane(ctx); err != nil {
				cancel(err)
			}
		})
	}
	for i := range o.Concurrency {
		start(func(ctx context.Context) error { return n.lane(ctx, fmt.Sprint(i), kinds) })
	}
	if serves {
		start(n.serveLane)
	}
	lanes.Wait()
	return quiet(ctx, context.Cause(ctx))
}

// quiet makes a wish to stop no error.
func quiet(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// split takes out serve jobs, which take as long as a machine runs on them and must not keep others waiting.
func (n *node) split() (kinds []string, serves bool) {
	for _, k := range n.o.Kinds {
		if k == wire.JobServe {
			serves = true
		} else {
			kinds = append(kinds, k)
		}
	}
	return kinds, serves
}

// lane works on one job after another.
func (n *node) lane(ctx context.Context, name string, kinds []string) error {
	for ctx.Err() == nil && len(kinds) > 0 {
		job, err := n.lease(ctx, name, kinds)
		if err != nil {
			return err
		}
		if job != nil {
			n.do(ctx, job)
		}
	}
	return context.Cause(ctx)
}

// serveLane works on several serve jobs at once.
func (n *node) serveLane(ctx context.Context) error {
	slots := make(chan struct{}, n.o.Serves)
	ctx, cancel := context.WithCancelCause(ctx)
	var jobs sync.WaitGroup
	defer jobs.Wait()
	defer cancel(nil)
	for given := 0; ; {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		// Each job that came has a lane of its own.
		job, err := n.lease(ctx, fmt.Sprint("serve", given), []string{wire.JobServe})
		if err != nil {
			return err
		}
		if job == nil {
			<-slots
			continue
		}
		given++
		jobs.Go(func() {
			defer func() { <-slots }()
			n.do(ctx, job)
		})
	}
}

// lease waits for a job; nil if there was none for a while.
func (n *node) lease(ctx context.Context, lane string, kinds []string) (job *wire.Job, err error) {
	err = n.again(ctx, "lease a job", func() (err error) {
		job, err = n.o.Client.LeaseJob(ctx, &wire.LeaseRequest{Kinds: kinds, Providers: n.providers(), Wait: wire.Duration(n.o.Wait), Lane: lane})
		return err
	})
	return job, err
}

// do works on a job that was leased.
func (n *node) do(ctx context.Context, job *wire.Job) {
	log := n.o.Log.With("job", job.ID, "kind", job.Kind)
	log.Info("job started")
	res, err := hold(ctx, n.o.Client, job, nil, func(ctx context.Context, show func(wire.Progress)) (wire.JobResult, error) {
		return n.work(ctx, job, show)
	})
	switch {
	case errors.Is(err, ErrCancelled):
		log.Info("job was cancelled", "fetched", res.Fetched)
	case err != nil:
		log.Warn("job failed", "error", err)
	default:
		log.Info("job done", "chunks", res.Chunks, "fetched", res.Fetched, "written", res.Written)
	}
}

// again repeats fn until it works, unless the master says that it never will.
func (n *node) again(ctx context.Context, what string, fn func() error) error {
	pause := n.o.Retry
	for {
		err := fn()
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case wire.HasCode(err, wire.CodeRevoked), wire.HasCode(err, wire.CodeFrozen), wire.HasCode(err, wire.CodeForbidden),
			errors.Is(err, wire.ErrUntrusted):
			return fmt.Errorf("%s: %w", what, err)
		}
		n.o.Log.Warn("will try again", "what", what, "in", pause, "error", err)
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
		pause = min(2*pause, maxRetry)
	}
}
