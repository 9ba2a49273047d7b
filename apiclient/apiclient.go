// Package apiclient is what people's tools ask of the master: one typed method for each operation of the public API that the command line needs. Lists are read
// to their last page; what makes something carries an idempotency key, so it may be sent again. A Client may be used by any number of goroutines.
// Errors are those of wire.Client.Do.
package apiclient

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

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

// change sends in with headers.
func change[T any](ctx context.Context, c *Client, method, path string, in any, header http.Header) (T, error) {
	var out T
	_, err := c.DoWith(ctx, method, path, header, in, &out)
	return out, err
}

// made sends what makes something. While the answer is lost it is sent again: the key sees to it that it is made once.
func made[T any](ctx context.Context, c *Client, path string, in any) (out T, err error) {
	header := http.Header{wire.HeaderIdempotencyKey: {rand.Text()}}
	err = wire.Retry(ctx, resendFor, func() (err error) {
		out, err = change[T](ctx, c, http.MethodPost, path, in, header)
		if err != nil && !errors.Is(err, wire.ErrUnreachable) && wire.Passing(err) {
			return &final{err}
		}
		return err
	})
	if f := (*final)(nil); errors.As(err, &f) {
		err = f.error
	}
	return out, err
}

// resendFor is how long what makes something is sent again while the master does not answer.
const resendFor = 15 * time.Second

// final hides from Retry that an error may pass: the master has answered, and whoever asked decides.
type final struct{ error }

// asItIs changes a thing whatever it is now.
var asItIs = http.Header{"If-Match": {"*"}}

// all reads every page of a list.
func all[T any](ctx context.Context, c *Client, path string, query url.Values) ([]T, error) {
	list := []T{}
	if query == nil {
		query = url.Values{}
	}
	query.Set("limit", strconv.Itoa(wire.MaxPage))
	for {
		page, err := ask[wire.Page[T]](ctx, c, http.MethodGet, path+"?"+query.Encode(), nil)
		if err != nil {
			return nil, err
		}
		list = append(list, page.Items...)
		if page.NextCursor == "" {
			return list, nil
		}
		query.Set("cursor", page.NextCursor)
	}
}

// Whoami says whose token this is.
func (c *Client) Whoami(ctx context.Context) (wire.Whoami, error) {
	return ask[wire.Whoami](ctx, c, http.MethodGet, wire.PathWhoami, nil)
}

// Machines lists all machines, without inventory and events.
func (c *Client) Machines(ctx context.Context) ([]wire.MachineInfo, error) {
	return all[wire.MachineInfo](ctx, c, wire.PathMachines, nil)
}

// Machine reads one machine by id or name.
func (c *Client) Machine(ctx context.Context, ref string) (wire.MachineInfo, error) {
	return ask[wire.MachineInfo](ctx, c, http.MethodGet, wire.Path(wire.PathMachine, ref), nil)
}

// SetPolicy changes what is set in p.
func (c *Client) SetPolicy(ctx context.Context, ref string, p wire.MachinePolicy) (wire.MachineInfo, error) {
	return change[wire.MachineInfo](ctx, c, http.MethodPatch, wire.Path(wire.PathMachine, ref), p, asItIs)
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
	return made[wire.SyncInfo](ctx, c, wire.Path(wire.PathMachineSync, ref), nil)
}

// SyncStatus says what became of that wish.
func (c *Client) SyncStatus(ctx context.Context, ref, sync string) (wire.SyncInfo, error) {
	return ask[wire.SyncInfo](ctx, c, http.MethodGet, wire.Path(wire.PathSync, ref, sync), nil)
}

// Restpoints lists a machine's restpoints, newest first.
func (c *Client) Restpoints(ctx context.Context, machine string) ([]wire.RestpointInfo, error) {
	return all[wire.RestpointInfo](ctx, c, wire.Path(wire.PathRestpointsOf, machine), nil)
}

// Restpoint reads one: its id, or M/latest.
func (c *Client) Restpoint(ctx context.Context, ref string) (wire.RestpointInfo, error) {
	if machine, latest := strings.CutSuffix(ref, "/latest"); latest {
		return ask[wire.RestpointInfo](ctx, c, http.MethodGet, wire.Path(wire.PathRestpointLatest, machine), nil)
	}
	return ask[wire.RestpointInfo](ctx, c, http.MethodGet, wire.Path(wire.PathRestpoint, ref), nil)
}

// Diff says what restpoint to has that from has not; each is an id or M/latest.
func (c *Client) Diff(ctx context.Context, from, to string) ([]wire.DiskDiff, error) {
	if strings.HasSuffix(to, "/latest") {
		r, err := c.Restpoint(ctx, to)
		if err != nil {
			return nil, err
		}
		to = r.ID
	}
	q := url.Values{"from": {from}}
	return ask[[]wire.DiskDiff](ctx, c, http.MethodGet, wire.Path(wire.PathDiff, to)+"?"+q.Encode(), nil)
}

// Pin keeps a restpoint from being removed; with pinned false it undoes that.
func (c *Client) Pin(ctx context.Context, ref string, pinned bool) error {
	method := http.MethodPut
	if !pinned {
		method = http.MethodDelete
	}
	return c.tell(ctx, method, wire.Path(wire.PathPin, ref))
}

// RemoveRestpoint removes one.
func (c *Client) RemoveRestpoint(ctx context.Context, ref string) error {
	return c.tell(ctx, http.MethodDelete, wire.Path(wire.PathRestpoint, ref))
}

// Jobs lists all jobs.
func (c *Client) Jobs(ctx context.Context) ([]wire.JobInfo, error) {
	return all[wire.JobInfo](ctx, c, wire.PathJobs, nil)
}

// Job reads one.
func (c *Client) Job(ctx context.Context, id string) (wire.JobInfo, error) {
	return ask[wire.JobInfo](ctx, c, http.MethodGet, wire.Path(wire.PathJobInfo, id), nil)
}

// CreateJob queues a job.
func (c *Client) CreateJob(ctx context.Context, r wire.JobRequest) (wire.JobInfo, error) {
	return made[wire.JobInfo](ctx, c, wire.PathJobs, r)
}

// CancelJob asks the holder of a job to stop.
func (c *Client) CancelJob(ctx context.Context, id string) error {
	return c.tell(ctx, http.MethodPost, wire.Path(wire.PathJobCancel, id))
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
	return all[wire.EnrolTokenInfo](ctx, c, wire.PathEnrolTokens, nil)
}

// CreateEnrolToken makes one; its text is in the answer and nowhere else.
func (c *Client) CreateEnrolToken(ctx context.Context, r wire.EnrolTokenRequest) (wire.EnrolTokenInfo, error) {
	return made[wire.EnrolTokenInfo](ctx, c, wire.PathEnrolTokens, r)
}

// RemoveEnrolToken makes one worthless.
func (c *Client) RemoveEnrolToken(ctx context.Context, id string) error {
	return c.tell(ctx, http.MethodDelete, wire.Path(wire.PathEnrolToken, id))
}

// Tokens lists the API tokens.
func (c *Client) Tokens(ctx context.Context) ([]wire.TokenInfo, error) {
	return all[wire.TokenInfo](ctx, c, wire.PathTokens, nil)
}

// CreateToken makes one; its text is in the answer and nowhere else.
func (c *Client) CreateToken(ctx context.Context, r wire.TokenRequest) (wire.TokenInfo, error) {
	return made[wire.TokenInfo](ctx, c, wire.PathTokens, r)
}

// RemoveToken makes one worthless.
func (c *Client) RemoveToken(ctx context.Context, id string) error {
	return c.tell(ctx, http.MethodDelete, wire.Path(wire.PathToken, id))
}

// Nodes lists the nodes.
func (c *Client) Nodes(ctx context.Context) ([]wire.NodeInfo, error) {
	return all[wire.NodeInfo](ctx, c, wire.PathNodes, nil)
}

// Node shows one node.
func (c *Client) Node(ctx context.Context, id string) (wire.NodeInfo, error) {
	return ask[wire.NodeInfo](ctx, c, http.MethodGet, wire.Path(wire.PathNode, id), nil)
}

// RevokeNode shuts a node out for ever.
func (c *Client) RevokeNode(ctx context.Context, id string) error {
	return c.tell(ctx, http.MethodPost, wire.Path(wire.PathNodeRevoke, id))
}

// StagingStats counts what is in staging.
func (c *Client) StagingStats(ctx context.Context) (wire.StagingStats, error) {
	return ask[wire.StagingStats](ctx, c, http.MethodGet, wire.PathStaging+"?fresh=true", nil)
}

// RunStaging does check, check-deep, gc or rebuild-index, tells progress (may be nil), and returns the report as the master writes it.
func (c *Client) RunStaging(ctx context.Context, action string, progress func(wire.Progress)) (json.RawMessage, error) {
	return c.follow(ctx, wire.Path(wire.PathStagingRun, action), progress, nil)
}

// RecoveryKey makes an offline recovery key; it is in the answer and nowhere else.
func (c *Client) RecoveryKey(ctx context.Context) (string, error) {
	k, err := made[wire.RecoveryKey](ctx, c, wire.PathRecoveryKey, nil)
	return k.Key, err
}
