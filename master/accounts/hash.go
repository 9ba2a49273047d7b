package accounts

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"

	"github.com/openmigrate/openmigrate/wire"
)

// HashParams is how hard a password is to guess from its hash.
type HashParams struct {
	Time    uint32 // passes
	Memory  uint32 // KiB
	Threads uint8
}

// defaultHash is the second recommended option of RFC 9106, section 4: three passes over 64 MiB with four lanes, with a salt of 128
// and a tag of 256 bits.
var defaultHash = HashParams{Time: 3, Memory: 64 << 10, Threads: 4}

const (
	saltSize = 16
	tagSize  = 32
)

// Limits of hashing: a hash takes all memory that its parameters say, so this many at once are what logins can take of the host.
// Browsers that have logged in before have a place of their own, which a flood of strangers cannot take.
const (
	hashesAtOnce  = 2
	hashesWaiting = 16 // beyond those, callers are sent away at once
	trustedAtOnce = 1
	trustedWait   = 8
)

// hasher hashes and checks passwords, a few at a time.
type hasher struct{ strangers, trusted *gate }

func newHasher() hasher {
	return hasher{strangers: newGate(hashesAtOnce, hashesWaiting), trusted: newGate(trustedAtOnce, trustedWait)}
}

// gate lets a few in, and a few more wait.
type gate struct{ run, queue chan struct{} }

func newGate(run, waiting int) *gate {
	return &gate{run: make(chan struct{}, run), queue: make(chan struct{}, run+waiting)}
}

// enter waits for a place: CodeBusy when too many wait already. Call leave afterwards.
func (g *gate) enter(ctx context.Context) (leave func(), err error) {
	select {
	case g.queue <- struct{}{}:
	default:
		return nil, wire.NewProblem(429, wire.CodeBusy, "too many people log in at once").WithNext("try again in a few seconds")
	}
	select {
	case g.run <- struct{}{}:
		return func() { <-g.run; <-g.queue }, nil
	case <-ctx.Done():
		<-g.queue
		return nil, ctx.Err()
	}
}

// make hashes a password, in the form of PHC strings: $argon2id$v=19$m=…,t=…,p=…$salt$tag.
func (h *hasher) make(ctx context.Context, password string, p HashParams) (string, error) {
	leave, err := h.strangers.enter(ctx)
	if err != nil {
		return "", err
	}
	defer leave()
	salt := make([]byte, saltSize)
	_, _ = rand.Read(salt) // never fails since Go 1.24
	tag := argon2.IDKey([]byte(password), salt, p.Time, p.Memory, p.Threads, tagSize)
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, p.Memory, p.Time, p.Threads, b64.EncodeToString(salt), b64.EncodeToString(tag)), nil
}

// check reports whether a hash is a password's, and with which parameters it was made. An empty hash is nobody's, and found out no
// faster.
func (h *hasher) check(ctx context.Context, hash, password string, usual HashParams, trusted bool) (ok bool, p HashParams, err error) {
	g := h.strangers
	if trusted {
		g = h.trusted
	}
	salt, want := make([]byte, saltSize), make([]byte, tagSize)
	p = usual
	if hash != "" {
		if p, salt, want, err = parseHash(hash); err != nil {
			return false, p, err
		}
	}
	leave, err := g.enter(ctx)
	if err != nil {
		return false, p, err
	}
	defer leave()
	tag := argon2.IDKey([]byte(password), salt, p.Time, p.Memory, p.Threads, uint32(len(want)))
	return subtle.ConstantTimeCompare(tag, want) == 1 && hash != "", p, nil
}

var errHash = errors.New("read password hash: not an argon2id hash that this version knows")

// parseHash reads a PHC string, within limits: a row that was damaged must not take the host's memory.
func parseHash(s string) (p HashParams, salt, tag []byte, err error) {
	parts := strings.Split(s, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return p, nil, nil, errHash
	}
	if n, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &p.Memory, &p.Time, &p.Threads); n != 3 || err != nil {
		return p, nil, nil, errHash
	}
	const maxMemory, maxTime = 1 << 20, 64
	if p.Memory > maxMemory || p.Time < 1 || p.Time > maxTime || p.Threads < 1 {
		return p, nil, nil, errHash
	}
	salt, err1 := base64.RawStdEncoding.DecodeString(parts[4])
	tag, err2 := base64.RawStdEncoding.DecodeString(parts[5])
	if err1 != nil || err2 != nil || len(salt) < 8 || len(salt) > 64 || len(tag) < 16 || len(tag) > 64 {
		return p, nil, nil, errHash
	}
	return p, salt, tag, nil
}
