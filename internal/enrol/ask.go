package enrol

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/openmigrate/openmigrate/internal/statedir"
	"github.com/openmigrate/openmigrate/internal/version"
	"github.com/openmigrate/openmigrate/wire"
)

// enrol trades the token for an identity, which is durable when it returns.
func enrol(ctx context.Context, o *Options) (*statedir.Identity, error) {
	if o.Token == "" {
		return nil, fmt.Errorf("this %s has no identity yet: give it an enrolment token with --token (make one with 'openmigrate tokens enroll --kind %s')", o.Kind, o.Kind)
	}
	token, err := wire.ParseEnrolToken(o.Token)
	if err != nil {
		return nil, err
	}
	keys, err := keysFor(o.Dir, enrolling, token.ID, o.Kind == Agent)
	if err != nil {
		return nil, err
	}
	q := &wire.EnrollRequest{Kind: o.Kind, TokenID: token.ID, Secret: token.Secret, Name: o.Name, Fingerprint: o.Fingerprint,
		Version: version.String(), Inventory: o.Inventory}
	if q.CSR, err = request(keys.Key); err != nil {
		return nil, err
	}
	if o.Kind == Agent {
		signing := ed25519.NewKeyFromSeed(keys.SigningKey)
		q.SigningKey, q.SigningSig = signing.Public().(ed25519.PublicKey), ed25519.Sign(signing, q.CSR)
	}
	url := token.URL
	if o.MasterURL != "" {
		url = o.MasterURL
	}
	out, err := ask(ctx, o, url, token, q)
	if err != nil {
		return nil, fmt.Errorf("enrol: %w", err)
	}
	ca, err := x509.ParseCertificate(out.CA)
	if err != nil {
		return nil, fmt.Errorf("enrol: read the master's CA: %w", err)
	}
	if wire.Pin(ca) != token.Pin {
		return nil, fmt.Errorf("enrol: %w: the CA in the answer is not the token's", wire.ErrUntrusted)
	}
	id := &statedir.Identity{ID: out.ID, Name: out.Name, Project: out.Project, Master: url, CA: out.CA, MasterKey: out.MasterKey,
		Certificate: out.Certificate, Key: keys.Key, SigningKey: keys.SigningKey}
	if _, err := certificate(o.Kind, id); err != nil {
		return nil, fmt.Errorf("enrol: %w", err)
	}
	if err := o.Dir.SetIdentity(id); err != nil {
		return nil, err
	}
	o.Log.Info("enrolled", "kind", o.Kind, "name", id.Name, "id", id.ID, "project", id.Project)
	return id, nil
}

// ask sends the request until the master answers.
func ask(ctx context.Context, o *Options, url string, token *wire.EnrolToken, q *wire.EnrollRequest) (*wire.EnrollResponse, error) {
	client, err := wire.NewClient(wire.ClientOptions{URL: url, Pin: &token.Pin, UserAgent: userAgent(o.Kind)})
	if err != nil {
		return nil, err
	}
	defer client.Close()
	for b := NewBackoff(time.Second, 30*time.Second); ; {
		out, err := client.Enroll(ctx, q)
		switch {
		case err == nil:
			return out, nil
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case !wire.Passing(err):
			return nil, err
		}
		o.Log.Warn("the master cannot be reached yet", "error", err)
		o.Waiting(Enrolling, err)
		if err := o.sleep(ctx, b.Step()); err != nil {
			return nil, err
		}
	}
}
