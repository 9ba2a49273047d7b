package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/openmigrate/openmigrate/master/accounts"
	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/wire"
)

// register is every operation of the public API.
func (s *server) register(api huma.API) {
	add(s, api, op{id: "whoami", method: "GET", path: wire.PathWhoami, tag: "access", summary: "Who calls, and what this master is"}, s.whoami)
	add(s, api, op{id: "list-projects", method: "GET", path: wire.PathProjects, tag: "projects", summary: "List the projects that the caller may see"}, s.listProjects)
	add(s, api, op{id: "get-project", method: "GET", path: wire.PathProject, tag: "projects", summary: "Show a project"}, s.getProject)
	s.registerPeople(api)
	s.registerAudit(api)
	s.registerWebhooks(api)
	s.registerMachines(api)
	s.registerRestpoints(api)
	s.registerJobs(api)
	s.registerLaunches(api)
	s.registerProviders(api)
	s.registerNodes(api)
	s.registerTokens(api)
	s.registerStaging(api)
	s.registerEvents(api)
}

type whoamiOut struct{ Body wire.Whoami }

func (s *server) whoami(ctx context.Context, _ *struct{}) (*whoamiOut, error) {
	p := person(ctx)
	return &whoamiOut{wire.Whoami{Name: p.Name, Role: p.role(), Project: p.Project, Version: s.Version, Kind: p.Kind, ID: p.ID, User: p.User, Scopes: p.Scopes(), Expires: p.Expires, Master: p.Role(accounts.AllProjects) != ""}}, nil
}

type projectRef struct {
	Project string `path:"project" maxLength:"256"`
}

type projectOut struct{ Body wire.ProjectInfo }

func (s *server) listProjects(ctx context.Context, in *PageParams) (*pageOut[wire.ProjectInfo], error) {
	list, err := s.Catalog.Projects(ctx)
	if err != nil {
		return nil, err
	}
	var out []wire.ProjectInfo
	for i := range list {
		if person(ctx).Role(list[i].ID) != "" {
			info, err := s.projectInfo(ctx, &list[i])
			if err != nil {
				return nil, err
			}
			out = append(out, info)
		}
	}
	return listed(out, in, "name", func(p *wire.ProjectInfo) sortKey { return sortKey{Text: p.Name, ID: p.ID} })
}

func (s *server) getProject(ctx context.Context, in *projectRef) (*projectOut, error) {
	if person(ctx).Role(in.Project) == "" {
		return nil, wire.NewProblem(http.StatusNotFound, wire.CodeNotFound, "there is no project %.64q", in.Project)
	}
	p, err := s.Catalog.Project(ctx, in.Project)
	if err != nil {
		return nil, err
	}
	info, err := s.projectInfo(ctx, &p)
	if err != nil {
		return nil, err
	}
	return &projectOut{info}, nil
}

func (s *server) projectInfo(ctx context.Context, p *catalog.Project) (wire.ProjectInfo, error) {
	n, err := s.Catalog.CountMachines(ctx, p.ID)
	return wire.ProjectInfo{ID: p.ID, Name: p.Name, Created: p.Created, Role: person(ctx).Role(p.ID), Machines: n}, err
}
