package catalog

import (
	"strings"

	"github.com/openmigrate/openmigrate/wire"
)

// check refuses what no job can be.
func (s *JobSpec) check() error {
	volumes := 0 // at most
	switch s.Kind {
	case wire.JobVerify, wire.JobExport, wire.JobMeasure:
	case wire.JobHydrate:
		if (s.Target == "") == (len(s.Volumes) == 0) {
			return badRequest("a hydrate job needs a target")
		}
		if volumes = 1; len(s.Volumes) == 1 && s.Disk == nil {
			return badRequest("a hydrate job onto a volume names one disk")
		}
	case wire.JobConvert:
		if volumes = wire.MaxLaunchDisks; len(s.Volumes) == 0 {
			return badRequest("a convert job needs volumes")
		}
	case wire.JobInspect, wire.JobServe:
	default:
		return badRequest("there are no jobs of kind %.40q", s.Kind)
	}
	converts := s.Kind == wire.JobInspect || s.Kind == wire.JobConvert
	switch {
	case len(s.Volumes) > volumes:
		return badRequest("a %s job with %d volumes", s.Kind, len(s.Volumes))
	case len(s.Volumes) > 0 && s.Provider == "":
		return badRequest("a %s job whose volumes are of no provider", s.Kind)
	case converts && s.Convert == nil, s.Convert != nil && !converts && s.Kind != wire.JobServe:
		return badRequest("a %s job and what to convert for do not belong together", s.Kind)
	case len(s.ID) > 64 || strings.Trim(s.ID, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") != "":
		return badRequest("job id %.80q: want up to 64 letters, digits and dashes", s.ID)
	}
	for _, v := range s.Volumes {
		if v.ID == "" || (v.Path == "") == (v.Serial == "") || v.Size <= 0 {
			return badRequest("volume %.80q: want an id, a size, and a path or a serial number", v.ID)
		}
	}
	return nil
}
