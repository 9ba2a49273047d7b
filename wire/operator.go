package wire

import (
	"encoding/json"
	"time"

	"github.com/openmigrate/openmigrate/staging/format"
)

// Paths of people's tools. Bearer tokens; the role in parentheses is the least that may call it.
const (
	PathWhoami       = "/api/v1/whoami"                    // GET (viewer) → Whoami
	PathMachines     = "/api/v1/machines"                  // GET (viewer) → []MachineInfo
	PathMachine      = PathMachines + "/{machine}"         // GET (viewer), PATCH MachinePolicy (operator), DELETE (operator); id or name
	PathMachinePause = PathMachine + "/pause"              // POST (operator)
	PathMachineGoOn  = PathMachine + "/resume"             // POST (operator)
	PathMachineSync  = PathMachine + "/sync"               // POST (operator) → SyncInfo
	PathSync         = PathMachineSync + "/{sync}"         // GET (viewer) → SyncInfo
	PathRevoke       = PathMachine + "/revoke"             // POST (admin)
	PathUnfreeze     = PathMachine + "/unfreeze"           // POST (admin)
	PathRestpointsOf = PathMachine + "/restpoints"         // GET (viewer) → []RestpointInfo, newest first
	PathRestpoint    = "/api/v1/restpoints/{restpoint...}" // GET (viewer) → RestpointInfo; id or M/latest
	PathDiff         = "/api/v1/restpoint-diff"            // GET ?from=R1&to=R2 (viewer) → []DiskDiff
	PathPin          = "/api/v1/restpoint/{restpoint}/pin" // POST, DELETE (operator)
	PathRestpointRm  = "/api/v1/restpoint/{restpoint}"     // DELETE (operator)
	PathJobs         = "/api/v1/jobs"                      // GET (viewer) → []JobInfo, POST JobRequest (operator) → JobInfo
	PathJobInfo      = PathJobs + "/{job}"                 // GET (viewer), DELETE (operator): cancel
	PathJobHold      = PathJobs + "/{job}/hold"            // POST (operator) → Job: the caller does an export itself
	PathEnrolTokens  = "/api/v1/enrolment-tokens"          // GET, POST EnrolTokenRequest → EnrolTokenInfo (admin)
	PathEnrolToken   = PathEnrolTokens + "/{token}"        // DELETE (admin)
	PathTokens       = "/api/v1/tokens"                    // GET, POST TokenRequest → TokenInfo (admin)
	PathToken        = PathTokens + "/{token}"             // DELETE (admin)
	PathNodes        = "/api/v1/nodes"                     // GET (viewer) → []NodeInfo
	PathNode         = PathNodes + "/{node}"               // GET (viewer) → NodeInfo
	PathNodeRevoke   = PathNode + "/revoke"                // POST (admin)
	PathStagingStats = "/api/v1/staging"                   // GET (viewer)
	PathStagingRun   = "/api/v1/staging/{operation}"       // POST (admin): check, check-deep, gc, rebuild-index → lines of StagingLine
	PathRecoveryKey  = "/api/v1/staging/recovery-key"      // POST (admin) → RecoveryKey
)

// Whoami says who a token belongs to and what this master is.
type Whoami struct {
	Name    string `json:"name"`
	Role    string `json:"role"`
	Project string `json:"project"`
	Version string `json:"version"`
}

// MachineInfo is a machine as people see it.
type MachineInfo struct {
	ID            string        `json:"id"`
	Name          string        `json:"name"`
	Replication   string        `json:"replication"`      // enrolled, initial-sync, protected, lagging, stalled, rescanning, paused, disconnected, held
	Reason        string        `json:"reason,omitempty"` // why it is not better
	NextStep      string        `json:"next_step"`        // with the command to call, or "none"
	Life          string        `json:"life"`             // not-ready, ready-to-test, testing, ready-for-cutover, cutting-over, live, finalized, rolled-back
	LifeStep      string        `json:"life_step"`        // what to do next about it, or "none"
	RPO           RPOInfo       `json:"rpo"`
	Created       time.Time     `json:"created"`
	LastSeen      time.Time     `json:"last_seen"`
	LastRestpoint string        `json:"last_restpoint,omitempty"`
	LastTime      *time.Time    `json:"last_time,omitempty"`
	Restpoints    uint64        `json:"restpoints"` // made so far
	Paused        bool          `json:"paused"`
	Frozen        string        `json:"frozen,omitempty"`
	Revoked       bool          `json:"revoked,omitempty"`
	AgentVersion  string        `json:"agent_version"`
	Policy        MachinePolicy `json:"policy"`
	Session       string        `json:"session,omitempty"`
	Progress      *Progress     `json:"progress,omitempty"`
	Report        *Report       `json:"report,omitempty"` // a list of machines has no disks in it
	Events        []Event       `json:"events,omitempty"`
	Inventory     *Inventory    `json:"inventory,omitempty"`
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
	Change  string `json:"change"`
	Chunks  int64  `json:"chunks"`
	Changed int64  `json:"changed"`
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
	Name  string   `json:"name"`
	Role  string   `json:"role"`
	Valid Duration `json:"valid,omitempty"` // 0: never ends
}

// TokenInfo is an API token. Token is its text, shown once, when it is made.
type TokenInfo struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Role    string    `json:"role"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires,omitzero"`
	Token   string    `json:"token,omitempty"`
}

// StagingLine is one line of a long operation on staging: progress, and as the last one a report or a problem.
type StagingLine struct {
	Progress *Progress       `json:"progress,omitempty"`
	Report   json.RawMessage `json:"report,omitempty"`
	Problem  *Problem        `json:"problem,omitempty"`
}

// RecoveryKey is the offline recovery key, shown once.
type RecoveryKey struct {
	Key string `json:"key"`
}
