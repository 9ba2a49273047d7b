package memstore_test

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/openmigrate/openmigrate/staging"
	"github.com/openmigrate/openmigrate/staging/memstore"
	"github.com/openmigrate/openmigrate/staging/storetest"
)

func TestConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) (staging.Store, *storetest.Options) {
		s := memstore.New(nil)
		srv := httptest.NewServer(s)
		t.Cleanup(srv.Close)
		s.SetBaseURL(srv.URL)
		return s, &storetest.Options{Hosts: []string{strings.TrimPrefix(srv.URL, "http://")}}
	})
}
