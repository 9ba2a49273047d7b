package catalog

import (
	"errors"

	"github.com/openmigrate/openmigrate/staging"
	"github.com/openmigrate/openmigrate/wire"
)

func badRequest(format string, args ...any) *wire.Problem {
	return wire.NewProblem(400, wire.CodeBadRequest, format, args...)
}

func notFound(format string, args ...any) *wire.Problem {
	return wire.NewProblem(404, wire.CodeNotFound, format, args...)
}

func conflict(format string, args ...any) *wire.Problem {
	return wire.NewProblem(409, wire.CodeConflict, format, args...)
}

func busy(format string, args ...any) *wire.Problem {
	return wire.NewProblem(409, wire.CodeBusy, format, args...)
}

func fenced(format string, args ...any) *wire.Problem {
	return wire.NewProblem(409, wire.CodeFenced, format, args...).WithNext("open a new one")
}

// stagingProblem is an error of the bucket that a client should hear of: it may pass.
func stagingProblem(doing string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, staging.ErrFull):
		return errors.Join(wire.NewProblem(507, wire.CodeFull, "%s: staging has no room left", doing).
			WithNext("make room in the bucket, or run: openmigrate staging gc"), err)
	default:
		return errors.Join(wire.NewProblem(502, wire.CodeStaging, "%s: staging failed", doing).WithNext("try again"), err)
	}
}
