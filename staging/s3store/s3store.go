package s3store

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/s3utils"

	"github.com/openmigrate/openmigrate/staging"
)

// Store is a prefix of a bucket.
type Store struct {
	client    *minio.Client
	transport *http.Transport
	bucket    string
	prefix    string // "" or ends in "/"
	host      string
	region    string
}

// New prepares a store. It does not talk to the server: Probe does.
func New(o Options) (*Store, error) {
	if o.Bucket == "" {
		return nil, errors.New("open staging: no bucket given")
	}
	if err := s3utils.CheckValidBucketName(o.Bucket); err != nil {
		return nil, fmt.Errorf("open staging: bucket %.70q: %w: correct the staging URL", o.Bucket, err)
	}
	if !o.Role && (o.AccessKey == "" || o.SecretKey == "") {
		return nil, errors.New("open staging: no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or add credentials=role to the staging URL on a host with a role")
	}
	if o.Endpoint == "" {
		o.Endpoint = "https://s3.amazonaws.com"
	}
	if o.Region == "" {
		o.Region = "us-east-1"
	}
	u, err := url.Parse(o.Endpoint)
	if err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") {
		return nil, fmt.Errorf("open staging: endpoint %.100q: want https://host:port", o.Endpoint)
	}
	if u.Scheme == "http" && !staging.IsLoopback(u.Hostname()) {
		return nil, fmt.Errorf("open staging: endpoint %.100q: HTTP without TLS is for a server on this machine only: want https://host:port", o.Endpoint)
	}
	pool, err := o.pool()
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{
		TLSClientConfig:       &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}},
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		MaxIdleConnsPerHost:   32,
		IdleConnTimeout:       90 * time.Second,
		TLSHandshakeTimeout:   20 * time.Second,
		ResponseHeaderTimeout: 2 * time.Minute,
		DisableCompression:    true,
		WriteBufferSize:       256 << 10,
		ReadBufferSize:        256 << 10,
	}
	creds := credentials.NewStaticV4(o.AccessKey, o.SecretKey, o.Session)
	if o.Role {
		creds = credentials.NewIAM(o.RoleEndpoint)
	}
	client, err := minio.New(u.Host, &minio.Options{
		Creds:           creds,
		Secure:          u.Scheme == "https",
		Region:          o.Region,
		Transport:       noter{transport},
		TrailingHeaders: true, // or else it refuses checksums, also those in headers
		MaxRetries:      1,    // retrying is a decorator's work
	})
	if err != nil {
		return nil, fmt.Errorf("open staging: %w", err)
	}
	s := &Store{client: client, transport: transport, bucket: o.Bucket, host: u.Host, region: o.Region}
	if p := strings.Trim(o.Prefix, "/"); p != "" {
		if err := staging.CheckName(p); err != nil {
			return nil, fmt.Errorf("open staging: prefix: %w", err)
		}
		s.prefix = p + "/"
	}
	return s, nil
}

// Close ends idle connections.
func (s *Store) Close() { s.transport.CloseIdleConnections() }

// CreateBucket makes the bucket. It returns nil when it is there and is ours.
func (s *Store) CreateBucket(ctx context.Context) error {
	ctx, _ = noting(ctx)
	err := s.client.MakeBucket(ctx, s.bucket, minio.MakeBucketOptions{Region: s.region})
	if code := minio.ToErrorResponse(err).Code; err == nil || code == "BucketAlreadyOwnedByYou" {
		return nil
	}
	return fmt.Errorf("create bucket %s: %w", s.bucket, s.mapped(ctx, err))
}

// Put implements staging.Store. The payload is not signed, TLS protects it; a CRC-32C has the server check it. It goes in a header, as
// signed PUTs have it: trailers need a chunked encoding, and servers refuse unsigned ones without TLS.
func (s *Store) Put(ctx context.Context, name string, body []byte, opts *staging.PutOptions) error {
	ctx, _ = noting(ctx)
	return s.put(ctx, name, body, opts)
}

// put is Put under a context of noting.
func (s *Store) put(ctx context.Context, name string, body []byte, opts *staging.PutOptions) error {
	if err := staging.CheckName(name); err != nil {
		return fmt.Errorf("put: %w", err)
	}
	o := minio.PutObjectOptions{DisableMultipart: true, DisableContentSha256: true,
		UserMetadata: map[string]string{"x-amz-checksum-crc32c": encoded(staging.Checksum(body))}}
	if opts != nil && opts.IfAbsent {
		o.SetMatchETagExcept("*")
	}
	if _, err := s.client.PutObject(ctx, s.bucket, s.prefix+name, bytes.NewReader(body), int64(len(body)), o); err != nil {
		return fmt.Errorf("put %s: %w", name, s.mapped(ctx, err))
	}
	return nil
}

// Get implements staging.Store.
func (s *Store) Get(ctx context.Context, name string, off, length int64) (io.ReadCloser, error) {
	if err := staging.CheckName(name); err != nil {
		return nil, fmt.Errorf("get: %w", err)
	}
	if length == 0 { // HTTP has no empty range
		_, err := s.Stat(ctx, name)
		return io.NopCloser(strings.NewReader("")), err
	}
	ctx, _ = noting(ctx)
	var o minio.GetObjectOptions
	ranged := off > 0 || length > 0
	if ranged {
		o.Set("Range", staging.RangeHeader(off, length))
	}
	body, _, header, err := minio.Core{Client: s.client}.GetObject(ctx, s.bucket, s.prefix+name, o)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", name, s.mapped(ctx, err))
	}
	if ranged {
		if err := staging.CheckRange(header, off, length); err != nil {
			_ = body.Close() // unread: it is of no use
			return nil, fmt.Errorf("get %s from %s: %w", name, s.host, err)
		}
	}
	return staging.LimitBody(ctx, body, length), nil
}

// Stat implements staging.Store.
func (s *Store) Stat(ctx context.Context, name string) (staging.Info, error) {
	if err := staging.CheckName(name); err != nil {
		return staging.Info{}, fmt.Errorf("stat: %w", err)
	}
	ctx, _ = noting(ctx)
	i, err := s.client.StatObject(ctx, s.bucket, s.prefix+name, minio.StatObjectOptions{})
	if err != nil {
		return staging.Info{}, fmt.Errorf("stat %s: %w", name, s.mapped(ctx, err))
	}
	return staging.Info{Name: name, Size: i.Size, Modified: i.LastModified}, nil
}

// List implements staging.Store.
func (s *Store) List(ctx context.Context, prefix, after string, fn func(staging.Info) error) error {
	ctx, _ = noting(ctx)
	o := minio.ListObjectsOptions{Prefix: s.prefix + prefix, Recursive: true}
	if after != "" {
		o.StartAfter = s.prefix + after
	}
	for i := range s.client.ListObjectsIter(ctx, s.bucket, o) {
		if i.Err != nil {
			return fmt.Errorf("list %s: %w", prefix, s.mapped(ctx, i.Err))
		}
		if strings.HasSuffix(i.Key, "/") {
			continue // a folder that somebody's tool made
		}
		if err := fn(staging.Info{Name: strings.TrimPrefix(i.Key, s.prefix), Size: i.Size, Modified: i.LastModified}); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// Delete implements staging.Store.
func (s *Store) Delete(ctx context.Context, name string) error {
	if err := staging.CheckName(name); err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	ctx, _ = noting(ctx)
	err := s.client.RemoveObject(ctx, s.bucket, s.prefix+name, minio.RemoveObjectOptions{})
	if err != nil {
		if err = s.mapped(ctx, err); errors.Is(err, staging.ErrNotFound) {
			return nil
		}
		return fmt.Errorf("delete %s: %w", name, err)
	}
	return nil
}

// SignPut implements staging.Signer. Length, checksum and If-None-Match are signed headers: who leaves one out is refused.
func (s *Store) SignPut(ctx context.Context, name string, o staging.SignPut) (staging.SignedRequest, error) {
	if err := staging.CheckName(name); err != nil {
		return staging.SignedRequest{}, fmt.Errorf("sign put: %w", err)
	}
	h := http.Header{
		"Content-Length":        {strconv.FormatInt(o.Size, 10)},
		"If-None-Match":         {"*"},
		"X-Amz-Checksum-Crc32c": {encoded(o.CRC32C)},
	}
	u, err := s.client.PresignHeader(ctx, http.MethodPut, s.bucket, s.prefix+name, o.Valid, nil, h)
	if err != nil {
		return staging.SignedRequest{}, fmt.Errorf("sign put %s: %w", name, err)
	}
	return staging.SignedRequest{URL: u.String(), Header: h}, nil
}

func encoded(c staging.CRC32C) string { return base64.StdEncoding.EncodeToString(c[:]) }

// SignGet implements staging.Signer.
func (s *Store) SignGet(ctx context.Context, name string, valid time.Duration) (staging.SignedRequest, error) {
	if err := staging.CheckName(name); err != nil {
		return staging.SignedRequest{}, fmt.Errorf("sign get: %w", err)
	}
	u, err := s.client.PresignedGetObject(ctx, s.bucket, s.prefix+name, valid, nil)
	if err != nil {
		return staging.SignedRequest{}, fmt.Errorf("sign get %s: %w", name, err)
	}
	return staging.SignedRequest{URL: u.String()}, nil
}

var (
	_ staging.Store  = (*Store)(nil)
	_ staging.Signer = (*Store)(nil)
)
