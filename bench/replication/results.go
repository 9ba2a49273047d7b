package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/openmigrate/openmigrate/bench/gateway"
	"github.com/openmigrate/openmigrate/bench/limit"
	"github.com/openmigrate/openmigrate/bench/measure"
	"github.com/openmigrate/openmigrate/bench/peers"
	"github.com/openmigrate/openmigrate/bench/system"
)

// results is everything that was measured. Parts that did not run are nil.
type results struct {
	Machine  measure.Machine   `json:"machine"`
	Size     int64             `json:"size"`     // of the disk, in bytes
	Data     int64             `json:"data"`     // of it, not in holes
	Versions map[string]string `json:"versions"` // of peers
	Pairs    []*pair           `json:"pairs"`
	Requests *counted          `json:"requests,omitempty"`
	Huge     *huge             `json:"huge,omitempty"`
}

// pair is one round of comparisons.
type pair struct {
	Scan    *limit.Result           `json:"scan,omitempty"`
	Limit   *limit.Result           `json:"limit,omitempty"`
	First   *system.Cycle           `json:"first,omitempty"`
	Restore *restored               `json:"restore,omitempty"`
	Second  *second                 `json:"second,omitempty"`
	Peers   map[string]peers.Result `json:"peers,omitempty"`
}

// restored is a restore to a file and the bare loops that do the same.
type restored struct {
	Export  measure.Run  `json:"export"`
	Fetched int64        `json:"fetched"` // bytes
	Limit   limit.Result `json:"limit"`   // whose file is durable in the end, as the export's is
	Fast    limit.Result `json:"fast"`    // whose file is not
}

// second is a restpoint of a disk of which a hundredth changed.
type second struct {
	Changed int64         `json:"changed"` // bytes
	Cat     time.Duration `json:"cat"`     // cat disk > /dev/null
	Cached  time.Duration `json:"cached"`  // the same at the speed of a file that surely is in the page cache
	Cycle   system.Cycle  `json:"cycle"`
}

// cat is the quicker of both: a disk with its holes may be larger than the page cache, and then cat is slower than it should be.
func (s *second) cat() time.Duration { return min(s.Cat, s.Cached) }

// counted is a first replication past a counter of requests.
type counted struct {
	Requests gateway.Requests `json:"requests"`
	Stored   int64            `json:"stored"` // bytes
	Packs    int64            `json:"packs"`
}

// huge is what a large sparse disk with little data needs.
type huge struct {
	Size      int64            `json:"size"` // bytes
	Data      int64            `json:"data"`
	First     system.Cycle     `json:"first"`
	Unchanged system.Cycle     `json:"unchanged"`
	Requests  gateway.Requests `json:"requests"` // of Unchanged
}

// describe says what was compared, on one line.
func (r *results) describe() string {
	s := fmt.Sprintf("disk %s with %s of data, %d pairs", gib(r.Size), gib(r.Data), len(r.Pairs))
	var versions []string
	for _, name := range peerNames {
		if v := r.Versions[name]; v != "" {
			versions = append(versions, v)
		}
	}
	if len(versions) > 0 {
		s += "; peers " + strings.Join(versions, ", ")
	}
	return s
}

func gib(n int64) string { return fmt.Sprintf("%.2f GiB", float64(n)/(1<<30)) }
