package sizing

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/openmigrate/openmigrate/providers"
	"github.com/openmigrate/openmigrate/providers/aws/ebsdirect"
	"github.com/openmigrate/openmigrate/providers/aws/price"
)

// instance is an entry of DescribeInstanceTypes: Nitro, of this generation, amd64, both firmwares.
func instance(name string, cpus, gib int32, change ...func(*types.InstanceTypeInfo)) types.InstanceTypeInfo {
	t := types.InstanceTypeInfo{InstanceType: types.InstanceType(name), CurrentGeneration: aws.Bool(true), Hypervisor: types.InstanceTypeHypervisorNitro,
		VCpuInfo: &types.VCpuInfo{DefaultVCpus: &cpus}, MemoryInfo: &types.MemoryInfo{SizeInMiB: aws.Int64(int64(gib) << 10)},
		ProcessorInfo:      &types.ProcessorInfo{SupportedArchitectures: []types.ArchitectureType{types.ArchitectureTypeX8664}},
		SupportedBootModes: []types.BootModeType{types.BootModeTypeLegacyBios, types.BootModeTypeUefi},
		NetworkInfo: &types.NetworkInfo{MaximumNetworkInterfaces: aws.Int32(3),
			NetworkCards: []types.NetworkCardInfo{{BaselineBandwidthInGbps: aws.Float64(float64(cpus) * 0.4)}}},
		EbsInfo: &types.EbsInfo{MaximumEbsAttachments: aws.Int32(28), AttachmentLimitType: types.AttachmentLimitTypeShared,
			EbsOptimizedInfo: &types.EbsOptimizedInfo{BaselineThroughputInMBps: aws.Float64(float64(cpus) * 40), BaselineIops: aws.Int32(cpus * 1800)}}}
	for _, c := range change {
		c(&t)
	}
	return t
}

func credits(t *types.InstanceTypeInfo) { t.BurstablePerformanceSupported = aws.Bool(true) }

func wide(t *types.InstanceTypeInfo) {
	t.EbsInfo.MaximumEbsAttachments, t.EbsInfo.AttachmentLimitType = aws.Int32(128), types.AttachmentLimitTypeDedicated
}

var catalogue = []types.InstanceTypeInfo{
	instance("t3.small", 2, 2, credits), instance("t3.xlarge", 4, 16, credits),
	instance("c7i.large", 2, 4), instance("m7i.large", 2, 8), instance("m7i.xlarge", 4, 16), instance("m7i.4xlarge", 16, 64), instance("r7i.2xlarge", 8, 64),
	instance("m7i.48xlarge", 192, 768, wide),
	instance("m7g.large", 2, 8, func(t *types.InstanceTypeInfo) {
		t.ProcessorInfo.SupportedArchitectures = []types.ArchitectureType{types.ArchitectureTypeArm64}
		t.SupportedBootModes = []types.BootModeType{types.BootModeTypeUefi}
	}),
	instance("m4.large", 2, 8, func(t *types.InstanceTypeInfo) {
		t.Hypervisor = types.InstanceTypeHypervisorXen
		t.CurrentGeneration = aws.Bool(false)
	}),
	instance("g5.xlarge", 4, 16, func(t *types.InstanceTypeInfo) { t.GpuInfo = &types.GpuInfo{} }),
	instance("m7i.metal", 96, 384, func(t *types.InstanceTypeInfo) { t.BareMetal = aws.Bool(true) }),
	{InstanceType: "x0.unknown"}, // whatever the service leaves out
}

func machine(change ...func(*Machine)) *Machine {
	m := &Machine{CPUs: 4, Memory: 15 << 30, Architecture: providers.AMD64, Firmware: providers.BIOS, NICs: 1, Disks: []Disk{{"a", 40 << 30}}}
	for _, c := range change {
		c(m)
	}
	return m
}

// history is two days of a machine, the busy hours of which are as given.
func history(cpu float64, mem int64, busy func(*Sample)) func(*Machine) {
	return func(m *Machine) {
		for i := range int64(48 * 12) {
			s := Sample{Seconds: i * 300, CPU: cpu, Memory: mem, Disks: map[string]Rate{"a": {IOPS: 10, Bytes: 1e6}}}
			if i%10 == 0 && busy != nil {
				busy(&s)
			}
			m.History = append(m.History, s)
		}
	}
}

func prices(p map[string]float64) *price.File {
	f := &price.File{Date: "2026-11-30", Currency: "USD", Prices: map[string]price.Price{}}
	for k, v := range p {
		f.Prices[k] = price.Price{Price: v, Source: "test"}
	}
	return f
}

func TestChoose(t *testing.T) {
	for _, c := range []struct {
		name string
		m    *Machine
		o    *Options
		want string
		says string
	}{
		{"as it is", machine(), nil, "m7i.xlarge", "there is no history"},
		{"credits allowed", machine(), &Options{Burstable: true}, "m7i.xlarge", "smallest"},
		{"idle", machine(history(0.05, 3<<30, nil)), &Options{Prices: prices(map[string]float64{"ec2.t3.xlarge.hour": 0.1, "ec2.c7i.large.hour": 0.2})}, "t3.xlarge", "cheapest"},
		{"half used", machine(history(0.3, 3<<30, nil)), nil, "c7i.large", "a fifth more"},
		{"busy hours count", machine(history(0.3, 3<<30, func(s *Sample) { s.CPU = 1 })), nil, "r7i.2xlarge", "95th percentile"},
		{"memory", machine(history(0.3, 14<<30, nil)), nil, "m7i.xlarge", "15.0 GiB of 15.0 GiB"},
		{"short history", machine(func(m *Machine) { history(0.01, 1<<20, nil)(m); m.History = m.History[:40] }), nil, "m7i.xlarge", "no history"},
		{"network", machine(history(0.3, 3<<30, func(s *Sample) { s.Network = 300e6 })), nil, "r7i.2xlarge", "on the network"},
		{"disks", machine(history(0.3, 3<<30, func(s *Sample) { s.Disks["a"] = Rate{Bytes: 400e6} })), nil, "m7i.4xlarge", "from and to disks"},
		{"arm", machine(func(m *Machine) {
			m.Architecture, m.Firmware, m.CPUs, m.Memory = providers.ARM64, providers.UEFI, 2, 4<<30
		}), nil, "m7g.large", ""},
		{"60 disks", machine(func(m *Machine) {
			m.Disks = nil
			for i := range 60 {
				m.Disks = append(m.Disks, Disk{fmt.Sprint(i), 1 << 40})
			}
		}), nil, "m7i.48xlarge", "takes too few disks"},
		{"28 disks and two cards", machine(func(m *Machine) { m.Disks, m.NICs = make([]Disk, 28), 2; sizes(m) }), nil, "m7i.48xlarge", "takes too few disks"},
		{"27 disks and two cards", machine(func(m *Machine) { m.Disks, m.NICs = make([]Disk, 27), 2; sizes(m) }), nil, "m7i.xlarge", ""},
		{"family", machine(), &Options{Families: []string{"r7i"}}, "r7i.2xlarge", "another family"},
		{"cheapest, not smallest", machine(), &Options{Prices: prices(map[string]float64{"ec2.m7i.4xlarge.hour": 0.3, "ec2.r7i.2xlarge.hour": 0.2})}, "r7i.2xlarge", "0.2 USD an hour as of 2026-11-30"},
		{"earlier generation", machine(func(m *Machine) { m.CPUs, m.Memory = 2, 8<<30 }), &Options{Xen: true, Previous: true, Families: []string{"m4"}}, "m4.large", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Choose(c.m, catalogue, c.o)
			if err != nil {
				t.Fatal(err)
			}
			if got.Type != c.want || !strings.Contains(strings.Join(got.Reasons, "\n"), c.says) {
				t.Errorf("%s, want %s because of %q:\n%s", got.Type, c.want, c.says, strings.Join(got.Reasons, "\n"))
			}
			sum := 1 + len(got.Alternatives)
			for _, n := range got.Rejected {
				sum += n
			}
			if sum > len(catalogue) || len(got.Volumes) != len(c.m.Disks) {
				t.Errorf("%+v", got)
			}
		})
	}
}

func sizes(m *Machine) {
	for i := range m.Disks {
		m.Disks[i] = Disk{fmt.Sprint(i), 8 << 30}
	}
}

func TestNoneFits(t *testing.T) {
	_, err := Choose(machine(func(m *Machine) { m.CPUs = 400 }), catalogue, nil)
	if !errors.Is(err, providers.ErrInvalid) || !strings.Contains(err.Error(), "too few processors") {
		t.Errorf("error %v", err)
	}
	for _, m := range []*Machine{{}, machine(func(m *Machine) { m.Disks[0].Size = 65 << 40 }), machine(func(m *Machine) { m.Disks[0].Size = 0 }),
		machine(func(m *Machine) { m.History = make([]Sample, MaxSamples+1) })} {
		if _, err := Choose(m, catalogue, nil); !errors.Is(err, providers.ErrInvalid) {
			t.Errorf("error %v", err)
		}
	}
}

func TestVolumes(t *testing.T) {
	at := func(size int64, r Rate) Volume {
		m := machine(history(0.3, 3<<30, func(s *Sample) { s.Disks["a"] = r }))
		m.Disks[0].Size = size
		v, err := volume(m, 0)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, c := range []struct {
		name string
		got  Volume
		want Volume
	}{
		{"quiet", at(40<<30, Rate{IOPS: 100, Bytes: 1e6}), Volume{GiB: 40, IOPS: 3000, Throughput: 125}},
		{"busy", at(100<<30, Rate{IOPS: 10_000, Bytes: 250 << 20}), Volume{GiB: 100, IOPS: 12_000, Throughput: 300}},
		{"throughput needs IOPS", at(100<<30, Rate{IOPS: 100, Bytes: 1000 << 20}), Volume{GiB: 100, IOPS: 4800, Throughput: 1200}},
		{"small", at(10<<30, Rate{IOPS: 40_000, Bytes: 2000 << 20}), Volume{GiB: 10, IOPS: 5000, Throughput: 1250}},
		{"the most", at(64<<40, Rate{IOPS: 1e6, Bytes: 1e12}), Volume{GiB: 65536, IOPS: 80_000, Throughput: 2000}},
		{"not whole", at(40<<30+512, Rate{}), Volume{GiB: 41, IOPS: 3000, Throughput: 125}},
		{"nonsense", at(40<<30, Rate{IOPS: math.NaN(), Bytes: math.Inf(1)}), Volume{GiB: 40, IOPS: 3000, Throughput: 125}},
	} {
		if c.got.GiB != c.want.GiB || c.got.IOPS != c.want.IOPS || c.got.Throughput != c.want.Throughput || len(c.got.Reasons) == 0 {
			t.Errorf("%s: %+v, want %+v", c.name, c.got, c.want)
		}
	}
}

func near(t *testing.T, what string, got, want float64) {
	t.Helper()
	if math.Abs(got-want) > 0.005*math.Abs(want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func TestForecastDirect(t *testing.T) {
	p := prices(map[string]float64{price.SnapshotPuts: 0.006, price.SnapshotGiB: 0.05})
	s := &Situation{Disks: []DiskLoad{{Size: 1 << 40, ChangedBlocks: 500}}, Prices: p, Now: time.Now()}
	f := s.Direct(false)
	near(t, "puts", float64(f.Puts), 2_097_152)
	near(t, "cost of a TiB", f.Cost.Total, 12.582912)
	near(t, "minutes of a TiB", f.Time.Minutes(), 2_097_152/980.0/60)

	// 64 TiB is more blocks than anything else holds.
	s.Disks = []DiskLoad{{Size: 64 << 40}}
	f = s.Direct(false)
	if f.Puts != ebsdirect.MaxBlocks {
		t.Errorf("%d puts", f.Puts)
	}
	near(t, "days of 64 TiB", f.Time.Hours()/24, ebsdirect.MaxBlocks/980.0/86400)

	// 60 disks share the account's quota; with a larger one each keeps its own.
	s.Disks = make([]DiskLoad, 60)
	for i := range s.Disks {
		s.Disks[i] = DiskLoad{Size: 100 << 30, Blocks: 98_000, ChangedBlocks: 98}
	}
	near(t, "60 disks", s.Direct(false).Time.Seconds(), 60*100+60/9.8)
	s.Limits.AccountPuts = 60_000
	near(t, "60 disks with a larger quota", s.Direct(false).Time.Seconds(), 100+60/9.8)
	s.Limits.AccountPuts = 0
	near(t, "a difference of 60 disks", s.Direct(true).Time.Seconds(), 6+60/9.8)
	s.Reads = 98 * ebsdirect.BlockSize
	near(t, "60 disks over a slow line", s.Direct(false).Time.Seconds(), 60*1000+60/9.8)
	month, err := s.StandBy(nil)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "puts of a month", float64(month.Puts), 730*60*98)
	near(t, "cost of a month", month.Cost.Total, 730*60*98*0.006/1000+60*98_000.0/2048*0.05)
}

func TestForecastHydrate(t *testing.T) {
	p := prices(map[string]float64{"ec2.m7i.xlarge.hour": 0.2, price.VolumeGiB: 0.08})
	v := Volume{Disk: "a", GiB: 1024, IOPS: MinIOPS, Throughput: MinThroughput}
	s := &Situation{Disks: []DiskLoad{{Size: 1 << 40}}, Prices: p, Now: time.Now()}
	w := &Writer{Type: &catalogue[4], Volumes: []Volume{v}, Setup: time.Minute, Idle: time.Minute}
	f, err := s.Hydrate(w, false)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "one disk at its volume's pace", f.Time.Hours(), 1024*1024/125.0/3600+1/60.0)
	near(t, "its cost", f.Cost.Total, 0.2*(f.Time.Hours()+1/60.0)+0.08*1024*f.Time.Hours()/730)
	if !f.Cost.Known() {
		t.Errorf("missing %v", f.Cost.Missing)
	}
	// Three of them are held up by the instance: 160 MB/s.
	s.Disks = []DiskLoad{{Size: 1 << 40}, {Size: 1 << 40}, {Size: 1 << 40}}
	w.Volumes = []Volume{v, v, v}
	if f, err = s.Hydrate(w, false); err != nil {
		t.Fatal(err)
	}
	near(t, "three disks at the instance's pace", f.Time.Seconds(), 3*float64(1<<40)/160e6+60)
	// 60 disks at a type that takes 27 beside its own.
	s.Disks, w.Volumes = make([]DiskLoad, 60), make([]Volume, 60)
	for i := range s.Disks {
		s.Disks[i], w.Volumes[i] = DiskLoad{Size: 1 << 30}, Volume{GiB: 1, IOPS: MinIOPS, Throughput: MinThroughput}
	}
	if f, err = s.Hydrate(w, false); err != nil || !strings.Contains(strings.Join(f.Notes, "\n"), "in 3 rounds") {
		t.Errorf("%v, %v", f.Notes, err)
	}
	w.Volumes = w.Volumes[1:]
	if _, err := s.Hydrate(w, false); !errors.Is(err, providers.ErrInvalid) {
		t.Errorf("error %v", err)
	}
	if best := Smallest(catalogue, 150e6, nil); best.InstanceType != "m7i.xlarge" && best.InstanceType != "t3.xlarge" {
		t.Errorf("smallest for 150 MB/s: %s", best.InstanceType)
	}
	if best := Smallest(catalogue, 1e12, nil); best.InstanceType != "m7i.48xlarge" {
		t.Errorf("fastest: %s", best.InstanceType)
	}
	if Smallest(nil, 1, nil) != nil {
		t.Error("something out of nothing")
	}
}

func TestForecastMonths(t *testing.T) {
	p := prices(map[string]float64{"ec2.m7i.xlarge.hour": 0.2, "ec2.t3.small.hour": 0.02, price.VolumeGiB: 0.08, price.SnapshotGiB: 0.05, price.MGNServer: 0.042,
		price.DRSServer: 0.028, price.BucketGiB: 0.02, price.BucketPuts: 0.005})
	s := &Situation{Disks: []DiskLoad{{Size: 100 << 30, Blocks: 102_400, ChangedBlocks: 200}}, Prices: p, Now: time.Now(), Stored: 32 << 30, Uplink: 10 << 20}
	r := s.Replicate()
	near(t, "replication", r.Time.Minutes(), 32*1024/10.0/60)
	near(t, "its cost", r.Cost.Total, 32*0.02+1.024*0.005)
	w := &Writer{Type: &catalogue[4], Volumes: []Volume{{Disk: "a", GiB: 100, IOPS: MinIOPS, Throughput: MinThroughput}}}
	v, err := s.StandBy(w)
	if err != nil {
		t.Fatal(err)
	}
	cycle := 200.0/2/125/3600 + 8/60.0 // hours, with the assumed setup and idle time
	near(t, "volumes that stand by", v.Cost.Total, 8+730*cycle*0.2)
	mgn := s.Peer(&MGN, 0)
	near(t, "MGN in its free time", mgn.Cost.Total, 730/15.0*0.02+8+50*0.05)
	near(t, "MGN afterwards", s.Peer(&MGN, 3000).Cost.Total, 730*0.042+730/15.0*0.02+8+50*0.05)
	near(t, "DRS", s.Peer(&DRS, 0).Cost.Total, 730*0.028+730/15.0*0.02+8+50*0.05+200*24*7/2048.0*0.05)
	if !strings.Contains(strings.Join(mgn.Notes, "\n"), "https://aws.amazon.com/application-migration-service/pricing/") {
		t.Errorf("no source: %v", mgn.Notes)
	}
	s.Prices = nil
	if c := s.Peer(&DRS, 0).Cost; c.Known() || c.Total != 0 || !strings.Contains(c.String(), price.DRSServer) {
		t.Errorf("%s", c)
	}
}
