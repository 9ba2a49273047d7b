package api

import (
	"slices"
	"strings"
	"time"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/wire"
)

// minInterval keeps a slip of the finger from making an agent read its disks without a pause; maxInterval is more than anybody means.
const (
	minInterval = time.Second
	maxInterval = 366 * 24 * time.Hour
)

// consistencies that may be wanted.
var consistencies = []string{"", "fuzzy", "crash", "filesystem", "application"}

// checkPolicy refuses what an agent could not follow: a policy goes to it as it is.
func checkPolicy(p *wire.MachinePolicy) error {
	if p.Interval != nil && *p.Interval > 0 && time.Duration(*p.Interval) < minInterval {
		return badField("interval", "interval %v: want at least %v, or a negative one for restpoints only when asked", time.Duration(*p.Interval), minInterval)
	}
	if p.Interval != nil && time.Duration(*p.Interval) > maxInterval {
		return badField("interval", "interval %v: want at most %v, or a negative one for restpoints only when asked", time.Duration(*p.Interval), maxInterval)
	}
	if p.ChunkSize != nil && *p.ChunkSize != 0 {
		if err := chunker.CheckSize(*p.ChunkSize); err != nil {
			return badField("chunk_size", "%v", err)
		}
	}
	if p.Bandwidth != nil && *p.Bandwidth < 0 {
		return badField("bandwidth", "bandwidth %d: want bytes per second, 0 for no limit", *p.Bandwidth)
	}
	if p.Consistency != nil && !slices.Contains(consistencies, *p.Consistency) {
		return badField("consistency", "consistency %.40q: want fuzzy, crash, filesystem or application", *p.Consistency)
	}
	if len(p.Disks) > wire.MaxDisks {
		return badField("disks", "%d disks, at most %d", len(p.Disks), wire.MaxDisks)
	}
	if w := p.Window; w != nil && (w.From != "" || w.To != "") {
		for _, at := range []string{w.From, w.To} {
			if _, err := time.Parse("15:04", at); err != nil {
				return badField("window", "window %.40q: want hours and minutes in UTC, such as 22:00", at)
			}
		}
		for _, day := range w.Weekdays {
			if day < 0 || day > 6 {
				return badField("window", "weekday %d: want 0 (Sunday) to 6", day)
			}
		}
	}
	return nil
}

// checkBelonging refuses groups and tags that cannot be shown on one line.
func checkBelonging(c *wire.MachineChange) error {
	if c.Group != nil && !words(*c.Group, 0, wire.MaxGroup) {
		return badField("group", "group %.40q: want up to %d bytes of printable text", *c.Group, wire.MaxGroup)
	}
	if c.Tags == nil {
		return nil
	}
	if len(*c.Tags) > wire.MaxTags {
		return badField("tags", "%d tags, at most %d", len(*c.Tags), wire.MaxTags)
	}
	for _, t := range *c.Tags {
		if !words(t, 1, wire.MaxGroup) || strings.Contains(t, ",") {
			return badField("tags", "tag %.40q: want up to %d bytes of printable text without a comma", t, wire.MaxGroup)
		}
	}
	return nil
}
