package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/openmigrate/openmigrate/bench/system"
	"github.com/openmigrate/openmigrate/wire"
)

const (
	sampleEvery = 250 * time.Millisecond
	warmUp      = 2 * time.Minute // at most, until the first restpoint under load is listed
)

// rpo is how old the newest restpoint was.
type rpo struct {
	loaded
	Interval   time.Duration   `json:"interval"`
	WarmUp     time.Duration   `json:"warm_up"` // from the first write until a restpoint begun after it was listed: not in the samples
	Samples    []time.Duration `json:"samples"` // as the master says, every 250 ms
	States     map[string]int  `json:"states"`  // of replication, by sample
	Restpoints []taken         `json:"restpoints"`
	AgentWrote int64           `json:"agent_wrote"` // bytes, to sockets and files: what was put, and all that was said about it
}

// stored is what was put into staging.
func (r *rpo) stored() (n int64) {
	for i := range r.Restpoints {
		n += r.Restpoints[i].Stored
	}
	return n
}

func (b *bench) rpo(ctx context.Context, dir string, res *results) (err error) {
	s, err := b.newStage(ctx, dir, b.o.rpoRate)
	if err != nil {
		return err
	}
	defer closing(s, &err)
	if err := s.Schedule(ctx, b.o.rpoInterval); err != nil {
		return err
	}
	r := &rpo{loaded: loaded{Rate: b.o.rpoRate, Block: 4096, Buffered: b.o.buffered}, Interval: b.o.rpoInterval, States: map[string]int{}}
	if r.WarmUp, err = s.warmUp(ctx); err != nil {
		return err
	}
	end, err := s.measuring(&r.loaded)
	if err != nil {
		return err
	}
	began, wrote := time.Now(), s.AgentWrote()
	reports := map[string]*wire.CycleReport{}
	failed := b.sample(ctx, s, r, reports)
	// What there is counts even when it ended early: a disk that filled up is a result, too.
	r.AgentWrote = s.AgentWrote() - wrote
	if err := end(); err != nil {
		return errors.Join(failed, err)
	}
	list, err := system.Restpoints(ctx, s.api, began)
	if err != nil {
		return errors.Join(failed, err)
	}
	for i := range list {
		t := takenOf(&list[i], reports[list[i].ID])
		t.Wall = list[i].Listed.Sub(list[i].Instant)
		s.felt(t, &list[i], list[i].Created, list[i].Listed)
		r.Restpoints = append(r.Restpoints, *t)
	}
	res.RPO = r
	return failed
}

// warmUp waits for a restpoint that was begun while the writer ran: it sends whole what was never written in small pieces before.
func (s *stage) warmUp(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	for time.Since(began) < warmUp {
		m, err := s.api.Machine(ctx, s.Machine())
		if err != nil {
			return 0, err
		}
		if m.RPO.Instant != nil && m.RPO.Instant.After(began) {
			break
		}
		if err := errors.Join(sleep(ctx, sampleEvery), s.failed()); err != nil {
			return 0, err
		}
	}
	return time.Since(began), nil // too long a time is in what is measured then
}

// sample asks the master again and again.
func (b *bench) sample(ctx context.Context, s *stage, r *rpo, reports map[string]*wire.CycleReport) error {
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	began, said := time.Now(), time.Now()
	for time.Since(began) < b.o.rpoFor {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		m, err := s.api.Machine(ctx, s.Machine())
		if err := errors.Join(err, s.failed(), b.room()); err != nil {
			return fmt.Errorf("after %v: %w", time.Since(began).Round(time.Second), err)
		}
		r.Samples = append(r.Samples, time.Duration(m.RPO.Now))
		r.States[m.Replication]++
		if m.Report != nil && m.Report.Cycle != nil {
			reports[m.Report.Cycle.Restpoint] = m.Report.Cycle
		}
		if time.Since(said) > 10*time.Second {
			said = time.Now()
			b.Say("RPO %.2f s, %s: %s", time.Duration(m.RPO.Now).Seconds(), m.Replication, m.Reason)
		}
	}
	return nil
}
