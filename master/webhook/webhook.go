// Package webhook tells other systems what happened: events go to the URLs that subscribed to their type, signed and retried by the rules of
// Standard Webhooks 1.0.0 (https://www.standardwebhooks.com). DESIGN.md draws how.
//
// Invariants. An event that Emit took is delivered at least once, whoever dies when, or the delivery log says why not. Whoever may subscribe can
// not make the master speak to its own network: every address is judged when it is connected to (guard.go), and redirects are not followed. What
// an endpoint answers is not kept, only its status. Everything that can grow is bounded. A Service may be used by any number of goroutines.
package webhook

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/openmigrate/openmigrate/internal/clock"
	"github.com/openmigrate/openmigrate/internal/opaque"
	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/master/store/rows"
	"github.com/openmigrate/openmigrate/wire"
)

// Tables of this package.
var (
	tableHooks      = rows.Table[hookRow]{Name: "webhooks"}               // id → subscription
	tableDeliveries = rows.Table[deliveryRow]{Name: "webhook_deliveries"} // hook / sequence → delivery
	tableDue        = rows.Table[struct{}]{Name: "webhook_due"}           // time / hook / sequence → nothing
	tableCount      = rows.Table[uint64]{Name: "webhook_sequence"}        // "last" → number of the newest delivery
)

// Limits.
const (
	MaxHooks   = 100            // of a project
	MaxTypes   = 64             // of a subscription
	maxURL     = 2048           // bytes
	maxText    = 200            // bytes of a description
	secretSize = 32             // bytes; the specification wants 24 to 64
	overlap    = 24 * time.Hour // how long a secret that was replaced goes on signing
	maxOld     = 3              // secrets that do
	MaxPayload = 20 << 10       // bytes; the specification recommends no more
)

// Options change a Service. The zero value, and nil, are what a master uses.
type Options struct {
	// Allow are networks that may be reached although they are private: the operator of the master says so, by a flag. For
	// addresses in them plain HTTP is allowed, too.
	Allow []netip.Prefix
	// Roots are further authorities that an endpoint's certificate may come from; nil: the system's.
	Roots *x509.CertPool
	// Resolver looks up names; nil: the system's.
	Resolver *net.Resolver
	// Disabled is told of a subscription that was disabled because it failed for long.
	Disabled func(Hook)
	Log      *slog.Logger
}

// Service keeps subscriptions and delivers.
type Service struct {
	db       store.Store
	clock    clock.Clock
	guard    *guard
	client   *http.Client
	disabled func(Hook)
	log      *slog.Logger
	wake     chan struct{}
	timeout  time.Duration // of a try

	mu      sync.Mutex
	busy    map[string]bool // hooks that a delivery is under way to; guarded by mu
	workers sync.WaitGroup
}

// New makes a service; Run delivers.
func New(db store.Store, clk clock.Clock, o *Options) *Service {
	if o == nil {
		o = &Options{}
	}
	s := &Service{db: db, clock: clk, guard: newGuard(o.Allow), disabled: o.Disabled, log: o.Log, wake: make(chan struct{}, 1), timeout: timeout, busy: map[string]bool{}}
	if s.log == nil {
		s.log = slog.Default()
	}
	s.client = s.guard.client(o)
	return s
}

// Hook is a subscription.
type Hook struct {
	ID          string    `json:"id"`
	Project     string    `json:"project"`
	URL         string    `json:"url"`
	Types       []string  `json:"types"` // of events: one, all below one (machine.*), or all (*)
	Description string    `json:"description,omitempty"`
	Enabled     bool      `json:"enabled"`
	Disabled    string    `json:"disabled,omitempty"` // why it is not enabled, when nobody said so
	Created     time.Time `json:"created"`
	Changed     time.Time `json:"changed"`
	LastSuccess time.Time `json:"last_success,omitzero"`
	Failing     time.Time `json:"failing,omitzero"` // since when nothing was delivered; zero: the last was
	Revision    uint64    `json:"revision"`
}

// hookRow is what is stored. Signing needs the secrets themselves, so who reads the master's store has them.
type hookRow struct {
	Hook
	Secrets []secret `json:"secrets"` // the current one first
}

type secret struct {
	Key   []byte    `json:"key"`
	Until time.Time `json:"until,omitzero"` // of one that was replaced
}

const secretPrefix = "whsec_"

func newSecret() (secret, string) {
	k := make([]byte, secretSize)
	_, _ = rand.Read(k) // never fails since Go 1.24
	return secret{Key: k}, secretPrefix + base64.StdEncoding.EncodeToString(k)
}

// Spec is what somebody wants of a subscription.
type Spec struct {
	URL         string
	Types       []string
	Description string
	Enabled     bool
}

var typePattern = regexp.MustCompile(`^(\*|[a-z][a-z0-9_]{0,39}(\.[a-z0-9_]{1,40}){0,3}(\.\*)?)$`)

func bad(field, format string, args ...any) error {
	p := wire.NewProblem(400, wire.CodeBadRequest, format, args...)
	p.Field = field
	return p
}

func (s *Service) check(q *Spec) error {
	if len(q.Types) == 0 || len(q.Types) > MaxTypes {
		return bad("types", "%d types of events, want 1 to %d", len(q.Types), MaxTypes)
	}
	for _, t := range q.Types {
		if !typePattern.MatchString(t) {
			return bad("types", "type %.80q: want one such as launch.running, launch.* or *", t)
		}
	}
	if len(q.Description) > maxText || q.Description != strings.ToValidUTF8(q.Description, "") {
		return bad("description", "a description has at most %d bytes of UTF-8", maxText)
	}
	if len(q.URL) > maxURL {
		return bad("url", "a URL has at most %d bytes", maxURL)
	}
	u, err := url.Parse(q.URL)
	switch {
	case err != nil || u.Hostname() == "" || u.Opaque != "":
		return bad("url", "this is not a URL such as https://example.com/hook")
	case u.User != nil:
		return bad("url", "a URL with a password in it would be seen by whoever sees the subscription; deliveries are signed")
	case u.Fragment != "":
		return bad("url", "what follows a # is not sent")
	case u.Scheme != "https" && (u.Scheme != "http" || len(s.guard.allow) == 0):
		return bad("url", "want https://")
	}
	if ip, err := netip.ParseAddr(u.Hostname()); err == nil {
		if err := s.guard.judge(ip, u.Scheme == "http"); err != nil {
			return bad("url", "%v", err)
		}
	}
	return nil
}

// Create makes a subscription. The secret that its deliveries are signed with is returned once.
func (s *Service) Create(ctx context.Context, project string, q Spec) (*Hook, string, error) {
	if err := s.check(&q); err != nil {
		return nil, "", err
	}
	key, text := newSecret()
	now := s.clock.Now()
	row := &hookRow{Hook: Hook{ID: "hook-" + opaque.Hex(8), Project: project, URL: q.URL, Types: q.Types, Description: q.Description, Enabled: q.Enabled,
		Created: now, Changed: now, Revision: 1}, Secrets: []secret{key}}
	err := s.db.Update(ctx, func(tx store.Writer) error {
		n := 0
		if err := tableHooks.Scan(tx, "", "", func(_ string, h *hookRow) error {
			if h.Project == project {
				n++
			}
			return nil
		}); err != nil {
			return err
		}
		if n >= MaxHooks {
			return wire.NewProblem(409, wire.CodeConflict, "the project has %d webhooks, and no more than that may be", n).WithNext("remove one first")
		}
		return tableHooks.Put(tx, row.ID, row)
	})
	if err != nil {
		return nil, "", fmt.Errorf("make webhook: %w", err)
	}
	return &row.Hook, text, nil
}

// hook finds a subscription of a project: CodeNotFound.
func hook(tx store.Reader, project, id string) (*hookRow, error) {
	if len(id) > 64 {
		id = id[:64]
	}
	row, err := tableHooks.Get(tx, id)
	if errors.Is(err, store.ErrNotFound) || err == nil && row.Project != project {
		return nil, wire.NewProblem(404, wire.CodeNotFound, "there is no webhook %q", id)
	}
	return row, err
}

// Get finds a subscription of a project: CodeNotFound.
func (s *Service) Get(ctx context.Context, project, id string) (*Hook, error) {
	var h *Hook
	err := s.db.View(ctx, func(tx store.Reader) error {
		row, err := hook(tx, project, id)
		if err == nil {
			h = &row.Hook
		}
		return err
	})
	return h, err
}

// List lists the subscriptions of a project.
func (s *Service) List(ctx context.Context, project string) ([]Hook, error) {
	list := []Hook{}
	err := s.db.View(ctx, func(tx store.Reader) error {
		return tableHooks.Scan(tx, "", "", func(_ string, row *hookRow) error {
			if row.Project == project {
				list = append(list, row.Hook)
			}
			return nil
		})
	})
	return list, err
}

// change changes a subscription whose revision is that one (0: any): CodeStale.
func (s *Service) change(ctx context.Context, project, id string, revision uint64, fn func(tx store.Writer, row *hookRow) error) (*Hook, error) {
	var h *Hook
	err := s.db.Update(ctx, func(tx store.Writer) error {
		row, err := hook(tx, project, id)
		if err != nil {
			return err
		}
		if revision != 0 && revision != row.Revision {
			return wire.NewProblem(412, wire.CodeStale, "webhook %s was changed meanwhile", row.ID).WithNext("read it again, then change it")
		}
		if err := fn(tx, row); err != nil {
			return err
		}
		row.Revision, row.Changed = row.Revision+1, s.clock.Now()
		h = &row.Hook
		return tableHooks.Put(tx, row.ID, row)
	})
	if err == nil {
		s.poke()
	}
	return h, err
}

// Change replaces what a subscription is. One that is enabled anew is no longer failing, and what waits for it is sent.
func (s *Service) Change(ctx context.Context, project, id string, revision uint64, q Spec) (*Hook, error) {
	if err := s.check(&q); err != nil {
		return nil, err
	}
	return s.change(ctx, project, id, revision, func(_ store.Writer, row *hookRow) error {
		if q.Enabled && !row.Enabled || q.URL != row.URL {
			row.Failing, row.Disabled = time.Time{}, ""
		}
		row.URL, row.Types, row.Description, row.Enabled = q.URL, q.Types, q.Description, q.Enabled
		return nil
	})
}

// Rotate gives a subscription another secret, which is returned once. For a day deliveries carry signatures by the old one, too.
func (s *Service) Rotate(ctx context.Context, project, id string) (*Hook, string, error) {
	key, text := newSecret()
	h, err := s.change(ctx, project, id, 0, func(_ store.Writer, row *hookRow) error {
		now := s.clock.Now()
		kept := []secret{key}
		for i, old := range row.Secrets {
			if i == 0 {
				old.Until = now.Add(overlap)
			}
			if old.Until.After(now) && len(kept) <= maxOld {
				kept = append(kept, old)
			}
		}
		row.Secrets = kept
		return nil
	})
	return h, text, err
}

// Remove removes a subscription, with what waits for it and its log.
func (s *Service) Remove(ctx context.Context, project, id string, revision uint64) error {
	return s.db.Update(ctx, func(tx store.Writer) error {
		row, err := hook(tx, project, id)
		if err != nil {
			return err
		}
		if revision != 0 && revision != row.Revision {
			return wire.NewProblem(412, wire.CodeStale, "webhook %s was changed meanwhile", row.ID).WithNext("read it again, then remove it")
		}
		list, err := deliveries(tx, row.ID)
		if err != nil {
			return err
		}
		for _, d := range list {
			if err := drop(tx, d); err != nil {
				return err
			}
		}
		return tableHooks.Delete(tx, row.ID)
	})
}
