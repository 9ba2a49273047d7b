// Package memstore is a bucket in memory for tests: a staging.Store that also signs requests and serves them over HTTP, so
// that whole agents and nodes can be tested without an S3 server. It enforces what it signs, as a real one does.
// Any number of goroutines may use it.
package memstore

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/openmigrate/openmigrate/internal/clock"
	"github.com/openmigrate/openmigrate/staging"
)

// Store is a bucket in memory.
type Store struct {
	clock  clock.Clock
	secret []byte

	mu      sync.Mutex
	objects map[string]object // guarded by mu
	base    string            // of signed URLs; guarded by mu
	puts    int               // guarded by mu
}

type object struct {
	body     []byte
	modified time.Time
}

// New returns an empty bucket. A nil clock is the real one.
func New(c clock.Clock) *Store {
	if c == nil {
		c = clock.Real{}
	}
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // never fails since Go 1.24
	return &Store{clock: c, secret: secret, objects: map[string]object{}}
}

// SetBaseURL says where the store's ServeHTTP is reached, for signed URLs.
func (s *Store) SetBaseURL(base string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.base = base
}

// Puts is how many objects were stored, over both ways.
func (s *Store) Puts() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.puts
}

// Corrupt changes an object behind everybody's back: fn gets a copy and returns what is there from then on; nil removes it.
func (s *Store) Corrupt(name string, fn func([]byte) []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.objects[name]
	b := fn(bytes.Clone(o.body))
	if b == nil {
		delete(s.objects, name)
		return
	}
	s.objects[name] = object{body: b, modified: s.clock.Now()}
}

// Put implements staging.Store.
func (s *Store) Put(ctx context.Context, name string, body []byte, opts *staging.PutOptions) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("put %s: %w", name, err)
	}
	if err := staging.CheckName(name); err != nil {
		return fmt.Errorf("put: %w", err)
	}
	return s.put(name, bytes.Clone(body), opts != nil && opts.IfAbsent)
}

func (s *Store) put(name string, body []byte, ifAbsent bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, there := s.objects[name]; there && ifAbsent {
		return fmt.Errorf("put %s: %w", name, staging.ErrExists)
	}
	s.objects[name] = object{body: body, modified: s.clock.Now()}
	s.puts++
	return nil
}

// Get implements staging.Store.
func (s *Store) Get(ctx context.Context, name string, off, length int64) (io.ReadCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("get %s: %w", name, err)
	}
	o, err := s.object(name)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", name, err)
	}
	size := int64(len(o.body))
	off = min(max(off, 0), size)
	end := size
	if length >= 0 {
		end = min(size, off+length)
	}
	return io.NopCloser(bytes.NewReader(o.body[off:end])), nil
}

func (s *Store) object(name string) (object, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, there := s.objects[name]
	if !there {
		return object{}, staging.ErrNotFound
	}
	return o, nil
}

// Stat implements staging.Store.
func (s *Store) Stat(ctx context.Context, name string) (staging.Info, error) {
	if err := ctx.Err(); err != nil {
		return staging.Info{}, fmt.Errorf("stat %s: %w", name, err)
	}
	o, err := s.object(name)
	if err != nil {
		return staging.Info{}, fmt.Errorf("stat %s: %w", name, err)
	}
	return staging.Info{Name: name, Size: int64(len(o.body)), Modified: o.modified}, nil
}

// List implements staging.Store.
func (s *Store) List(ctx context.Context, prefix, after string, fn func(staging.Info) error) error {
	s.mu.Lock()
	var all []staging.Info
	for name, o := range s.objects {
		if strings.HasPrefix(name, prefix) && name > after {
			all = append(all, staging.Info{Name: name, Size: int64(len(o.body)), Modified: o.modified})
		}
	}
	s.mu.Unlock()
	slices.SortFunc(all, func(a, b staging.Info) int { return strings.Compare(a.Name, b.Name) })
	for _, i := range all {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("list %s: %w", prefix, err)
		}
		if err := fn(i); err != nil {
			return err
		}
	}
	return nil
}

// Delete implements staging.Store.
func (s *Store) Delete(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("delete %s: %w", name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.objects, name)
	return nil
}

// Headers of a signed PUT, as S3 names them.
const (
	headerCRC32C = "X-Amz-Checksum-Crc32c"
	headerAbsent = "If-None-Match"
)

// SignPut implements staging.Signer.
func (s *Store) SignPut(_ context.Context, name string, o staging.SignPut) (staging.SignedRequest, error) {
	if err := staging.CheckName(name); err != nil {
		return staging.SignedRequest{}, fmt.Errorf("sign put: %w", err)
	}
	h := http.Header{headerCRC32C: {hex.EncodeToString(o.CRC32C[:])}, headerAbsent: {"*"}}
	return staging.SignedRequest{
		URL:    s.sign(http.MethodPut, name, o.Valid, fmt.Sprintf("%d/%x", o.Size, o.CRC32C)),
		Header: h,
	}, nil
}

// SignGet implements staging.Signer.
func (s *Store) SignGet(_ context.Context, name string, valid time.Duration) (staging.SignedRequest, error) {
	if err := staging.CheckName(name); err != nil {
		return staging.SignedRequest{}, fmt.Errorf("sign get: %w", err)
	}
	return staging.SignedRequest{URL: s.sign(http.MethodGet, name, valid, "")}, nil
}

func (s *Store) sign(method, name string, valid time.Duration, terms string) string {
	expires := strconv.FormatInt(s.clock.Now().Add(valid).UnixNano(), 10)
	s.mu.Lock()
	base := s.base
	s.mu.Unlock()
	q := url.Values{"expires": {expires}, "terms": {terms}, "signature": {s.mac(method, name, expires, terms)}}
	return base + "/" + name + "?" + q.Encode()
}

func (s *Store) mac(parts ...string) string {
	m := hmac.New(sha256.New, s.secret)
	fmt.Fprintf(m, "%q", parts)
	return hex.EncodeToString(m.Sum(nil))
}

// ServeHTTP answers signed requests.
func (s *Store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, "/")
	q := r.URL.Query()
	expires, terms := q.Get("expires"), q.Get("terms")
	nanos, err := strconv.ParseInt(expires, 10, 64)
	if err != nil || !hmac.Equal([]byte(q.Get("signature")), []byte(s.mac(r.Method, name, expires, terms))) || s.clock.Now().UnixNano() > nanos {
		refuse(w, http.StatusForbidden, "AccessDenied")
		return
	}
	switch r.Method {
	case http.MethodGet:
		o, err := s.object(name)
		if err != nil {
			refuse(w, http.StatusNotFound, "NoSuchKey")
			return
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(o.body))
	case http.MethodPut:
		s.serveSignedPut(w, r, name, terms)
	default:
		refuse(w, http.StatusMethodNotAllowed, "MethodNotAllowed")
	}
}

func (s *Store) serveSignedPut(w http.ResponseWriter, r *http.Request, name, terms string) {
	size, sum, _ := strings.Cut(terms, "/")
	if strconv.FormatInt(r.ContentLength, 10) != size || r.Header.Get(headerCRC32C) != sum || r.Header.Get(headerAbsent) != "*" {
		refuse(w, http.StatusForbidden, "SignatureDoesNotMatch")
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client went away: nothing is stored
	}
	if got := staging.Checksum(body); hex.EncodeToString(got[:]) != sum {
		refuse(w, http.StatusBadRequest, "BadDigest")
		return
	}
	if err := s.put(name, body, true); errors.Is(err, staging.ErrExists) {
		refuse(w, http.StatusPreconditionFailed, "PreconditionFailed")
	}
}

func refuse(w http.ResponseWriter, status int, code string) {
	w.WriteHeader(status)
	fmt.Fprintf(w, "<Error><Code>%s</Code></Error>", code)
}

var (
	_ staging.Store  = (*Store)(nil)
	_ staging.Signer = (*Store)(nil)
)
