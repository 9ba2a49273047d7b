package main

import (
	"fmt"

	"github.com/openmigrate/openmigrate/bench/measure"
)

// results is everything that was measured. Sections that did not run, or failed before they measured anything, are nil.
type results struct {
	Machine    measure.Machine `json:"machine"`
	Freeze     *frozen         `json:"freeze,omitempty"`
	Throughput *throughput     `json:"throughput,omitempty"`
	Sparse     *sparse         `json:"sparse,omitempty"`
	RPO        *rpo            `json:"rpo,omitempty"`
	Wire8k     []variant       `json:"wire8k,omitempty"`
}

// describe says under which load, on one line.
func (r *results) describe(o *options) string {
	how := "past the page cache"
	if o.buffered {
		how = "through the page cache, fdatasync every 100 ms"
	}
	return fmt.Sprintf("ext4 of %s on a loop device, a file of %s in it, written at random %s; half of what is written is compressible", gib(o.disk), gib(o.file), how)
}
