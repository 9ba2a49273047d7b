// Package telemetry traces what agent, master and hydrator do together, with OpenTelemetry.
//
// A restpoint and a launch are a trace each, whose id is theirs: who has the id of a restpoint finds what every process did for it. The agent
// makes the root of a restpoint's trace and the master that of a launch's; others add to it without being told more than the id.
// Requests to the master carry the caller's span in W3C's header traceparent.
//
// Nothing is recorded unless package otlp has set an exporter up. Names and attributes of spans are words and numbers of ours: no path, name
// or text that a machine, a bucket or a person has chosen.
package telemetry

import (
	"context"
	"crypto/sha256"
	"net/http"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

const scope = "github.com/openmigrate/openmigrate"

// header is W3C's traceparent (https://www.w3.org/TR/trace-context/).
var header = propagation.TraceContext{}

// RootOf is the span that all others in the trace of a thing lie under, by the thing's id, 32 hexadecimal digits. The zero value, and a trace that
// begins elsewhere, for any other text.
func RootOf(id string) trace.SpanContext {
	tid, err := trace.TraceIDFromHex(id)
	if err != nil {
		return trace.SpanContext{}
	}
	sum := sha256.Sum256(tid[:])
	return trace.NewSpanContext(trace.SpanContextConfig{TraceID: tid, SpanID: trace.SpanID(sum[:8]), TraceFlags: trace.FlagsSampled, Remote: true})
}

type rootKey struct{}

// Root makes the next span the root of the trace of a thing, by its id.
func Root(ctx context.Context, id string) context.Context {
	return context.WithValue(trace.ContextWithSpanContext(ctx, trace.SpanContext{}), rootKey{}, RootOf(id))
}

// Rooted is what Root has put into ctx, for what makes the ids of spans.
func Rooted(ctx context.Context) (trace.SpanContext, bool) {
	s, ok := ctx.Value(rootKey{}).(trace.SpanContext)
	return s, ok && s.IsValid()
}

// Under makes the next span one of the trace of a thing, by its id.
func Under(ctx context.Context, id string) context.Context {
	if s := RootOf(id); s.IsValid() {
		return trace.ContextWithSpanContext(ctx, s)
	}
	return ctx
}

// Start begins a span. The function that it returns ends it, as failed if *err is set then; nil: it cannot fail.
func Start(ctx context.Context, name string, attributes ...attribute.KeyValue) (context.Context, func(err *error)) {
	return Since(ctx, time.Now(), name, attributes...)
}

// Since is Start for what began earlier.
func Since(ctx context.Context, began time.Time, name string, attributes ...attribute.KeyValue) (context.Context, func(err *error)) {
	ctx, span := begin(ctx, name, began, attributes)
	ctx = context.WithValue(ctx, rootKey{}, nil)
	return ctx, func(err *error) {
		if err != nil && *err != nil {
			span.SetStatus(codes.Error, "failed") // what an error says may be of a machine's, and is in the log
		}
		span.End()
	}
}

// Record notes a span that is over.
func Record(ctx context.Context, name string, began, ended time.Time, attributes ...attribute.KeyValue) {
	_, span := begin(ctx, name, began, attributes)
	span.End(trace.WithTimestamp(ended))
}

func begin(ctx context.Context, name string, began time.Time, attributes []attribute.KeyValue) (context.Context, trace.Span) {
	options := []trace.SpanStartOption{trace.WithTimestamp(began), trace.WithAttributes(attributes...)}
	if _, ok := Rooted(ctx); ok {
		options = append(options, trace.WithNewRoot())
	}
	return otel.Tracer(scope).Start(ctx, name, options...)
}

// Note adds to the span that is under way.
func Note(ctx context.Context, attributes ...attribute.KeyValue) {
	trace.SpanFromContext(ctx).SetAttributes(attributes...)
}

// Inject tells whom a request goes to which span it belongs to.
func Inject(ctx context.Context, h http.Header) { header.Inject(ctx, propagation.HeaderCarrier(h)) }

// Handler makes a span of each request that belongs to one of the caller's. Other requests, such as long polls, are not of interest. route
// names a request by few words, whatever path was asked for.
func Handler(next http.Handler, route func(*http.Request) string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := header.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
		if !trace.SpanContextFromContext(ctx).IsValid() {
			next.ServeHTTP(w, r)
			return
		}
		ctx, end := Start(ctx, r.Method+" "+route(r))
		defer end(nil)
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}
