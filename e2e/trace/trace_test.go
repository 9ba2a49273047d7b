// Package trace has the real programs export their traces to a collector, and follows one restpoint through them.
package trace

import (
	"compress/gzip"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/openmigrate/openmigrate/e2e/lab"
	"github.com/openmigrate/openmigrate/internal/secretscan"
	"github.com/openmigrate/openmigrate/internal/telemetry"
)

func TestMain(m *testing.M) {
	code := m.Run()
	lab.RemoveBinaries()
	os.Exit(code)
}

// span is what the test looks at.
type span struct{ service, name, parent, id string }

// receiver is a collector that keeps spans by the id of their trace.
type receiver struct {
	mu     sync.Mutex
	traces map[string][]span // guarded by mu
	text   strings.Builder   // guarded by mu: all that was exported, as text
}

// ServeHTTP takes an export request of OTLP/HTTP.
func (c *receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var body io.Reader = r.Body
	if r.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		body = z
	}
	b, err := io.ReadAll(body)
	var q collector.ExportTraceServiceRequest
	if err == nil {
		err = proto.Unmarshal(b, &q)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.text.WriteString(q.String())
	for _, resource := range q.ResourceSpans {
		service := ""
		for _, a := range resource.Resource.Attributes {
			if a.Key == "service.name" {
				service = a.Value.GetStringValue()
			}
		}
		for _, s := range resource.ScopeSpans {
			for _, x := range s.Spans {
				id := hex.EncodeToString(x.TraceId)
				c.traces[id] = append(c.traces[id], span{service, x.Name, hex.EncodeToString(x.ParentSpanId), hex.EncodeToString(x.SpanId)})
			}
		}
	}
}

// A restpoint's id is that of a trace, in which agent, master and hydrator say what they did.
func TestRestpoint(t *testing.T) {
	c := &receiver{traces: map[string][]span{}}
	server := httptest.NewServer(c)
	defer server.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.URL)
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
	l := lab.New(t)
	disk := l.Path("secret-name-of-a-disk.img")
	content := make([]byte, 4<<20)
	_, _ = rand.NewChaCha8([32]byte{}).Read(content)
	if err := os.WriteFile(disk, content, 0o600); err != nil {
		t.Fatal(err)
	}
	l.StartHydrator(l.Token("node"))
	l.StartAgent(l.Token("agent"), disk)
	l.Eventually(time.Minute, "agent enrolled", func() error {
		var list []struct{ Name string }
		if l.JSON(&list, "machines", "ls"); len(list) == 0 {
			return errors.New("no machine")
		}
		return nil
	})
	if out, err := l.Command("machines", "sync", "web1", "--wait").CombinedOutput(); err != nil {
		t.Fatalf("sync: %v\n%s", err, out)
	}
	var list []struct{ ID string }
	l.JSON(&list, "restpoints", "ls", "web1")
	first := list[len(list)-1].ID // which sent what a later one found in staging
	root := telemetry.RootOf(first)
	want := map[string]bool{
		"openmigrate-agent restpoint": true, "openmigrate-agent commit": true, "openmigrate POST agent": true, "openmigrate-hydrator job prove": true, "openmigrate POST jobs": true,
	}
	l.Eventually(time.Minute, "the trace is whole", func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		spans := c.traces[first]
		have, ids := map[string]bool{}, map[string]bool{}
		for _, s := range spans {
			have[s.service+" "+s.name] = true
			ids[s.id] = true
		}
		for name := range want {
			if !have[name] {
				return fmt.Errorf("there is no span %q among %v", name, spans)
			}
		}
		for _, s := range spans {
			if isRoot := s.id == root.SpanID().String(); isRoot != (s.parent == "") || !isRoot && !ids[s.parent] {
				return fmt.Errorf("span %+v hangs in the air", s)
			}
		}
		return nil
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	if text := c.text.String(); strings.Contains(text, "secret-name") || strings.Contains(text, l.Env("OPENMIGRATE_TOKEN")) || secretscan.Looks(text) {
		t.Error("traces tell the name of a disk, or a secret")
	}
	if strings.Contains(c.text.String(), l.Dir) {
		t.Error("traces tell paths")
	}
}
