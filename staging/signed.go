package staging

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
)

// SignedClient uses signed requests: what agents and nodes have in the place of credentials. It talks only to the hosts that it was
// given and follows no redirect. Any number of goroutines may use it.
type SignedClient struct {
	hosts []string
	http  *http.Client
}

// maxErrorBody bounds what is read of an answer that is an error, in bytes.
const maxErrorBody = 16 << 10

// NewSignedClient talks to hosts ("host:port") and trusts ca (DER, may be nil) beside the system's authorities.
func NewSignedClient(hosts []string, ca []byte) (*SignedClient, error) {
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if len(ca) > 0 {
		cert, err := x509.ParseCertificate(ca)
		if err != nil {
			return nil, fmt.Errorf("read staging CA: %w", err)
		}
		pool.AddCert(cert)
	}
	transport := &http.Transport{
		// HTTP/1.1: one large body per connection costs less than streams that share one.
		TLSClientConfig:       &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}},
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		MaxIdleConnsPerHost:   16,
		IdleConnTimeout:       90 * time.Second,
		TLSHandshakeTimeout:   20 * time.Second,
		ResponseHeaderTimeout: 2 * time.Minute,
		DisableCompression:    true,
		WriteBufferSize:       256 << 10,
		ReadBufferSize:        256 << 10,
	}
	return NewSignedClientWith(transport, hosts), nil
}

// NewSignedClientWith is NewSignedClient over a transport that the caller made.
func NewSignedClientWith(transport http.RoundTripper, hosts []string) *SignedClient {
	return &SignedClient{
		hosts: hosts,
		http: &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		}},
	}
}

// Close ends idle connections.
func (c *SignedClient) Close() { c.http.CloseIdleConnections() }

// Put sends body as the signed request says. wrap, if not nil, may slow the body down. ErrExists when the object is
// there, ErrChecksum, ErrDenied (also for a URL that expired), ErrFull, or ErrTemporary.
func (c *SignedClient) Put(ctx context.Context, s SignedRequest, body []byte, wrap func(io.Reader) io.Reader) error {
	var r io.Reader = bytes.NewReader(body)
	if wrap != nil {
		r = wrap(r)
	}
	req, err := c.request(ctx, http.MethodPut, s, r)
	if err != nil {
		return fmt.Errorf("put: %w", err)
	}
	req.ContentLength = int64(len(body))
	if wrap == nil {
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	}
	res, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("put: %w", c.lost(ctx, err))
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusOK {
		_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, maxErrorBody))
		return nil
	}
	return fmt.Errorf("put: %w", statusError(res))
}

// Get reads length bytes from off; length -1 reads to the end. An answer for other bytes than these fails with ErrChecksum and the
// server's name. Length 0 asks nothing, since HTTP has no empty range.
func (c *SignedClient) Get(ctx context.Context, s SignedRequest, off, length int64) (io.ReadCloser, error) {
	req, err := c.request(ctx, http.MethodGet, s, nil)
	if err != nil {
		return nil, fmt.Errorf("get: %w", err)
	}
	if off < 0 || length < -1 {
		return nil, fmt.Errorf("get: %w: %d bytes from %d", ErrRange, length, off)
	}
	if length == 0 {
		return http.NoBody, nil
	}
	ranged := off > 0 || length > 0
	if ranged {
		req.Header.Set("Range", RangeHeader(off, length))
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("get: %w", c.lost(ctx, err))
	}
	if !ranged && res.StatusCode == http.StatusOK {
		return LimitBody(ctx, res.Body, length), nil
	}
	if ranged && res.StatusCode == http.StatusPartialContent {
		if err := CheckRange(res.Header, off, length); err != nil {
			_ = res.Body.Close() // unread: it is of no use
			return nil, fmt.Errorf("get from %s: %w", req.URL.Host, err)
		}
		return LimitBody(ctx, res.Body, length), nil
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusOK {
		return nil, fmt.Errorf("get from %s: %w: the server ignores ranges", req.URL.Host, ErrTemporary)
	}
	return nil, fmt.Errorf("get: %w", statusError(res))
}

// RangeHeader is the HTTP header for length bytes from off; length -1 is to the end.
func RangeHeader(off, length int64) string {
	if length < 0 {
		return fmt.Sprintf("bytes=%d-", off)
	}
	return fmt.Sprintf("bytes=%d-%d", off, off+length-1)
}

// IsLoopback tells whether host, without a port, is this machine by its name alone: a literal loopback address or "localhost". Only
// there is HTTP without TLS allowed.
func IsLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Zone() == "" && !ip.Is4In6() && ip.IsLoopback()
}

func (c *SignedClient) request(ctx context.Context, method string, s SignedRequest, body io.Reader) (*http.Request, error) {
	u, err := url.Parse(s.URL)
	if err != nil {
		return nil, errors.New("signed URL cannot be parsed") // the URL is a secret: not in the error
	}
	if (u.Scheme != "https" && (u.Scheme != "http" || !IsLoopback(u.Hostname()))) || !slices.Contains(c.hosts, u.Host) {
		return nil, fmt.Errorf("signed URL leads to %s://%s, allowed are %s: %w", u.Scheme, u.Host, strings.Join(c.hosts, ", "), ErrDenied)
	}
	req, err := http.NewRequestWithContext(ctx, method, s.URL, body)
	if err != nil {
		return nil, errors.New("signed URL cannot be used")
	}
	for name, values := range s.Header {
		req.Header[http.CanonicalHeaderKey(name)] = values
	}
	return req, nil
}

// lost says what a request without an answer means: the caller's wish to stop, or something that may pass. URLs are
// secrets and are taken out of the error.
func (c *SignedClient) lost(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err
	}
	return fmt.Errorf("%w: %w", ErrTemporary, err)
}

// statusError maps an S3 answer onto the sentinels.
func statusError(res *http.Response) error {
	b, _ := io.ReadAll(io.LimitReader(res.Body, maxErrorBody)) // what came is enough to tell
	text := string(b)
	code := ""
	if _, rest, ok := strings.Cut(text, "<Code>"); ok {
		code, _, _ = strings.Cut(rest, "</Code>")
	}
	if len(code) > 80 {
		code = code[:80]
	}
	err := fmt.Errorf("%w: status %d %s", ErrorFor(res.StatusCode, code), res.StatusCode, code)
	return WithRetryAfter(err, ParseRetryAfter(res.StatusCode, res.Header))
}

// ErrorFor maps an HTTP status and S3 error code onto the sentinel that it means. Servers differ: some old ones answer 304 where
// the object of a conditional PUT exists.
func ErrorFor(status int, code string) error {
	switch {
	case status == http.StatusPreconditionFailed, status == http.StatusNotModified, code == "PreconditionFailed":
		return ErrExists
	case code == "XAdminUserNotFound", code == "NoSuchBucket": // 404, yet not of the object
		return ErrDenied
	case status == http.StatusNotFound:
		return ErrNotFound
	case status == http.StatusRequestedRangeNotSatisfiable:
		return ErrRange
	case code == "BadDigest", code == "XAmzContentSHA256Mismatch", code == "InvalidDigest", code == "XAmzContentChecksumMismatch",
		code == "ChecksumMismatch", code == "IncompleteBody":
		return ErrChecksum
	case status == http.StatusInsufficientStorage, code == "XMinioStorageFull", code == "QuotaExceeded", code == "EntityTooLarge" && status == http.StatusInsufficientStorage:
		return ErrFull
	case status == http.StatusForbidden, status == http.StatusUnauthorized:
		return ErrDenied
	case status == http.StatusConflict, status == http.StatusTooManyRequests, status == http.StatusRequestTimeout, status >= 500:
		return ErrTemporary
	}
	return errors.New("request was refused")
}
