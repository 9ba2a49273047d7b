// Package launch brings machines up at providers from their restpoints: for a test, or to move there for good. It drives each launch through
// its states (advance.go draws them), keeps standing volumes warm, removes what dead launches left, and says where a machine is in its life.
//
// What it keeps, whatever dies and whenever: one launch makes one machine; what a launch that is over has made is gone, unless it was kept or finalized;
// a source that was frozen for a cutover is let go when the cutover fails, and only after the copy is off; a machine that was finalized is never
// touched. DESIGN.md says how.
//
// A Service may be used by any number of goroutines; one process at a time works on a store.
package launch
