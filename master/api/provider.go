package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/openmigrate/openmigrate/wire"
)

type ProviderRef struct {
	Provider string `path:"provider" maxLength:"256"`
}

func (s *server) registerProviders(api huma.API) {
	add(s, api, op{id: "list-providers", method: "GET", path: wire.PathProviders, tag: "providers", summary: "List places where machines are brought up",
		text: "With what they can do, and what is wrong with them."}, s.listProviders)
	add(s, api, op{id: "get-provider", method: "GET", path: wire.PathProvider, tag: "providers", summary: "Show a provider"}, s.getProvider)
	add(s, api, op{id: "check-provider", method: "POST", path: wire.PathProviderCheck, tag: "providers", summary: "Try everything that launches need at a provider",
		text: "It makes small machines there and removes them.", status: http.StatusAccepted, creates: true}, s.checkProvider)
	add(s, api, op{id: "list-orphans", method: "GET", path: wire.PathProviderOrphans, tag: "providers", summary: "List what is left at a provider and belongs to no launch that lives"}, s.listOrphans)
	add(s, api, op{id: "remove-orphans", method: "DELETE", path: wire.PathProviderOrphans, tag: "providers", summary: "Remove what is left at a provider",
		text: "The answer lists what was removed."}, s.removeOrphans)
}

func (s *server) listProviders(ctx context.Context, in *PageParams) (*pageOut[wire.ProviderInfo], error) {
	list, err := s.Launches.Providers(ctx)
	if err != nil {
		return nil, err
	}
	return listed(list, in, "name", func(p *wire.ProviderInfo) sortKey { return sortKey{Text: p.Name} })
}

type providerOut struct{ Body wire.ProviderInfo }

func (s *server) getProvider(ctx context.Context, in *ProviderRef) (*providerOut, error) {
	p, err := s.provider(ctx, in.Provider)
	if err != nil {
		return nil, err
	}
	return &providerOut{*p}, nil
}

// provider finds one by its name.
func (s *server) provider(ctx context.Context, name string) (*wire.ProviderInfo, error) {
	list, err := s.Launches.Providers(ctx)
	if err != nil {
		return nil, err
	}
	for i := range list {
		if list[i].Name == name {
			return &list[i], nil
		}
	}
	return nil, wire.NewProblem(http.StatusNotFound, wire.CodeNotFound, "there is no provider %.100q", name).WithNext("openmigrate providers ls")
}

type checkProviderIn struct {
	ProviderRef
	Idempotent
}

// checkProvider runs the conformance suite, which makes machines at the provider and removes them: one line for each part, the verdict last.
func (s *server) checkProvider(ctx context.Context, in *checkProviderIn) (*operationOut, error) {
	p, err := s.provider(ctx, in.Provider)
	if err != nil {
		return nil, err
	}
	return s.begin(ctx, "provider-check", p.Name, func(ctx context.Context, tell func(wire.Progress)) (any, error) {
		return s.Launches.Check(ctx, p.Name, func(line string) { tell(wire.Progress{Phase: "check", Message: line}) })
	})
}

type orphansOut struct{ Body []wire.Orphan }

func (s *server) listOrphans(ctx context.Context, in *ProviderRef) (*orphansOut, error) {
	p, err := s.provider(ctx, in.Provider)
	if err != nil {
		return nil, err
	}
	list, err := s.Launches.Orphans(ctx, p.Name)
	if err != nil {
		return nil, err
	}
	return &orphansOut{append([]wire.Orphan{}, list...)}, nil
}

func (s *server) removeOrphans(ctx context.Context, in *ProviderRef) (*orphansOut, error) {
	p, err := s.provider(ctx, in.Provider)
	if err != nil {
		return nil, err
	}
	list, err := s.Launches.Sweep(ctx, p.Name)
	if err != nil {
		return nil, err
	}
	s.changed(ctx, "provider", p.Name, p.Name, map[string]any{"orphans": list}, map[string]any{"orphans": []wire.Orphan{}})
	return &orphansOut{append([]wire.Orphan{}, list...)}, nil
}
