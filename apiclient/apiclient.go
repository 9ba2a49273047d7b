// Package apiclient is what people's tools ask of the master: one typed method for each operation of wire/operator.go and wire/launch.go. A Client may
// be used by any number of goroutines. Errors are those of wire.Client.Do.
package apiclient

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"

	"github.com/openmigrate/openmigrate/wire"
)

// Client speaks for a person. The methods of wire.Client serve a job that the person holds.
type Client struct{ *wire.Client }

// New wraps a client that was made with a token.
func New(c *wire.Client) *Client { return &Client{c} }

// ask sends in and returns the answer as T.
func ask[T any](ctx context.Context, c *Client, method, path string, in any) (T, error) {
	var out T
	_, err := c.Do(ctx, method, path, in, &out)
	return out, err
}

func (c *Client) tell(ctx context.Context, method, path string) error {
	_, err := c.Do(ctx, method, path, nil, nil)
	return err
}

// Whoami says whose token this is.
func (c *Client) Whoami(ctx context.Context) (wire.Whoami, error) {
	return ask[wire.Whoami](ctx, c, http.MethodGet, wire.PathWhoami, nil)
}

// Machines lists all machines, without inventory and events.
func (c *Client) Machines(ctx context.Context) ([]wire.MachineInfo, error) {
	return ask[[]wire.MachineInfo](ctx, c, http.MethodGet, wire.PathMachines, nil)
}

// Machine reads one machine by id or name.
func (c *Client) Machine(ctx context.Context, ref string) (wire.MachineInfo, error) {
	return ask[wire.MachineInfo](ctx, c, http.MethodGet, wire.Path(wire.PathMachine, ref), nil)
}

// SetPolicy changes what is set in p.
func (c *Client) SetPolicy(ctx context.Context, ref string, p wire.MachinePolicy) (wire.MachineInfo, error) {
	return ask[wire.MachineInfo](ctx, c, http.MethodPatch, wire.Path(wire.PathMachine, ref), p)
}

// RemoveMachine removes a machine and its restpoints.
func (c *Client) RemoveMachine(ctx context.Context, ref string) error {
	return c.tell(ctx, http.MethodDelete, wire.Path(wire.PathMachine, ref))
}

// PauseMachine stops a machine's replication after the session that runs.
func (c *Client) PauseMachine(ctx context.Context, ref string) error {
	return c.tell(ctx, http.MethodPost, wire.Path(wire.PathMachinePause, ref))
}

// ResumeMachine undoes PauseMachine.
func (c *Client) ResumeMachine(ctx context.Context, ref string) error {
	return c.tell(ctx, http.MethodPost, wire.Path(wire.PathMachineGoOn, ref))
}

// RevokeMachine shuts a machine's agent out for ever.
func (c *Client) RevokeMachine(ctx context.Context, ref string) error {
	return c.tell(ctx, http.MethodPost, wire.Path(wire.PathRevoke, ref))
}

// UnfreezeMachine lets a machine's agent work again.
func (c *Client) UnfreezeMachine(ctx context.Context, ref string) error {
	return c.tell(ctx, http.MethodPost, wire.Path(wire.PathUnfreeze, ref))
}

// Sync wishes for a restpoint now.
func (c *Client) Sync(ctx context.Context, ref string) (wire.SyncInfo, error) {
	return ask[wire.SyncInfo](ctx, c, http.MethodPost, wire.Path(wire.PathMachineSync, ref), nil)
}

// SyncStatus says what became of that wish.
func (c *Client) SyncStatus(ctx context.Context, ref, sync string) (wire.SyncInfo, error) {
	return ask[wire.SyncInfo](ctx, c, http.MethodGet, wire.Path(wire.PathSync, ref, sync), nil)
}

// Restpoints lists a machine's restpoints, newest first.
func (c *Client) Restpoints(ctx context.Context, machine string) ([]wire.RestpointInfo, error) {
	return ask[[]wire.RestpointInfo](ctx, c, http.MethodGet, wire.Path(wire.PathRestpointsOf, machine), nil)
}

// Restpoint reads one: its id, or M/latest.
func (c *Client) Restpoint(ctx context.Context, ref string) (wire.RestpointInfo, error) {
	return ask[wire.RestpointInfo](ctx, c, http.MethodGet, wire.Path(wire.PathRestpoint, ref), nil)
}

// Diff compares two restpoints.
func (c *Client) Diff(ctx context.Context, from, to string) ([]wire.DiskDiff, error) {
	q := url.Values{"from": {from}, "to": {to}}
	return ask[[]wire.DiskDiff](ctx, c, http.MethodGet, wire.PathDiff+"?"+q.Encode(), nil)
}

// Pin keeps a restpoint from being removed; with pinned false it undoes that.
func (c *Client) Pin(ctx context.Context, ref string, pinned bool) error {
	method := http.MethodPost
	if !pinned {
		method = http.MethodDelete
	}
	return c.tell(ctx, method, wire.Path(wire.PathPin, ref))
}

// RemoveRestpoint removes one.
func (c *Client) RemoveRestpoint(ctx context.Context, ref string) error {
	return c.tell(ctx, http.MethodDelete, wire.Path(wire.PathRestpointRm, ref))
}

// Jobs lists all jobs.
func (c *Client) Jobs(ctx context.Context) ([]wire.JobInfo, error) {
	return ask[[]wire.JobInfo](ctx, c, http.MethodGet, wire.PathJobs, nil)
}

// Job reads one.
func (c *Client) Job(ctx context.Context, id string) (wire.JobInfo, error) {
	return ask[wire.JobInfo](ctx, c, http.MethodGet, wire.Path(wire.PathJobInfo, id), nil)
}

// CreateJob queues a job.
func (c *Client) CreateJob(ctx context.Context, r wire.JobRequest) (wire.JobInfo, error) {
	return ask[wire.JobInfo](ctx, c, http.MethodPost, wire.PathJobs, r)
}

// CancelJob asks the holder of a job to stop.
func (c *Client) CancelJob(ctx context.Context, id string) error {
	return c.tell(ctx, http.MethodDelete, wire.Path(wire.PathJobInfo, id))
}

// Export makes an export job and holds it: the caller then does it through RenewJob, Resolve, URLs and CompleteJob.
func (c *Client) Export(ctx context.Context, restpoint string, disk *int) (*wire.Job, error) {
	job, err := c.CreateJob(ctx, wire.JobRequest{Kind: wire.JobExport, Restpoint: restpoint, Disk: disk})
	if err != nil {
		return nil, err
	}
	return ask[*wire.Job](ctx, c, http.MethodPost, wire.Path(wire.PathJobHold, job.ID), nil)
}

// EnrolTokens lists the enrolment tokens.
func (c *Client) EnrolTokens(ctx context.Context) ([]wire.EnrolTokenInfo, error) {
	return ask[[]wire.EnrolTokenInfo](ctx, c, http.MethodGet, wire.PathEnrolTokens, nil)
}

// CreateEnrolToken makes one; its text is in the answer and nowhere else.
func (c *Client) CreateEnrolToken(ctx context.Context, r wire.EnrolTokenRequest) (wire.EnrolTokenInfo, error) {
	return ask[wire.EnrolTokenInfo](ctx, c, http.MethodPost, wire.PathEnrolTokens, r)
}

// RemoveEnrolToken makes one worthless.
func (c *Client) RemoveEnrolToken(ctx context.Context, id string) error {
	return c.tell(ctx, http.MethodDelete, wire.Path(wire.PathEnrolToken, id))
}

// Tokens lists the API tokens.
func (c *Client) Tokens(ctx context.Context) ([]wire.TokenInfo, error) {
	return ask[[]wire.TokenInfo](ctx, c, http.MethodGet, wire.PathTokens, nil)
}

// CreateToken makes one; its text is in the answer and nowhere else.
func (c *Client) CreateToken(ctx context.Context, r wire.TokenRequest) (wire.TokenInfo, error) {
	return ask[wire.TokenInfo](ctx, c, http.MethodPost, wire.PathTokens, r)
}

// RemoveToken makes one worthless.
func (c *Client) RemoveToken(ctx context.Context, id string) error {
	return c.tell(ctx, http.MethodDelete, wire.Path(wire.PathToken, id))
}

// Nodes lists the nodes.
func (c *Client) Nodes(ctx context.Context) ([]wire.NodeInfo, error) {
	return ask[[]wire.NodeInfo](ctx, c, http.MethodGet, wire.PathNodes, nil)
}

// Node shows one node.
func (c *Client) Node(ctx context.Context, id string) (wire.NodeInfo, error) {
	return ask[wire.NodeInfo](ctx, c, http.MethodGet, wire.Path(wire.PathNode, id), nil)
}

// RevokeNode shuts a node out for ever.
func (c *Client) RevokeNode(ctx context.Context, id string) error {
	return c.tell(ctx, http.MethodPost, wire.Path(wire.PathNodeRevoke, id))
}

// StagingStats says what is in staging, as the master writes it.
func (c *Client) StagingStats(ctx context.Context) (json.RawMessage, error) {
	return ask[json.RawMessage](ctx, c, http.MethodGet, wire.PathStagingStats, nil)
}

// RunStaging does check, check-deep, gc or rebuild-index, tells progress (may be nil), and returns the report as the master writes it.
func (c *Client) RunStaging(ctx context.Context, operation string, progress func(wire.Progress)) (json.RawMessage, error) {
	return c.report(ctx, "staging "+operation, wire.Path(wire.PathStagingRun, operation), progress)
}

// RecoveryKey makes an offline recovery key; it is in the answer and nowhere else.
func (c *Client) RecoveryKey(ctx context.Context) (string, error) {
	k, err := ask[wire.RecoveryKey](ctx, c, http.MethodPost, wire.PathRecoveryKey, nil)
	return k.Key, err
}
