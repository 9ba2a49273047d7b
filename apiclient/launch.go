package apiclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/openmigrate/openmigrate/wire"
)

// StartLaunch asks for a launch. It is not repeated when the answer is lost: Launches shows whether it began.
func (c *Client) StartLaunch(ctx context.Context, r wire.LaunchRequest) (wire.LaunchInfo, error) {
	return ask[wire.LaunchInfo](ctx, c, http.MethodPost, wire.PathLaunches, r)
}

// Launches lists the launches of a machine, or all when it is empty, newest first.
func (c *Client) Launches(ctx context.Context, machine string) ([]wire.LaunchInfo, error) {
	path := wire.PathLaunches
	if machine != "" {
		path += "?" + url.Values{"machine": {machine}}.Encode()
	}
	return ask[[]wire.LaunchInfo](ctx, c, http.MethodGet, path, nil)
}

// Launch reads one launch.
func (c *Client) Launch(ctx context.Context, id string) (wire.LaunchInfo, error) {
	return ask[wire.LaunchInfo](ctx, c, http.MethodGet, wire.Path(wire.PathLaunch, id), nil)
}

// RevertLaunch takes a launch back.
func (c *Client) RevertLaunch(ctx context.Context, id string) (wire.LaunchInfo, error) {
	return ask[wire.LaunchInfo](ctx, c, http.MethodPost, wire.Path(wire.PathLaunchRevert, id), nil)
}

// FinalizeLaunch makes a cutover's result final.
func (c *Client) FinalizeLaunch(ctx context.Context, id string) (wire.LaunchInfo, error) {
	return ask[wire.LaunchInfo](ctx, c, http.MethodPost, wire.Path(wire.PathLaunchFinalize, id), nil)
}

// LaunchConsole is the end of what a launched machine wrote to its console, with whatever control characters are in it.
func (c *Client) LaunchConsole(ctx context.Context, id string) ([]byte, error) {
	return c.Fetch(ctx, wire.Path(wire.PathLaunchConsole, id))
}

// LaunchScreenshot is what a launched machine's screen showed, as PNG.
func (c *Client) LaunchScreenshot(ctx context.Context, id string) ([]byte, error) {
	return c.Fetch(ctx, wire.Path(wire.PathLaunchScreenshot, id))
}

// LaunchTemplate is what launches of a machine are like.
func (c *Client) LaunchTemplate(ctx context.Context, machine string) (wire.LaunchTemplate, error) {
	return ask[wire.LaunchTemplate](ctx, c, http.MethodGet, wire.Path(wire.PathMachineTemplate, machine), nil)
}

// SetLaunchTemplate replaces it.
func (c *Client) SetLaunchTemplate(ctx context.Context, machine string, t wire.LaunchTemplate) (wire.LaunchTemplate, error) {
	return ask[wire.LaunchTemplate](ctx, c, http.MethodPut, wire.Path(wire.PathMachineTemplate, machine), t)
}

// Providers lists the places where machines can be brought up.
func (c *Client) Providers(ctx context.Context) ([]wire.ProviderInfo, error) {
	return ask[[]wire.ProviderInfo](ctx, c, http.MethodGet, wire.PathProviders, nil)
}

// CheckProvider runs the conformance suite at a provider and calls line (may be nil) for each part that ended.
func (c *Client) CheckProvider(ctx context.Context, name string, line func(string)) (wire.ProviderCheck, error) {
	var check wire.ProviderCheck
	report, err := c.report(ctx, "check of provider "+name, wire.Path(wire.PathProviderCheck, name), func(p wire.Progress) {
		if line != nil {
			line(p.Message)
		}
	})
	if err != nil {
		return check, err
	}
	if err := json.Unmarshal(report, &check); err != nil {
		return check, fmt.Errorf("check of provider %s: decode report: %w", name, err)
	}
	return check, nil
}

// Orphans lists what is left at a provider and belongs to no launch that lives.
func (c *Client) Orphans(ctx context.Context, provider string) ([]wire.Orphan, error) {
	return ask[[]wire.Orphan](ctx, c, http.MethodGet, wire.Path(wire.PathProviderOrphans, provider), nil)
}

// SweepOrphans removes them, and returns those that it removed.
func (c *Client) SweepOrphans(ctx context.Context, provider string) ([]wire.Orphan, error) {
	return ask[[]wire.Orphan](ctx, c, http.MethodDelete, wire.Path(wire.PathProviderOrphans, provider), nil)
}

// report runs a long operation and returns the report at the end of its stream.
func (c *Client) report(ctx context.Context, what, path string, progress func(wire.Progress)) (json.RawMessage, error) {
	var last wire.StagingLine
	err := c.Stream(ctx, path, func(line []byte) error {
		last = wire.StagingLine{}
		if err := json.Unmarshal(line, &last); err != nil {
			return fmt.Errorf("%s: decode answer: %w", what, err)
		}
		if last.Progress != nil && progress != nil {
			progress(*last.Progress)
		}
		return nil
	})
	switch {
	case err != nil:
		return nil, err
	case last.Problem != nil:
		return nil, last.Problem
	case last.Report == nil:
		return nil, errors.Join(wire.ErrUnreachable, fmt.Errorf("%s: the answer ended before its report", what))
	}
	return last.Report, nil
}
