package s3store

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/openmigrate/openmigrate/staging"
)

// answer is what the S3 client does not tell of the last answer to an operation.
type answer struct {
	status atomic.Int64
	wait   atomic.Int64 // nanoseconds of Retry-After
}

type answerKey struct{}

// noting has the answers to requests under the context that it returns noted.
func noting(ctx context.Context) (context.Context, *answer) {
	a := new(answer)
	return context.WithValue(ctx, answerKey{}, a), a
}

// noter notes answers, for contexts of noting.
type noter struct{ *http.Transport }

func (n noter) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := n.Transport.RoundTrip(req)
	if a, ok := req.Context().Value(answerKey{}).(*answer); ok && err == nil {
		a.status.Store(int64(res.StatusCode))
		a.wait.Store(int64(staging.ParseRetryAfter(res.StatusCode, res.Header)))
	}
	return res, err
}

// mapped turns an error of the S3 client into one that wraps a sentinel, without the request's URL. ctx comes from noting.
func (s *Store) mapped(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var res minio.ErrorResponse
	if errors.As(err, &res) && res.StatusCode != 0 {
		err := s.refusal(res)
		if a, ok := ctx.Value(answerKey{}).(*answer); ok {
			err = staging.WithRetryAfter(err, time.Duration(a.wait.Load()))
		}
		return err
	}
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err
	}
	return fmt.Errorf("%w: %s does not answer: %w", staging.ErrTemporary, s.host, err)
}

// refusal says what to mend where an answer tells.
func (s *Store) refusal(res minio.ErrorResponse) error {
	switch res.Code {
	case "NoSuchBucket":
		return fmt.Errorf("%w: there is no bucket %s at %s: create it or correct the staging URL", staging.ErrDenied, s.bucket, s.host)
	case "InvalidBucketName":
		return fmt.Errorf("%w: %s does not allow the bucket name %s: correct the staging URL", staging.ErrDenied, s.host, s.bucket)
	case "InvalidAccessKeyId", "SignatureDoesNotMatch", "XAdminUserNotFound": // the last is versitygw's, with 404
		return fmt.Errorf("%w: %s does not know these credentials: check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY", staging.ErrDenied, s.host)
	case "ExpiredToken", "InvalidToken", "TokenRefreshRequired":
		return fmt.Errorf("%w: the session token of these credentials has expired or is wrong: renew AWS_SESSION_TOKEN", staging.ErrDenied)
	case "RequestTimeTooSkewed":
		return fmt.Errorf("%w: the clocks of %s and of this machine differ too much: set this one", staging.ErrDenied, s.host)
	case "AuthorizationHeaderMalformed", "InvalidRegion", "IllegalLocationConstraintException", "PermanentRedirect":
		return s.otherRegion(res.Region)
	}
	if res.StatusCode == http.StatusMovedPermanently || res.StatusCode == http.StatusBadRequest && res.Region != "" && res.Region != s.region {
		return s.otherRegion(res.Region) // an answer to HEAD has no code
	}
	return fmt.Errorf("%w: status %d %.80s", staging.ErrorFor(res.StatusCode, res.Code), res.StatusCode, res.Code)
}

func (s *Store) otherRegion(want string) error {
	if want == "" || want == s.region {
		want = "the bucket's region"
	}
	return fmt.Errorf("%w: bucket %s at %s is not in region %s: add region=%.40s to the staging URL", staging.ErrDenied, s.bucket, s.host, s.region, want)
}
