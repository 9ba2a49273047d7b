package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"

	"github.com/openmigrate/openmigrate/wire"
)

const (
	heartbeat    = 15 * time.Second // of a stream without news
	maxStreams   = 256              // event streams at once
	maxOwnerOpen = 32               // of one caller
)

func (s *server) registerEvents(api huma.API) {
	o := op{id: "events", method: "GET", path: wire.PathEvents, tag: "events", summary: "Hear of changes as they happen",
		text: "Server-sent events. The id of each is its sequence in the outbox, its type the kind of what changed, its data a ChangeEvent. " +
			"Whoever connects again sends Last-Event-ID, as browsers do, and hears what it missed; a gap event says that this is not known any more, and that everything is to be read again. " +
			"Comments come as heartbeats. The stream ends when the caller's token or session does."}
	schema := api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[wire.ChangeEvent](), true, "ChangeEvent")
	o.responses = map[string]*huma.Response{"200": {Description: "OK", Content: map[string]*huma.MediaType{"text/event-stream": {Schema: &huma.Schema{
		Type: huma.TypeArray, Items: &huma.Schema{Type: huma.TypeObject, Required: []string{"data"}, Properties: map[string]*huma.Schema{
			"id": {Type: huma.TypeString}, "event": {Type: huma.TypeString}, "data": schema}}}}}}}
	add(s, api, o, s.events)
}

type eventsIn struct {
	LastEventID string   `header:"Last-Event-ID" maxLength:"32" doc:"The id of the last event that was heard."`
	After       string   `query:"after" maxLength:"32" doc:"The same, for those who cannot set headers; 0: from now on."`
	Kind        []string `query:"kind" maxItems:"16" doc:"Only of these kinds; gap is always told."`
}

func (s *server) events(ctx context.Context, in *eventsIn) (*huma.StreamResponse, error) {
	from := in.LastEventID
	if from == "" {
		from = in.After
	}
	var after uint64
	if from != "" {
		var err error
		if after, err = strconv.ParseUint(from, 10, 64); err != nil {
			return nil, badField("Last-Event-ID", "%.40q is no id of an event", from).WithNext("leave it out, and read everything again")
		}
	}
	if s.Events == nil {
		return nil, wire.NewProblem(http.StatusNotImplemented, wire.CodeUnsupported, "this master tells no changes")
	}
	p := person(ctx)
	leave, err := s.streams.enter(p.Holder())
	if err != nil {
		return nil, err
	}
	return &huma.StreamResponse{Body: func(ctx huma.Context) {
		defer leave()
		r, w := humachi.Unwrap(ctx)
		x := &eventStream{s: s, r: r, w: w, control: http.NewResponseController(w), who: p, kinds: in.Kind}
		x.serve(after)
	}}, nil
}

// eventStream is one caller who listens.
type eventStream struct {
	s       *server
	r       *http.Request
	w       http.ResponseWriter
	control *http.ResponseController
	who     *Principal
	kinds   []string
}

// serve writes events until the caller is gone, may not listen any more, or the master stops.
func (x *eventStream) serve(after uint64) {
	h := x.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no")           // proxies pass it on at once
	_ = x.control.SetReadDeadline(time.Time{}) // over HTTP/1.1 the server's would end the stream
	x.w.WriteHeader(http.StatusOK)
	defer func() { _ = x.control.SetWriteDeadline(time.Time{}) }()
	box := x.s.Events
	at := after
	if at == 0 {
		at = box.Last()
	}
	if !x.send("retry: 2000\n: from " + strconv.FormatUint(at, 10) + "\n\n") {
		return
	}
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for {
		news := box.News()
		list, last, gap := box.After(at, x.who.Project)
		var out strings.Builder
		if gap {
			writeEvent(&out, wire.ChangeEvent{Sequence: last, Kind: "gap"})
		}
		for i := range list {
			e := &list[i]
			if oneOf(x.kinds, e.Kind) {
				writeEvent(&out, wire.ChangeEvent{Sequence: e.Sequence, Kind: e.Kind, ID: e.ID, Machine: e.Machine, Gone: e.Gone})
			}
		}
		at = last
		if out.Len() > 0 && !x.send(out.String()) {
			return
		}
		select {
		case <-news:
		case <-beat.C:
			if !x.send(": " + strconv.FormatUint(at, 10) + "\n\n") {
				return
			}
		case <-x.r.Context().Done(): // the caller is gone, or his token or session is
			return
		case <-x.s.stopping:
			return
		}
	}
}

func (x *eventStream) send(text string) bool {
	_ = x.control.SetWriteDeadline(time.Now().Add(writeTime))
	if _, err := x.w.Write([]byte(text)); err != nil {
		return false
	}
	return x.control.Flush() == nil
}

func writeEvent(out *strings.Builder, e wire.ChangeEvent) {
	b, err := json.Marshal(e)
	if err != nil { // plain data
		panic(err)
	}
	fmt.Fprintf(out, "id: %d\nevent: %s\ndata: %s\n\n", e.Sequence, e.Kind, b)
}

// streams bounds how many requests that take long are under way at once.
type streams struct {
	max, each int // of all, and of one owner
	what      string

	mu    sync.Mutex
	all   int            // guarded by mu
	owner map[string]int // guarded by mu
}

func newStreams() *streams {
	return &streams{max: maxStreams, each: maxOwnerOpen, what: "event streams are open", owner: map[string]int{}}
}

func (s *streams) enter(owner string) (leave func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all >= s.max || s.owner[owner] >= s.each {
		return nil, wire.NewProblem(http.StatusTooManyRequests, wire.CodeBusy, "too many %s", s.what).WithNext(fmt.Sprintf("end one: a caller may have %d", s.each))
	}
	s.all++
	s.owner[owner]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.all--
		if s.owner[owner]--; s.owner[owner] == 0 {
			delete(s.owner, owner)
		}
	}, nil
}
