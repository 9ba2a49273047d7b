package launch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/openmigrate/openmigrate/providers"
	"github.com/openmigrate/openmigrate/providers/providercheck"
	"github.com/openmigrate/openmigrate/wire"
)

// providerNames are those that work and those that do not, in order.
func (s *Service) providerNames() []string {
	names := map[string]bool{}
	for n := range s.Deps.Providers {
		names[n] = true
	}
	for n := range s.Broken {
		names[n] = true
	}
	return slices.Sorted(maps.Keys(names))
}

// Providers says what there is to launch at, and what is wrong with it.
func (s *Service) Providers(ctx context.Context) ([]wire.ProviderInfo, error) {
	list := []wire.ProviderInfo{}
	for _, name := range s.providerNames() {
		info := wire.ProviderInfo{Name: name}
		p := s.Deps.Providers[name]
		if p == nil {
			info.Error = clean(fmt.Sprint(s.Broken[name]), maxLine)
			list = append(list, info)
			continue
		}
		if err := describe(ctx, p, &info); err != nil {
			if ctx.Err() != nil {
				return nil, err
			}
			info.Error = clean(err.Error(), maxLine)
		}
		list = append(list, info)
	}
	return list, nil
}

func describe(ctx context.Context, p providers.Provider, info *wire.ProviderInfo) error {
	c, err := p.Capabilities(ctx)
	if err != nil {
		return err
	}
	info.Kind, info.Notes, info.Error = c.Provider, c.Notes, c.Unusable
	types, terr := p.InstanceTypes(ctx)
	networks, nerr := p.Networks(ctx)
	for _, part := range []struct {
		into *json.RawMessage
		v    any
	}{{&info.Capabilities, c}, {&info.Types, types}, {&info.Networks, networks}} {
		if *part.into, err = json.Marshal(part.v); err != nil {
			return err
		}
	}
	return errors.Join(terr, nerr)
}

// Check runs the conformance suite against a provider, and shows each line as it comes. It makes small things there and removes them.
func (s *Service) Check(ctx context.Context, provider string, line func(string)) (wire.ProviderCheck, error) {
	p, err := s.provider(provider)
	if err != nil {
		return wire.ProviderCheck{}, err
	}
	found := wire.ProviderCheck{Lines: []string{}}
	providercheck.Check(ctx, p, &providercheck.Options{Writer: s.Writers[provider], Pause: s.Pause}, func(r providercheck.Result) {
		text := fmt.Sprintf("ok       %s (%s)", r.Name, r.Took.Round(time.Millisecond))
		switch {
		case r.Skipped != "":
			text = fmt.Sprintf("skipped  %s: %s", r.Name, r.Skipped)
		case r.Err != nil:
			found.Failed++
			text = fmt.Sprintf("failed   %s: %v", r.Name, r.Err)
		default:
			found.Passed++
		}
		text = clean(text, 2*maxLine)
		if found.Lines = append(found.Lines, text); line != nil {
			line(text)
		}
	})
	return found, ctx.Err()
}
