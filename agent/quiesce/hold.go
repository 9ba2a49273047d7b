package quiesce

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/openmigrate/openmigrate/staging/format"
)

// Times of a freeze that lasts.
const (
	beatEvery = time.Second
	holdGrace = 20 * time.Second // without a beat, then the watchdog thaws
)

// Hold makes a freeze last. The watchdog hears a beat every second; when none comes, because the agent died, was stopped or hangs, it thaws. So that an agent
// whose work hangs while its beat goes on is found, too, there is a beat only as long as the last Extend says. It may be used by several goroutines.
type Hold struct {
	mu    sync.Mutex
	until time.Time // guarded by mu

	// Level and Why are as in Report. They may be read within inside.
	Level format.Consistency
	Why   []string
}

// Extend says that the work goes well, and will say so again within d.
func (h *Hold) Extend(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.until = time.Now().Add(d)
}

func (h *Hold) left() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return time.Until(h.until)
}

// beat keeps the watchdog from thawing while inside runs. The context ends with ErrThawed when that may have happened all the same.
func (h *Hold) beat(ctx context.Context, wd *watchdog, limit time.Duration) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		t := time.NewTicker(min(beatEvery, limit/4))
		defer t.Stop()
		for last := time.Now(); ; {
			now := time.Now()
			switch {
			case now.Sub(last) > limit/2:
				cancel(fmt.Errorf("%w: the agent stood still for %v", ErrThawed, now.Sub(last).Round(time.Millisecond)))
				return
			case h.left() <= 0:
				cancel(fmt.Errorf("%w: the work within it hangs", ErrThawed))
				return
			}
			if err := wd.send('h', 0); err != nil {
				cancel(errors.Join(ErrThawed, err)) // nobody would thaw if this process died, too
				return
			}
			last = now
			select {
			case <-t.C:
			case <-ctx.Done():
				return
			}
		}
	})
	return ctx, func() {
		cancel(nil)
		wg.Wait()
	}
}
