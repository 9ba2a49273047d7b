package wire

import (
	"encoding/json"
	"time"

	"github.com/openmigrate/openmigrate/staging/format"
)

// Paths of people's tools; the OpenAPI document (PathOpenAPI) says what each takes and answers, and which role may call it.
const (
	PathAPI     = "/api/v1"
	PathOpenAPI = PathAPI + "/openapi.json" // for anybody
	PathDocs    = PathAPI + "/docs"         // the same for people to read, for anybody
	PathEvents  = PathAPI + "/events"       // server-sent events

	PathWhoami       = PathAPI + "/whoami"
	PathLogin        = PathAPI + "/login"
	PathLogout       = PathAPI + "/logout"
	PathLink         = PathAPI + "/link"
	PathLinkUse      = PathLink + "/use"
	PathPassword     = PathAPI + "/me/password"
	PathOwnSessions  = PathAPI + "/me/sessions"
	PathOwnSession   = PathOwnSessions + "/{session}"
	PathUsers        = PathAPI + "/users"
	PathUser         = PathUsers + "/{user}"
	PathUserLink     = PathUser + "/link"
	PathUserSessions = PathUser + "/sessions"
	PathAudit        = PathAPI + "/audit"
	PathWholeAudit   = PathAPI + "/audit-all"
	PathAuditExport  = PathWholeAudit + "/export"
	PathAuditVerify  = PathWholeAudit + "/verify"

	PathWebhooks      = PathAPI + "/webhooks"
	PathWebhook       = PathWebhooks + "/{webhook}"
	PathWebhookRotate = PathWebhook + "/rotate"
	PathWebhookTest   = PathWebhook + "/test"
	PathDeliveries    = PathWebhook + "/deliveries"
	PathResend        = PathDeliveries + "/{sequence}/resend"

	PathProjects = PathAPI + "/projects"
	PathProject  = PathProjects + "/{project}"

	PathSummary         = PathAPI + "/summary"
	PathMachines        = PathAPI + "/machines"
	PathMachine         = PathMachines + "/{machine}" // id or name
	PathMachinePause    = PathMachine + "/pause"
	PathMachineGoOn     = PathMachine + "/resume"
	PathMachineSync     = PathMachine + "/sync"
	PathSync            = PathMachineSync + "/{sync}"
	PathRevoke          = PathMachine + "/revoke"
	PathUnfreeze        = PathMachine + "/unfreeze"
	PathMachineDisks    = PathMachine + "/disks"
	PathMachineSessions = PathMachine + "/sessions"
	PathRestpointsOf    = PathMachine + "/restpoints"
	PathRestpointLatest = PathRestpointsOf + "/latest"
	PathSession         = PathAPI + "/sessions/{session}"

	PathRestpoint     = PathAPI + "/restpoints/{restpoint}"
	PathDiff          = PathRestpoint + "/diff"
	PathPin           = PathRestpoint + "/pin"
	PathRestpointFile = PathRestpoint + "/disks/{disk}/files"    // list
	PathRestpointGet  = PathRestpoint + "/disks/{disk}/download" // one file

	PathJobs      = PathAPI + "/jobs"
	PathJobInfo   = PathJobs + "/{job}"
	PathJobCancel = PathJobInfo + "/cancel"
	PathJobHold   = PathJobInfo + "/hold" // the caller does an export itself

	PathEnrolTokens = PathAPI + "/enrolment-tokens"
	PathEnrolToken  = PathEnrolTokens + "/{token}"
	PathTokens      = PathAPI + "/tokens"
	PathToken       = PathTokens + "/{token}"

	PathNodes      = PathAPI + "/nodes"
	PathNode       = PathNodes + "/{node}"
	PathNodeRevoke = PathNode + "/revoke"

	PathStaging         = PathAPI + "/staging"
	PathStagingRun      = PathStaging + "/{action}" // check, check-deep, gc, rebuild-index
	PathRecoveryKey     = PathStaging + "/recovery-key"
	PathOperations      = PathAPI + "/operations" // what runs long, and what became of it
	PathOperation       = PathOperations + "/{operation}"
	PathOperationCancel = PathOperation + "/cancel"
)

// Limits of people's requests.
const (
	MaxPage    = 500 // items of a page
	DiffParts  = 512 // of DiskDiff.Map, at most
	MaxGroup   = 63  // bytes of a group's name, and of a tag
	MaxTags    = 32  // of a machine
	MaxKeyText = 200 // bytes of an idempotency key
)

// Headers of people's requests.
const (
	HeaderIdempotencyKey = "Idempotency-Key" // on what makes something: the same request with the same key makes it once
	HeaderReplayed       = "Idempotency-Replayed"
	HeaderProject        = "OpenMigrate-Project" // that a request is about; the query parameter project does the same
)

// Page is a part of a list. NextCursor is empty on the last one.
type Page[T any] struct {
	Items      []T    `json:"items"`
	NextCursor string `json:"next_cursor,omitempty"`
	Total      int    `json:"total"` // items on all pages
}

// ProjectInfo is a project as people see it.
type ProjectInfo struct {
	ID       string    `json:"id"`
	Name     string    `json:"name"`
	Created  time.Time `json:"created"`
	Role     string    `json:"role"`     // of whoever asks
	Machines int       `json:"machines"` // that are enrolled
}

// MachineChange is what a PATCH of a machine may change; a missing field stays as it is.
type MachineChange struct {
	MachinePolicy
	Group *string   `json:"group,omitempty"`
	Tags  *[]string `json:"tags,omitempty"` // replaces all
}

// DiskInfo is a disk of a machine, by its inventory and what its agent says of it.
type DiskInfo struct {
	ID             string `json:"id"`
	Name           string `json:"name"`
	Path           string `json:"path"`
	Type           string `json:"type"`
	Size           int64  `json:"size"`       // bytes
	Replicated     bool   `json:"replicated"` // selected, by the agent or the policy
	Tracker        string `json:"tracker,omitempty"`
	TrackerWhy     string `json:"tracker_why,omitempty"` // why not a better one
	Consistency    string `json:"consistency,omitempty"`
	ConsistencyWhy string `json:"consistency_why,omitempty"` // why not a stronger one
}

// SessionInfo is a replication session as people see it.
type SessionInfo struct {
	ID        string    `json:"id"`
	Machine   string    `json:"machine"` // id
	State     string    `json:"state"`   // open, committing, done, failed, expired
	Restpoint string    `json:"restpoint"`
	Parent    string    `json:"parent,omitempty"`
	Opened    time.Time `json:"opened"`
	Ended     time.Time `json:"ended,omitzero"`
	Progress  Progress  `json:"progress"`
	Failure   *Failure  `json:"failure,omitempty"`
}

// Types of files.
const (
	FileRegular = "file"
	FileFolder  = "folder"
	FileLink    = "link"
	FileOther   = "other"
)

// FilePlace is where a file or folder is.
type FilePlace struct {
	Restpoint string // its id
	Disk      int    // number, from 0
	Partition int    // number, from 1; 0: the only one with a file system, or the whole disk
	Path      string // any bytes
}

// FileInfo is a file on a disk of a restpoint. Names are the source's: whoever shows them takes care.
type FileInfo struct {
	Name     string    `json:"name"`              // with U+FFFD where it is not UTF-8
	Encoded  string    `json:"encoded,omitempty"` // the name percent-encoded, as it goes into path in a URL; only if it is not UTF-8
	Type     string    `json:"type"`              // file, folder, link, other
	Mode     string    `json:"mode"`              // as ls shows it
	Size     int64     `json:"size"`
	Modified time.Time `json:"modified"`
	UID      uint32    `json:"uid"`
	GID      uint32    `json:"gid"`
	Link     string    `json:"link,omitempty"` // where a symbolic link points to
}

// States of an operation.
const (
	OperationRunning   = "running"
	OperationDone      = "done"
	OperationFailed    = "failed"
	OperationCancelled = "cancelled"
)

// OperationInfo is something that takes long: staging is checked, garbage collected, a provider tried. It is remembered until the master ends, or for a
// while.
type OperationInfo struct {
	ID       string          `json:"id"`
	Kind     string          `json:"kind"` // staging-check, staging-check-deep, staging-gc, staging-rebuild-index, provider-check
	Target   string          `json:"target,omitempty"`
	State    string          `json:"state"` // running, done, failed, cancelled
	By       string          `json:"by"`
	Started  time.Time       `json:"started"`
	Ended    time.Time       `json:"ended,omitzero"`
	Progress *Progress       `json:"progress,omitempty"`
	Lines    []string        `json:"lines"` // that it said so far
	Report   json.RawMessage `json:"report,omitempty"`
	Problem  *Problem        `json:"problem,omitempty"`
}

// ChangeEvent says that something changed; whoever shows it reads it again. It is the data of a server-sent event.
type ChangeEvent struct {
	Sequence uint64 `json:"sequence"`
	Kind     string `json:"kind"`         // machine, restpoint, session, job, launch, node, token, enrolment-token, webhook, operation, project; gap: events were lost, read everything again
	ID       string `json:"id,omitempty"` // empty: many of the kind
	Machine  string `json:"machine,omitempty"`
	Gone     bool   `json:"gone,omitempty"` // it was removed
}

// Whoami says who a token belongs to and what this master is.
type Whoami struct {
	Name    string    `json:"name"`
	Role    string    `json:"role"`
	Project string    `json:"project"`
	Version string    `json:"version"`        // of the master
	Kind    string    `json:"kind"`           // token, user
	ID      string    `json:"id"`             // of the token, or the session
	User    string    `json:"user,omitempty"` // id of the user; empty: a token that is nobody's
	Scopes  []string  `json:"scopes,omitempty"`
	Master  bool      `json:"master"` // has a role in all projects
	Expires time.Time `json:"expires,omitzero"`
}

// LoginRequest signs somebody in.
type LoginRequest struct {
	Name     string `json:"name"`
	Password string `json:"password"`
}

// LinkText is the text of a one-time link: what follows the # in its address.
type LinkText struct {
	Link string `json:"link"`
}

// LoginWays are the ways in, beside passwords and tokens.
type LoginWays struct {
	OIDC string `json:"oidc,omitempty"` // host of the OpenID Connect provider; people begin at /login/oidc?return=PATH. Missing: there is none
}

// LinkInfo is what a one-time link is good for.
type LinkInfo struct {
	Kind    string    `json:"kind"`           // first-admin, password
	User    string    `json:"user,omitempty"` // name of the user whose password it sets
	Expires time.Time `json:"expires"`
}

// LinkUse sets a password. Name is for the first admin.
type LinkUse struct {
	Link     string `json:"link"`
	Name     string `json:"name,omitempty"`
	Password string `json:"password"`
}

// PasswordChange changes one's own password.
type PasswordChange struct {
	Old string `json:"old"`
	New string `json:"new"`
}

// UserRequest asks for a user. Roles are by project, * for all.
type UserRequest struct {
	Name  string            `json:"name"`
	Email string            `json:"email,omitempty"`
	Roles map[string]string `json:"roles"`
}

// UserChange is what a PATCH of a user may change; a missing field stays as it is.
type UserChange struct {
	Email    *string           `json:"email,omitempty"`
	Roles    map[string]string `json:"roles,omitempty"` // replaces all
	Disabled *bool             `json:"disabled,omitempty"`
}

// Link is a one-time link. Its text is shown this once.
type Link struct {
	URL     string    `json:"url"`
	Link    string    `json:"link"` // the text after the #
	Expires time.Time `json:"expires"`
}

// NewUser is a user that was made, with the link with which a password is set.
type NewUser struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	Link Link   `json:"link"`
}

// WebhookRequest says where events are sent. Types are such as launch.running, launch.* or *.
type WebhookRequest struct {
	URL         string   `json:"url"`
	Types       []string `json:"types"`
	Description string   `json:"description,omitempty"`
	Enabled     *bool    `json:"enabled,omitempty"` // missing: it is
}

// AuditReport is what a check of the audit log found. Sequence and Hash are its newest line's: whoever keeps them elsewhere can prove later that nothing before it
// was changed.
type AuditReport struct {
	OK       bool   `json:"ok"`
	Problem  string `json:"problem,omitempty"`
	Sequence uint64 `json:"sequence"`
	Hash     string `json:"hash,omitempty"`
}

// MachineInfo is a machine as people see it.
type MachineInfo struct {
	ID              string        `json:"id"`
	Name            string        `json:"name"`
	Replication     string        `json:"replication"`      // enrolled, initial-sync, protected, lagging, stalled, rescanning, paused, disconnected, held
	Reason          string        `json:"reason,omitempty"` // why it is not better
	NextStep        string        `json:"next_step"`        // with the command to call, or "none"
	Life            string        `json:"life"`             // not-ready, ready-to-test, testing, ready-for-cutover, cutting-over, live, finalized, rolled-back
	LifeStep        string        `json:"life_step"`        // what to do next about it, or "none"
	Warm            *WarmInfo     `json:"warm,omitempty"`   // its standing volumes; missing: it has none
	RPO             RPOInfo       `json:"rpo"`
	Created         time.Time     `json:"created"`
	LastSeen        time.Time     `json:"last_seen"`
	LastRestpoint   string        `json:"last_restpoint,omitempty"`
	LastTime        *time.Time    `json:"last_time,omitempty"`
	LastConsistency string        `json:"last_consistency,omitempty"` // of the last restpoint
	LastTest        *TestEnd      `json:"last_test,omitempty"`        // missing: it was never tested
	Restpoints      uint64        `json:"restpoints"`                 // made so far
	Paused          bool          `json:"paused"`
	Frozen          string        `json:"frozen,omitempty"`
	Revoked         bool          `json:"revoked,omitempty"`
	AgentVersion    string        `json:"agent_version"`
	Policy          MachinePolicy `json:"policy"`
	Session         string        `json:"session,omitempty"`
	Progress        *Progress     `json:"progress,omitempty"`
	Report          *Report       `json:"report,omitempty"` // a list of machines has no disks in it
	Events          []Event       `json:"events,omitempty"`
	Inventory       *Inventory    `json:"inventory,omitempty"`
	Project         string        `json:"project"`
	OS              string        `json:"os,omitempty"`
	Group           string        `json:"group,omitempty"`
	Tags            []string      `json:"tags,omitempty"`
	Revision        string        `json:"revision"` // of what people set: the ETag of the machine
}

// TestEnd is what became of a test.
type TestEnd struct {
	Launch string    `json:"launch"`
	Passed bool      `json:"passed"` // the copy ran, and did what its checks wanted
	Time   time.Time `json:"time"`   // when it was known
}

// WarmInfo is how a machine's standing volumes are: copies at a provider that follow each restpoint, so that a launch has little left to write.
type WarmInfo struct {
	Provider  string     `json:"provider"`
	State     string     `json:"state"`               // making (they hold no restpoint yet), current, behind, applying, in-use, resting, releasing
	Restpoint string     `json:"restpoint,omitempty"` // the last that all of them held
	Instant   *time.Time `json:"instant,omitempty"`   // that it is of
	Since     time.Time  `json:"since,omitzero"`      // when the first was asked for
	Volumes   int        `json:"volumes"`
	Size      int64      `json:"size"`               // bytes of all volumes, as they were asked for
	Applying  string     `json:"applying,omitempty"` // restpoint that is being written over it
	Progress  *Progress  `json:"progress,omitempty"` // of that
	Launch    string     `json:"launch,omitempty"`   // that has them now
	Problem   string     `json:"problem,omitempty"`  // why they do not get on, and what to do
}

// States of standing volumes.
const (
	WarmMaking    = "making"
	WarmCurrent   = "current"
	WarmBehind    = "behind"
	WarmApplying  = "applying"
	WarmInUse     = "in-use"
	WarmResting   = "resting" // a job that was cancelled may still write
	WarmReleasing = "releasing"
)

// FleetSummary counts a project's machines.
type FleetSummary struct {
	Machines      int               `json:"machines"`
	Replication   map[string]int    `json:"replication"` // by state
	Life          map[string]int    `json:"life"`        // by state
	Replicating   int               `json:"replicating"` // whose cycle runs now
	Throughput    int64             `json:"throughput"`  // bytes put into staging per second by these
	Backlog       int64             `json:"backlog"`     // bytes of disk that are in no restpoint yet
	NeedAttention int               `json:"need_attention"`
	Attention     []MachineStanding `json:"attention"` // the worst off first
	WorstRPO      []MachineStanding `json:"worst_rpo"` // the oldest first
	Groups        []string          `json:"groups"`    // that there are, at most MaxPage
	Tags          []string          `json:"tags"`      // likewise
	Systems       []string          `json:"systems"`   // likewise
}

// MachineStanding says in short how a machine stands.
type MachineStanding struct {
	ID          string  `json:"id"`
	Name        string  `json:"name"`
	Replication string  `json:"replication"`
	Reason      string  `json:"reason,omitempty"`
	NextStep    string  `json:"next_step"`
	Life        string  `json:"life"`
	RPO         RPOInfo `json:"rpo"`
}

// RPOInfo says how far a machine's restpoints are behind its disks, as the master computes it from what the agent reports. Times are
// of the master's clock.
type RPOInfo struct {
	Instant    *time.Time `json:"instant,omitempty"` // that the newest restpoint is of; missing: there is none
	Now        Duration   `json:"now"`               // its age: what was written since would be lost with the source
	Predicted  Duration   `json:"predicted"`         // age that it reaches before the next one is listed; 0: unknown
	Target     Duration   `json:"target"`            // age above which the machine lags; 0: none, restpoints are made only when asked for
	Lag        Duration   `json:"lag"`               // how overdue the next one is; 0: it is on time
	Backlog    int64      `json:"backlog"`           // bytes of disk that are in no restpoint yet: measured while a cycle reads, else estimated
	ChangeRate int64      `json:"change_rate"`       // bytes of disk that change per second, in whole chunks, of late
	Throughput int64      `json:"throughput"`        // bytes put into staging per second, by the cycle that runs, or by those of late
	ETA        *time.Time `json:"eta,omitempty"`     // when the cycle that runs will be done; missing: unknown, or none runs
}

// MachinePolicy is what the operator wants of a machine's replication. In a PATCH a missing field stays as it is.
type MachinePolicy struct {
	Interval    *Duration `json:"interval,omitempty"` // from start to start of cycles, at least 1s; negative: only when asked
	Disks       []string  `json:"disks,omitempty"`
	ChunkSize   *int      `json:"chunk_size,omitempty"`
	Bandwidth   *int64    `json:"bandwidth,omitempty"` // bytes per second; 0: no limit
	Window      *Window   `json:"window,omitempty"`
	Consistency *string   `json:"consistency,omitempty"`
}

// SyncInfo is a wish for a restpoint now. Restpoint is set when it is fulfilled; Open false without one means that it is
// too old to be remembered.
type SyncInfo struct {
	ID        string    `json:"id"`
	Open      bool      `json:"open"`
	Restpoint string    `json:"restpoint,omitempty"`
	State     string    `json:"state,omitempty"` // what the agent says it does
	Message   string    `json:"message,omitempty"`
	Failure   *Failure  `json:"failure,omitempty"`
	Progress  *Progress `json:"progress,omitempty"`
}

// RestpointInfo is a restpoint as people see it.
type RestpointInfo struct {
	ID          string        `json:"id"`
	Machine     string        `json:"machine"` // id
	Sequence    uint64        `json:"sequence"`
	Created     time.Time     `json:"created"`          // the instant that it is of, by the agent's clock
	Instant     time.Time     `json:"instant,omitzero"` // the same by the master's clock; missing: it was found in the bucket
	Listed      time.Time     `json:"listed"`           // the master's clock
	Parent      string        `json:"parent,omitempty"`
	Consistency string        `json:"consistency"`
	State       string        `json:"state"`
	Pinned      bool          `json:"pinned"`
	Verified    *time.Time    `json:"verified,omitempty"`
	Size        int64         `json:"size"` // bytes of all disks
	Disks       []format.Disk `json:"disks"`
	Stats       Progress      `json:"stats"`
}

// DiskDiff is how one disk differs between two restpoints.
type DiskDiff struct {
	Disk    string `json:"disk"`
	Name    string `json:"name"`
	Size    int64  `json:"size"`
	Change  string `json:"change"`  // same, changed, added, removed, rechunked (other chunk size: not comparable, all counts)
	Chunks  int64  `json:"chunks"`  // of the later that the earlier does not have at that place
	Changed int64  `json:"changed"` // bytes of these
	// Map divides the disk into DiffParts equal parts, fewer when it has fewer chunks: the bytes of each that changed.
	Map []int64 `json:"map"`
}

// NodeInfo is a node as people see it.
type NodeInfo struct {
	ID          string    `json:"id"`
	Name        string    `json:"name"`
	State       string    `json:"state"` // running, away, frozen, revoked
	NextStep    string    `json:"next_step"`
	Created     time.Time `json:"created"`
	LastSeen    time.Time `json:"last_seen"`
	Version     string    `json:"version"`
	Fingerprint string    `json:"fingerprint"` // of its host
	Generation  uint64    `json:"generation"`
	Frozen      string    `json:"frozen,omitempty"`  // why
	Revoked     string    `json:"revoked,omitempty"` // why
}

// JobRequest asks for a job.
type JobRequest struct {
	Kind      string `json:"kind"` // verify, export, hydrate
	Restpoint string `json:"restpoint"`
	Disk      *int   `json:"disk,omitempty"`
	Target    string `json:"target,omitempty"`
	Overwrite bool   `json:"overwrite,omitempty"`
}

// JobInfo is a job as people see it.
type JobInfo struct {
	ID        string     `json:"id"`
	Kind      string     `json:"kind"`
	State     string     `json:"state"`
	Restpoint string     `json:"restpoint,omitempty"`
	Holder    string     `json:"holder,omitempty"`
	Attempts  int        `json:"attempts"`
	Created   time.Time  `json:"created"`
	Started   time.Time  `json:"started,omitzero"`
	Ended     time.Time  `json:"ended,omitzero"`
	Progress  *Progress  `json:"progress,omitempty"`
	Result    *JobResult `json:"result,omitempty"`
	Failure   *Failure   `json:"failure,omitempty"`
}

// EnrolTokenRequest asks for an enrolment token. Zero values: agent, a day, one use.
type EnrolTokenRequest struct {
	Kind  string   `json:"kind,omitempty"`
	Valid Duration `json:"valid,omitempty"`
	Uses  int      `json:"uses,omitempty"`
}

// EnrolTokenInfo is an enrolment token. Token is its text, shown once, when it is made.
type EnrolTokenInfo struct {
	ID      string    `json:"id"`
	Kind    string    `json:"kind"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
	Uses    int       `json:"uses"` // left
	UsedBy  []string  `json:"used_by"`
	ByWhom  string    `json:"by_whom"`
	Token   string    `json:"token,omitempty"`
}

// TokenRequest asks for an API token.
type TokenRequest struct {
	Name   string   `json:"name"`
	Role   string   `json:"role"`
	Valid  Duration `json:"valid,omitempty"`  // 0: never ends
	Scopes []string `json:"scopes,omitempty"` // tags of operations, TAG:read for what changes nothing; none: all that the role may
}

// TokenInfo is an API token. Token is its text, shown once, when it is made.
type TokenInfo struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Role    string    `json:"role"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires,omitzero"`
	Token   string    `json:"token,omitempty"`
	Scopes  []string  `json:"scopes,omitempty"`
	Owner   string    `json:"owner,omitempty"` // id of the user whose it is, and than whom it is worth no more
	Used    time.Time `json:"used,omitzero"`   // last, to the hour
}

// Amount is a number of things and their bytes.
type Amount struct {
	Count int64 `json:"count"`
	Bytes int64 `json:"bytes"`
}

// StagingStats counts what is in staging, as the catalog knows it.
type StagingStats struct {
	Objects           int64             `json:"objects"` // packs that are there or may be, restpoints, machines
	Bytes             int64             `json:"bytes"`   // of packs and restpoints
	Machines          int               `json:"machines"`
	Restpoints        Amount            `json:"restpoints"`
	RestpointsDamaged int               `json:"restpoints_damaged"`
	Logical           int64             `json:"logical_bytes"`     // what all restpoints would take without deduplication and compression
	Packs             map[string]Amount `json:"packs"`             // by state
	Chunks            Amount            `json:"chunks"`            // different ones; bytes before compression
	ChunkStored       int64             `json:"chunk_stored"`      // bytes that one copy of each takes
	Nodes             Amount            `json:"nodes"`             // different tree nodes; bytes before compression
	Patches           Amount            `json:"patches"`           // entries that are patches of other chunks; bytes as stored
	Copies            Amount            `json:"copies"`            // further copies of ids that are there already; bytes as stored
	Damaged           Amount            `json:"damaged"`           // entries that can not be read; bytes as stored
	DedupRatio        float64           `json:"dedup_ratio"`       // logical bytes to those of chunks; 0 when there is nothing
	CompressionRatio  float64           `json:"compression_ratio"` // bytes of chunks to those stored; 0 when there is nothing
	ProvenShare       float64           `json:"proven_share"`      // of the bytes of live packs; 1 when there is nothing
	RecoveryKey       bool              `json:"recovery_key"`      // an offline key can open the project's keys
	Counted           time.Time         `json:"counted"`           // when
}

// RecoveryKey is the offline recovery key, shown once.
type RecoveryKey struct {
	Key string `json:"key"`
}
