// Package wire is what agents, nodes (hydrators) and people's tools say to the master: paths, message types, limits and
// errors, and a client that speaks them. Neither end imports the other; both import this.
//
// Control messages are JSON over HTTP/2 and TLS 1.3; batches of ids and locations are binary (see ids.go), because a
// disk has millions. Agents and nodes show a client certificate of the master's CA; people's tools a bearer token.
package wire

import (
	"encoding/json"
	"time"
)

// Paths. {…} are http.ServeMux wildcards.
const (
	PathEnroll       = "/enroll/v1"        // POST EnrollRequest → EnrollResponse; token in the body, no client certificate
	PathRenewExpired = "/renew-expired/v1" // POST RenewRequest → RenewResponse; the only path that takes an expired certificate

	PathAgentRenew      = "/agent/v1/renew"      // POST RenewRequest → RenewResponse
	PathAgentHello      = "/agent/v1/hello"      // POST Hello → HelloResponse; first call of every process
	PathAgentAssignment = "/agent/v1/assignment" // GET ?version=N&wait=30s → Assignment, or 304 when it did not change
	PathAgentReport     = "/agent/v1/report"     // POST Report
	PathAgentSessions   = "/agent/v1/sessions"   // POST SessionRequest → Session
	PathAgentSession    = "/agent/v1/sessions/{session}"
	PathSessionRenew    = PathAgentSession + "/renew"               // POST Progress → SessionLease
	PathSessionOffer    = PathAgentSession + "/offer"               // POST ids → bitmap: 1 = known, need not be sent
	PathSessionPacks    = PathAgentSession + "/packs"               // POST []PackAnnounce → []PackUpload
	PathSessionPack     = PathAgentSession + "/packs/{pack}/commit" // POST format.MarshalEntries → 204
	PathSessionCommit   = PathAgentSession + "/commit"              // POST signed manifest → Committed
	PathSessionAbort    = PathAgentSession + "/abort"               // POST Failure → 204

	PathNodeRenew = "/node/v1/renew"      // POST RenewRequest → RenewResponse
	PathNodeHello = "/node/v1/hello"      // POST Hello → HelloResponse
	PathNodeLease = "/node/v1/jobs/lease" // POST LeaseRequest → Job, or 204 when the wait passed

	// Job paths take a node's certificate, or the bearer token of the person who holds the job (an export).
	PathJob           = "/jobs/v1/{job}"
	PathJobRenew      = PathJob + "/renew"      // POST Progress → JobLease
	PathJobResolve    = PathJob + "/resolve"    // POST ids → locations
	PathJobURLs       = PathJob + "/urls"       // POST URLRequest → URLResponse
	PathJobQuarantine = PathJob + "/quarantine" // POST []Damage → 204
	PathJobReport     = PathJob + "/report"     // POST what JobResult.Report is, of a job that goes on → 204
	PathJobComplete   = PathJob + "/complete"   // POST JobResult → 204
	PathJobFail       = PathJob + "/fail"       // POST Failure → 204
)

// Limits that the master enforces; clients keep below them.
const (
	MaxOffer      = 8192     // ids in one offer or resolve
	MaxAnnounce   = 64       // packs in one announcement
	MaxURLs       = 256      // packs in one URL request
	MaxManifest   = 1 << 20  // bytes of a signed manifest
	MaxJSON       = 1 << 20  // bytes of a JSON body
	MaxEntries    = 64 << 20 // bytes of a pack's entries
	MaxWait       = 60 * time.Second
	MaxDamage     = 1024
	MaxLost       = 65536 // ids in Session.Lost
	MaxDisks      = 128
	MaxNameLength = 255
)

// EnrollRequest trades a one-time token for an identity. The master takes only the public key from CSR, and sets every name itself.
type EnrollRequest struct {
	Kind        string     `json:"kind"` // "agent" or "node"
	TokenID     string     `json:"token_id"`
	Secret      string     `json:"secret"`                // hexadecimal, 128 bit
	CSR         []byte     `json:"csr"`                   // DER
	SigningKey  []byte     `json:"signing_key,omitempty"` // agent: Ed25519 public key that signs its restpoints, 32 bytes
	SigningSig  []byte     `json:"signing_sig,omitempty"` // that key's signature over CSR: proof of possession
	Name        string     `json:"name"`                  // wished name: the host's
	Fingerprint string     `json:"fingerprint"`           // of the host
	Version     string     `json:"version"`
	Inventory   *Inventory `json:"inventory,omitempty"`
}

// EnrollResponse is an identity.
type EnrollResponse struct {
	ID          string   `json:"id"`
	Name        string   `json:"name"` // as the master calls it: made unique in the project
	Project     string   `json:"project"`
	Certificate [][]byte `json:"certificate"` // DER chain, leaf first, without the root
	CA          []byte   `json:"ca"`          // DER of the root
	MasterKey   []byte   `json:"master_key"`  // Ed25519 public key that countersigns restpoints
}

// RenewRequest asks for a certificate for a new key.
type RenewRequest struct {
	CSR []byte `json:"csr"` // DER
}

// RenewResponse is the new certificate.
type RenewResponse struct {
	Certificate [][]byte `json:"certificate"`
}

// Hello opens every process's conversation. Generation is a counter in the state directory that is incremented, and made durable,
// before each Hello; it is also sent in the HeaderGeneration of every later request. One that goes back or
// repeats means that the identity was copied.
type Hello struct {
	Generation  uint64     `json:"generation"`
	Fingerprint string     `json:"fingerprint"`
	Moved       bool       `json:"moved,omitempty"` // somebody on the host said that it is the same server with another fingerprint
	Version     string     `json:"version"`
	Inventory   *Inventory `json:"inventory,omitempty"`
}

// HeaderGeneration carries Hello.Generation on every request of an agent or node after its Hello.
const HeaderGeneration = "OpenMigrate-Generation"

// HelloResponse answers a Hello. Last says what the master holds, so that an agent can tell whether its base tree is still right.
type HelloResponse struct {
	Now           time.Time         `json:"now"` // the master's clock
	LastRestpoint string            `json:"last_restpoint,omitempty"`
	LastRoots     map[string]string `json:"last_roots,omitempty"` // disk id → root id, of LastRestpoint
	Session       string            `json:"session,omitempty"`    // a live session of this machine that may be resumed
}

// Assignment is what an agent shall do. It keeps to the one that it holds while the master is away.
type Assignment struct {
	Version      uint64   `json:"version"`
	Project      string   `json:"project"`
	Keys         []byte   `json:"keys"` // format.Keys.MarshalBinary; never logged
	Paused       bool     `json:"paused"`
	Interval     Duration `json:"interval"`              // from start to start of cycles; 0 = only when asked
	Sync         string   `json:"sync,omitempty"`        // id of a wish for a restpoint now; repeated in SessionRequest.Sync
	Disks        []string `json:"disks,omitempty"`       // ids or paths; empty: every disk that is found (or the agent's --disk)
	ChunkSize    int      `json:"chunk_size,omitempty"`  // bytes; 0: by disk size
	Bandwidth    int64    `json:"bandwidth,omitempty"`   // bytes per second; 0: no limit
	Window       *Window  `json:"window,omitempty"`      // when cycles may send; nil: always
	Consistency  string   `json:"consistency,omitempty"` // wanted: fuzzy, crash, filesystem, application
	StagingHosts []string `json:"staging_hosts"`         // host:port that data may go to; nothing else
	StagingCA    []byte   `json:"staging_ca,omitempty"`  // DER of a CA to trust for them, beside the system's
	Hold         *Hold    `json:"hold,omitempty"`        // a cutover's last restpoint; nil: none, and what was held is let go
}

// Window is a daily span of time in UTC in which data may be sent; From > To goes over midnight.
type Window struct {
	From     string `json:"from"` // "22:00"
	To       string `json:"to"`
	Weekdays []int  `json:"weekdays,omitempty"` // 0 = Sunday; empty: all; the day on which the window opens
}

// SessionRequest opens a replication session. Resume names a live session of an earlier try.
type SessionRequest struct {
	Resume    string        `json:"resume,omitempty"`
	Sync      string        `json:"sync,omitempty"`
	Parent    string        `json:"parent,omitempty"` // restpoint whose trees the agent has as its base; empty: none
	Disks     []SessionDisk `json:"disks"`
	Inventory *Inventory    `json:"inventory,omitempty"`
	Now       time.Time     `json:"now,omitzero"` // the agent's clock when it asked: the master dates the restpoint by it
}

// SessionDisk is one disk as the agent sees it now.
type SessionDisk struct {
	ID        string `json:"id"`
	Name      string `json:"name"`
	Size      int64  `json:"size"` // bytes
	ChunkSize int    `json:"chunk_size"`
	BaseRoot  string `json:"base_root,omitempty"` // root in Parent; empty: none
}

// Session is a lease. Parent is set when the master accepted and pinned the parent; otherwise the agent must offer everything.
type Session struct {
	ID         string       `json:"id"`
	Restpoint  string       `json:"restpoint"` // id of the restpoint that this session will make
	Parent     string       `json:"parent,omitempty"`
	Lost       []string     `json:"lost,omitempty"` // chunk or node ids whose stored copy is damaged: offer them although the base has them
	Lease      SessionLease `json:"lease"`
	PatchDepth int          `json:"patch_depth,omitempty"` // the master takes packs with patches that stand on each other so deep; 0: none
}

// SessionLease says until when a session lives unless it is renewed. TTL counts from the answer, whatever the clocks say.
type SessionLease struct {
	TTL Duration `json:"ttl"`
}

// Progress is sent with each renewal. Bytes are of disk unless said otherwise.
type Progress struct {
	Phase   string `json:"phase,omitempty"`
	Total   int64  `json:"total"`  // bytes to go through
	Done    int64  `json:"done"`   // bytes gone through
	Zero    int64  `json:"zero"`   // of these, all-zero or holes
	Same    int64  `json:"same"`   // unchanged since the base
	Known   int64  `json:"known"`  // changed, but in staging already
	Sent    int64  `json:"sent"`   // raw bytes of chunks sent
	Stored  int64  `json:"stored"` // bytes put into staging
	Packs   int64  `json:"packs"`
	Chunks  int64  `json:"chunks"`
	Message string `json:"message,omitempty"`
	Views   []View `json:"views,omitempty"` // of a serve job that is ready: one for each disk
}

// PackAnnounce asks for the right to PUT one pack.
type PackAnnounce struct {
	ID     string `json:"id"`
	Size   int64  `json:"size"`
	CRC32C []byte `json:"crc32c"` // staging.Checksum of the object, 4 bytes
}

// PackUpload is that right. Exists says that the pack is in the bucket and committed already.
type PackUpload struct {
	ID     string              `json:"id"`
	URL    string              `json:"url,omitempty"`
	Header map[string][]string `json:"header,omitempty"`
	Exists bool                `json:"exists,omitempty"`
}

// Committed is the answer to a commit: the restpoint is complete and listed.
type Committed struct {
	Restpoint string    `json:"restpoint"`
	Sequence  uint64    `json:"sequence"`
	Time      time.Time `json:"time"`
}

// Failure ends a session or a job.
type Failure struct {
	Code    string  `json:"code"`
	Message string  `json:"message"`
	Events  []Event `json:"events,omitempty"`
}

// LeaseRequest asks for work. Kinds lists what this node can do.
type LeaseRequest struct {
	Kinds     []string `json:"kinds"`
	Providers []string `json:"providers,omitempty"` // names of the providers whose volumes this node can write
	Wait      Duration `json:"wait"`
	// Lane tells apart those of a node's callers that work at once. One that asks has no job: what it was given without the answer reaching it, or could not
	// report the end of, is given to it again. Empty: it is waited until the lease is over.
	Lane string `json:"lane,omitempty"`
}

// Job kinds.
const (
	JobProve   = "prove"   // open Packs, check every id
	JobVerify  = "verify"  // read all of Restpoint, check every id
	JobHydrate = "hydrate" // Restpoint's Disk onto Target, a volume of the node
	JobExport  = "export"  // the same, held by the CLI
	JobInspect = "inspect" // look at Restpoint through a view: can Convert make it start? Nothing is written
	JobConvert = "convert" // make the system on Volumes start on Convert's platform
	JobMeasure = "measure" // see how much Restpoint's disks hold, from its trees: JobResult.Data
	JobServe   = "serve"   // serve Restpoint's disks to a provider until the job is cancelled; Progress.Views says where
)

// CodeRefused is the Failure.Code of inspect and convert jobs that found a machine which cannot be converted; nothing was changed.
const CodeRefused = "refused"

// Volume is a volume of a provider as a node reaches it. Exactly one of Path and Serial is set.
type Volume struct {
	ID     string `json:"id"`               // at the provider; the node keeps its journal under this name
	Path   string `json:"path,omitempty"`   // a raw file on the node's host, within a folder that the node was told to trust
	Serial string `json:"serial,omitempty"` // of a disk of the node's host
	Size   int64  `json:"size"`             // bytes; at least the disk's
}

// Conversion is what a machine is converted for: hydrator/convert.Target in the words of the wire.
type Conversion struct {
	Platform string       `json:"platform"`           // kvm, ec2, gcp, azure, vmware
	Disk     string       `json:"disk,omitempty"`     // the kind of disk, as hydrator/convert's table names it
	Firmware string       `json:"firmware,omitempty"` // bios, uefi; empty: whichever the machine can start from
	NICs     []ConvertNIC `json:"nics,omitempty"`     // those with a fixed address; all others use DHCP
	Mark     *CopyMark    `json:"mark,omitempty"`     // written into the copy
}

// ConvertNIC is a network card with a fixed address.
type ConvertNIC struct {
	MAC string `json:"mac"`
	LaunchAddress
}

// View is where a provider finds a disk that a serve job shows.
type View struct {
	Socket string `json:"socket"` // an NBD server's unix socket on the node's host
	Export string `json:"export"`
}

// Job is work with a lease.
type Job struct {
	ID        string      `json:"id"`
	Kind      string      `json:"kind"`
	Project   string      `json:"project"`
	Keys      []byte      `json:"keys"`
	Restpoint *Restpoint  `json:"restpoint,omitempty"`
	Disk      *int        `json:"disk,omitempty"`  // number; nil: all
	Packs     []JobPack   `json:"packs,omitempty"` // prove
	Target    string      `json:"target,omitempty"`
	Volumes   []Volume    `json:"volumes,omitempty"` // hydrate: one, in place of Target; convert: all, in the order of the machine's disks
	Convert   *Conversion `json:"convert,omitempty"` // inspect: checked for it; convert; serve: the view is converted
	// Provider owns Volumes, or uses what a serve job shows: only a node that names it in its LeaseRequest gets the job.
	Provider     string   `json:"provider,omitempty"`
	Overwrite    bool     `json:"overwrite,omitempty"`
	StagingHosts []string `json:"staging_hosts"`
	StagingCA    []byte   `json:"staging_ca,omitempty"`
	Lease        JobLease `json:"lease"`
	// Trace is the thing whose trace the work belongs to: a restpoint's or a launch's id. See package telemetry.
	Trace string `json:"trace,omitempty"`
}

// JobPack names a pack and its size.
type JobPack struct {
	ID   string `json:"id"`
	Size int64  `json:"size"`
	// Contents is the SHA-256 of format.MarshalEntries of the entries that the master knows: the pack must list the same. Empty: unknown.
	Contents []byte `json:"contents,omitempty"`
}

// Restpoint is what a reader needs to trust one: the object as it is in the bucket, and the keys that must have signed it.
// A reader refuses it unless both signatures, the machine and the sequence agree.
type Restpoint struct {
	ID        string `json:"id"`
	Machine   string `json:"machine"`
	Sequence  uint64 `json:"sequence"`
	Object    []byte `json:"object"`     // countersigned
	AgentKey  []byte `json:"agent_key"`  // Ed25519
	MasterKey []byte `json:"master_key"` // Ed25519
}

// JobLease says until when a job is held unless renewed. Cancelled asks the holder to stop.
type JobLease struct {
	TTL       Duration `json:"ttl"`
	Cancelled bool     `json:"cancelled,omitempty"`
}

// URLRequest asks for the right to read packs.
type URLRequest struct {
	Packs []string `json:"packs"`
}

// URLResponse gives one URL for each pack asked, in order; empty where there is no such pack.
type URLResponse struct {
	URLs  []string `json:"urls"`
	Valid Duration `json:"valid"`
}

// Damage is a stored copy that cannot be used. ID empty: the whole pack.
type Damage struct {
	Pack   string `json:"pack"`
	ID     string `json:"id,omitempty"`
	Reason string `json:"reason"`
}

// JobResult is what a job found.
type JobResult struct {
	Chunks  int64           `json:"chunks"`  // checked or written
	Bytes   int64           `json:"bytes"`   // raw bytes of them
	Fetched int64           `json:"fetched"` // bytes read from staging
	Written int64           `json:"written"`
	Damaged int64           `json:"damaged"`
	Message string          `json:"message,omitempty"`
	Data    []int64         `json:"data,omitempty"`   // measure: by number of the disk, bytes of chunks that are not zeros
	Report  json.RawMessage `json:"report,omitempty"` // inspect: hydrator/convert.System; convert: its Report; at most MaxConvertReport bytes
}
