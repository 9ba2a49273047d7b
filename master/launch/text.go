package launch

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of texts, in bytes.
const (
	maxLine      = 600 // of a log's line, and of a reason
	tailLines    = 25  // of a console, in a failure
	maxTail      = 4096
	maxTailWidth = 400
)

var escapes = regexp.MustCompile("\x1b(\\[[0-9;?]*[ -/]*[@-~]|\\][^\x07\x1b]*(\x07|\x1b\\\\)?|[@-Z\\\\^_]|[()][0-9A-Za-z])")

// plain takes out of a console what moves cursors and changes colours, and every other control character but the end of a line.
func plain(console []byte) string {
	s := escapes.ReplaceAllString(strings.ToValidUTF8(string(console), "?"), "")
	s = strings.ReplaceAll(s, "\r\n", "\n")
	s = strings.ReplaceAll(s, "\r", "\n")
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || unicode.IsPrint(r) {
			return r
		}
		return -1
	}, s)
}

// clean makes one line of at most so many bytes of what may be hostile.
func clean(s string, most int) string {
	s = strings.Join(strings.Fields(plain([]byte(s))), " ")
	return cut(s, most)
}

func cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most] + "…"
}

// tail is the last lines of a console that are not empty.
func tail(console []byte) string {
	var lines []string
	for line := range strings.Lines(plain(console)) {
		if line = strings.TrimRight(line, " \t\n"); line != "" {
			lines = append(lines, cut(line, maxTailWidth))
		}
	}
	lines = lines[max(0, len(lines)-tailLines):]
	for n := 0; len(lines) > 1; lines = lines[1:] {
		n = 0
		for _, l := range lines {
			n += len(l) + 1
		}
		if n <= maxTail {
			break
		}
	}
	return strings.Join(lines, "\n")
}
