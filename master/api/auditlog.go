package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/openmigrate/openmigrate/master/accounts"
	"github.com/openmigrate/openmigrate/master/audit"
	"github.com/openmigrate/openmigrate/wire"
)

func (s *server) registerAudit(api huma.API) {
	add(s, api, op{id: "list-audit", method: "GET", path: wire.PathAudit, tag: "audit", summary: "List what people changed in the project, newest first",
		text: "A page may be short, or empty, with more to come. total is not counted."}, s.listAudit)
	add(s, api, op{id: "list-whole-audit", method: "GET", path: wire.PathWholeAudit, tag: "audit", summary: "List what people changed in all projects and in the master itself, newest first"}, s.listWholeAudit)
	add(s, api, op{id: "export-audit", method: "GET", path: wire.PathAuditExport, tag: "audit", summary: "The whole audit log, oldest line first",
		text: "Lines of JSON, chained by hashes: master/audit/SPEC.md says how to check them.", content: "application/x-ndjson"}, s.exportAudit)
	add(s, api, op{id: "verify-audit", method: "GET", path: wire.PathAuditVerify, tag: "audit", summary: "Check the chain of the audit log"}, s.verifyAudit)
}

// recordAs notes a change by somebody who is not the caller yet: he signed in with this request.
func (s *server) recordAs(ctx context.Context, by audit.Who, kind, id string, before, after any) {
	at := originOf(ctx)
	s.Log.Info("operator "+at.op.id, "who", by.Kind+" "+by.Name, "what", kind, "id", id, "from", at.from)
	if s.Audit == nil {
		return
	}
	if err := s.Audit.Record(ctx, audit.Change{Who: by, From: at.from, Operation: at.op.id, Kind: kind, ID: id, Before: before, After: after}); err != nil {
		s.Log.Error("a change could not be put into the audit log", "operation", at.op.id, "id", id, "error", err)
	}
}

// AuditFilter chooses lines.
type AuditFilter struct {
	Limit     int       `query:"limit" minimum:"1" maximum:"500" default:"100" doc:"Lines of a page, at most."`
	Cursor    string    `query:"cursor" maxLength:"32" doc:"next_cursor of the page before; empty: the first page."`
	Who       string    `query:"who" maxLength:"256" doc:"Id or name of the user or the token."`
	Operation string    `query:"operation" maxLength:"256" doc:"Id of the operation in this document."`
	Kind      string    `query:"kind" maxLength:"256" doc:"Of the thing that was changed."`
	ID        string    `query:"id" maxLength:"256" doc:"Of the thing that was changed."`
	Since     time.Time `query:"since" doc:"Not before this time."`
	Until     time.Time `query:"until" doc:"Before this time."`
}

type auditOut struct{ Body wire.Page[audit.Line] }

func (s *server) audited(ctx context.Context, in *AuditFilter, project string) (*auditOut, error) {
	if s.Audit == nil {
		return nil, wire.NewProblem(http.StatusNotImplemented, wire.CodeUnsupported, "this master keeps no audit log")
	}
	var before uint64
	if in.Cursor != "" {
		var err error
		if before, err = strconv.ParseUint(in.Cursor, 10, 64); err != nil || before == 0 {
			return nil, badField("cursor", "this is no cursor of a page").WithNext("leave it out for the first page")
		}
	}
	lines, next, err := s.Audit.List(ctx, audit.Filter{Project: project, Who: in.Who, Operation: in.Operation, Kind: in.Kind, ID: in.ID, Since: in.Since, Until: in.Until}, before, in.Limit)
	if err != nil {
		return nil, err
	}
	out := &auditOut{wire.Page[audit.Line]{Items: lines}}
	if next > 0 {
		out.Body.NextCursor = strconv.FormatUint(next, 10)
	}
	return out, nil
}

func (s *server) listAudit(ctx context.Context, in *AuditFilter) (*auditOut, error) {
	return s.audited(ctx, in, person(ctx).Project)
}

func (s *server) listWholeAudit(ctx context.Context, in *AuditFilter) (*auditOut, error) {
	return s.audited(ctx, in, "")
}

type exportAuditIn struct {
	After uint64 `query:"after" doc:"Only lines after this sequence."`
}

func (s *server) exportAudit(ctx context.Context, in *exportAuditIn) (*huma.StreamResponse, error) {
	if s.Audit == nil {
		return nil, wire.NewProblem(http.StatusNotImplemented, wire.CodeUnsupported, "this master keeps no audit log")
	}
	r, w := io.Pipe()
	x := &export{PipeReader: r, done: make(chan struct{})}
	go func() {
		defer close(x.done)
		_ = w.CloseWithError(s.Audit.Export(ctx, w, in.After)) // it always is nil
	}()
	return guestStream("application/x-ndjson", "openmigrate-audit.jsonl", -1, x), nil
}

// export is a log that is being written. Closing it waits for the writer.
type export struct {
	*io.PipeReader
	done chan struct{}
}

func (x *export) Close() error {
	err := x.PipeReader.Close()
	<-x.done
	return err
}

type verifyAuditOut struct{ Body wire.AuditReport }

func (s *server) verifyAudit(ctx context.Context, _ *struct{}) (*verifyAuditOut, error) {
	if s.Audit == nil {
		return nil, wire.NewProblem(http.StatusNotImplemented, wire.CodeUnsupported, "this master keeps no audit log")
	}
	_, err := s.Audit.Verify(ctx)
	var broken *audit.Broken
	if errors.As(err, &broken) {
		return &verifyAuditOut{wire.AuditReport{Problem: broken.Error()}}, nil
	}
	if err != nil {
		return nil, err
	}
	head, err := s.Audit.Head(ctx)
	if err != nil {
		return nil, err
	}
	return &verifyAuditOut{wire.AuditReport{OK: true, Sequence: head.Sequence, Hash: head.Hash}}, nil
}

// auditWho is the principal as the audit log names him.
func auditWho(p *Principal) audit.Who {
	w := audit.Who{Kind: p.Kind, ID: p.ID, Name: p.Name, User: p.User}
	if p.Kind == accounts.KindUser {
		w.ID, w.User = p.User, ""
	}
	return w
}
