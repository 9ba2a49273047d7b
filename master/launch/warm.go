package launch

import (
	"context"
	"strings"

	"github.com/openmigrate/openmigrate/master/store"
)

const warmOwner = "warm-"

func warmMachine(owner string) (string, bool) { return strings.CutPrefix(owner, warmOwner) }

func (s *Service) warmStays(store.Reader, string, bool) (bool, error) { return true, nil }
func (s *Service) keepWarm(context.Context)                           {}
func (r *run) leaveWarm(context.Context) error                        { return nil }
func (r *run) fromWarm(context.Context) (bool, error)                 { return false, nil }
