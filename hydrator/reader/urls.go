package reader

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/openmigrate/openmigrate/internal/clock"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

// maxURLs bounds what is kept; at half a kilobyte each it is 2 MiB.
const maxURLs = 4096

// urlCache keeps signed URLs until shortly before they expire.
type urlCache struct {
	clock clock.Clock
	mu    sync.Mutex
	m     map[format.PackID]signedURL // guarded by mu
}

type signedURL struct {
	url   string // empty: there is no such pack
	until time.Time
}

func newURLCache(c clock.Clock) *urlCache {
	return &urlCache{clock: c, m: map[format.PackID]signedURL{}}
}

func (c *urlCache) get(p format.PackID) (string, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, ok := c.m[p]
	return s.url, ok && c.clock.Now().Before(s.until)
}

func (c *urlCache) put(packs []format.PackID, urls []string, valid time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.m)+len(packs) > maxURLs {
		clear(c.m)
	}
	until := c.clock.Now().Add(valid - valid/8)
	for i, p := range packs {
		c.m[p] = signedURL{urls[i], until}
	}
}

// drop forgets a URL that was refused, unless somebody has replaced it meanwhile.
func (c *urlCache) drop(p format.PackID, refused string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m[p].url == refused {
		delete(c.m, p)
	}
}

// sign makes sure that there are URLs for packs, as few requests as it takes.
func (r *Reader) sign(ctx context.Context, packs []format.PackID) error {
	var need []format.PackID
	for _, p := range packs {
		if _, ok := r.urls.get(p); !ok {
			need = append(need, p)
		}
	}
	for len(need) > 0 {
		batch := need[:min(len(need), wire.MaxURLs)]
		need = need[len(batch):]
		names := make([]string, len(batch))
		for i, p := range batch {
			names[i] = p.String()
		}
		resp, err := r.master.URLs(ctx, r.job, &wire.URLRequest{Packs: names})
		if err != nil {
			return fmt.Errorf("ask for URLs of %d packs: %w", len(names), err)
		}
		if resp == nil || len(resp.URLs) != len(names) {
			return fmt.Errorf("ask for URLs of %d packs: the answer has another number", len(names))
		}
		r.urls.put(batch, resp.URLs, time.Duration(resp.Valid))
	}
	return nil
}
