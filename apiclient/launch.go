package apiclient

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	"github.com/openmigrate/openmigrate/wire"
)

// StartLaunch asks for a launch.
func (c *Client) StartLaunch(ctx context.Context, r wire.LaunchRequest) (wire.LaunchInfo, error) {
	return made[wire.LaunchInfo](ctx, c, wire.PathLaunches, r)
}

// Launches lists the launches of a machine, or all when it is empty, newest first.
func (c *Client) Launches(ctx context.Context, machine string) ([]wire.LaunchInfo, error) {
	query := url.Values{}
	if machine != "" {
		query.Set("machine", machine)
	}
	return all[wire.LaunchInfo](ctx, c, wire.PathLaunches, query)
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
	return change[wire.LaunchTemplate](ctx, c, http.MethodPut, wire.Path(wire.PathMachineTemplate, machine), t, asItIs)
}

// Providers lists the places where machines can be brought up.
func (c *Client) Providers(ctx context.Context) ([]wire.ProviderInfo, error) {
	return all[wire.ProviderInfo](ctx, c, wire.PathProviders, nil)
}

// CheckProvider runs the conformance suite at a provider and calls line (may be nil) for each part that ended.
func (c *Client) CheckProvider(ctx context.Context, name string, line func(string)) (wire.ProviderCheck, error) {
	var check wire.ProviderCheck
	report, err := c.follow(ctx, wire.Path(wire.PathProviderCheck, name), nil, line)
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
