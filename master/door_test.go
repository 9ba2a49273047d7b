package master

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/openmigrate/openmigrate/internal/clock"
	"github.com/openmigrate/openmigrate/master/accounts"
	"github.com/openmigrate/openmigrate/master/observe"
	"github.com/openmigrate/openmigrate/master/store/boltstore"
)

// TestMetricsAndProfiles: who may see them.
func TestMetricsAndProfiles(t *testing.T) {
	db, err := boltstore.Open(filepath.Join(t.TempDir(), "db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	m := &Master{log: slog.New(slog.NewTextHandler(io.Discard, nil)), metrics: observe.New()}
	m.metrics.Start(observe.Deps{Version: "test", Log: m.log})
	if m.Accounts, err = accounts.Open(t.Context(), db, clock.Real{}, nil); err != nil {
		t.Fatal(err)
	}
	m.metrics.Pass(t.Context())
	door, err := m.door()
	if err != nil {
		t.Fatal(err)
	}
	get := func(path, token string) (int, string) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		w := httptest.NewRecorder()
		door.ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}
	token := func(of accounts.Token) string {
		of.Name = "test"
		_, text, err := m.Accounts.NewToken(t.Context(), nil, of, 0)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	viewer, admin := token(accounts.Token{Project: accounts.AllProjects, Role: accounts.RoleViewer}), token(accounts.Token{Project: accounts.AllProjects, Role: accounts.RoleAdmin})
	scoped := token(accounts.Token{Project: accounts.AllProjects, Role: accounts.RoleAdmin, Scopes: []string{"metrics:read"}})
	tenant := token(accounts.Token{Project: "default", Role: accounts.RoleAdmin})
	for _, c := range []struct {
		who, token       string
		metrics, profile int
	}{{"nobody", "", 401, 401}, {"a wrong token", "omt_1_2", 401, 401}, {"a project's admin", tenant, 403, 403}, {"a viewer", viewer, 200, 403}, {"an admin", admin, 200, 200}, {"metrics only", scoped, 200, 403}} {
		if code, body := get(metricsPath, c.token); code != c.metrics || code == 200 && !strings.Contains(body, `openmigrate_build_info{version="test"} 1`) {
			t.Errorf("%s and metrics: %d %.300s", c.who, code, body)
		}
		for _, path := range []string{"", "cmdline", "symbol", "heap", "goroutine?debug=1"} {
			if code, _ := get(pprofPath+path, c.token); code != c.profile {
				t.Errorf("%s and %s%s: %d, want %d", c.who, pprofPath, path, code, c.profile)
			}
		}
	}
}
