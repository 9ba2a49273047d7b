package reader

import (
	"bytes"
	"crypto/ed25519"
	"fmt"

	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

// OpenRestpoint checks everything that makes a job's restpoint trustworthy and opens it: the master's countersignature, the
// agent's signature, and that both speak of the machine, the place in its chain, the project and the id that the job names.
// trusted is the master's key as this program learned it when it enrolled; nil: the job's is believed.
func OpenRestpoint(job *wire.Job, keys *format.Keys, trusted ed25519.PublicKey) (*format.Restpoint, error) {
	in := job.Restpoint
	if in == nil {
		return nil, fmt.Errorf("open restpoint: job %s of kind %s names none", job.ID, job.Kind)
	}
	fail := func(err error) (*format.Restpoint, error) {
		return nil, fmt.Errorf("open restpoint %.80s of machine %.80s: %w", in.ID, in.Machine, err)
	}
	if trusted != nil && !bytes.Equal(trusted, in.MasterKey) {
		return fail(fmt.Errorf("%w: it is countersigned with another master's key", format.ErrSignature))
	}
	manifest, link, err := format.OpenObject(in.Object, in.MasterKey)
	if err != nil {
		return fail(err)
	}
	if link.Machine != in.Machine || link.Sequence != in.Sequence {
		return fail(fmt.Errorf("%w: it is countersigned as number %d of machine %s, wanted number %d",
			format.ErrSignature, link.Sequence, link.Machine, in.Sequence))
	}
	rp, err := format.OpenRestpoint(keys, in.AgentKey, manifest)
	if err != nil {
		return fail(err)
	}
	if rp.ID != in.ID || rp.Machine != in.Machine || rp.Project != job.Project {
		return fail(fmt.Errorf("%w: the manifest is of restpoint %s, machine %s, project %s", format.ErrSignature, rp.ID, rp.Machine, rp.Project))
	}
	return rp, nil
}
