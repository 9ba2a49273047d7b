package s3store_test

import (
	"errors"
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
	} {
		_, err := s3store.ParseURL(raw)
		if !errors.Is(err, s3store.ErrURL) || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("parse %q: %v, want ErrURL with %q and no secret", raw, err, says)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	good := s3store.Options{Endpoint: "https://h", Bucket: "b", AccessKey: "a", SecretKey: "s"}
	for name, change := range map[string]func(*s3store.Options){
		"no bucket": func(o *s3store.Options) { o.Bucket = "" }, "no credentials": func(o *s3store.Options) { o.SecretKey = "" },
		"plain HTTP": func(o *s3store.Options) { o.Endpoint = "http://h" }, "prefix": func(o *s3store.Options) { o.Prefix = "a/../b" },
	} {
		o := good
		change(&o)
		if _, err := s3store.New(o); err == nil {
			t.Errorf("%s: was taken", name)
		}
	}
}

func TestUnreachable(t *testing.T) {
	s, err := s3store.New(s3store.Options{Endpoint: "https://127.0.0.1:1", Bucket: "b", AccessKey: "a", SecretKey: "s"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_, err = s.Probe(t.Context())
	if !errors.Is(err, staging.ErrTemporary) || !strings.Contains(err.Error(), "127.0.0.1:1 does not answer") {
		t.Errorf("probe: %v", err)
	}
}
