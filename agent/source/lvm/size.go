package lvm

import "fmt"

// Room of a thick snapshot.
const (
	share    = 5         // of the volume: a fifth, if nothing is known of how much is written
	leastCOW = 64 << 20  // bytes
	leastOf  = 50        // of the volume: with less than a fiftieth it is not tried
	maxFree  = 90        // percent of what is free in the group
	extraOf  = 64        // a snapshot that can hold all of the volume needs this part more, for its own tables
	extraMin = 512 << 10 // and this much at least
)

// roomFor is how large a thick snapshot is made, in whole extents: a fifth of the volume, or twice what was too little the last time, but no
// more than holds all of the volume, nor than nine tenths of what is free. All in bytes. The error says what is missing.
func roomFor(size, free, extent, tooLittle int64) (int64, error) {
	if extent <= 0 || size <= 0 {
		return 0, fmt.Errorf("a volume of %d bytes, in extents of %d", size, extent)
	}
	up := func(n int64) int64 { return (n + extent - 1) / extent * extent }
	whole := up(size + max(size/extraOf, extraMin))
	want := min(whole, up(max(size/share, leastCOW, 2*tooLittle)))
	room := min(want, free/100*maxFree/extent*extent)
	if least := min(want, up(max(size/leastOf, leastCOW))); room < least {
		return 0, fmt.Errorf("it needs %d MiB at least, and the volume group has %d MiB free; extend it (vgextend)", least*100/maxFree>>20, free>>20)
	}
	if room <= tooLittle && room < whole {
		return 0, fmt.Errorf("more than %d MiB are overwritten while it is read, and the volume group has %d MiB free; extend it (vgextend), or replicate in a quieter hour",
			tooLittle>>20, free>>20)
	}
	return room, nil
}

// Fullest pools, in percent, for a thin snapshot to be taken and to be kept.
const (
	poolTake = 80.0
	poolKeep = 95.0
)
