package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/openmigrate/openmigrate/internal/opaque"
	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/wire"
)

// Event is something that happened. Data is made into JSON: ids and states rather than whole things, and no secrets.
type Event struct {
	Type    string
	Project string
	Time    time.Time
	Data    any
}

// States of a delivery.
const (
	Waiting   = "waiting"   // it will be tried, or tried again
	Delivered = "delivered" //
	Failed    = "failed"    // and will not be tried again, unless somebody asks (Resend)
)

// Delivery is an event on its way to a subscription, or what became of it.
type Delivery struct {
	ID       string    `json:"id"` // webhook-id of all its tries
	Sequence uint64    `json:"sequence"`
	Hook     string    `json:"hook"`
	Type     string    `json:"type"`
	Created  time.Time `json:"created"`
	State    string    `json:"state"`
	Next     time.Time `json:"next,omitzero"` // when it is tried next
	Tries    int       `json:"tries"`
	Last     []Try     `json:"last"` // the newest last
}

// Try is one time that a delivery was sent.
type Try struct {
	Time   time.Time     `json:"time"`
	Took   wire.Duration `json:"took"`
	Status int           `json:"status,omitempty"` // of the answer; 0: there was none
	Error  string        `json:"error,omitempty"`
}

type deliveryRow struct {
	Delivery
	Payload json.RawMessage `json:"payload"`
}

// retries is when a delivery is tried again after each failure: the example of Standard Webhooks 1.0.0, some three days in all.
var retries = []time.Duration{5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour, 10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour}

const (
	jitter     = 0.1                // of a delay, at most, is added
	maxRetry   = 24 * time.Hour     // as long as Retry-After may ask for
	giveUp     = 5 * 24 * time.Hour // after which a subscription that took nothing is disabled
	keptTries  = 10                 // of each delivery
	maxLog     = 200                // deliveries of a subscription that are not under way and can be seen
	maxWaiting = 1000               // deliveries of a subscription that wait; the oldest give up
)

func deliveryKey(hook string, seq uint64) string { return fmt.Sprintf("%s/%016x", hook, seq) }

func dueKey(d *Delivery) string {
	return fmt.Sprintf("%020d/%s", d.Next.UnixNano(), deliveryKey(d.Hook, d.Sequence))
}

// put writes a delivery and when it is due.
func put(tx store.Writer, d *deliveryRow, was time.Time) error {
	if !was.IsZero() {
		old := d.Delivery
		old.Next = was
		if err := tableDue.Delete(tx, dueKey(&old)); err != nil {
			return err
		}
	}
	if d.State == Waiting {
		if err := tableDue.Put(tx, dueKey(&d.Delivery), &struct{}{}); err != nil {
			return err
		}
	}
	return tableDeliveries.Put(tx, deliveryKey(d.Hook, d.Sequence), d)
}

// drop removes a delivery.
func drop(tx store.Writer, d *deliveryRow) error {
	if d.State == Waiting {
		if err := tableDue.Delete(tx, dueKey(&d.Delivery)); err != nil {
			return err
		}
	}
	return tableDeliveries.Delete(tx, deliveryKey(d.Hook, d.Sequence))
}

// deliveries are those of a subscription, the oldest first.
func deliveries(tx store.Reader, hook string) (list []*deliveryRow, err error) {
	err = tableDeliveries.Scan(tx, hook+"/", "", func(_ string, d *deliveryRow) error {
		list = append(list, d)
		return nil
	})
	return list, err
}

// wants reports whether a subscription is to an event.
func (h *Hook) wants(e *Event) bool {
	if !h.Enabled || h.Project != e.Project {
		return false
	}
	for _, t := range h.Types {
		if below, all := strings.CutSuffix(t, "*"); t == e.Type || all && strings.HasPrefix(e.Type, below) {
			return true
		}
	}
	return false
}

// Emit gives an event to all that subscribed to it.
func (s *Service) Emit(ctx context.Context, e Event) error {
	if err := s.db.Update(ctx, func(tx store.Writer) error { return s.Append(tx, e) }); err != nil {
		return fmt.Errorf("emit %s: %w", e.Type, err)
	}
	s.poke()
	return nil
}

// together is how many events one transaction takes: others write in between.
const together = 20

// EmitAll gives several events to all that subscribed to them. When it fails, some may have been given.
func (s *Service) EmitAll(ctx context.Context, events []Event) error {
	for some := range slices.Chunk(events, together) {
		if err := s.db.Update(ctx, func(tx store.Writer) error {
			for _, e := range some {
				if err := s.Append(tx, e); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			return fmt.Errorf("emit events: %w", err)
		}
		s.poke()
	}
	return nil
}

// Append is Emit within the transaction that makes the event true.
func (s *Service) Append(tx store.Writer, e Event) error {
	var to []*hookRow
	if err := tableHooks.Scan(tx, "", "", func(_ string, h *hookRow) error {
		if h.wants(&e) {
			to = append(to, h)
		}
		return nil
	}); err != nil || len(to) == 0 {
		return err
	}
	body, err := payload(&e)
	if err != nil {
		return err
	}
	for _, h := range to {
		if err := s.enqueue(tx, h, e.Type, body); err != nil {
			return err
		}
	}
	return nil
}

// payload is an event's body.
func payload(e *Event) (json.RawMessage, error) {
	type body struct {
		Type      string    `json:"type"`
		Timestamp time.Time `json:"timestamp"`
		Project   string    `json:"project"`
		Data      any       `json:"data"`
	}
	b, err := json.Marshal(body{e.Type, e.Time.UTC(), e.Project, e.Data})
	if err != nil || len(b) <= MaxPayload {
		return b, err
	}
	return json.Marshal(body{e.Type, e.Time.UTC(), e.Project, map[string]int{"too_long": len(b)}})
}

func (s *Service) enqueue(tx store.Writer, h *hookRow, kind string, body json.RawMessage) error {
	if err := s.shorten(tx, h.ID); err != nil {
		return err
	}
	n, err := tableCount.Get(tx, "last")
	if errors.Is(err, store.ErrNotFound) {
		n, err = new(uint64), nil
	}
	if err != nil {
		return err
	}
	*n++
	if err := tableCount.Put(tx, "last", n); err != nil {
		return err
	}
	now := s.clock.Now()
	return put(tx, &deliveryRow{Delivery: Delivery{ID: "msg_" + opaque.Hex(16), Sequence: *n, Hook: h.ID, Type: kind, Created: now, State: Waiting, Next: now, Last: []Try{}},
		Payload: body}, time.Time{})
}

// shorten makes room for one more delivery in the log and in the queue of a subscription.
func (s *Service) shorten(tx store.Writer, hook string) error {
	list, err := deliveries(tx, hook)
	if err != nil {
		return err
	}
	waiting := 0
	for _, d := range list {
		if d.State == Waiting {
			waiting++
		}
	}
	over := len(list) - waiting - maxLog + 1
	for _, d := range list {
		switch {
		case d.State != Waiting && over > 0:
			over--
		case d.State == Waiting && waiting >= maxWaiting:
			waiting--
		default:
			continue
		}
		if err := drop(tx, d); err != nil {
			return err
		}
	}
	return nil
}

// Ping sends a test event to one subscription, whatever types it is for.
func (s *Service) Ping(ctx context.Context, project, id string) error {
	err := s.db.Update(ctx, func(tx store.Writer) error {
		h, err := hook(tx, project, id)
		if err != nil {
			return err
		}
		if !h.Enabled {
			return wire.NewProblem(409, wire.CodeConflict, "webhook %s is disabled", h.ID).WithNext("enable it first")
		}
		body, err := payload(&Event{Type: "webhook.test", Project: project, Time: s.clock.Now(), Data: map[string]string{"webhook": h.ID}})
		if err != nil {
			return err
		}
		return s.enqueue(tx, h, "webhook.test", body)
	})
	if err == nil {
		s.poke()
	}
	return err
}

// Deliveries is the log of a subscription, the newest first: those before a sequence (0: all), at most limit.
func (s *Service) Deliveries(ctx context.Context, project, id string, before uint64, limit int) ([]Delivery, error) {
	out := []Delivery{}
	err := s.db.View(ctx, func(tx store.Reader) error {
		h, err := hook(tx, project, id)
		if err != nil {
			return err
		}
		list, err := deliveries(tx, h.ID)
		for i := len(list) - 1; i >= 0 && len(out) < limit; i-- {
			if before == 0 || list[i].Sequence < before {
				out = append(out, list[i].Delivery)
			}
		}
		return err
	})
	return out, err
}

// Resend tries a delivery again, at once, whatever became of it: CodeNotFound when it is not in the log any more.
func (s *Service) Resend(ctx context.Context, project, id string, sequence uint64) error {
	err := s.db.Update(ctx, func(tx store.Writer) error {
		h, err := hook(tx, project, id)
		if err != nil {
			return err
		}
		d, err := tableDeliveries.Get(tx, deliveryKey(h.ID, sequence))
		if errors.Is(err, store.ErrNotFound) {
			return wire.NewProblem(404, wire.CodeNotFound, "there is no delivery %d of webhook %s", sequence, h.ID)
		}
		if err != nil {
			return err
		}
		was := d.Next
		if d.State != Waiting {
			was, d.Tries = time.Time{}, 0
		}
		d.State, d.Next = Waiting, s.clock.Now()
		return put(tx, d, was)
	})
	if err == nil {
		s.poke()
	}
	return err
}

// after is when a delivery is tried again that has failed so many times; false: no more.
func after(tries int, wanted time.Duration) (time.Duration, bool) {
	if tries > len(retries) {
		return 0, false
	}
	d := retries[tries-1]
	d += time.Duration(rand.Float64() * jitter * float64(d)) // it only spreads load
	return max(d, min(wanted, maxRetry)), true
}
