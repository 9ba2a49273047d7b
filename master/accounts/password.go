package accounts

import (
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Limits of passwords. NIST SP 800-63B-4, section 3.1.1.2: 15 characters at least where a password is all that is asked for, no rules
// of composition. The upper limit bounds the work of one request.
const (
	minPassword = 15  // characters
	maxPassword = 256 // bytes, after normalisation
)

// normalPassword makes the same bytes of the same password from any keyboard (NFKC, as SP 800-63B says).
func normalPassword(p string) string { return norm.NFKC.String(p) }

// checkPassword refuses what is guessed first.
func checkPassword(user, p string) error {
	if len(p) > 4*maxPassword || !utf8.ValidString(p) {
		return bad("password", "a password has at most %d bytes of UTF-8", maxPassword)
	}
	n := normalPassword(p)
	switch {
	case len(n) > maxPassword:
		return bad("password", "a password has at most %d bytes of UTF-8", maxPassword)
	case utf8.RuneCountInString(n) < minPassword:
		return bad("password", "a password has at least %d characters; a few words that have nothing to do with each other are easy to remember", minPassword)
	}
	low := strings.ToLower(n)
	if kinds := countRunes(low); kinds < 5 {
		return bad("password", "this password has only %d different characters", kinds)
	}
	// Names are part of guesses: what is left without them must be long enough.
	for _, word := range []string{strings.ToLower(user), "openmigrate", "password"} {
		if word != "" {
			low = strings.ReplaceAll(low, word, "")
		}
	}
	if utf8.RuneCountInString(low) < minPassword/2 {
		return bad("password", "this password is little more than a name: add words that have nothing to do with it")
	}
	return nil
}

func countRunes(s string) int {
	seen := map[rune]bool{}
	for _, r := range s {
		seen[r] = true
	}
	return len(seen)
}
