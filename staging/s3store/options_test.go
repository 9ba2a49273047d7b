package s3store_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/openmigrate/openmigrate/staging"
	"github.com/openmigrate/openmigrate/staging/s3store"
)

func TestParseURL(t *testing.T) {
	got, err := s3store.ParseURL("s3://b/p/q/?endpoint=https://h:9&region=r&ca_file=/ca")
	if err != nil || got.Bucket != "b" || got.Prefix != "p/q" || got.Endpoint != "https://h:9" || got.Region != "r" || got.CAFile != "/ca" {
		t.Errorf("parse: %+v, %v", got, err)
	}
	for raw, says := range map[string]string{
		"":                           "want s3://",
		"https://b/p":                "want s3://",
		"s3:///p":                    "want s3://",
		"s3://key:hidden@b/p":        "AWS_SECRET_ACCESS_KEY",
		"s3://b/p?secret_key=hidden": "AWS_SECRET_ACCESS_KEY",
		"s3://b/p?endpoint=%zz":      "query",
		"s3://b/%zz":                 "want s3://",
		"s3://b/p?credentials=mine":  "credentials=role",
	} {
		_, err := s3store.ParseURL(raw)
		if !errors.Is(err, s3store.ErrURL) || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("parse %q: %v, want ErrURL with %q and no secret", raw, err, says)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	good := s3store.Options{Endpoint: "https://h", Bucket: "bucket", AccessKey: "a", SecretKey: "s"}
	for name, c := range map[string]struct {
		change func(*s3store.Options)
		says   string
	}{
		"no bucket":      {func(o *s3store.Options) { o.Bucket = "" }, "no bucket"},
		"bucket":         {func(o *s3store.Options) { o.Bucket = "my bucket" }, "correct the staging URL"},
		"short bucket":   {func(o *s3store.Options) { o.Bucket = "b" }, "correct the staging URL"},
		"no credentials": {func(o *s3store.Options) { o.SecretKey = "" }, "AWS_ACCESS_KEY_ID"},
		"plain HTTP":     {func(o *s3store.Options) { o.Endpoint = "http://h" }, "without TLS"},
		"looks local":    {func(o *s3store.Options) { o.Endpoint = "http://127.0.0.1.example.org:9000" }, "without TLS"},
		"scheme":         {func(o *s3store.Options) { o.Endpoint = "ftp://127.0.0.1" }, "want https://"},
		"prefix":         {func(o *s3store.Options) { o.Prefix = "a/../b" }, "prefix"},
	} {
		o := good
		c.change(&o)
		if _, err := s3store.New(o); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
	for _, endpoint := range []string{"https://h", "http://127.0.0.1:9000", "http://[::1]:9000", "http://localhost"} {
		o := good
		o.Endpoint = endpoint
		s, err := s3store.New(o)
		if err != nil {
			t.Errorf("%s: %v", endpoint, err)
			continue
		}
		s.Close()
	}
}

// TestRole takes credentials from a metadata service as EC2's is (IMDSv2), and signs with them.
func TestRole(t *testing.T) {
	o, err := s3store.ParseURL("s3://bucket?credentials=role")
	if err != nil || !o.Role {
		t.Fatalf("%+v, %v", o, err)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIANOTTHISONE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "s")
	o.AddEnvironment()
	meta := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == "PUT" && r.URL.Path == "/latest/api/token":
			_, _ = io.WriteString(rw, "the-token")
		case r.Header.Get("X-Aws-Ec2-Metadata-Token") != "the-token":
			rw.WriteHeader(http.StatusUnauthorized)
		case strings.HasSuffix(r.URL.Path, "/security-credentials/"):
			_, _ = io.WriteString(rw, "openmigrate-master")
		default:
			_, _ = io.WriteString(rw, `{"Code":"Success","AccessKeyId":"ASIAOFTHEROLE","SecretAccessKey":"s","Token":"the-session","Expiration":"2999-01-01T00:00:00Z"}`)
		}
	}))
	defer meta.Close()
	var got http.Header
	bucket := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		got = r.Header.Clone()
		rw.WriteHeader(http.StatusNotFound)
	}))
	defer bucket.Close()
	o.Endpoint, o.RoleEndpoint = bucket.URL, meta.URL
	s, err := s3store.New(o)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_, _ = s.Stat(t.Context(), "x")
	if !strings.Contains(got.Get("Authorization"), "Credential=ASIAOFTHEROLE/") || got.Get("X-Amz-Security-Token") != "the-session" {
		t.Errorf("signed with %q", got.Get("Authorization"))
	}
}

func TestUnreachable(t *testing.T) {
	s, err := s3store.New(s3store.Options{Endpoint: "https://127.0.0.1:1", Bucket: "bucket", AccessKey: "a", SecretKey: "s"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_, err = s.Probe(t.Context())
	if !errors.Is(err, staging.ErrTemporary) || !strings.Contains(err.Error(), "127.0.0.1:1 does not answer") {
		t.Errorf("probe: %v", err)
	}
}
