package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/openmigrate/openmigrate/apiclient"
	"github.com/openmigrate/openmigrate/bench/load"
	"github.com/openmigrate/openmigrate/bench/system"
	"github.com/openmigrate/openmigrate/wire"
)

// near is how far from the instant of a restpoint a write may begin or end that was frozen with it: clocks are read one after another.
const near = 2 * time.Millisecond

// taken is a restpoint that was made under load.
type taken struct {
	ID          string        `json:"id"`
	Consistency string        `json:"consistency"`
	Tracker     string        `json:"tracker"`
	Why         []string      `json:"why,omitempty"`
	Frozen      time.Duration `json:"frozen"`  // as the agent says
	Stall       time.Duration `json:"stall"`   // of the write that was under way at its instant; 0: under a millisecond
	Longest     time.Duration `json:"longest"` // stall from the request to the end
	Passes      int           `json:"passes"`
	Backlog     int64         `json:"backlog"` // bytes
	Wall        time.Duration `json:"wall"`    // from the request to the listing
	Changed     int64         `json:"changed"` // bytes of chunks
	Sent        int64         `json:"sent"`    // bytes of disk
	Stored      int64         `json:"stored"`  // bytes put into staging
}

// fuzzy reports whether it is of no one instant.
func (t *taken) fuzzy() bool { return t.Consistency == "fuzzy" }

// loaded is a section with a writer.
type loaded struct {
	Rate     int64         `json:"rate"`    // bytes per second that were wanted
	Block    int           `json:"block"`   // bytes
	Written  int64         `json:"written"` // bytes while it was measured
	For      time.Duration `json:"for"`
	Buffered bool          `json:"buffered"`
	AgentCPU time.Duration `json:"agent_cpu"` // while it was measured
	Server   time.Duration `json:"server_cpu"`
}

// achieved is the rate in bytes per second.
func (l *loaded) achieved() float64 { return float64(l.Written) / l.For.Seconds() }

// frozen is what the section measured.
type frozen struct {
	loaded
	Wanted     int     `json:"wanted"` // restpoints; fewer were taken when the time was up
	Restpoints []taken `json:"restpoints"`
}

// stage is a disk that is written to and an installation that replicates it.
type stage struct {
	*system.System
	disk   *written
	writer *load.Writer
	api    *apiclient.Client
}

// newStage makes the first restpoint of a disk and begins to write to it.
func (b *bench) newStage(ctx context.Context, dir string, rate int64) (_ *stage, err error) {
	s := &stage{}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if s.disk, err = b.newWritten(ctx, dir, b.o.disk, b.o.file); err != nil {
		return nil, err
	}
	if s.System, err = system.Start(ctx, b.o.bin, filepath.Join(dir, "system"), s.disk.Path, system.Options{ChunkSize: b.o.chunkSize, Agent: b.o.agent}); err != nil {
		return nil, err
	}
	if s.api, err = s.API(); err != nil {
		return nil, err
	}
	c, err := s.Sync(ctx)
	if err != nil {
		return nil, err
	}
	b.Say("first restpoint: %.2f s, %s", c.Wall.Seconds(), c.Restpoint.Consistency)
	s.writer, err = load.Start(ctx, load.Options{Path: s.disk.path, Size: b.o.file, Block: 4096, Rate: rate, Buffered: b.o.buffered, Seed: 2})
	return s, err
}

// Close ends everything, the writer first.
func (s *stage) Close() error {
	var err error
	if s.writer != nil {
		err = s.writer.Stop()
	}
	if s.api != nil {
		s.api.Close()
	}
	if s.System != nil {
		err = errors.Join(err, s.System.Close())
	}
	if s.disk != nil {
		err = errors.Join(err, s.disk.Close())
	}
	return err
}

// failed is why the writer ended; nil while it writes.
func (s *stage) failed() error {
	select {
	case <-s.writer.Failed():
		return s.writer.Stop()
	default:
		return nil
	}
}

// measuring fills in what is common to sections with a writer: call the result when the measurement ends.
func (s *stage) measuring(l *loaded) (end func() error, err error) {
	agent, server, err := s.Usage()
	if err != nil {
		return nil, err
	}
	began, before := time.Now(), s.writer.Written()
	return func() error {
		l.For, l.Written = time.Since(began), s.writer.Written()-before
		a, m, err := s.Usage()
		l.AgentCPU, l.Server = a.CPU-agent.CPU, m.CPU-server.CPU
		return err
	}, nil
}

func (b *bench) freeze(ctx context.Context, dir string, res *results) (err error) {
	s, err := b.newStage(ctx, dir, b.o.freezeRate)
	if err != nil {
		return err
	}
	defer closing(s, &err)
	f := &frozen{Wanted: b.o.restpoints, loaded: loaded{Rate: b.o.freezeRate, Block: 4096, Buffered: b.o.buffered}}
	end, err := s.measuring(&f.loaded)
	if err != nil {
		return err
	}
	for began := time.Now(); len(f.Restpoints) < f.Wanted && time.Since(began) < b.o.freezeFor; {
		if err := errors.Join(sleep(ctx, b.o.pause), b.room(), s.failed()); err != nil {
			return err
		}
		t, err := s.take(ctx)
		if err != nil {
			return err
		}
		b.Say("restpoint %d: %s, frozen %.1f ms, writer stalled %.1f ms then and %.1f ms at most, %d passes, %.2f s, %s changed, %s stored %v", len(f.Restpoints)+1,
			t.Consistency, ms(t.Frozen), ms(t.Stall), ms(t.Longest), t.Passes, t.Wall.Seconds(), mb(t.Changed), mb(t.Stored), t.Why)
		f.Restpoints = append(f.Restpoints, *t)
		res.Freeze = f
		if err := end(); err != nil {
			return err
		}
	}
	return nil
}

// take makes a restpoint and looks at what the writer felt.
func (s *stage) take(ctx context.Context) (*taken, error) {
	began := time.Now()
	c, err := s.Sync(ctx)
	if err != nil {
		return nil, err
	}
	report, err := s.CycleOf(ctx, s.api, c.Restpoint.ID)
	if err != nil {
		return nil, err
	}
	t := takenOf(&c.Restpoint, report)
	t.Wall = c.Wall
	s.felt(t, &c.Restpoint, began, time.Now())
	return t, nil
}

// takenOf is what a restpoint and the agent's report on it say.
func takenOf(p *wire.RestpointInfo, report *wire.CycleReport) *taken {
	t := &taken{ID: p.ID, Consistency: p.Consistency, Sent: p.Stats.Sent, Stored: p.Stats.Stored}
	for i := range p.Disks {
		t.Changed += p.Disks[i].Changed
		t.Tracker = p.Disks[i].Tracker
	}
	if report != nil {
		t.Why, t.Frozen, t.Passes, t.Backlog = report.Why, time.Duration(report.Frozen), report.Passes, report.Backlog
	}
	return t
}

// felt adds the writer's stalls. The instant is the agent's, by the clock of this machine.
func (s *stage) felt(t *taken, p *wire.RestpointInfo, from, to time.Time) {
	t.Longest = s.writer.Stall(from, to)
	if !t.fuzzy() {
		t.Stall = s.writer.Stall(p.Created.Add(-near), p.Created.Add(near))
	}
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// consistencies counts restpoints by level.
func consistencies(list []taken) string {
	count := map[string]int{}
	for i := range list {
		count[list[i].Consistency]++
	}
	s := ""
	for _, level := range []string{"application", "filesystem", "crash", "fuzzy"} {
		if n := count[level]; n > 0 {
			s += fmt.Sprintf(", %d %s", n, level)
		}
	}
	return s[min(len(s), 2):]
}
