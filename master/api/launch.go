package api

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/master/launch"
	"github.com/openmigrate/openmigrate/providers"
	"github.com/openmigrate/openmigrate/wire"
)

// Launches is what people may ask of launches and of the places where machines are brought up. Errors are problems, or of a class of package providers.
type Launches interface {
	Start(ctx context.Context, project string, r wire.LaunchRequest, by string) (wire.LaunchInfo, error)
	List(ctx context.Context, machine string) ([]wire.LaunchInfo, error) // of a machine's id, or all; newest first
	Get(ctx context.Context, id string) (wire.LaunchInfo, error)
	Revert(ctx context.Context, id, by string) (wire.LaunchInfo, error)
	Finalize(ctx context.Context, id, by string) (wire.LaunchInfo, error)
	// Console and Screenshot are whatever a guest wrote and showed.
	Console(ctx context.Context, id string) ([]byte, error)
	Screenshot(ctx context.Context, id string) ([]byte, error)
	Template(ctx context.Context, machine string) (wire.LaunchTemplate, error)
	SetTemplate(ctx context.Context, machine string, t wire.LaunchTemplate) error
	Providers(ctx context.Context) ([]wire.ProviderInfo, error)
	// Check runs the conformance suite at a provider and calls line for each part that ended.
	Check(ctx context.Context, provider string, line func(string)) (wire.ProviderCheck, error)
	Orphans(ctx context.Context, provider string) ([]wire.Orphan, error)
	Sweep(ctx context.Context, provider string) ([]wire.Orphan, error)
	CallHome(ctx context.Context, h wire.CallHome) error
	// Life says where each machine is on the way to its target, by id.
	Life(ctx context.Context, machines []catalog.Machine) (map[string]launch.Life, error)
}

var _ Launches = (*launch.Service)(nil)

// launchRoutes are those of launches and providers.
func launchRoutes() []route {
	const none, small, template = 0, 4 << 10, 64 << 10
	return []route{
		{"GET", wire.PathLaunches, viewers, none, (*server).listLaunches},
		{"POST", wire.PathLaunches, operators, template, (*server).startLaunch},
		{"GET", wire.PathLaunch, viewers, none, (*server).showLaunch},
		{"POST", wire.PathLaunchRevert, operators, none, (*server).revertLaunch},
		{"POST", wire.PathLaunchFinalize, operators, none, (*server).finalizeLaunch},
		{"GET", wire.PathLaunchConsole, viewers, none, (*server).launchConsole},
		{"GET", wire.PathLaunchScreenshot, viewers, none, (*server).launchScreenshot},
		{"GET", wire.PathMachineTemplate, viewers, none, (*server).showTemplate},
		{"PUT", wire.PathMachineTemplate, operators, template, (*server).setTemplate},
		{"GET", wire.PathProviders, viewers, none, (*server).listProviders},
		{"POST", wire.PathProviderCheck, admins, none, (*server).checkProvider},
		{"GET", wire.PathProviderOrphans, viewers, none, (*server).listOrphans},
		{"DELETE", wire.PathProviderOrphans, admins, none, (*server).sweepOrphans},
		{"POST", wire.PathCallHome, anybody, small, (*server).callHome},
	}
}

func (s *server) startLaunch(c *call) error {
	var q wire.LaunchRequest
	if err := c.decode(&q); err != nil {
		return err
	}
	if err := checkLaunch(&q); err != nil {
		return err
	}
	m, err := s.machineNamed(c, q.Machine)
	if err != nil {
		return err
	}
	if q.Machine = m.ID; q.Restpoint != "" {
		r, err := s.restpoint(c, q.Restpoint)
		if err != nil {
			return err
		}
		if r.Machine != m.ID {
			return badField("restpoint", "restpoint %s is of another machine than %s", r.ID, m.Name).WithNext("choose one of 'openmigrate restpoints ls " + m.Name + "'")
		}
		q.Restpoint = r.ID
	}
	info, err := s.Launches.Start(c.ctx, c.tok.Project, q, c.tok.Name)
	if err != nil {
		return err
	}
	s.audit(c, "started launch", info.ID+" ("+q.Kind+" of "+m.Name+")")
	return c.answer(http.StatusAccepted, info)
}

// launch reads the launch of the path, if its machine is of the caller's project.
func (s *server) launch(c *call) (wire.LaunchInfo, error) {
	info, err := s.Launches.Get(c.ctx, c.r.PathValue("launch"))
	if err != nil {
		return info, err
	}
	m, err := s.Catalog.Machine(c.ctx, info.Machine)
	switch {
	case wire.HasCode(err, wire.CodeNotFound) && c.tok.Project == s.Project: // removed; its launch may still run
		return info, nil
	case err == nil && m.Project != c.tok.Project, wire.HasCode(err, wire.CodeNotFound):
		return info, wire.NewProblem(http.StatusNotFound, wire.CodeNotFound, "there is no launch %.100q", c.r.PathValue("launch"))
	}
	return info, err
}

func (s *server) listLaunches(c *call) error {
	id := ""
	if ref := c.r.URL.Query().Get("machine"); ref != "" {
		m, err := s.machineNamed(c, ref)
		if err != nil {
			return err
		}
		id = m.ID
	}
	list, err := s.Launches.List(c.ctx, id)
	if err != nil {
		return err
	}
	if id == "" && c.tok.Project != s.Project { // launches of machines that were removed are the master's own project's
		if list, err = s.launchesOf(c, list); err != nil {
			return err
		}
	}
	return c.answer(http.StatusOK, append([]wire.LaunchInfo{}, list...))
}

// launchesOf leaves those of the caller's project.
func (s *server) launchesOf(c *call, list []wire.LaunchInfo) ([]wire.LaunchInfo, error) {
	machines, err := s.Catalog.Machines(c.ctx, c.tok.Project)
	if err != nil {
		return nil, err
	}
	ours := map[string]bool{}
	for i := range machines {
		ours[machines[i].ID] = true
	}
	var out []wire.LaunchInfo
	for i := range list {
		if ours[list[i].Machine] {
			out = append(out, list[i])
		}
	}
	return out, nil
}

func (s *server) showLaunch(c *call) error {
	info, err := s.launch(c)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, info)
}

func (s *server) revertLaunch(c *call) error {
	return s.endLaunch(c, "reverted launch", s.Launches.Revert)
}

func (s *server) finalizeLaunch(c *call) error {
	return s.endLaunch(c, "finalized launch", s.Launches.Finalize)
}

func (s *server) endLaunch(c *call, what string, end func(ctx context.Context, id, by string) (wire.LaunchInfo, error)) error {
	info, err := s.launch(c)
	if err != nil {
		return err
	}
	if info, err = end(c.ctx, info.ID, c.tok.Name); err != nil {
		return err
	}
	s.audit(c, what, info.ID+" of "+info.MachineName)
	return c.answer(http.StatusAccepted, info)
}

func (s *server) showTemplate(c *call) error {
	m, err := s.machine(c)
	if err != nil {
		return err
	}
	t, err := s.Launches.Template(c.ctx, m.ID)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, t)
}

func (s *server) setTemplate(c *call) error {
	m, err := s.machine(c)
	if err != nil {
		return err
	}
	var t wire.LaunchTemplate
	if err := c.decode(&t); err != nil {
		return err
	}
	if err := checkTemplate(&t); err != nil {
		return err
	}
	if err := s.Launches.SetTemplate(c.ctx, m.ID, t); err != nil {
		return err
	}
	s.audit(c, "changed launch template", m.Name)
	return c.answer(http.StatusOK, t)
}

// callHome tells whoever guesses nothing: neither which launches there are, nor why he is refused.
func (s *server) callHome(c *call) error {
	var h wire.CallHome
	err := c.decode(&h)
	c.answerWithin(enrolAnswer) // the body had the server's time to come
	if err != nil {
		return err
	}
	if err := checkCallHome(&h); err != nil {
		return err
	}
	err = s.Launches.CallHome(c.ctx, h)
	if wire.HasCode(err, wire.CodeNotFound) || wire.HasCode(err, wire.CodeForbidden) || wire.HasCode(err, wire.CodeUnauthorized) || wire.HasCode(err, wire.CodeConflict) {
		return wire.NewProblem(http.StatusForbidden, wire.CodeForbidden, "no launch with this secret waits for a call")
	}
	if err != nil {
		return err
	}
	return c.done()
}

// providerProblem says what became of a call to a provider. Its texts are for people who may see launches, and say what to do.
func providerProblem(err error) *wire.Problem {
	for _, class := range []struct {
		err    error
		status int
		code   string
	}{
		{providers.ErrNotFound, http.StatusNotFound, wire.CodeNotFound},
		{providers.ErrInvalid, http.StatusBadRequest, wire.CodeBadRequest},
		{providers.ErrConflict, http.StatusConflict, wire.CodeConflict},
		{providers.ErrQuota, http.StatusInsufficientStorage, wire.CodeFull},
		{providers.ErrDenied, http.StatusBadGateway, wire.CodeProvider},
		{providers.ErrTryAgain, http.StatusServiceUnavailable, wire.CodeUnavailable},
	} {
		if errors.Is(err, class.err) {
			return wire.NewProblem(class.status, class.code, "%s", strings.TrimSpace(err.Error()))
		}
	}
	return nil
}
