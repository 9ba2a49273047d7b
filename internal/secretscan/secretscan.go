// Package secretscan knows what secrets look like, so that they stay out of logs and of the audit log. It is the second line: nobody
// writes a secret down on purpose, but errors and names come from elsewhere.
package secretscan

import (
	"log/slog"
	"regexp"
	"strings"
)

// Redacted stands where a secret was.
const Redacted = "[redacted]"

// secrets are this program's own, and those of others that people paste. Each pattern takes the whole secret.
var secrets = regexp.MustCompile(strings.Join([]string{
	`\bom[tslde]_[0-9A-Za-z_]+`,                                 // tokens, sessions, links, devices
	`\bom1\.[^\s"']+`,                                           // enrolment tokens
	`\bwhs(ec|k)_[0-9A-Za-z+/=]+`,                               // webhooks
	`AGE-SECRET-KEY-[0-9A-Z]+`,                                  // recovery keys
	`-----BEGIN [A-Z ]*PRIVATE KEY[^"]*`,                        //
	`\$argon2[a-z]*\$[^\s"']+`,                                  // hashes of passwords
	`\b(AKIA|ASIA)[0-9A-Z]{16}\b`,                               // AWS
	`(?i)\bbearer\s+[^\s"']{8,}`,                                //
	`\beyJ[0-9A-Za-z_-]{8,}\.[0-9A-Za-z_-]{8,}\.[0-9A-Za-z_-]*`, // JSON web tokens
	`(?i)[a-z][a-z0-9+.-]*://[^/\s:@"']*:[^/\s@"']+@`,           // passwords in URLs
	`(?i)[?&](x-amz-signature|x-amz-credential|sig|token|password|secret|code)=[^&\s"']+`, // signed URLs
}, "|"))

// Looks reports whether a text has a secret in it.
func Looks(s string) bool { return secrets.MatchString(s) }

// Hide takes secrets out of a text.
func Hide(s string) string {
	if !Looks(s) {
		return s
	}
	return secrets.ReplaceAllString(s, Redacted)
}

// longest is as much of a text as is logged; more is cut.
const longest = 16 << 10

// Attr is for slog.HandlerOptions.ReplaceAttr: what is logged has no secret in it. Values that are no plain texts are judged by what they print.
func Attr(_ []string, a slog.Attr) slog.Attr {
	switch a.Value.Kind() {
	case slog.KindString:
		a.Value = slog.StringValue(tame(a.Value.String()))
	case slog.KindAny:
		if s := a.Value.String(); Looks(s) || len(s) > longest { // an error, a struct, …
			a.Value = slog.StringValue(tame(s))
		}
	}
	return a
}

func tame(s string) string {
	if len(s) > longest {
		s = s[:longest] + "…"
	}
	return Hide(s)
}
