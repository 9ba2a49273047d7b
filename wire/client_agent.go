package wire

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/staging/format"
)

// Path puts values, escaped, in the place of the {…} of a pattern such as PathMachine, one for each.
func Path(path string, values ...string) string {
	for _, v := range values {
		start, end := strings.IndexByte(path, '{'), strings.IndexByte(path, '}')
		path = path[:start] + url.PathEscape(v) + path[end+1:]
	}
	return path
}

// Enroll trades a token for an identity.
func (c *Client) Enroll(ctx context.Context, r *EnrollRequest) (*EnrollResponse, error) {
	out := new(EnrollResponse)
	_, err := c.Do(ctx, http.MethodPost, PathEnroll, r, out)
	return out, err
}

// Renew gets a certificate for a new key: path is PathAgentRenew, PathNodeRenew or PathRenewExpired.
func (c *Client) Renew(ctx context.Context, path string, r *RenewRequest) (*RenewResponse, error) {
	out := new(RenewResponse)
	_, err := c.Do(ctx, http.MethodPost, path, r, out)
	return out, err
}

// Hello opens the conversation of a process: path is PathAgentHello or PathNodeHello.
func (c *Client) Hello(ctx context.Context, path string, h *Hello) (*HelloResponse, error) {
	out := new(HelloResponse)
	_, err := c.Do(ctx, http.MethodPost, path, h, out)
	return out, err
}

// Assignment waits until the assignment is another than version, at most for wait; nil: it is not.
func (c *Client) Assignment(ctx context.Context, version uint64, wait time.Duration) (*Assignment, error) {
	out := new(Assignment)
	status, err := c.Do(ctx, http.MethodGet, fmt.Sprintf("%s?version=%d&wait=%s", PathAgentAssignment, version, wait), nil, out)
	if err != nil || status == http.StatusNotModified {
		return nil, err
	}
	return out, nil
}

// Report tells the master news.
func (c *Client) Report(ctx context.Context, r *Report) error {
	_, err := c.Do(ctx, http.MethodPost, PathAgentReport, r, nil)
	return err
}

// OpenSession opens a session.
func (c *Client) OpenSession(ctx context.Context, r *SessionRequest) (*Session, error) {
	out := new(Session)
	_, err := c.Do(ctx, http.MethodPost, PathAgentSessions, r, out)
	return out, err
}

// RenewSession keeps a session's lease and tells its progress.
func (c *Client) RenewSession(ctx context.Context, session string, p *Progress) (*SessionLease, error) {
	out := new(SessionLease)
	_, err := c.Do(ctx, http.MethodPost, Path(PathSessionRenew, session), p, out)
	return out, err
}

// Offer asks which ids need not be sent.
func (c *Client) Offer(ctx context.Context, session string, ids []chunker.ID) (Bitmap, error) {
	b, err := c.Binary(ctx, Path(PathSessionOffer, session), EncodeIDs(make([]byte, 0, len(ids)*chunker.IDSize), ids))
	if err != nil {
		return nil, err
	}
	known, err := DecodeBitmap(b, len(ids))
	if err != nil {
		return nil, fmt.Errorf("offer: %w", err)
	}
	return known, nil
}

// Announce asks for the right to put packs.
func (c *Client) Announce(ctx context.Context, session string, packs []PackAnnounce) ([]PackUpload, error) {
	var out []PackUpload
	_, err := c.Do(ctx, http.MethodPost, Path(PathSessionPacks, session), packs, &out)
	if err == nil && len(out) != len(packs) {
		return nil, fmt.Errorf("announce: %d answers for %d packs", len(out), len(packs))
	}
	return out, err
}

// CommitPack says that a pack is in the bucket and what is in it.
func (c *Client) CommitPack(ctx context.Context, session string, pack format.PackID, entries []byte) error {
	_, err := c.Binary(ctx, Path(PathSessionPack, session, pack.String()), entries)
	return err
}

// CommitSession makes the restpoint.
func (c *Client) CommitSession(ctx context.Context, session string, manifest []byte) (*Committed, error) {
	out := new(Committed)
	_, err := c.Do(ctx, http.MethodPost, Path(PathSessionCommit, session), manifest, out)
	return out, err
}

// AbortSession gives a session up.
func (c *Client) AbortSession(ctx context.Context, session string, f *Failure) error {
	_, err := c.Do(ctx, http.MethodPost, Path(PathSessionAbort, session), f, nil)
	return err
}

// CallHome says that a launched copy is up. The client needs no certificate.
func (c *Client) CallHome(ctx context.Context, r *CallHome) error {
	_, err := c.Do(ctx, http.MethodPost, PathCallHome, r, nil)
	return err
}
