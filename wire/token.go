package wire

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"
)

// EnrolToken is the one-time right to enrol, as one line of text that is pasted into a command:
//
//	om1.<master URL, base64url>.<id>.<secret, 32 hexadecimal digits>.<SHA-256 of the CA's public key, 64 hexadecimal digits>
type EnrolToken struct {
	URL    string
	ID     string // 16 hexadecimal digits
	Secret string // 128 bit
	Pin    [32]byte
}

// maxToken bounds a token's text, in bytes.
const maxToken = 2048

// Text is the token in full, secret included.
func (t *EnrolToken) Text() string {
	return strings.Join([]string{"om1", base64.RawURLEncoding.EncodeToString([]byte(t.URL)), t.ID, t.Secret, hex.EncodeToString(t.Pin[:])}, ".")
}

// String hides the secret.
func (t EnrolToken) String() string { return "enrolment token " + t.ID + " for " + t.URL }

// GoString hides it from %#v, too.
func (t EnrolToken) GoString() string { return t.String() }

// ParseEnrolToken reads what Text writes.
func ParseEnrolToken(s string) (*EnrolToken, error) {
	bad := func(why string) (*EnrolToken, error) {
		return nil, fmt.Errorf("this is not an enrolment token (%s): paste the whole line that starts with om1", why)
	}
	if len(s) > maxToken {
		return bad("too long")
	}
	f := strings.Split(strings.TrimSpace(s), ".")
	if len(f) != 5 || f[0] != "om1" {
		return bad("want five fields")
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(f[1])
	if err != nil {
		return bad("master URL")
	}
	u, err := url.Parse(string(raw))
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		return bad("master URL")
	}
	t := &EnrolToken{URL: string(raw), ID: f[2], Secret: f[3]}
	if !isHex(t.ID, 16) || !isHex(t.Secret, 32) || !isHex(f[4], 64) {
		return bad("fields are cut")
	}
	_, err = hex.Decode(t.Pin[:], []byte(f[4]))
	if err != nil {
		return bad("fingerprint")
	}
	return t, nil
}

func isHex(s string, n int) bool {
	return len(s) == n && strings.Trim(s, "0123456789abcdef") == ""
}

// Pin is what tokens carry of a CA: the SHA-256 of its public key.
func Pin(ca *x509.Certificate) [32]byte { return sha256.Sum256(ca.RawSubjectPublicKeyInfo) }
