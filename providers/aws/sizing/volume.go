package sizing

import (
	"fmt"
	"math"

	"github.com/openmigrate/openmigrate/providers"
	"github.com/openmigrate/openmigrate/providers/aws/price"
)

// Limits of gp3: https://docs.aws.amazon.com/ebs/latest/userguide/general-purpose.html and CreateVolume. Some places (Outposts, Local Zones) still have the
// earlier ones of 16 TiB, 16,000 IOPS and 1,000 MiB/s; a volume that is refused there is refused before anything is made.
const (
	MinIOPS       = 3000
	MaxIOPS       = 80_000
	MinThroughput = 125  // MiB/s
	MaxThroughput = 2000 // MiB/s
	MaxVolumeGiB  = 65_536
	iopsPerGiB    = 500
	mibPerIOPS    = 0.25 // MiB/s for each provisioned IOPS
)

// Volume is a gp3 volume.
type Volume struct {
	Disk       string   `json:"disk"`
	GiB        int64    `json:"gib"`
	IOPS       int      `json:"iops"`
	Throughput int      `json:"throughput"` // MiB/s
	Reasons    []string `json:"reasons"`
}

// volume is what disk number i gets: what every gp3 volume has for its size's price, or more where the history shows that it was used.
func volume(m *Machine, i int) (Volume, error) {
	d := m.Disks[i]
	v := Volume{Disk: d.ID, GiB: (d.Size + 1<<30 - 1) >> 30, IOPS: MinIOPS, Throughput: MinThroughput}
	if d.Size <= 0 || v.GiB > MaxVolumeGiB {
		return v, fmt.Errorf("choose a volume for disk %.80q: %w: it has %d bytes, and EBS volumes have 1 GiB to 64 TiB; leave the disk out, or split what is on it",
			d.ID, providers.ErrInvalid, d.Size)
	}
	if d.Size%(1<<30) != 0 {
		v.Reasons = append(v.Reasons, fmt.Sprintf("%d GiB: EBS volumes are whole GiB", v.GiB))
	}
	if _, ok := usable(m.History); !ok {
		v.Reasons = append(v.Reasons, fmt.Sprintf("%d IOPS and %d MiB/s, which are in the price of the size: there is no history of a day of what the disk did", v.IOPS, v.Throughput))
		return v, nil
	}
	iops := percentile(series(m.History, func(s *Sample) float64 { return s.Disks[d.ID].IOPS }), 0.99) * diskRoom
	rate := percentile(series(m.History, func(s *Sample) float64 { return s.Disks[d.ID].Bytes }), 0.99) * diskRoom / (1 << 20)
	most := min(MaxIOPS, max(MinIOPS, iopsPerGiB*v.GiB))
	wantIOPS := max(MinIOPS, int64(math.Ceil(iops)))
	want := max(MinThroughput, int(math.Ceil(rate)))
	// Throughput needs IOPS to stand on.
	wantIOPS = max(wantIOPS, int64(math.Ceil(float64(min(want, MaxThroughput))/mibPerIOPS)))
	v.IOPS = int(min(wantIOPS, most))
	v.Throughput = min(want, MaxThroughput, int(float64(v.IOPS)*mibPerIOPS))
	v.Reasons = append(v.Reasons, fmt.Sprintf("%d IOPS and %d MiB/s: %.0f and %.0f at the 99th percentile of its history, and a fifth more, but not less than every gp3 volume has",
		v.IOPS, v.Throughput, iops/diskRoom, rate/diskRoom))
	if wantIOPS > most || want > v.Throughput {
		v.Reasons = append(v.Reasons, "that is more than gp3 gives at this size: consider io2, or two volumes")
	}
	return v, nil
}

// month adds what a volume costs for some months.
func (v *Volume) month(q *price.Quote, what string, months float64) {
	q.Add(what, float64(v.GiB)*months, "GiB-months", price.VolumeGiB)
	q.Add(what+", IOPS above 3,000", float64(v.IOPS-MinIOPS)*months, "IOPS-months", price.VolumeIOPS)
	q.Add(what+", throughput above 125 MiB/s", float64(v.Throughput-MinThroughput)*months, "MiB/s-months", price.VolumeThroughput)
}
