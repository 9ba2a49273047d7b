// Package sizing chooses EC2 instance types and gp3 settings for machines, with the reasons in words, and forecasts what replicating them, bringing them up
// and keeping copies of them ready takes in time and money, both ways onto EBS and beside AWS's own MGN and DRS.
//
// It works on data only: what DescribeInstanceTypes answered, what is known of the machine, and a price file. What is not known is not made up: without a
// history a machine gets what it has today, and without prices an estimate says what is missing.
//
// Everything here is a pure function.
package sizing

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/openmigrate/openmigrate/providers"
	"github.com/openmigrate/openmigrate/providers/aws/price"
)

// Machine is what is known of a machine: its inventory, and its history where there is one.
type Machine struct {
	CPUs         int   // logical
	Memory       int64 // bytes
	Architecture providers.Architecture
	Firmware     providers.Firmware
	NICs         int
	Disks        []Disk
	History      []Sample // in any order; what is older than a change of the machine should be left out
}

// Disk is one disk of a Machine.
type Disk struct {
	ID   string // what a Sample names it by
	Size int64  // bytes
}

// Sample is what a machine used at one moment, as a mean over the time since the last one.
type Sample struct {
	Seconds int64   // since any fixed moment
	CPU     float64 // 0 to 1, of all processors
	Memory  int64   // bytes in use, without what is only cached
	Network float64 // bytes a second, both ways
	Disks   map[string]Rate
}

// Rate is what one disk did.
type Rate struct {
	IOPS  float64 // reads and writes a second
	Bytes float64 // a second, both ways
}

// MaxSamples bounds a history: a year of minutes.
const MaxSamples = 366 * 24 * 60

// Options change a choice. nil is the zero value.
type Options struct {
	Prices    *price.File // picks the cheapest; nil: the smallest
	Burstable bool        // allow types with CPU credits also without a history that shows a low load
	Xen       bool        // allow types that are not built on Nitro, which have no NVMe
	Previous  bool        // allow types of earlier generations
	Families  []string    // only these ("m7i", "r7i"); empty: any
}

// Choice is an instance type for a machine.
type Choice struct {
	Type         string         `json:"type"`
	CPUs         int            `json:"cpus"`
	Memory       int64          `json:"memory"` // bytes
	Hour         *float64       `json:"hour,omitempty"`
	Currency     string         `json:"currency,omitempty"`
	Volumes      []Volume       `json:"volumes"` // one for each disk, in their order
	Reasons      []string       `json:"reasons"`
	Alternatives []string       `json:"alternatives,omitempty"` // the next ones
	Rejected     map[string]int `json:"rejected,omitempty"`     // how many types were not possible, by reason
}

// need is what is asked of a type.
type need struct {
	cpus    int
	memory  int64
	network float64 // bytes a second
	iops    float64
	bytes   float64 // of all disks, a second
	quiet   bool    // a type with CPU credits is enough
	reasons []string
}

// Choose picks the cheapest type that satisfies a machine, or without prices the smallest. providers.ErrInvalid if there is none, with the
// number of types that failed for each reason.
func Choose(m *Machine, all []types.InstanceTypeInfo, o *Options) (Choice, error) {
	if o == nil {
		o = &Options{}
	}
	if m.CPUs <= 0 || m.Memory <= 0 || len(m.Disks) == 0 {
		return Choice{}, fmt.Errorf("choose an instance type: %w: the inventory has %d processors, %d bytes of memory and %d disks; let the agent report it again",
			providers.ErrInvalid, m.CPUs, m.Memory, len(m.Disks))
	}
	if len(m.History) > MaxSamples {
		return Choice{}, fmt.Errorf("choose an instance type: %w: %d samples of history, at most %d", providers.ErrInvalid, len(m.History), MaxSamples)
	}
	c := Choice{Rejected: map[string]int{}}
	n := needs(m)
	for i := range m.Disks {
		v, err := volume(m, i)
		if err != nil {
			return c, err
		}
		c.Volumes = append(c.Volumes, v)
	}
	var fit []*types.InstanceTypeInfo
	for i := range all {
		if why := n.unfit(m, &all[i], o); why != "" {
			c.Rejected[why]++
			continue
		}
		fit = append(fit, &all[i])
	}
	if len(fit) == 0 {
		return c, fmt.Errorf("choose an instance type: %w: none of %d is possible for %s (%s); name a type in the launch template",
			providers.ErrInvalid, len(all), n.String(), rejected(c.Rejected))
	}
	slices.SortFunc(fit, func(a, b *types.InstanceTypeInfo) int { return compare(a, b, o) })
	best := fit[0]
	c.Type, c.CPUs, c.Memory = string(best.InstanceType), cpus(best), memory(best)
	c.Reasons = append(n.reasons, fmt.Sprintf("of %d types %d are possible (%s)", len(all), len(fit), rejected(c.Rejected)))
	if p, ok := o.Prices.Get(price.Instance(c.Type, false)); ok {
		c.Hour, c.Currency = &p.Price, o.Prices.Currency
		c.Reasons = append(c.Reasons, fmt.Sprintf("%s is the cheapest of them that has a price: %g %s an hour%s", c.Type, p.Price, c.Currency, example(o.Prices)))
	} else {
		why := "no price file is given"
		if o.Prices != nil {
			why = "the price file has none of them"
		}
		c.Reasons = append(c.Reasons, fmt.Sprintf("%s is the smallest of them: the least memory, then the fewest processors (%s)", c.Type, why))
	}
	for _, t := range fit[1:min(len(fit), 4)] {
		c.Alternatives = append(c.Alternatives, string(t.InstanceType))
	}
	return c, nil
}

func example(f *price.File) string {
	if f.Example {
		return " in the example price file, which is no price list"
	}
	return " as of " + f.Date
}

// compare orders by price, then by size; what has no price comes behind what has.
func compare(a, b *types.InstanceTypeInfo, o *Options) int {
	pa, oka := o.Prices.Get(price.Instance(string(a.InstanceType), false))
	pb, okb := o.Prices.Get(price.Instance(string(b.InstanceType), false))
	switch {
	case oka != okb && oka:
		return -1
	case oka != okb:
		return 1
	}
	return cmp.Or(cmp.Compare(pa.Price, pb.Price), cmp.Compare(memory(a), memory(b)), cmp.Compare(cpus(a), cpus(b)), cmp.Compare(a.InstanceType, b.InstanceType))
}

const (
	// A history counts when it shows a day and has enough of it.
	minHistory = 24 * 3600 // seconds
	minSamples = 24

	cpuTarget   = 0.7 // of the new processors at the 95th percentile of the load
	memoryRoom  = 1.2
	networkRoom = 1.2
	diskRoom    = 1.2
	quietCPU    = 0.2 // below this mean a type with CPU credits is enough: what t3 gives without spending any is 20 to 40 %
)

// needs is what a machine asks for.
func needs(m *Machine) need {
	n := need{cpus: m.CPUs, memory: m.Memory}
	span, ok := usable(m.History)
	if !ok {
		n.reasons = []string{fmt.Sprintf("%d processors and %s of memory, as the machine has: there is no history of a day of what it uses", m.CPUs, gib(m.Memory))}
		return n
	}
	cpu := series(m.History, func(s *Sample) float64 { return s.CPU })
	mem := series(m.History, func(s *Sample) float64 { return float64(s.Memory) })
	net := series(m.History, func(s *Sample) float64 { return s.Network })
	n.cpus = max(1, int(math.Ceil(percentile(cpu, 0.95)*float64(m.CPUs)/cpuTarget)))
	n.memory = min(int64(percentile(mem, 1)*memoryRoom), m.Memory)
	n.network = percentile(net, 0.99) * networkRoom
	n.quiet = mean(cpu) < quietCPU
	all := series(m.History, func(s *Sample) (b float64) {
		for _, d := range s.Disks {
			b += d.Bytes
		}
		return b
	})
	n.bytes = percentile(all, 0.99) * diskRoom
	n.iops = percentile(series(m.History, func(s *Sample) (b float64) {
		for _, d := range s.Disks {
			b += d.IOPS
		}
		return b
	}), 0.99) * diskRoom
	n.reasons = []string{
		fmt.Sprintf("%d of %d processors: in %.1f days it used %.0f %% of them at the 95th percentile, and the new ones are to be at %.0f %% then",
			n.cpus, m.CPUs, float64(span)/86400, percentile(cpu, 0.95)*100, cpuTarget*100),
		fmt.Sprintf("%s of %s of memory: the most that it used, and a fifth more", gib(n.memory), gib(m.Memory)),
	}
	if n.network > 0 || n.bytes > 0 {
		n.reasons = append(n.reasons, fmt.Sprintf("%s/s on the network and %s/s from and to disks at the 99th percentile, and a fifth more", mib(n.network), mib(n.bytes)))
	}
	if n.quiet {
		n.reasons = append(n.reasons, fmt.Sprintf("a mean of %.0f %% processor time lets a type with CPU credits do", mean(cpu)*100))
	}
	return n
}

func (n *need) String() string {
	return fmt.Sprintf("%d processors and %s of memory", n.cpus, gib(n.memory))
}

// unfit says why a type is not possible; empty: it is.
func (n *need) unfit(m *Machine, t *types.InstanceTypeInfo, o *Options) string {
	disks, nics := len(m.Disks), max(1, m.NICs)
	e := t.EbsInfo
	switch {
	case aws.ToBool(t.BareMetal):
		return "bare metal"
	case t.GpuInfo != nil || t.FpgaInfo != nil || t.InferenceAcceleratorInfo != nil || t.MediaAcceleratorInfo != nil || t.NeuronInfo != nil:
		return "has accelerators"
	case len(o.Families) > 0 && !slices.Contains(o.Families, family(t)):
		return "another family"
	case !aws.ToBool(t.CurrentGeneration) && !o.Previous:
		return "an earlier generation"
	case t.Hypervisor != types.InstanceTypeHypervisorNitro && !o.Xen:
		return "not Nitro"
	case !arch(t, m.Architecture):
		return "another architecture"
	case !boot(t, m.Firmware):
		return "does not start with " + string(m.Firmware)
	case aws.ToBool(t.BurstablePerformanceSupported) && !n.quiet && !o.Burstable:
		return "has CPU credits"
	case cpus(t) < n.cpus:
		return "too few processors"
	case memory(t) < n.memory:
		return "too little memory"
	case t.NetworkInfo != nil && t.NetworkInfo.MaximumNetworkInterfaces != nil && int(*t.NetworkInfo.MaximumNetworkInterfaces) < nics:
		return "too few network cards"
	case disks > attachments(t, nics):
		return "takes too few disks"
	case n.network > baseline(t):
		return "too slow a network"
	case e != nil && e.EbsOptimizedInfo != nil && e.EbsOptimizedInfo.BaselineThroughputInMBps != nil && n.bytes > *e.EbsOptimizedInfo.BaselineThroughputInMBps*1e6,
		e != nil && e.EbsOptimizedInfo != nil && e.EbsOptimizedInfo.BaselineIops != nil && n.iops > float64(*e.EbsOptimizedInfo.BaselineIops):
		return "too slow a line to EBS"
	}
	return ""
}

func family(t *types.InstanceTypeInfo) string {
	f, _, _ := strings.Cut(string(t.InstanceType), ".")
	return f
}

func cpus(t *types.InstanceTypeInfo) int {
	if t.VCpuInfo == nil {
		return 0
	}
	return int(aws.ToInt32(t.VCpuInfo.DefaultVCpus))
}

func memory(t *types.InstanceTypeInfo) int64 {
	if t.MemoryInfo == nil {
		return 0
	}
	return aws.ToInt64(t.MemoryInfo.SizeInMiB) << 20
}

// attachments is how many volumes fit beside the cards: of types whose limit is shared each card and each NVMe instance store takes a place.
func attachments(t *types.InstanceTypeInfo, nics int) int {
	if t.EbsInfo == nil || t.EbsInfo.MaximumEbsAttachments == nil {
		return 27 // the least that Nitro types have: 28 with one card
	}
	n := int(*t.EbsInfo.MaximumEbsAttachments)
	if t.EbsInfo.AttachmentLimitType == types.AttachmentLimitTypeShared {
		n -= nics - 1 // the number counts the first card already
		if s := t.InstanceStorageInfo; s != nil {
			for _, d := range s.Disks {
				n -= int(aws.ToInt32(d.Count))
			}
		}
	}
	return n
}

// baseline is a type's network in bytes a second; very much when it is not known.
func baseline(t *types.InstanceTypeInfo) float64 {
	if t.NetworkInfo == nil {
		return math.Inf(1)
	}
	sum := 0.0
	for _, c := range t.NetworkInfo.NetworkCards {
		sum += aws.ToFloat64(c.BaselineBandwidthInGbps) * 1e9 / 8
	}
	if sum == 0 {
		return math.Inf(1)
	}
	return sum
}

func arch(t *types.InstanceTypeInfo, want providers.Architecture) bool {
	if want == "" {
		return true
	}
	name := map[providers.Architecture]types.ArchitectureType{providers.AMD64: types.ArchitectureTypeX8664, providers.ARM64: types.ArchitectureTypeArm64}[want]
	return t.ProcessorInfo != nil && slices.Contains(t.ProcessorInfo.SupportedArchitectures, name)
}

func boot(t *types.InstanceTypeInfo, want providers.Firmware) bool {
	switch want {
	case providers.UEFI:
		return slices.Contains(t.SupportedBootModes, types.BootModeTypeUefi)
	case providers.BIOS:
		return slices.Contains(t.SupportedBootModes, types.BootModeTypeLegacyBios)
	}
	return true
}

func rejected(m map[string]int) string {
	var s []string
	for why, n := range m {
		s = append(s, fmt.Sprintf("%d: %s", n, why))
	}
	slices.Sort(s)
	if len(s) == 0 {
		return "none was left out"
	}
	return strings.Join(s, "; ")
}

func gib(n int64) string   { return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30)) }
func mib(n float64) string { return fmt.Sprintf("%.1f MiB", n/(1<<20)) }
