package launch

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/providers"
	"github.com/openmigrate/openmigrate/wire"
)

func badTemplate(field, format string, args ...any) *wire.Problem {
	p := wire.NewProblem(400, wire.CodeBadRequest, format, args...).WithNext("change the launch template")
	p.Field = field
	return p
}

// checkTemplate refuses what no launch can be, whatever the provider. kind is empty for a machine's template, which serves both.
func checkTemplate(t *wire.LaunchTemplate, kind string) error {
	printable := func(s string, most int) bool {
		return len(s) <= most && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
	}
	for field, s := range map[string]string{"provider": t.Provider, "type": t.Type, "bus": t.Bus, "zone": t.Zone, "network": t.Network} {
		if !printable(s, wire.MaxNameLength) {
			return badTemplate(field, "%s is too long, or holds control characters", field)
		}
	}
	switch {
	case t.CPUs < 0 || t.CPUs > 4096 || t.Memory < 0 || t.Memory > 1<<50:
		return badTemplate("cpus", "%d processors and %d bytes of memory", t.CPUs, t.Memory)
	case t.Firmware != "" && t.Firmware != string(providers.BIOS) && t.Firmware != string(providers.UEFI):
		return badTemplate("firmware", "firmware %.40q: want bios or uefi", t.Firmware)
	case len(t.Groups) > 16 || slices.ContainsFunc(t.Groups, func(g string) bool { return g == "" || !printable(g, wire.MaxNameLength) }):
		return badTemplate("groups", "groups: want up to 16 names")
	case len(t.Forward) > maxForward || slices.Contains(t.Forward, 0):
		return badTemplate("forward", "forward: want up to %d TCP ports", maxForward)
	case len(t.Settings) > 32:
		return badTemplate("settings", "%d settings, of at most 32", len(t.Settings))
	case len(t.Checks) > wire.MaxChecks:
		return badTemplate("checks", "%d checks, of at most %d", len(t.Checks), wire.MaxChecks)
	case time.Duration(t.Deadline) > maxDeadline:
		return badTemplate("deadline", "a deadline of %s; at most %s", time.Duration(t.Deadline), maxDeadline)
	case t.Instant && kind == wire.LaunchCutover:
		return badTemplate("instant", "only a test can start from staging: a cutover's machine must not depend on it")
	}
	for k, v := range t.Settings {
		if !printable(k, wire.MaxNameLength) || !printable(v, providers.MaxSetting) {
			return badTemplate("settings", "setting %.80q is too long, or holds control characters", k)
		}
	}
	if err := checkAddress(t.Address); err != nil {
		return err
	}
	for i := range t.Checks {
		if err := checkCheck(&t.Checks[i], printable); err != nil {
			return err
		}
	}
	slices.Sort(t.Forward)
	t.Forward = slices.Compact(t.Forward)
	return nil
}

func checkAddress(a *wire.LaunchAddress) error {
	if a == nil {
		return nil
	}
	if len(a.Prefixes) == 0 || len(a.Prefixes) > 16 || len(a.DNS) > 8 {
		return badTemplate("address", "address: want 1 to 16 prefixes, and up to 8 DNS servers")
	}
	for _, p := range a.Prefixes {
		if !p.IsValid() || p.Addr().IsUnspecified() || p.Addr().IsMulticast() || p.Addr().IsLoopback() || p.Addr().Zone() != "" {
			return badTemplate("address", "prefix %s: want an address of a card, such as 10.0.2.15/24", p)
		}
	}
	for _, d := range a.DNS {
		if !d.IsValid() {
			return badTemplate("address", "a DNS server is no address")
		}
	}
	return nil
}

func checkCheck(c *wire.LaunchCheck, printable func(string, int) bool) error {
	port, text := false, c.Text != ""
	switch c.Kind {
	case wire.CheckBoot, wire.CheckCallHome, wire.CheckScreenshot:
		if text {
			return badTemplate("checks", "a %s check looks for no text", c.Kind)
		}
	case wire.CheckConsole:
		if !text {
			return badTemplate("checks", "a console check needs a text")
		}
	case wire.CheckTCP:
		if port = true; text {
			return badTemplate("checks", "a tcp check looks for no text")
		}
	case wire.CheckHTTP:
		if port = true; c.Path == "" {
			c.Path = "/"
		}
		if !strings.HasPrefix(c.Path, "/") || strings.Contains(c.Path, " ") || !printable(c.Path, maxText) || c.Status != 0 && (c.Status < 100 || c.Status > 599) {
			return badTemplate("checks", "an http check of path %.80q, status %d", c.Path, c.Status)
		}
	default:
		return badTemplate("checks", "there are no checks of kind %.40q; there are boot, console, tcp, http, call-home and screenshot", c.Kind)
	}
	switch {
	case port != (c.Port != 0):
		return badTemplate("checks", "a %s check, port %d", c.Kind, c.Port)
	case len(c.Text) > maxText || !printable(strings.ReplaceAll(c.Text, "\t", " "), maxText):
		return badTemplate("checks", "the text of a check has at most %d bytes, and no control characters", maxText)
	case c.Timeout < 0 || time.Duration(c.Timeout) > maxCheckTime:
		return badTemplate("checks", "a check with a time limit of %s; at most %s", time.Duration(c.Timeout), maxCheckTime)
	}
	return nil
}

// Template returns a machine's launch template: the zero one when none was set. machine is an id or a name.
func (s *Service) Template(ctx context.Context, machine string) (wire.LaunchTemplate, error) {
	m, err := s.Catalog.Machine(ctx, machine)
	if err != nil {
		return wire.LaunchTemplate{}, err
	}
	return s.template(ctx, m.ID)
}

func (s *Service) template(ctx context.Context, machine string) (wire.LaunchTemplate, error) {
	var t wire.LaunchTemplate
	err := s.DB.View(ctx, func(r store.Reader) (err error) {
		t, err = find[wire.LaunchTemplate](r, tableTemplates, machine)
		return err
	})
	return t, err
}

// SetTemplate replaces a machine's launch template if check allows it for what the template was; nil: whatever it was. check may be called more than
// once. What only a provider can judge is judged at the launch.
func (s *Service) SetTemplate(ctx context.Context, machine string, t wire.LaunchTemplate, check func(was wire.LaunchTemplate) error) error {
	m, err := s.Catalog.Machine(ctx, machine)
	if err != nil {
		return err
	}
	if err := checkTemplate(&t, ""); err != nil {
		return err
	}
	if t.Provider != "" {
		if _, err := s.provider(t.Provider); err != nil && !wire.HasCode(err, wire.CodeConflict) {
			return err
		}
	}
	if t.Warm && t.Instant {
		return badTemplate("warm", "a launch starts from standing volumes or from staging, not from both")
	}
	err = s.DB.Update(ctx, func(w store.Writer) error {
		was, err := find[wire.LaunchTemplate](w, tableTemplates, m.ID)
		if err == nil && check != nil {
			err = check(was)
		}
		if err != nil {
			return err
		}
		return put(w, tableTemplates, m.ID, t)
	})
	if err != nil {
		return fmt.Errorf("store launch template: %w", err)
	}
	s.ring()
	return nil
}
