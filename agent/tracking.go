package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/openmigrate/openmigrate/agent/source"
	"github.com/openmigrate/openmigrate/agent/track"
	"github.com/openmigrate/openmigrate/internal/clock"
)

// How long disks are scanned before it is tried again to track them, doubled each time.
const (
	trackFirst = 30 * time.Second
	trackMost  = time.Hour
)

// tracking keeps the best tracker there is. One that failed is closed and opened anew, and until that succeeds disks are scanned. It belongs to the
// loop's goroutine.
//
//	         ┌───────────── failed: closed ──────────────┐
//	         ▼                                           │
//	closed ──┬─ open ─► tracker (anew: scans once) ──────┘
//	         └─ cannot: scan, and try again when the time has come
type tracking struct {
	// open opens a tracker. anew says, unless it is empty, why what one before it left does not count.
	open  func(anew string) (track.Tracker, error)
	clock clock.Clock
	log   *slog.Logger

	t     track.Tracker // nil: closed
	why   string        // why it is; empty: none was wanted yet
	anew  string        // for open
	fails int           // without a restpoint between them
	retry time.Time     // not opened before
}

// tracker is what follows disks in the next cycle.
func (k *tracking) tracker(disks []source.Source) track.Tracker {
	if !slices.ContainsFunc(disks, isDevice) {
		return &track.Scan{Why: "image files are not tracked"}
	}
	if wait := k.retry.Sub(k.clock.Now()); k.t == nil && (k.fails <= 1 || wait <= 0 || wait > trackMost) { // longer: the clock was put back
		t, err := k.open(k.anew)
		if err != nil {
			if k.why != err.Error() {
				k.log.Warn("changes are not tracked: disks are read whole in each cycle", "error", err)
			}
			k.failed(err)
		} else {
			k.t, k.why, k.anew = t, "", ""
		}
	}
	if k.t == nil {
		return &track.Scan{Why: k.why}
	}
	return k.t
}

// made notes a restpoint: whatever tracks, works.
func (k *tracking) made() {
	if k.t != nil {
		k.fails = 0
	}
}

// broke closes the tracker if a cycle failed because of it.
func (k *tracking) broke(err error) {
	if k.t == nil || !errors.Is(err, track.ErrBroken) {
		return
	}
	k.log.Warn("the tracker failed: it is opened anew, and disks are read whole once", "error", err)
	if err := k.t.Close(); err != nil {
		k.log.Warn("the tracker that failed could not be closed", "error", err)
	}
	k.t, k.anew = nil, fmt.Sprintf("the tracker failed (%v)", err)
	k.failed(err)
}

// failed sets when to try again. The first time is at once: the next cycle is a try already.
func (k *tracking) failed(err error) {
	k.why = err.Error()
	k.retry = k.clock.Now().Add(min(trackMost, trackFirst<<min(k.fails, 10)))
	k.fails++
}

// close lets go of the tracker, if there is one.
func (k *tracking) close() error {
	if k.t == nil {
		return nil
	}
	return k.t.Close()
}
