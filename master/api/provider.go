package api

import (
	"net/http"

	"github.com/openmigrate/openmigrate/wire"
)

func (s *server) listProviders(c *call) error {
	list, err := s.Launches.Providers(c.ctx)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, append([]wire.ProviderInfo{}, list...))
}

// checkProvider runs the conformance suite, which makes machines at the provider and removes them: one line for each part, the verdict last.
func (s *server) checkProvider(c *call) error {
	name, err := s.provider(c)
	if err != nil {
		return err
	}
	s.audit(c, "checks provider", name)
	return s.stream(c, "check of provider "+name, 0, func(tell func(wire.Progress)) (any, error) {
		return s.Launches.Check(c.ctx, name, func(line string) { tell(wire.Progress{Phase: "check", Message: line}) })
	})
}

// provider is the name in the path, if there is such a provider: a stream of lines begins with the status of success.
func (s *server) provider(c *call) (string, error) {
	name := c.r.PathValue("provider")
	list, err := s.Launches.Providers(c.ctx)
	if err != nil {
		return "", err
	}
	for i := range list {
		if list[i].Name == name {
			return name, nil
		}
	}
	return "", wire.NewProblem(http.StatusNotFound, wire.CodeNotFound, "there is no provider %.100q", name).WithNext("openmigrate providers ls")
}

func (s *server) listOrphans(c *call) error {
	name, err := s.provider(c)
	if err != nil {
		return err
	}
	list, err := s.Launches.Orphans(c.ctx, name)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, append([]wire.Orphan{}, list...))
}

func (s *server) sweepOrphans(c *call) error {
	name, err := s.provider(c)
	if err != nil {
		return err
	}
	list, err := s.Launches.Sweep(c.ctx, name)
	if err != nil {
		return err
	}
	s.audit(c, "removed orphans", name)
	return c.answer(http.StatusOK, append([]wire.Orphan{}, list...))
}
