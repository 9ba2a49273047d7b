package accounts

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/openmigrate/openmigrate/master/store"
)

// live is who is under way, so that he can be torn out.
type live struct{ *liveTable }

type liveTable struct {
	mu   sync.Mutex
	each map[string]map[int]context.CancelCauseFunc // by session/…, token/… and user/…; guarded by mu
	next int                                        // guarded by mu
}

func newLive() live {
	return live{&liveTable{each: map[string]map[int]context.CancelCauseFunc{}}}
}

// end tears out everybody under a key.
func (l live) end(key string, why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, cancel := range l.each[key] {
		cancel(why)
	}
}

// add enters a request under its keys.
func (l live) add(keys []string, cancel context.CancelCauseFunc) (remove func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next++
	n := l.next
	for _, k := range keys {
		if l.each[k] == nil {
			l.each[k] = map[int]context.CancelCauseFunc{}
		}
		l.each[k][n] = cancel
	}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, k := range keys {
			if delete(l.each[k], n); len(l.each[k]) == 0 {
				delete(l.each, k)
			}
		}
	}
}

// Admit takes a principal into a request: CodeUnauthorized when he is not any more what he was, else a context that ends as soon as his
// session, token or user does, with that problem as its cause (context.Cause). A stream that stays open is no use of a session: it ends
// when the session is idle. Call done at the end of the request.
func (s *Service) Admit(ctx context.Context, p *Principal) (admitted context.Context, done func(), err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	keys := []string{"token/" + p.ID}
	if p.Kind == KindUser {
		keys = []string{"session/" + p.ID}
	}
	if p.User != "" {
		keys = append(keys, "user/"+p.User)
	}
	remove := s.live.add(keys, cancel)
	until, err := s.stands(ctx, p) // after add: who is ended from here on is torn out
	if err != nil {
		remove()
		cancel(err)
		return nil, nil, err
	}
	watched := make(chan struct{})
	if until > 0 {
		go func() {
			defer close(watched)
			s.watch(ctx, p, until, cancel)
		}()
	} else {
		close(watched)
	}
	return ctx, func() {
		remove()
		cancel(nil)
		<-watched
	}, nil
}

// watch ends a request when its principal expires. A session that is used by other requests lasts longer than it seemed.
func (s *Service) watch(ctx context.Context, p *Principal, until time.Duration, cancel context.CancelCauseFunc) {
	for until > 0 {
		t := time.NewTimer(until)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
		var err error
		if until, err = s.stands(ctx, p); err != nil {
			cancel(err)
			return
		}
	}
}

// stands checks that a principal is still one, and says after what time to look again; 0: never.
func (s *Service) stands(ctx context.Context, p *Principal) (look time.Duration, err error) {
	now := s.clock.Now()
	err = s.db.View(ctx, func(tx store.Reader) error {
		if p.Kind == KindToken {
			t, err := tableTokens.Get(tx, p.ID)
			if errors.Is(err, store.ErrNotFound) {
				return noToken()
			}
			if err != nil {
				return err
			}
			if !t.Expires.IsZero() {
				look = t.Expires.Sub(now) + time.Millisecond
			}
			_, err = s.tokenPrincipal(tx, t, now)
			return err
		}
		row, err := tableSessions.Get(tx, sessionKey(p.User, p.ID))
		if errors.Is(err, store.ErrNotFound) || err == nil && s.ended(&row.Session, now) {
			return loggedOut()
		}
		if err != nil {
			return err
		}
		look = min(row.Expires.Sub(now), row.Used.Add(s.idle).Sub(now)) + time.Millisecond
		_, err = s.sessionPrincipal(tx, &row.Session)
		return err
	})
	return look, err
}
