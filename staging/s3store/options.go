// Package s3store is a staging.Store over a prefix of a bucket of any S3-compatible server. Objects go up in one PUT each, never
// as multipart uploads: several servers do not refuse a conditional multipart upload on a name that exists.
// Any number of goroutines may use a Store.
package s3store

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
)

// Options say where the bucket is and who asks.
type Options struct {
	Endpoint  string // "https://host:port"; "" is AWS
	Region    string // "us-east-1" when ""
	Bucket    string
	Prefix    string // without slashes at its ends; "" is the whole bucket
	CAFile    string // PEM of further authorities to trust
	CA        []byte // DER of a further authority to trust
	AccessKey string
	SecretKey string
	Session   string // token of temporary credentials, may be ""
	// Role takes the credentials of the host's own role, which renew themselves: of an EC2 instance, an ECS task, or a web identity.
	Role         bool
	RoleEndpoint string // where they are asked for; "" is the usual place
}

// ErrURL marks a staging URL that cannot be used as it is written.
var ErrURL = errors.New("staging URL is malformed")

// ParseURL reads s3://bucket/prefix?endpoint=…&region=…&ca_file=…&credentials=role. Credentials in it are refused, since URLs end up in
// logs and process lists; AddEnvironment finds them. Its errors wrap ErrURL.
func ParseURL(raw string) (Options, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return Options{}, fmt.Errorf("%w: want s3://bucket/prefix?endpoint=https://host:port", ErrURL)
	}
	if u.Scheme != "s3" || u.Host == "" {
		return Options{}, fmt.Errorf("%w: want s3://bucket/prefix?endpoint=https://host:port", ErrURL)
	}
	if u.User != nil {
		return Options{}, fmt.Errorf("%w: credentials do not belong into it: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY", ErrURL)
	}
	o := Options{Bucket: u.Host, Prefix: strings.Trim(u.Path, "/")}
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return Options{}, fmt.Errorf("%w: its query is malformed", ErrURL)
	}
	for key, values := range q {
		switch key {
		case "endpoint":
			o.Endpoint = values[0]
		case "region":
			o.Region = values[0]
		case "ca_file":
			o.CAFile = values[0]
		case "credentials":
			if o.Role = values[0] == "role"; !o.Role {
				return Options{}, fmt.Errorf("%w: credentials=role takes those of the host's own role; there is no other value", ErrURL)
			}
		default:
			return Options{}, fmt.Errorf("%w: unknown option %.40q (credentials come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)", ErrURL, key)
		}
	}
	return o, nil
}

// AddEnvironment fills in credentials from the variables that AWS's tools use, where none are set.
func (o *Options) AddEnvironment() {
	if o.AccessKey == "" && !o.Role {
		o.AccessKey, o.SecretKey, o.Session = os.Getenv("AWS_ACCESS_KEY_ID"), os.Getenv("AWS_SECRET_ACCESS_KEY"), os.Getenv("AWS_SESSION_TOKEN")
	}
}

func (o *Options) pool() (*x509.CertPool, error) {
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if len(o.CA) > 0 {
		cert, err := x509.ParseCertificate(o.CA)
		if err != nil {
			return nil, fmt.Errorf("read staging CA: %w", err)
		}
		pool.AddCert(cert)
	}
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read staging CA: %w", err)
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read staging CA: %s holds no certificate", o.CAFile)
		}
	}
	return pool, nil
}
