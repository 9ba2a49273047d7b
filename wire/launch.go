package wire

import (
	"encoding/json"
	"net/netip"
	"time"
)

// Paths of launches and providers, beside those of operator.go.
const (
	PathLaunches         = PathAPI + "/launches"
	PathLaunch           = PathLaunches + "/{launch}"
	PathLaunchRevert     = PathLaunch + "/revert"
	PathLaunchFinalize   = PathLaunch + "/finalize"
	PathLaunchConsole    = PathLaunch + "/console"    // the last 64 KiB, live while the machine runs
	PathLaunchScreenshot = PathLaunch + "/screenshot" // the last that was taken
	PathMachineTemplate  = PathMachine + "/launch-template"
	PathProviders        = PathAPI + "/providers"
	PathProvider         = PathProviders + "/{provider}"
	PathProviderCheck    = PathProvider + "/check"
	PathProviderOrphans  = PathProvider + "/orphans"

	PathCallHome = "/copy/v1/call-home" // POST CallHome → 204; from a launched copy: the secret in the body, no client certificate
)

// Limits of launches.
const (
	MaxLaunchLog     = 200              // entries of a launch's log
	MaxChecks        = 16               // checks of one template
	MaxLaunchDisks   = 32               // disks of one launch
	MaxConvertReport = 256 << 10        // bytes of a conversion's report
	MaxHold          = 24 * time.Hour   // of Hold.Timeout
	DefaultHold      = 30 * time.Minute //
)

// Kinds of launches.
const (
	LaunchTest    = "test"
	LaunchCutover = "cutover"
)

// States of a launch:
//
//	pending → syncing (cutover) → hydrating → converting → starting → checking → running → finalized
//	any of these → reverting → reverted        any before running, and an instant test whose data is not all there → cleaning → failed
const (
	LaunchPending    = "pending"
	LaunchSyncing    = "syncing"
	LaunchHydrating  = "hydrating"
	LaunchConverting = "converting"
	LaunchStarting   = "starting"
	LaunchChecking   = "checking"
	LaunchRunning    = "running"
	LaunchReverting  = "reverting"
	LaunchReverted   = "reverted"
	LaunchCleaning   = "cleaning" // failed, and what was made for it is being removed
	LaunchFailed     = "failed"
	LaunchFinalized  = "finalized"
)

// Machine life, the second axis beside MachineInfo.Replication.
const (
	LifeNotReady        = "not-ready" // no restpoint yet
	LifeReadyToTest     = "ready-to-test"
	LifeTesting         = "testing"
	LifeReadyForCutover = "ready-for-cutover" // a test of it came up
	LifeCuttingOver     = "cutting-over"
	LifeLive            = "live" // at the target; the source is kept
	LifeFinalized       = "finalized"
	LifeRolledBack      = "rolled-back" // was live; the source serves again
)

// LaunchTemplate says what a launched machine is like. Zero values leave it to the provider and to what the source is.
type LaunchTemplate struct {
	Provider string            `json:"provider,omitempty"` // name in PathProviders; empty: the only one
	Type     string            `json:"type,omitempty"`     // instance type; empty: the smallest that has the source's processors and memory
	CPUs     int               `json:"cpus,omitempty"`     // in place of the source's, when Type is empty
	Memory   int64             `json:"memory,omitempty"`   // bytes; likewise
	Firmware string            `json:"firmware,omitempty"` // bios, uefi; empty: the source's
	Bus      string            `json:"bus,omitempty"`      // providers.Bus; empty: the type's first
	Zone     string            `json:"zone,omitempty"`
	Network  string            `json:"network,omitempty"` // empty: a test gets an isolated one, a cutover the first that is not
	Groups   []string          `json:"groups,omitempty"`
	Address  *LaunchAddress    `json:"address,omitempty"` // nil: DHCP
	Forward  []uint16          `json:"forward,omitempty"` // TCP ports reached from the provider's host, where it can
	Settings map[string]string `json:"settings,omitempty"`
	Checks   []LaunchCheck     `json:"checks,omitempty"`   // none: the machine's own ready line on its console (see CheckBoot)
	Deadline Duration          `json:"deadline,omitempty"` // of a test: reverted so long after it runs; 0: 24 h; negative: kept until somebody reverts it
	Warm     bool              `json:"warm,omitempty"`     // keep volumes at the provider that follow each restpoint
	Instant  bool              `json:"instant,omitempty"`  // test only: start from staging, and copy behind the running machine
	AsIs     bool              `json:"as_is,omitempty"`    // change nothing in the copy: the system can start at the target already
}

// LaunchAddress is a fixed address of the first network card, set up in the system by the conversion.
type LaunchAddress struct {
	Prefixes []netip.Prefix `json:"prefixes"`
	Gateway  netip.Addr     `json:"gateway,omitzero"`
	DNS      []netip.Addr   `json:"dns,omitempty"`
}

// Kinds of checks.
const (
	CheckBoot       = "boot"       // the system says on its console that it is up: a login prompt, or systemd's multi-user target
	CheckConsole    = "console"    // Text appears on the console
	CheckTCP        = "tcp"        // a TCP connection to Port is accepted
	CheckHTTP       = "http"       // GET http://…:Port/Path answers Status (200 when 0), and its first 64 KiB hold Text if that is set
	CheckCallHome   = "call-home"  // the agent on the copy reaches this master
	CheckScreenshot = "screenshot" // a screenshot can be taken
)

// LaunchCheck is one thing that must be so before a launch counts as running.
type LaunchCheck struct {
	Kind    string   `json:"kind"`
	Text    string   `json:"text,omitempty"`
	Port    uint16   `json:"port,omitempty"`
	Path    string   `json:"path,omitempty"`
	Status  int      `json:"status,omitempty"`
	Timeout Duration `json:"timeout,omitempty"` // from the start of the machine; 0: 10 min
}

// LaunchRequest asks for a launch.
type LaunchRequest struct {
	Kind       string          `json:"kind"`                // test, cutover
	Machine    string          `json:"machine"`             // id or name
	Restpoint  string          `json:"restpoint,omitempty"` // id; empty: the newest, and for a cutover one that is made for it. A cutover with a restpoint is a rollback: nothing is synced
	Template   *LaunchTemplate `json:"template,omitempty"`  // in place of the machine's
	StopSource bool            `json:"stop_source,omitempty"`
	Keep       bool            `json:"keep,omitempty"` // what was made stays when it fails, for somebody to look at, until it is reverted
	// HoldTimeout is how long the source is kept frozen for a cutover that does not get on; 0: DefaultHold.
	HoldTimeout Duration `json:"hold_timeout,omitempty"`
}

// LaunchInfo is a launch as people see it.
type LaunchInfo struct {
	ID          string           `json:"id"`
	Kind        string           `json:"kind"`
	Machine     string           `json:"machine"`      // id
	MachineName string           `json:"machine_name"` //
	Restpoint   string           `json:"restpoint,omitempty"`
	Provider    string           `json:"provider"`
	Template    LaunchTemplate   `json:"template"`
	State       string           `json:"state"`
	NextStep    string           `json:"next_step"` // with the command to call, or "none"
	Created     time.Time        `json:"created"`
	Ended       time.Time        `json:"ended,omitzero"`
	Deadline    time.Time        `json:"deadline,omitzero"` // when a test is reverted
	Steps       []LaunchStep     `json:"steps"`
	Log         []LaunchLine     `json:"log"`
	Checks      []LaunchOutcome  `json:"checks,omitempty"`
	Volumes     []string         `json:"volumes,omitempty"`  // ids at the provider, in the order of the machine's disks
	Size        int64            `json:"size"`               // bytes of these volumes, as they were asked for
	Instance    string           `json:"instance,omitempty"` // id at the provider
	Endpoints   []LaunchEndpoint `json:"endpoints,omitempty"`
	Conversion  json.RawMessage  `json:"conversion,omitempty"` // the report of hydrator/convert
	Failure     *LaunchFailure   `json:"failure,omitempty"`
	Source      string           `json:"source,omitempty"` // cutover: what the agent says of the source: see HoldReport.State
	Forecast    Duration         `json:"forecast"`         // how long it will take from its start, by the last launch of this machine; 0: there was none
	Took        Duration         `json:"took"`             // from its start until it ran; 0: not yet
	Screenshot  bool             `json:"screenshot"`       // there is one
	Project     string           `json:"project"`
}

// LaunchStep is a state that a launch was in.
type LaunchStep struct {
	Name     string    `json:"name"` // a state
	Started  time.Time `json:"started"`
	Ended    time.Time `json:"ended,omitzero"`
	Progress *Progress `json:"progress,omitempty"`
	Message  string    `json:"message,omitempty"`
}

// LaunchLine is one line of a launch's log.
type LaunchLine struct {
	Time    time.Time `json:"time"`
	Message string    `json:"message"`
}

// LaunchOutcome is what became of a check.
type LaunchOutcome struct {
	LaunchCheck
	Passed  bool     `json:"passed"`
	After   Duration `json:"after,omitempty"` // since the start of the machine
	Message string   `json:"message,omitempty"`
}

// LaunchEndpoint is where a port of the machine is reached from the provider's host.
type LaunchEndpoint struct {
	Port    uint16 `json:"port"`
	Address string `json:"address"` // host:port
}

// LaunchFailure says why a launch did not come about.
type LaunchFailure struct {
	Step    string `json:"step"`
	Reason  string `json:"reason"`            // in words, with what to do
	Cause   string `json:"cause,omitempty"`   // likely cause, as the console tells it: "root device not found: …"
	Console string `json:"console,omitempty"` // its last lines
}

// ProviderInfo is a provider as people see it.
type ProviderInfo struct {
	Name         string          `json:"name"`
	Kind         string          `json:"kind"`
	Error        string          `json:"error,omitempty"` // why it cannot be used now
	Notes        []string        `json:"notes,omitempty"`
	Capabilities json.RawMessage `json:"capabilities,omitempty"` // providers.Capabilities
	Types        json.RawMessage `json:"types,omitempty"`        // []providers.InstanceType
	Networks     json.RawMessage `json:"networks,omitempty"`     // []providers.Network
}

// ProviderCheck is what the conformance suite found at a provider.
type ProviderCheck struct {
	Passed int      `json:"passed"`
	Failed int      `json:"failed"`
	Lines  []string `json:"lines"`
}

// Orphan is something at a provider that belongs to no launch that lives.
type Orphan struct {
	Kind    string    `json:"kind"`
	ID      string    `json:"id"`
	Name    string    `json:"name,omitempty"`
	Launch  string    `json:"launch"`
	Created time.Time `json:"created"`
}

// Hold asks an agent for the last restpoint of a cutover: services are stopped by hooks, all file systems are frozen, a restpoint is made of that, and nothing is thawed
// until the assignment has no Hold any more, or Timeout has passed since the freeze.
type Hold struct {
	ID         string   `json:"id"`                    // the launch's; SessionRequest.Sync of its restpoint is the same
	StopSource bool     `json:"stop_source,omitempty"` // power off instead of thawing, once Live
	Timeout    Duration `json:"timeout"`
	Live       bool     `json:"live,omitempty"` // the copy serves: with StopSource the source goes off, without it stays frozen
}

// States of a hold, as the agent says.
const (
	HoldStopping = "stopping" // hooks stop services
	HoldSyncing  = "syncing"  // passes, freeze and the last of the data
	HoldFrozen   = "frozen"   // Restpoint is listed, and nothing was thawed
	HoldReleased = "released" // thawed and services started, as the assignment asked
	HoldLost     = "lost"     // thawed for another reason: Message says why. What was written since is in no restpoint of the cutover
	HoldOff      = "off"      // the source is about to power off, still frozen
	HoldFailed   = "failed"   // the restpoint was not made as asked; thawed and services started again
)

// HoldReport is what an agent says of a hold, in Report.Hold.
type HoldReport struct {
	ID        string `json:"id"`
	State     string `json:"state"`
	Restpoint string `json:"restpoint,omitempty"`
	Message   string `json:"message,omitempty"`
}

// CopyMark is the file that a conversion leaves in a copy (CopyMarkPath), so that an agent in it knows that it is no original: it never
// uses the identity that was copied with it.
type CopyMark struct {
	Machine   string `json:"machine"`
	Launch    string `json:"launch"`
	Restpoint string `json:"restpoint"`
	Kind      string `json:"kind"`
	URL       string `json:"url,omitempty"`    // the master's, for the call home
	CA        []byte `json:"ca,omitempty"`     // DER of its CA
	Secret    string `json:"secret,omitempty"` // good for one launch's call home, and for nothing else
}

// CopyMarkPath is where it is.
const CopyMarkPath = "/var/lib/openmigrate/copy.json"

// CallHome is what an agent in a copy says.
type CallHome struct {
	Launch   string `json:"launch"`
	Secret   string `json:"secret"`
	Hostname string `json:"hostname"`
	BootID   string `json:"boot_id"`
}
