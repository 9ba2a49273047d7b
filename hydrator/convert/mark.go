package convert

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// MarkPath is where Target.Mark is written in the system. Only root can read it: it holds a secret.
const MarkPath = stateDir + "/copy.json"

const maxMark = 64 << 10 // bytes

// convertMark writes the mark. The mark of another copy that is there is not kept: nobody needs its secret. Since no initramfs has the file, none is
// built again for it.
func convertMark(e *editor) error {
	if e.target.Mark == nil {
		return nil
	}
	action := "created"
	switch info, err := e.Lstat(MarkPath); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	default:
		st, ok := info.Sys().(*syscall.Stat_t)
		if ok && info.Mode() == 0o600 && int(st.Uid) == os.Geteuid() {
			if b, err := e.ReadFile(MarkPath); err == nil && bytes.Equal(b, e.target.Mark) {
				return nil
			}
		}
		action = "changed"
		if err := e.Remove(MarkPath); err != nil {
			return err
		}
	}
	if err := e.WriteFile(MarkPath, e.target.Mark, 0o600); err != nil {
		return err
	}
	e.report.Changes = append(e.report.Changes, Change{MarkPath, action, "an agent in the system knows that it is a copy", ""})
	return nil
}
