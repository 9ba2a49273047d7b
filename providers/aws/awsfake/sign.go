package awsfake

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// caller is who signed a request, and for what.
type caller struct {
	principal string
	service   string
}

// unsigned is what stands for the hash of a body that is not signed. Only PutSnapshotBlock may say so (its checksum is in a header of its own).
const unsigned = "UNSIGNED-PAYLOAD"

// skew is how far a signature's time may be from the server's: "Troubleshoot Signature Version 4 signed requests" in the IAM user guide.
const skew = 5 * time.Minute

// verify checks a signature of version 4 by the steps of "Create a signed AWS API request" in the IAM user guide
// (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html). It is not the code of any SDK.
func (s *Server) verify(r *http.Request, body []byte) (caller, error) {
	var c caller
	const scheme = "AWS4-HMAC-SHA256 "
	auth := r.Header.Get("Authorization")
	if !strings.HasPrefix(auth, scheme) {
		return c, &apiError{http.StatusUnauthorized, "MissingAuthenticationToken", "Request is missing Authentication Token", ""}
	}
	fields := map[string]string{}
	for _, f := range strings.Split(auth[len(scheme):], ",") {
		k, v, _ := strings.Cut(strings.TrimSpace(f), "=")
		fields[k] = v
	}
	scope := strings.Split(fields["Credential"], "/")
	if len(scope) != 5 || scope[4] != "aws4_request" {
		return c, &apiError{http.StatusForbidden, "IncompleteSignature", "Credential must have exactly 5 elements", ""}
	}
	c.service = scope[3]
	if scope[2] != s.opts.Region {
		return c, denied(c.service, "SignatureDoesNotMatch", fmt.Sprintf("Credential should be scoped to a valid region, not '%s'.", scope[2]))
	}
	secret, principal, err := s.secret(c.service, scope[0], r.Header.Get("X-Amz-Security-Token"))
	if err != nil {
		return c, err
	}
	stamp := r.Header.Get("X-Amz-Date")
	at, err := time.Parse("20060102T150405Z", stamp)
	if err != nil || !strings.HasPrefix(stamp, scope[1]) {
		return c, denied(c.service, "IncompleteSignature", "Date in Credential scope does not match X-Amz-Date")
	}
	if d := s.now().Sub(at); d > skew || d < -skew {
		return c, denied(c.service, "RequestExpired", "Request has expired.")
	}
	signed := strings.Split(fields["SignedHeaders"], ";")
	for _, must := range []string{"host", "x-amz-date"} {
		if !slices.Contains(signed, must) {
			return c, denied(c.service, "IncompleteSignature", "header "+must+" is not signed")
		}
	}
	hash := r.Header.Get("X-Amz-Content-Sha256")
	if hash != unsigned || !strings.Contains(r.URL.Path, "/blocks/") {
		computed := hashed(body)
		if hash != "" && hash != computed {
			return c, denied(c.service, "SignatureDoesNotMatch", "The provided x-amz-content-sha256 does not match what was computed.")
		}
		hash = computed
	}
	var headers strings.Builder
	for _, name := range signed {
		v := strings.Join(r.Header.Values(name), ",")
		switch name {
		case "host":
			v = r.Host
		case "content-length":
			v = fmt.Sprint(r.ContentLength)
		}
		fmt.Fprintf(&headers, "%s:%s\n", name, strings.Join(strings.Fields(v), " "))
	}
	request := strings.Join([]string{r.Method, canonicalPath(r.URL), canonicalQuery(r.URL.Query()), headers.String(), fields["SignedHeaders"], hash}, "\n")
	text := strings.Join([]string{"AWS4-HMAC-SHA256", stamp, strings.Join(scope[1:], "/"), hashed([]byte(request))}, "\n")
	key := []byte("AWS4" + secret)
	for _, part := range scope[1:] {
		key = keyed(key, part)
	}
	if !hmac.Equal([]byte(hex.EncodeToString(keyed(key, text))), []byte(fields["Signature"])) {
		return c, denied(c.service, "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided.")
	}
	c.principal = principal
	return c, nil
}

// denied is what each service calls a request that it cannot tell the sender of. EC2 has its own code: "Error codes for the Amazon EC2 API".
func denied(service, code, message string) error {
	if service == "ec2" {
		switch code {
		case "SignatureDoesNotMatch", "InvalidClientTokenId":
			return &apiError{http.StatusUnauthorized, "AuthFailure", "AWS was not able to validate the provided access credentials", ""}
		case "ExpiredToken":
			return &apiError{http.StatusBadRequest, "RequestExpired", "Request has expired.", ""}
		}
	}
	if service == "ebs" {
		switch code { // "Common errors" of EBS
		case "InvalidClientTokenId":
			code = "UnrecognizedClientException"
		case "ExpiredToken":
			code = "ExpiredTokenException"
		case "SignatureDoesNotMatch":
			code = "InvalidSignatureException"
		}
	}
	return &apiError{http.StatusForbidden, code, message, ""}
}

// secret finds an access key. Temporary ones come with their session token.
func (s *Server) secret(service, key, token string) (secret, principal string, err error) {
	for _, k := range s.opts.Keys {
		if k.ID == key && token == "" {
			return k.Secret, k.Principal, nil
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t, ok := s.sessions[key]
	switch {
	case !ok || !hmac.Equal([]byte(t.token), []byte(token)):
		return "", "", denied(service, "InvalidClientTokenId", "The security token included in the request is invalid.")
	case !s.now().Before(t.expires):
		return "", "", denied(service, "ExpiredToken", "The security token included in the request is expired")
	}
	return t.secret, t.principal, nil
}

// canonicalPath encodes the path as it was sent once more: only S3 leaves that out.
func canonicalPath(u *url.URL) string {
	p := u.EscapedPath()
	if p == "" {
		return "/"
	}
	var b strings.Builder
	for i, part := range strings.Split(p, "/") {
		if i > 0 {
			b.WriteByte('/')
		}
		b.WriteString(escape(part))
	}
	return b.String()
}

func canonicalQuery(q url.Values) string {
	var parts []string
	for k, values := range q {
		for _, v := range values {
			parts = append(parts, escape(k)+"="+escape(v))
		}
	}
	slices.Sort(parts)
	return strings.Join(parts, "&")
}

// escape is RFC 3986's percent-encoding, of all but the unreserved characters.
func escape(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

func hashed(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

func keyed(key []byte, s string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(s))
	return h.Sum(nil)
}
