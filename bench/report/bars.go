package report

// Bars of a replication benchmark, each a ratio within one run unless it has a unit.
var (
	FirstWall = Bar{What: "first replication, wall time against the limit", Limit: 0.70}
	FirstCPU  = Bar{What: "agent's CPU seconds of it against the limit's", Limit: 0.85}
	PeerWall  = Bar{What: "first replication against the faster of restic and borg", Limit: 1.3, Unit: " × faster"}
	PeerCPU   = Bar{What: "agent's CPU seconds of it against restic's", Limit: 0.5, Most: true}
	Second    = Bar{What: "second restpoint, 1 % changed, full scan, against cat", Limit: 0.5}
	Restore   = Bar{What: "restore to a file against the limit", Limit: 0.75}
	Peak      = Bar{What: "agent's peak memory, disk", Limit: 200, Most: true, Unit: " MiB", Value: "%.0f"}
	PeakHuge  = Bar{What: "agent's peak memory, huge sparse disk", Limit: 256, Most: true, Unit: " MiB", Value: "%.0f"}
	Puts      = Bar{What: "PUT requests per TiB of unique compressed data", Limit: 40000, Most: true, Value: "%.0f"}
	Unchanged = Bar{What: "requests to staging of an unchanged huge sparse disk", Limit: 10, Most: true, Value: "%.0f"}
)

// Bars of a benchmark of conversion.
var (
	ConvertWall = Bar{What: "conversion against virt-v2v-in-place, wall time", Limit: 1, Unit: " × faster"}
	ConvertBoot = Bar{What: "converted machines that boot on virtio-blk with an address", Limit: 1}
)

// Bars of a benchmark of a fleet.
var (
	FleetReads   = Bar{What: "API reads under load, 99th percentile", Limit: 250, Most: true, Unit: " ms", Value: "%.0f"}
	FleetLost    = Bar{What: "agents marked disconnected", Limit: 0, Most: true, Value: "%.0f"}
	FleetMemory  = Bar{What: "master's peak resident memory", Limit: 1536, Most: true, Unit: " MiB", Value: "%.0f"}
	FleetCommits = Bar{What: "restpoints committed per second", Limit: 100, Value: "%.1f"}
	FleetOffer   = Bar{What: "ids offered per second", Limit: 300_000, Value: "%.0f"}
)

// Bars of a live benchmark.
var (
	Freeze   = Bar{What: "writers frozen for a restpoint", Limit: 100, Most: true, Unit: " ms", Value: "%.1f"}
	Instant  = Bar{What: "restpoints under load that are of one instant", Limit: 1}
	Overhead = Bar{What: "4 KiB random writes with tracking against without", Limit: 0.97, Value: "%.3f"}
	Sparse   = Bar{What: "incremental on a huge sparse disk against a small one", Limit: 1.15, Most: true, Unit: " ×", Value: "%.3f"}
	RPO      = Bar{What: "RPO under random 4 KiB writes, 99th percentile", Limit: 5, Most: true, Unit: " s"}
)
