package wire

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/openmigrate/openmigrate/chunker"
)

// LeaseJob waits for work; nil: there was none.
func (c *Client) LeaseJob(ctx context.Context, r *LeaseRequest) (*Job, error) {
	out := new(Job)
	status, err := c.Do(ctx, http.MethodPost, PathNodeLease, r, out)
	if err != nil || status == http.StatusNoContent {
		return nil, err
	}
	return out, nil
}

// RenewJob keeps a job's lease and tells its progress.
func (c *Client) RenewJob(ctx context.Context, job string, p *Progress) (*JobLease, error) {
	out := new(JobLease)
	_, err := c.Do(ctx, http.MethodPost, Path(PathJobRenew, job), p, out)
	return out, err
}

// Resolve asks where ids are stored; at most MaxOffer at once.
func (c *Client) Resolve(ctx context.Context, job string, ids []chunker.ID) ([]Location, error) {
	b, err := c.Binary(ctx, Path(PathJobResolve, job), EncodeIDs(make([]byte, 0, len(ids)*chunker.IDSize), ids))
	if err != nil {
		return nil, err
	}
	return DecodeLocations(b, ids)
}

// URLs asks for the right to read packs.
func (c *Client) URLs(ctx context.Context, job string, r *URLRequest) (*URLResponse, error) {
	out := new(URLResponse)
	_, err := c.Do(ctx, http.MethodPost, Path(PathJobURLs, job), r, out)
	return out, err
}

// Quarantine reports stored copies that cannot be used.
func (c *Client) Quarantine(ctx context.Context, job string, d []Damage) error {
	_, err := c.Do(ctx, http.MethodPost, Path(PathJobQuarantine, job), d, nil)
	return err
}

// ReportJob says what a job has done that goes on, as JobResult.Report does at the end of others.
func (c *Client) ReportJob(ctx context.Context, job string, report json.RawMessage) error {
	_, err := c.Do(ctx, http.MethodPost, Path(PathJobReport, job), report, nil)
	return err
}

// CompleteJob ends a job well.
func (c *Client) CompleteJob(ctx context.Context, job string, r *JobResult) error {
	_, err := c.Do(ctx, http.MethodPost, Path(PathJobComplete, job), r, nil)
	return err
}

// FailJob ends a job badly.
func (c *Client) FailJob(ctx context.Context, job string, f *Failure) error {
	_, err := c.Do(ctx, http.MethodPost, Path(PathJobFail, job), f, nil)
	return err
}
