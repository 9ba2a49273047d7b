package api

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"github.com/openmigrate/openmigrate/wire"
)

// Match is on every change of a thing that has an ETag.
type Match struct {
	IfMatch string `header:"If-Match" maxLength:"1024" doc:"The ETag that the thing had when it was read: if it was changed since, nothing is done. * takes it as it is."`
}

// revision names what people set of a thing: it changes when that does, and only then.
func revision(parts ...any) string {
	b, err := json.Marshal(parts)
	if err != nil { // plain data
		panic(err)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}

func etag(revision string) string { return `"` + revision + `"` }

// check refuses a change of something that is not any more as the caller saw it. needed: a change without If-Match would undo somebody else's unseen.
func (m *Match) check(revision string, needed bool) error {
	if m.IfMatch == "" {
		if needed {
			return wire.NewProblem(http.StatusPreconditionRequired, wire.CodeNoMatch, "If-Match is needed").
				WithNext("read it first and send its ETag, or * to change it as it is")
		}
		return nil
	}
	for part := range strings.SplitSeq(m.IfMatch, ",") {
		if part = strings.TrimSpace(part); part == "*" || part == etag(revision) {
			return nil
		}
	}
	return wire.NewProblem(http.StatusPreconditionFailed, wire.CodeChanged, "it was changed since it was read").WithNext("read it again, and look whether the change is still wanted")
}

// number is check for a thing whose revisions are numbers: the one that it must have, 0 for any.
func (m *Match) number(revision uint64, needed bool) (uint64, error) {
	if err := m.check(strconv.FormatUint(revision, 10), needed); err != nil {
		return 0, err
	}
	if m.IfMatch == "" || strings.TrimSpace(m.IfMatch) == "*" {
		return 0, nil
	}
	return revision, nil
}

// staleETag gives a change that came too late the code of all such.
func staleETag(err error) error {
	var p *wire.Problem
	if asProblem(err, &p) && p.Status == http.StatusPreconditionFailed {
		return wire.NewProblem(p.Status, wire.CodeChanged, "%s", p.Detail).WithNext(p.Next)
	}
	return err
}
