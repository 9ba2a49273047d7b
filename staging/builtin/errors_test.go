package builtin_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/openmigrate/openmigrate/staging"
	"github.com/openmigrate/openmigrate/staging/s3store"
)

// TestErrorsSayWhatToDo asks a real server with what an operator gets wrong.
func TestErrorsSayWhatToDo(t *testing.T) {
	srv, _ := start(t)
	for name, c := range map[string]struct {
		change func(*s3store.Options)
		says   string
	}{
		"key":    {func(o *s3store.Options) { o.AccessKey = "other" }, "check AWS_ACCESS_KEY_ID"},
		"secret": {func(o *s3store.Options) { o.SecretKey = "other" }, "check AWS_ACCESS_KEY_ID"},
		"bucket": {func(o *s3store.Options) { o.Bucket = "missing" }, "create it"},
	} {
		t.Run(name, func(t *testing.T) {
			o := srv.S3
			c.change(&o)
			s, err := s3store.New(o)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			_, err = s.Probe(t.Context())
			if !errors.Is(err, staging.ErrDenied) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("probe: %v, want ErrDenied that says %q", err, c.says)
			}
		})
	}
}
