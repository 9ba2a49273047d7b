package convert

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/openmigrate/openmigrate/hydrator/convert/tree"
)

// Report says what a conversion did.
type Report struct {
	Changes  []Change `json:"changes"`
	Warnings []string `json:"warnings,omitempty"` // what may not work as before
}

// Change is one thing that was changed in the system.
type Change struct {
	Path   string `json:"path"`   // in the system; on the EFI system partition after esp:
	Action string `json:"action"` // changed, created, removed, linked, built
	Reason string `json:"reason"`
	Backup string `json:"backup,omitempty"` // where the old version is; "" if there was none
}

// Where conversion keeps things in the system.
const (
	stateDir  = "/var/lib/openmigrate"
	backupDir = stateDir + "/backup"    // old versions, by their path
	stampDir  = stateDir + "/initramfs" // which initramfs was built after the last change
)

// maxWarnings bounds Report.Warnings.
const maxWarnings = 100

// editor changes files of a system and reports it. What already is as it should be is neither touched nor reported, so
// that a second conversion changes nothing, and one that was killed goes on where it was. The first old version of a file is
// kept for good.
type editor struct {
	*tree.Tree
	system *System
	target Target
	report *Report
	ready  bool // the stamps of earlier conversions are gone

	options Options
	dir     string   // where the system is mounted
	args    []string // for the kernel, which the network needs
}

func (e *editor) warn(format string, args ...any) {
	if len(e.report.Warnings) < maxWarnings {
		e.report.Warnings = append(e.report.Warnings, fmt.Sprintf(format, args...))
	}
}

// begin makes sure that no initramfs counts as built from what is about to change.
func (e *editor) begin() error {
	if e.ready {
		return nil
	}
	for _, stamp := range e.Glob(stampDir, "*") {
		if err := e.Remove(stamp); err != nil {
			return err
		}
	}
	e.ready = true
	return nil
}

// backup keeps what name holds, unless an older version is kept already, and returns where.
func (e *editor) backup(name string) (string, error) {
	if _, err := e.Lstat(name); errors.Is(err, fs.ErrNotExist) {
		return "", nil
	} else if err != nil {
		return "", err
	}
	to := path.Join(backupDir, path.Clean("/"+name))
	if _, err := e.Lstat(to); err == nil {
		return to, nil
	}
	if err := e.Copy(name, to); err != nil {
		return "", fmt.Errorf("keep old version of %s: %w", name, err)
	}
	return to, nil
}

func (e *editor) change(name, action, why string, do func() error) error {
	if err := e.begin(); err != nil {
		return err
	}
	old, err := e.backup(name)
	if err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	e.report.Changes = append(e.report.Changes, Change{name, action, why, old})
	return nil
}

// put makes name a file with this content. Mode is for one that was not there.
func (e *editor) put(name string, b []byte, mode fs.FileMode, why string) error {
	action := "changed"
	switch old, err := e.ReadFile(name); {
	case err == nil && bytes.Equal(old, b):
		return nil
	case errors.Is(err, fs.ErrNotExist):
		action = "created"
	case err != nil:
		return err
	}
	return e.change(name, action, why, func() error { return e.WriteFile(name, b, mode) })
}

// edit changes a file if it is there.
func (e *editor) edit(name, why string, fn func([]byte) []byte) error {
	old, err := e.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return e.put(name, fn(old), 0o644, why)
}

// remove removes a file or link; its content is in the backup.
func (e *editor) remove(name, why string) error {
	if _, err := e.Lstat(name); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return e.change(name, "removed", why, func() error { return e.Remove(name) })
}

// link makes name a symbolic link.
func (e *editor) link(name, target, why string) error {
	if have, err := e.Readlink(name); err == nil && have == target {
		return nil
	}
	return e.change(name, "linked", why, func() error { return e.Symlink(target, name) })
}
