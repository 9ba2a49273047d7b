package api

import (
	"context"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

type RestpointRef struct {
	Restpoint string `path:"restpoint" maxLength:"256"`
}

type restpointOut struct {
	ETag string `header:"ETag"`
	Body wire.RestpointInfo
}

func (s *server) registerRestpoints(api huma.API) {
	add(s, api, op{id: "list-restpoints", method: "GET", path: wire.PathRestpointsOf, tag: "restpoints", summary: "List a machine's restpoints, newest first"}, s.listRestpoints)
	add(s, api, op{id: "get-latest-restpoint", method: "GET", path: wire.PathRestpointLatest, tag: "restpoints", summary: "Show a machine's newest restpoint"}, s.latestRestpoint)
	add(s, api, op{id: "get-restpoint", method: "GET", path: wire.PathRestpoint, tag: "restpoints", summary: "Show a restpoint"}, s.getRestpoint)
	add(s, api, op{id: "remove-restpoint", method: "DELETE", path: wire.PathRestpoint, tag: "restpoints", summary: "Remove a restpoint",
		text: "Every other one stays whole. One that is pinned, or that a launch uses, is not removed."}, s.removeRestpoint)
	add(s, api, op{id: "diff-restpoints", method: "GET", path: wire.PathDiff, tag: "restpoints", summary: "What changed on each disk since another restpoint",
		text: "map divides the disk into equal parts, and says how many bytes of each changed."}, s.diff)
	add(s, api, op{id: "pin-restpoint", method: "PUT", path: wire.PathPin, tag: "restpoints", summary: "Keep a restpoint from being removed"}, s.pin)
	add(s, api, op{id: "unpin-restpoint", method: "DELETE", path: wire.PathPin, tag: "restpoints", summary: "Let a restpoint be removed again"}, s.unpin)
	add(s, api, op{id: "list-files", method: "GET", path: wire.PathRestpointFile, tag: "restpoints", summary: "List a folder on a disk of a restpoint",
		text: "Nothing is restored for it. ext2, ext3, ext4 and XFS can be read."}, s.listFiles)
	add(s, api, op{id: "download-file", method: "GET", path: wire.PathRestpointGet, tag: "restpoints", summary: "Get a file from a disk of a restpoint",
		content: "application/octet-stream"}, s.downloadFile)
}

// restpoint reads a restpoint of the caller's project: its id, or M/latest.
func (s *server) restpoint(ctx context.Context, ref string) (catalog.Restpoint, error) {
	project := person(ctx).Project
	if machine, latest := strings.CutSuffix(ref, "/latest"); latest {
		m, err := s.Catalog.MachineOf(ctx, project, machine)
		if err != nil {
			return catalog.Restpoint{}, err
		}
		ref = m.ID + "/latest"
	}
	r, err := s.Catalog.Restpoint(ctx, ref)
	if err == nil && r.Project != project {
		return catalog.Restpoint{}, wire.NewProblem(http.StatusNotFound, wire.CodeNotFound, "there is no restpoint %.64q", ref).
			WithNext("openmigrate restpoints ls M lists those of a machine")
	}
	return r, err
}

type listRestpointsIn struct {
	MachineRef
	PageParams
	Consistency []string `query:"consistency" maxItems:"4" doc:"Any of these: fuzzy, crash, filesystem, application."`
	State       []string `query:"state" maxItems:"4" doc:"Any of these: listed, damaged."`
	Pinned      bool     `query:"pinned" doc:"Only pinned ones."`
}

func (s *server) listRestpoints(ctx context.Context, in *listRestpointsIn) (*pageOut[wire.RestpointInfo], error) {
	m, err := s.machine(ctx, in.Machine)
	if err != nil {
		return nil, err
	}
	list, err := s.Catalog.Restpoints(ctx, m.ID)
	if err != nil {
		return nil, err
	}
	out := make([]wire.RestpointInfo, 0, len(list))
	for i := range list {
		r := &list[i]
		if oneOf(in.Consistency, r.Consistency) && oneOf(in.State, string(r.State)) && (!in.Pinned || r.Pinned) {
			out = append(out, restpointInfo(r))
		}
	}
	return listed(out, &in.PageParams, "-sequence", func(r *wire.RestpointInfo) sortKey { return sortKey{Number: int64(r.Sequence), ID: r.ID} })
}

func restpointInfo(r *catalog.Restpoint) wire.RestpointInfo {
	info := wire.RestpointInfo{
		ID: r.ID, Machine: r.Machine, Sequence: r.Sequence, Created: r.Created, Instant: r.Instant, Listed: r.Listed, Parent: r.Parent,
		Consistency: r.Consistency, State: string(r.State), Pinned: r.Pinned, Verified: r.Verified, Disks: r.Disks, Stats: r.Stats,
	}
	if info.Disks == nil {
		info.Disks = []format.Disk{}
	}
	for _, d := range r.Disks {
		info.Size += d.Size
	}
	return info
}

func restpointRevision(r *catalog.Restpoint) string { return revision(r.Pinned, r.State) }

func answerRestpoint(r *catalog.Restpoint) *restpointOut {
	return &restpointOut{ETag: etag(restpointRevision(r)), Body: restpointInfo(r)}
}

func (s *server) getRestpoint(ctx context.Context, in *RestpointRef) (*restpointOut, error) {
	r, err := s.restpoint(ctx, in.Restpoint)
	if err != nil {
		return nil, err
	}
	return answerRestpoint(&r), nil
}

func (s *server) latestRestpoint(ctx context.Context, in *MachineRef) (*restpointOut, error) {
	r, err := s.restpoint(ctx, in.Machine+"/latest")
	if err != nil {
		return nil, err
	}
	return answerRestpoint(&r), nil
}

type diffIn struct {
	RestpointRef
	From string `query:"from" required:"true" maxLength:"256" doc:"The restpoint to compare with: its id, or M/latest."`
}

type diffOut struct{ Body []wire.DiskDiff }

func (s *server) diff(ctx context.Context, in *diffIn) (*diffOut, error) {
	from, err := s.restpoint(ctx, in.From)
	if err != nil {
		return nil, err
	}
	to, err := s.restpoint(ctx, in.Restpoint)
	if err != nil {
		return nil, err
	}
	disks, err := s.Catalog.DiffRestpoints(ctx, from.ID, to.ID)
	if err != nil {
		return nil, err
	}
	out := make([]wire.DiskDiff, 0, len(disks))
	for _, d := range disks {
		out = append(out, wire.DiskDiff(d))
	}
	return &diffOut{out}, nil
}

type restpointChange struct {
	RestpointRef
	Match
}

// changeRestpoint runs fn on a restpoint.
func (s *server) changeRestpoint(ctx context.Context, in *restpointChange, fn func(id string) error) (*struct{}, error) {
	r, err := s.restpoint(ctx, in.Restpoint)
	if err != nil {
		return nil, err
	}
	if err := in.check(restpointRevision(&r), false); err != nil {
		return nil, err
	}
	if err := fn(r.ID); err != nil {
		return nil, err
	}
	shown := func(r *catalog.Restpoint) map[string]any {
		return map[string]any{"machine": r.Machine, "sequence": r.Sequence, "pinned": r.Pinned, "state": r.State}
	}
	var after any
	if now, err := s.Catalog.Restpoint(ctx, r.ID); err == nil {
		after = shown(&now)
	}
	s.changed(ctx, "restpoint", r.ID, r.Machine, shown(&r), after)
	return nil, nil
}

func (s *server) pin(ctx context.Context, in *restpointChange) (*struct{}, error) {
	return s.changeRestpoint(ctx, in, func(id string) error { return s.Catalog.PinRestpoint(ctx, id, true) })
}

func (s *server) unpin(ctx context.Context, in *restpointChange) (*struct{}, error) {
	return s.changeRestpoint(ctx, in, func(id string) error { return s.Catalog.PinRestpoint(ctx, id, false) })
}

func (s *server) removeRestpoint(ctx context.Context, in *restpointChange) (*struct{}, error) {
	return s.changeRestpoint(ctx, in, func(id string) error { return s.Catalog.RemoveRestpoint(ctx, id) })
}
