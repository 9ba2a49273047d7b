// Package version says which build this is.
package version

import "runtime/debug"

var version string // set by the linker

// String is the version that the Makefile stamped, else what the module system knows, else "unknown".
func String() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}
