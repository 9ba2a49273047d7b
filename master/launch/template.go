package launch

import (
	"context"
	"fmt"

	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/wire"
)

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
	if p := checkTemplate(&t, ""); p != nil {
		return p
	}
	if t.Provider != "" {
		if _, err := s.provider(t.Provider); err != nil && !wire.HasCode(err, wire.CodeConflict) {
			return err
		}
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
