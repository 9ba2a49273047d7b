package wire

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/openmigrate/openmigrate/internal/telemetry"
)

// ErrUnreachable marks requests that got no answer from the master. They may pass when tried again.
var ErrUnreachable = errors.New("master is not reachable")

// ErrUntrusted: who answered is not the master that this client trusts.
var ErrUntrusted = errors.New("the server's certificate is not from the CA that is trusted")

// ClientOptions say whom to trust and who the caller is.
type ClientOptions struct {
	URL string
	// CA (DER) is trusted and nothing else; or Pin, the SHA-256 of the CA's public key, which the server's chain must lead to.
	CA  []byte
	Pin *[32]byte
	// Certificate is asked for at each handshake, so that a renewed one is used at the next.
	Certificate func() *tls.Certificate
	Token       string        // bearer token of a person
	Generation  func() uint64 // of an agent or node
	UserAgent   string
}

// Client speaks to the master. Any number of goroutines may use it.
type Client struct {
	base string
	o    ClientOptions
	http *http.Client
	tr   *http.Transport
}

// maxAnswer bounds an answer, in bytes.
const maxAnswer = 256 << 20

// NewClient makes a client; it connects at the first request.
func NewClient(o ClientOptions) (*Client, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("master URL %q: want https://host:port", o.URL)
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS13, ServerName: u.Hostname()}
	switch {
	case o.Pin != nil:
		conf.InsecureSkipVerify = true // the chain is verified below, against the pin
		pin := *o.Pin
		conf.VerifyConnection = func(s tls.ConnectionState) error { return verifyPinned(s, pin, u.Hostname()) }
	case len(o.CA) > 0:
		ca, err := x509.ParseCertificate(o.CA)
		if err != nil {
			return nil, fmt.Errorf("read the master's CA: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		conf.RootCAs.AddCert(ca)
	}
	if o.Certificate != nil {
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if c := o.Certificate(); c != nil {
				return c, nil
			}
			return &tls.Certificate{}, nil
		}
	}
	tr := &http.Transport{
		TLSClientConfig: conf, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 4, IdleConnTimeout: 90 * time.Second,
		DialContext: (&net.Dialer{Timeout: 10 * time.Second}).DialContext, TLSHandshakeTimeout: 15 * time.Second,
		HTTP2: &http.HTTP2Config{SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second},
	}
	return &Client{base: strings.TrimRight(o.URL, "/"), o: o, tr: tr, http: &http.Client{Transport: tr,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}, nil
}

// Close ends idle connections, so that the next request shows a renewed certificate.
func (c *Client) Close() { c.tr.CloseIdleConnections() }

// verifyPinned accepts a chain from the server's certificate, good for host, to a CA whose key has the pinned hash.
func verifyPinned(s tls.ConnectionState, pin [32]byte, host string) error {
	for _, cert := range s.PeerCertificates[1:] {
		if Pin(cert) != pin {
			continue
		}
		roots := x509.NewCertPool()
		roots.AddCert(cert)
		_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, DNSName: host})
		return err
	}
	return fmt.Errorf("%w: its CA's key is not the one with the fingerprint in the token", ErrUntrusted)
}

// Do sends in as JSON (nil: no body) and decodes the answer into out (nil: none). It returns the status of a good answer. An error is
// a *Problem, ErrUnreachable, ErrUntrusted, or the context's.
func (c *Client) Do(ctx context.Context, method, path string, in, out any) (int, error) {
	return c.DoWith(ctx, method, path, nil, in, out)
}

// DoWith is Do with further headers.
func (c *Client) DoWith(ctx context.Context, method, path string, header http.Header, in, out any) (int, error) {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return 0, fmt.Errorf("encode request: %w", err)
		}
	}
	status, answer, err := c.send(ctx, method, path, "application/json", header, body)
	if err != nil {
		return status, err
	}
	if out != nil && status != http.StatusNoContent && status != http.StatusNotModified {
		if err := json.Unmarshal(answer, out); err != nil {
			return status, fmt.Errorf("%s %s: decode answer: %w", method, path, err)
		}
	}
	return status, nil
}

// Binary posts bytes and returns bytes.
func (c *Client) Binary(ctx context.Context, path string, body []byte) ([]byte, error) {
	_, answer, err := c.send(ctx, http.MethodPost, path, "application/octet-stream", nil, body)
	return answer, err
}

// Fetch gets the bytes at path.
func (c *Client) Fetch(ctx context.Context, path string) ([]byte, error) {
	_, answer, err := c.send(ctx, http.MethodGet, path, "", nil, nil)
	return answer, err
}

func (c *Client) send(ctx context.Context, method, path, contentType string, header http.Header, body []byte) (int, []byte, error) {
	res, err := c.open(ctx, method, path, contentType, header, body)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	switch {
	case err != nil:
		return res.StatusCode, nil, c.lost(ctx, err)
	case len(answer) > maxAnswer:
		return res.StatusCode, nil, fmt.Errorf("%s %s: answer of more than %d bytes", method, path, maxAnswer)
	case res.StatusCode < 300 || res.StatusCode == http.StatusNotModified:
		return res.StatusCode, answer, nil
	}
	return res.StatusCode, nil, problemIn(answer, res.StatusCode, method, path)
}

func problemIn(answer []byte, status int, method, path string) *Problem {
	p := &Problem{}
	if json.Unmarshal(answer, p) != nil || p.Code == "" {
		return NewProblem(status, CodeInternal, "%s %s: status %d without a reason", method, path, status)
	}
	p.Status = status
	return p
}

// open sends a request and returns the answer, whatever its status. The caller closes its body.
func (c *Client) open(ctx context.Context, method, path, contentType string, header http.Header, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	maps.Copy(req.Header, header)
	if body != nil {
		req.Header.Set("Content-Type", contentType)
	}
	req.Header.Set("Accept", "application/json, application/problem+json, application/octet-stream")
	if c.o.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.o.Token)
	}
	if c.o.Generation != nil {
		req.Header.Set(HeaderGeneration, strconv.FormatUint(c.o.Generation(), 10))
	}
	if c.o.UserAgent != "" {
		req.Header.Set("User-Agent", c.o.UserAgent)
	}
	telemetry.Inject(ctx, req.Header)
	res, err := c.http.Do(req)
	if err != nil {
		return nil, c.lost(ctx, err)
	}
	return res, nil
}

// lost says why there is no answer.
func (c *Client) lost(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	if errors.As(err, &unknown) || errors.As(err, &host) || errors.As(err, &invalid) {
		return fmt.Errorf("%s: %w: %w (is OPENMIGRATE_CA_FILE that master's ca.pem, and the name in the URL one of its own?)", c.base, ErrUntrusted, err)
	}
	if errors.Is(err, ErrUntrusted) {
		return fmt.Errorf("%s: %w", c.base, err)
	}
	return fmt.Errorf("%s: %w: %w", c.base, ErrUnreachable, err)
}

// Retry calls f until it returns nil or an error that trying again cannot mend, waiting longer each time, at most for a minute
// in all calls together unless limit says otherwise. f must be safe to repeat.
func Retry(ctx context.Context, limit time.Duration, f func() error) error {
	if limit <= 0 {
		limit = time.Minute
	}
	deadline := time.Now().Add(limit)
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		err := f()
		if err == nil || !Passing(err) || time.Now().Add(wait).After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

// Passing reports whether an error may pass when the same request is made again.
func Passing(err error) bool {
	return errors.Is(err, ErrUnreachable) || HasCode(err, CodeUnavailable) || HasCode(err, CodeStaging)
}
