package webhook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/openmigrate/openmigrate/internal/version"
	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/wire"
)

const (
	timeout  = 20 * time.Second // of a try; the specification recommends 15 to 30
	atOnce   = 8                // subscriptions that are delivered to at once
	lookOnce = 256              // due rows that are looked at in one step
	maxBody  = 64 << 10         // bytes of an answer that are read, so that the connection ends well
	longest  = time.Minute      // between two looks at the queue
)

func (s *Service) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Run delivers until ctx ends; what was under way then is tried again by the next Run.
func (s *Service) Run(ctx context.Context) {
	defer s.workers.Wait()
	for {
		next, err := s.step(ctx)
		if err != nil && ctx.Err() == nil {
			s.log.Warn("webhooks are not delivered; it is tried again", "error", err)
			next = s.clock.Now().Add(10 * time.Second)
		}
		t := time.NewTimer(min(max(next.Sub(s.clock.Now()), 10*time.Millisecond), longest))
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-s.wake:
			t.Stop()
		case <-t.C:
		}
	}
}

// step starts what is due and not under way, and says when to look again at the latest.
func (s *Service) step(ctx context.Context) (next time.Time, err error) {
	now := s.clock.Now()
	next = now.Add(longest)
	var due []string
	err = s.db.View(ctx, func(tx store.Reader) error {
		looked := 0
		return tableDue.Scan(tx, "", "", func(k string, _ *struct{}) error {
			at, key, _ := strings.Cut(k, "/")
			nanos, err := strconv.ParseInt(at, 10, 64)
			if err != nil {
				return fmt.Errorf("read queue: %w", err)
			}
			if t := time.Unix(0, nanos); t.After(now) {
				next = t
				return store.ErrStop
			}
			hook, _, _ := strings.Cut(key, "/")
			s.mu.Lock()
			defer s.mu.Unlock()
			if len(s.busy) >= atOnce {
				return store.ErrStop // whoever is done wakes the loop
			}
			if !s.busy[hook] {
				s.busy[hook] = true
				due = append(due, key)
			}
			if looked++; looked > lookOnce {
				next = now // a crowd for one that is under way
				return store.ErrStop
			}
			return nil
		})
	})
	for _, key := range due {
		s.workers.Go(func() {
			if err := s.deliver(ctx, key); err != nil && ctx.Err() == nil {
				s.log.Warn("a webhook's delivery could not be noted", "delivery", key, "error", err)
			}
			hook, _, _ := strings.Cut(key, "/")
			s.mu.Lock()
			delete(s.busy, hook)
			s.mu.Unlock()
			s.poke()
		})
	}
	return next, err
}

// outcome of a try.
type outcome struct {
	Try
	ok, gone bool
	wait     time.Duration // that the endpoint asked for
}

// deliver tries one delivery, and notes what became of it.
func (s *Service) deliver(ctx context.Context, key string) error {
	var h *hookRow
	var d *deliveryRow
	id, _, _ := strings.Cut(key, "/")
	err := s.db.View(ctx, func(tx store.Reader) (err error) {
		if d, err = tableDeliveries.Get(tx, key); err != nil {
			return err
		}
		h, err = tableHooks.Get(tx, id)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil // removed
	}
	if err != nil {
		return err
	}
	var out outcome
	if h.Enabled {
		if out = s.send(ctx, h, d); ctx.Err() != nil {
			return nil // the next Run tries it again
		}
	}
	var shut *Hook
	err = s.db.Update(ctx, func(tx store.Writer) error {
		shut = nil
		now := s.clock.Now()
		d, err := tableDeliveries.Get(tx, key)
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		was := d.Next
		if d.State != Waiting {
			was = time.Time{}
		}
		if !h.Enabled {
			d.State, d.Next = Failed, time.Time{}
			return put(tx, d, was)
		}
		d.Tries++
		d.Last = append(d.Last, out.Try)
		d.Last = d.Last[max(0, len(d.Last)-keptTries):]
		wait, again := after(d.Tries, out.wait)
		switch {
		case out.ok:
			d.State, d.Next = Delivered, time.Time{}
		case out.gone || !again:
			d.State, d.Next = Failed, time.Time{}
		default:
			d.Next = now.Add(wait)
		}
		if err := put(tx, d, was); err != nil {
			return err
		}
		shut, err = s.judgeHook(tx, id, h.URL, &out, now)
		return err
	})
	if err == nil && shut != nil {
		s.log.Warn("a webhook was disabled", "webhook", shut.ID, "project", shut.Project, "reason", shut.Disabled)
		if s.disabled != nil {
			s.disabled(*shut)
		}
	}
	return err
}

// judgeHook notes how a subscription's endpoint does, and disables it when it is gone or took nothing for long.
func (s *Service) judgeHook(tx store.Writer, id, url string, out *outcome, now time.Time) (shut *Hook, err error) {
	h, err := tableHooks.Get(tx, id)
	if errors.Is(err, store.ErrNotFound) || err == nil && h.URL != url {
		return nil, nil // removed, or it points elsewhere by now
	}
	if err != nil {
		return nil, err
	}
	switch {
	case out.ok:
		h.LastSuccess, h.Failing = now, time.Time{}
	case out.gone:
		h.Disabled = "the endpoint said that it is gone (410)"
	case h.Failing.IsZero():
		h.Failing = now
	case now.Sub(h.Failing) > giveUp:
		h.Disabled = fmt.Sprintf("it took nothing for %d days; last: %s", int(now.Sub(h.Failing).Hours()/24), out.Error)
	}
	if h.Disabled != "" && h.Enabled {
		h.Enabled, h.Revision = false, h.Revision+1
		shut = &h.Hook
	}
	return shut, tableHooks.Put(tx, id, h)
}

// send sends a delivery once.
func (s *Service) send(ctx context.Context, h *hookRow, d *deliveryRow) (out outcome) {
	begin := s.clock.Now()
	real := time.Now()
	out.Time = begin
	defer func() { out.Took = wire.Duration(time.Since(real).Round(time.Millisecond)) }()
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	resp, err := s.post(ctx, h, d, begin)
	if err != nil {
		out.Error = reason(err)
		return out
	}
	_, _ = io.CopyN(io.Discard, resp.Body, maxBody) // nothing of it is kept
	_ = resp.Body.Close()
	out.Status = resp.StatusCode
	out.ok = resp.StatusCode >= 200 && resp.StatusCode < 300
	out.gone = resp.StatusCode == http.StatusGone
	if !out.ok {
		out.Error = fmt.Sprintf("it answered %d", resp.StatusCode)
		if resp.StatusCode/100 == 3 {
			out.Error += ": redirects are not followed, change the URL instead"
		}
	}
	if n, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && n > 0 {
		out.wait = time.Duration(min(n, int(maxRetry/time.Second))) * time.Second
	}
	return out
}

// post signs with each secret that is good at that moment, and sends.
func (s *Service) post(ctx context.Context, h *hookRow, d *deliveryRow, now time.Time) (*http.Response, error) {
	var signatures []string
	for _, k := range h.Secrets {
		if !k.Until.IsZero() && now.After(k.Until) {
			continue
		}
		w, err := standardwebhooks.NewWebhookRaw(k.Key)
		if err != nil {
			return nil, err
		}
		signature, err := w.Sign(d.ID, now, d.Payload)
		if err != nil {
			return nil, err
		}
		signatures = append(signatures, signature)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, h.URL, bytes.NewReader(d.Payload))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "OpenMigrate/"+version.String())
	r.Header.Set(standardwebhooks.HeaderWebhookID, d.ID)
	r.Header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))
	r.Header.Set(standardwebhooks.HeaderWebhookSignature, strings.Join(signatures, " "))
	return s.client.Do(r)
}

// reason is what went wrong, for people: without the URL, which they know, and not long.
func reason(err error) string {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "it did not answer in time"
	}
	s := strings.ToValidUTF8(err.Error(), "")
	return s[:min(len(s), maxText)]
}
