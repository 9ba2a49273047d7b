package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/openmigrate/openmigrate/bench/measure"
	"github.com/openmigrate/openmigrate/bench/report"
)

// results is everything that was measured.
type results struct {
	Machine measure.Machine `json:"machine"`
	Peer    string          `json:"peer"`   // its version
	Before  boot            `json:"before"` // of the disk that was not converted
	Pairs   []*pair         `json:"pairs"`
}

// pair is one round.
type pair struct {
	Ours converted `json:"ours"`
	Peer converted `json:"peer"`
}

// converted is one conversion and what it was good for.
type converted struct {
	measure.Run
	Error string `json:"error,omitempty"` // of the program that converted
	Boot  boot   `json:"boot"`
}

func (c converted) good() bool { return c.Error == "" && c.Boot.Up && c.Boot.Address != "" }

// describe says what was compared, on one line.
func (r *results) describe() string {
	return fmt.Sprintf("Debian 12, made for virtio-scsi, started on virtio-blk from BIOS; %d pairs; peer %s, without KVM", len(r.Pairs), r.Peer)
}

// table compares with the bars: faster, and a machine that boots each time.
func table(r *results) []report.Row {
	ours := func(p *pair) converted { return p.Ours }
	peer := func(p *pair) converted { return p.Peer }
	times := report.ConvertWall.Missing("a conversion failed")
	var faster []float64
	for _, p := range r.Pairs {
		if p.Ours.Error == "" && p.Peer.Error == "" { // a failure is no time to compare with
			faster = append(faster, p.Peer.Wall.Seconds()/p.Ours.Wall.Seconds())
		}
	}
	if len(faster) > 0 {
		times = report.ConvertWall.Row(measure.Median(faster), faster, "ours %s, CPU %s; virt-v2v-in-place %s, CPU %s", r.seconds(ours, wall), r.seconds(ours, cpu), r.seconds(peer, wall), r.seconds(peer, cpu))
	}
	return []report.Row{
		times,
		report.ConvertBoot.Row(r.share(ours), nil, "%s", r.ends(ours)),
		report.Info("the same of virt-v2v-in-place", fmt.Sprintf("%.2f", r.share(peer)), "%s", r.ends(peer)),
		report.Info("the disk without conversion", "", "%s", r.Before),
	}
}

func wall(c converted) time.Duration { return c.Wall }
func cpu(c converted) time.Duration  { return c.CPU }

// seconds is the median of a time.
func (r *results) seconds(of func(*pair) converted, what func(converted) time.Duration) string {
	var values []time.Duration
	for _, p := range r.Pairs {
		values = append(values, what(of(p)))
	}
	return fmt.Sprintf("%.1f s", measure.Median(values).Seconds())
}

// share is the part of the conversions after which the machine boots with an address.
func (r *results) share(of func(*pair) converted) float64 {
	n := 0
	for _, p := range r.Pairs {
		if of(p).good() {
			n++
		}
	}
	return float64(n) / float64(len(r.Pairs))
}

// ends says how the first one went.
func (r *results) ends(of func(*pair) converted) string {
	c := of(r.Pairs[0])
	if c.Error != "" {
		return strings.Join(strings.Fields(c.Error), " ") + "; " + c.Boot.String()
	}
	return c.Boot.String()
}
