// Package state is what an agent keeps between its starts, in a directory of its own: a statedir.Dir with its identity and the
// last assignment, and for each disk the chunk ids of the last restpoint that the master listed (the base).
//
// A base is never believed blindly: the master checks at each commit that everything resolves, and a base that turns out
// wrong is dropped.
package state

import "github.com/openmigrate/openmigrate/internal/statedir"

// Dir is an open state directory.
type Dir = statedir.Dir

// Identity is who the agent is.
type Identity = statedir.Identity

// ErrLocked: another process uses the directory.
var ErrLocked = statedir.ErrLocked

// Open locks a directory, and makes it if need be. ErrLocked.
func Open(path string) (*Dir, error) { return statedir.Open(path) }
