package sizing

import (
	"fmt"
	"math"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/openmigrate/openmigrate/providers"
	"github.com/openmigrate/openmigrate/providers/aws/ebsdirect"
	"github.com/openmigrate/openmigrate/providers/aws/price"
)

// DiskLoad is what is to be copied of one disk.
type DiskLoad struct {
	Size int64 // bytes
	// Blocks of 512 KiB that are not zeros, as hydrator.CountBlocks finds them. 0: all of Size.
	Blocks int64
	// ChangedBlocks is how many different ones are written between two restpoints that are copied, as CountBlocks finds it for two of them.
	ChangedBlocks int64
}

func (d *DiskLoad) blocks() int64 {
	if d.Blocks > 0 {
		return d.Blocks
	}
	return ebsdirect.Blocks(d.Size)
}

// Forecast is what one way of doing something takes.
type Forecast struct {
	Way   string        `json:"way"`
	Time  time.Duration `json:"time"` // 0: it goes on
	Puts  int64         `json:"puts,omitempty"`
	Cost  *price.Quote  `json:"cost"`
	Notes []string      `json:"notes,omitempty"`
}

// Situation is what forecasts start from.
type Situation struct {
	Disks  []DiskLoad
	Prices *price.File
	Now    time.Time
	Limits ebsdirect.Limits // the account's quotas; zero: AWS's defaults

	Stored int64         // bytes in the bucket: compressed, without what others have, too
	Packs  int64         // objects that Stored is in; 0: Stored in packs of 32 MiB
	Uplink float64       // bytes a second from the machine to the bucket; 0: not known
	Reads  float64       // bytes a second from the bucket to the hydrator, after decompression; 0: no limit
	Every  time.Duration // between two restpoints that a standing copy follows; 0: an hour
}

const packSize = 32 << 20 // bytes: staging/format.PackTarget

func (s *Situation) quote() *price.Quote { return price.NewQuote(s.Prices, s.Now) }

func (s *Situation) limits() ebsdirect.Limits { return ebsdirect.NewPacer(s.Limits, nil, nil).Limits() }

// Replicate forecasts the first replication into the bucket, and a month there.
func (s *Situation) Replicate() Forecast {
	f := Forecast{Way: "replication into the bucket, and a month there", Cost: s.quote()}
	packs := s.Packs
	if packs == 0 {
		packs = (s.Stored + packSize - 1) / packSize
	}
	f.Cost.Add("objects put into the bucket", float64(packs)/1000, "thousand requests", price.BucketPuts)
	f.Cost.Add("bucket", float64(s.Stored)/(1<<30), "GiB-months", price.BucketGiB)
	if s.Uplink > 0 {
		f.Time = seconds(float64(s.Stored) / s.Uplink)
	} else {
		f.Notes = append(f.Notes, "the time is not known: no uplink is given")
	}
	return f
}

// Direct forecasts the snapshots of all disks by the EBS direct APIs, without an instance: full ones, or with changed only the blocks that changed.
func (s *Situation) Direct(changed bool) Forecast {
	f := Forecast{Way: "snapshots by EBS direct APIs, without an instance", Cost: s.quote()}
	l := s.limits()
	longest := 0.0
	for i := range s.Disks {
		n := s.Disks[i].blocks()
		if changed {
			n = s.Disks[i].ChangedBlocks
		}
		f.Puts += n
		longest = max(longest, float64(n)/(l.SnapshotPuts*ebsdirect.Share))
	}
	t := max(longest, float64(f.Puts)/(l.AccountPuts*ebsdirect.Share))
	if s.Reads > 0 {
		t = max(t, float64(f.Puts)*ebsdirect.BlockSize/s.Reads)
	}
	t += float64(len(s.Disks)) / (l.Starts * ebsdirect.Share) // they start one after the other
	f.Time = seconds(t)
	f.Cost.Add("PutSnapshotBlock", float64(f.Puts)/1000, "thousand requests", price.SnapshotPuts)
	f.Notes = append(f.Notes, fmt.Sprintf("%d blocks of 512 KiB at %.0f a second, %d %% of the quota", f.Puts, l.AccountPuts*ebsdirect.Share, int(ebsdirect.Share*100)))
	if len(s.Disks) > l.Pending {
		f.Notes = append(f.Notes, fmt.Sprintf("%d disks, of which %d can be written at once", len(s.Disks), l.Pending))
	}
	return f
}

// Writer is the hydrator's instance.
type Writer struct {
	Type    *types.InstanceTypeInfo
	Spot    bool
	Volumes []Volume      // of the machine; they are made for it, and are its disks afterwards
	Setup   time.Duration // from the call that starts it to the first write; 0: 3 minutes, which is an assumption
	Idle    time.Duration // that it runs on before it is stopped; 0: 5 minutes
}

// Hydrate forecasts writing volumes by an instance in the target account: full ones, or with changed only what changed.
func (s *Situation) Hydrate(w *Writer, changed bool) (Forecast, error) {
	f := Forecast{Way: "volumes by a hydrator instance of type " + string(w.Type.InstanceType), Cost: s.quote()}
	places := attachments(w.Type, 1) - 1 // its own root
	if places < 1 || len(w.Volumes) != len(s.Disks) {
		return f, fmt.Errorf("forecast hydration: %w: %d disks, %d volumes, %d places at a %s", providers.ErrInvalid, len(s.Disks), len(w.Volumes), places, w.Type.InstanceType)
	}
	line := math.Inf(1) // bytes a second
	if e := w.Type.EbsInfo; e != nil && e.EbsOptimizedInfo != nil && e.EbsOptimizedInfo.BaselineThroughputInMBps != nil {
		line = *e.EbsOptimizedInfo.BaselineThroughputInMBps * 1e6
	} else {
		f.Notes = append(f.Notes, "the type's line to EBS is not known: the volumes' throughput alone is counted")
	}
	line = min(line, baseline(w.Type))
	if s.Reads > 0 {
		line = min(line, s.Reads)
	}
	// Disks are attached in rounds when there are more than places; within a round they share the line.
	t, rounds := 0.0, 0
	for first := 0; first < len(s.Disks); first += places {
		sum, longest := 0.0, 0.0
		for i := first; i < min(first+places, len(s.Disks)); i++ {
			n := s.Disks[i].blocks()
			if changed {
				n = s.Disks[i].ChangedBlocks
			}
			b := float64(n) * ebsdirect.BlockSize
			sum += b
			longest = max(longest, b/(float64(w.Volumes[i].Throughput)*(1<<20)))
		}
		t += max(longest, sum/line)
		rounds++
	}
	setup, idle := cmpOr(w.Setup, 3*time.Minute), cmpOr(w.Idle, 5*time.Minute)
	f.Time = seconds(t) + setup
	hours := (f.Time + idle).Hours()
	f.Cost.Add("hydrator instance", hours, "hours", price.Instance(string(w.Type.InstanceType), w.Spot))
	for i := range w.Volumes {
		w.Volumes[i].month(f.Cost, "volume "+w.Volumes[i].Disk+" while it is written", f.Time.Hours()/price.HoursPerMonth)
	}
	f.Notes = append(f.Notes, fmt.Sprintf("%s to start the instance and %s until it is stopped are assumptions", setup, idle))
	if rounds > 1 {
		f.Notes = append(f.Notes, fmt.Sprintf("%d disks in %d rounds: the type takes %d at once", len(s.Disks), rounds, places))
	}
	return f, nil
}

// StandBy forecasts a month of copies that follow the restpoints: by EBS direct APIs when w is nil, else by an instance that is started for each.
// The bucket is not in it: Replicate has it, and both need it.
func (s *Situation) StandBy(w *Writer) (Forecast, error) {
	cycles := price.HoursPerMonth / cmpOr(s.Every, time.Hour).Hours()
	f := Forecast{Way: "a month of standing by as snapshots, without an instance", Cost: s.quote()}
	if w == nil {
		round := s.Direct(true)
		f.Puts = int64(math.Ceil(float64(round.Puts) * cycles))
		f.Cost.Add("PutSnapshotBlock", float64(f.Puts)/1000, "thousand requests", price.SnapshotPuts)
		s.snapshots(f.Cost, "snapshots", 1)
		f.Notes = []string{fmt.Sprintf("%.0f restpoints of %d blocks; only the last snapshot is kept", cycles, round.Puts)}
		return f, nil
	}
	round, err := s.Hydrate(w, true)
	if err != nil {
		return f, err
	}
	f.Way = "a month of standing by as volumes, by a hydrator instance of type " + string(w.Type.InstanceType)
	f.Cost.Add("hydrator instance", (round.Time+cmpOr(w.Idle, 5*time.Minute)).Hours()*cycles, "hours", price.Instance(string(w.Type.InstanceType), w.Spot))
	for i := range w.Volumes {
		w.Volumes[i].month(f.Cost, "volume "+w.Volumes[i].Disk, 1)
	}
	f.Notes = round.Notes
	return f, nil
}

// snapshots adds what is kept of all disks.
func (s *Situation) snapshots(q *price.Quote, what string, months float64) {
	n := int64(0)
	for i := range s.Disks {
		n += s.Disks[i].blocks()
	}
	q.Add(what, float64(n)*ebsdirect.BlockSize/(1<<30)*months, "GiB-months", price.SnapshotGiB)
}

// Peer is AWS's own service for the same: what it keeps running while a server is replicated.
type Peer struct {
	Name    string
	Server  string // name of the price of a server's hour
	Free    float64
	Kept    int // days of points in time
	Sources []string
}

// The two, as their documentation describes the default settings. The prices are the price file's.
var (
	MGN = Peer{Name: "AWS Application Migration Service (MGN)", Server: price.MGNServer, Free: 2160, Sources: []string{
		"https://aws.amazon.com/application-migration-service/pricing/", "https://docs.aws.amazon.com/mgn/latest/ug/replication-server-settings.html"}}
	DRS = Peer{Name: "AWS Elastic Disaster Recovery (DRS)", Server: price.DRSServer, Kept: 7, Sources: []string{
		"https://aws.amazon.com/disaster-recovery/pricing/", "https://docs.aws.amazon.com/drs/latest/userguide/replication-server-settings.html"}}
)

const (
	peerServer = "t3.small" // the default replication server of both
	peerDisks  = 15         // volumes that one of them takes
)

// Peer forecasts a month of the same machine in an AWS service; hours is how long the server has been replicated before, for the free hours.
func (s *Situation) Peer(p *Peer, hours float64) Forecast {
	f := Forecast{Way: "a month of " + p.Name, Cost: s.quote()}
	paid := min(price.HoursPerMonth, max(0, hours+price.HoursPerMonth-p.Free))
	f.Cost.Add("replicated server", paid, "hours", p.Server)
	f.Cost.Add("replication servers, its share of a "+peerServer, float64(len(s.Disks))/peerDisks*price.HoursPerMonth, "hours", price.Instance(peerServer, false))
	changed := int64(0)
	for i := range s.Disks {
		d := &s.Disks[i]
		changed += d.ChangedBlocks
		v := Volume{GiB: (d.Size + 1<<30 - 1) >> 30, IOPS: MinIOPS, Throughput: MinThroughput}
		v.month(f.Cost, fmt.Sprintf("staging volume of disk %d", i), 1)
	}
	s.snapshots(f.Cost, "snapshots", 1)
	perDay := float64(changed) * 24 / cmpOr(s.Every, time.Hour).Hours()
	f.Cost.Add("points in time", perDay*float64(p.Kept)*ebsdirect.BlockSize/(1<<30), "GiB-months", price.SnapshotGiB)
	f.Notes = append([]string{
		fmt.Sprintf("assumed: gp3 staging volumes of the disks' size, one %s for %d disks, %.0f free hours for a server, %d days of points in time that share no block", peerServer, peerDisks, p.Free, p.Kept),
	}, p.Sources...)
	return f
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func cmpOr(d, def time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return def
}

// Smallest picks the smallest writer that reaches a rate in bytes a second, or the fastest there is.
func Smallest(all []types.InstanceTypeInfo, rate float64, o *Options) *types.InstanceTypeInfo {
	if o == nil {
		o = &Options{}
	}
	speed := func(t *types.InstanceTypeInfo) float64 {
		if t.EbsInfo == nil || t.EbsInfo.EbsOptimizedInfo == nil {
			return 0
		}
		return min(aws.ToFloat64(t.EbsInfo.EbsOptimizedInfo.BaselineThroughputInMBps)*1e6, baseline(t))
	}
	var best *types.InstanceTypeInfo
	for i := range all {
		t := &all[i]
		if aws.ToBool(t.BareMetal) || t.GpuInfo != nil || t.Hypervisor != types.InstanceTypeHypervisorNitro || !arch(t, providers.AMD64) || !aws.ToBool(t.CurrentGeneration) || speed(t) == 0 {
			continue
		}
		switch {
		case best == nil, speed(t) >= rate && speed(best) < rate, speed(best) < rate && speed(t) > speed(best),
			speed(t) >= rate && speed(best) >= rate && compare(t, best, o) < 0:
			best = t
		}
	}
	return best
}
