package api

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

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
	// SetTemplate replaces a template if check, which may be called more than once, allows it for what the template was.
	SetTemplate(ctx context.Context, machine string, t wire.LaunchTemplate, check func(was wire.LaunchTemplate) error) error
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

func (s *server) registerLaunches(api huma.API) {
	const template = 64 << 10
	add(s, api, op{id: "list-launches", method: "GET", path: wire.PathLaunches, tag: "launches", summary: "List launches, newest first", text: "Without their logs."}, s.listLaunches)
	add(s, api, op{id: "start-launch", method: "POST", path: wire.PathLaunches, tag: "launches", summary: "Bring a machine up from a restpoint",
		text: "A test leaves the source alone; a cutover moves the machine; a cutover with a restpoint is a rollback.", status: http.StatusAccepted, body: template, creates: true}, s.startLaunch)
	add(s, api, op{id: "get-launch", method: "GET", path: wire.PathLaunch, tag: "launches", summary: "Show a launch: its steps, log, checks and forecast"}, s.getLaunch)
	add(s, api, op{id: "revert-launch", method: "POST", path: wire.PathLaunchRevert, tag: "launches", summary: "Take a launch back",
		text: "What was made is removed; of a cutover the source serves again.", status: http.StatusAccepted}, s.revertLaunch)
	add(s, api, op{id: "finalize-launch", method: "POST", path: wire.PathLaunchFinalize, tag: "launches", summary: "Keep a launch for good", status: http.StatusAccepted}, s.finalizeLaunch)
	add(s, api, op{id: "get-launch-console", method: "GET", path: wire.PathLaunchConsole, tag: "launches", summary: "The end of a launched machine's console",
		text: "Whatever the machine wrote, with its control characters.", content: "text/plain"}, s.launchConsole)
	add(s, api, op{id: "get-launch-screenshot", method: "GET", path: wire.PathLaunchScreenshot, tag: "launches", summary: "What a launched machine's screen showed", content: "image/png"}, s.launchScreenshot)
	add(s, api, op{id: "get-launch-template", method: "GET", path: wire.PathMachineTemplate, tag: "launches", summary: "What launches of a machine are like"}, s.getTemplate)
	add(s, api, op{id: "set-launch-template", method: "PUT", path: wire.PathMachineTemplate, tag: "launches", summary: "Replace what launches of a machine are like", body: template}, s.setTemplate)
}

type LaunchRef struct {
	Launch string `path:"launch" maxLength:"256"`
}

type launchOut struct {
	Location string `header:"Location"`
	ETag     string `header:"ETag"`
	Body     wire.LaunchInfo
}

func answerLaunch(info wire.LaunchInfo) *launchOut {
	if info.Steps == nil {
		info.Steps = []wire.LaunchStep{}
	}
	if info.Log == nil {
		info.Log = []wire.LaunchLine{}
	}
	return &launchOut{Location: wire.Path(wire.PathLaunch, info.ID), ETag: etag(launchRevision(&info)), Body: info}
}

func launchRevision(info *wire.LaunchInfo) string { return revision(info.State) }

type startLaunchIn struct {
	Idempotent
	Body wire.LaunchRequest
}

func (s *server) startLaunch(ctx context.Context, in *startLaunchIn) (*launchOut, error) {
	q := in.Body
	if err := launch.CheckRequest(&q); err != nil {
		return nil, err
	}
	m, err := s.machine(ctx, q.Machine)
	if err != nil {
		return nil, err
	}
	if q.Machine = m.ID; q.Restpoint != "" {
		r, err := s.restpoint(ctx, q.Restpoint)
		if err != nil {
			return nil, err
		}
		if r.Machine != m.ID {
			return nil, badField("restpoint", "restpoint %s is of another machine than %s", r.ID, m.Name).WithNext("choose one of 'openmigrate restpoints ls " + m.Name + "'")
		}
		q.Restpoint = r.ID
	}
	info, err := s.Launches.Start(ctx, person(ctx).Project, q, person(ctx).Name)
	if err != nil {
		return nil, err
	}
	s.changed(ctx, "launch", info.ID, q.Kind+" of "+m.Name, nil, q)
	return answerLaunch(info), nil
}

// launch reads a launch of the caller's project.
func (s *server) launch(ctx context.Context, id string) (wire.LaunchInfo, error) {
	info, err := s.Launches.Get(ctx, id)
	if err == nil && info.Project != person(ctx).Project {
		return wire.LaunchInfo{}, wire.NewProblem(http.StatusNotFound, wire.CodeNotFound, "there is no launch %.64q", id)
	}
	return info, err
}

type listLaunchesIn struct {
	PageParams
	Machine string   `query:"machine" maxLength:"256" doc:"Of this machine: id or name."`
	Kind    []string `query:"kind" maxItems:"4" doc:"Any of these: test, cutover."`
	State   []string `query:"state" maxItems:"16" doc:"Any of these states."`
	Active  bool     `query:"active" doc:"Only those that are not over."`
}

func (s *server) listLaunches(ctx context.Context, in *listLaunchesIn) (*pageOut[wire.LaunchInfo], error) {
	id, project := "", person(ctx).Project
	if in.Machine != "" {
		m, err := s.machine(ctx, in.Machine)
		if err != nil {
			return nil, err
		}
		id = m.ID
	}
	list, err := s.Launches.List(ctx, id)
	if err != nil {
		return nil, err
	}
	out := make([]wire.LaunchInfo, 0, len(list))
	for i := range list {
		l := &list[i]
		over := l.State == wire.LaunchReverted || l.State == wire.LaunchFailed || l.State == wire.LaunchFinalized
		if l.Project == project && oneOf(in.Kind, l.Kind) && oneOf(in.State, l.State) && (!in.Active || !over) {
			out = append(out, answerLaunch(*l).Body)
		}
	}
	return listed(out, &in.PageParams, "-created", func(l *wire.LaunchInfo) sortKey { return sortKey{Number: l.Created.UnixNano(), ID: l.ID} })
}

func (s *server) getLaunch(ctx context.Context, in *LaunchRef) (*launchOut, error) {
	info, err := s.launch(ctx, in.Launch)
	if err != nil {
		return nil, err
	}
	return answerLaunch(info), nil
}

type endLaunchIn struct {
	LaunchRef
	Match
}

func (s *server) revertLaunch(ctx context.Context, in *endLaunchIn) (*launchOut, error) {
	return s.endLaunch(ctx, in, s.Launches.Revert)
}

func (s *server) finalizeLaunch(ctx context.Context, in *endLaunchIn) (*launchOut, error) {
	return s.endLaunch(ctx, in, s.Launches.Finalize)
}

func (s *server) endLaunch(ctx context.Context, in *endLaunchIn, end func(ctx context.Context, id, by string) (wire.LaunchInfo, error)) (*launchOut, error) {
	was, err := s.launch(ctx, in.Launch)
	if err != nil {
		return nil, err
	}
	if err := in.check(launchRevision(&was), false); err != nil {
		return nil, err
	}
	info, err := end(ctx, was.ID, person(ctx).Name)
	if err != nil {
		return nil, err
	}
	s.changed(ctx, "launch", info.ID, info.Kind+" of "+info.MachineName, map[string]any{"state": was.State}, map[string]any{"state": info.State})
	return answerLaunch(info), nil
}

type templateOut struct {
	ETag string `header:"ETag"`
	Body wire.LaunchTemplate
}

func answerTemplate(t wire.LaunchTemplate) *templateOut {
	return &templateOut{ETag: etag(revision(t)), Body: t}
}

func (s *server) getTemplate(ctx context.Context, in *MachineRef) (*templateOut, error) {
	m, err := s.machine(ctx, in.Machine)
	if err != nil {
		return nil, err
	}
	t, err := s.Launches.Template(ctx, m.ID)
	if err != nil {
		return nil, err
	}
	return answerTemplate(t), nil
}

type setTemplateIn struct {
	MachineRef
	Match
	Body wire.LaunchTemplate
}

func (s *server) setTemplate(ctx context.Context, in *setTemplateIn) (*templateOut, error) {
	t := in.Body
	m, err := s.machine(ctx, in.Machine)
	if err != nil {
		return nil, err
	}
	var before wire.LaunchTemplate
	err = s.Launches.SetTemplate(ctx, m.ID, t, func(was wire.LaunchTemplate) error {
		before = was
		return in.check(revision(was), true)
	})
	if err != nil {
		return nil, err
	}
	if t, err = s.Launches.Template(ctx, m.ID); err != nil {
		return nil, err
	}
	s.changed(ctx, "launch-template", m.ID, m.Name, before, t)
	return answerTemplate(t), nil
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
