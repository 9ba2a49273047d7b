package secretscan

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

var planted = []string{
	"omt_0011223344556677_planted", "oms_aa_bb_planted", "oml_aa_planted", "omd_aa_bb_planted", "om1.https://h.id.planted.pin", "whsec_planted+/=", "AGE-SECRET-KEY-1PLANTED",
	"-----BEGIN EC PRIVATE KEY-----\nplanted", "$argon2id$v=19$m=1,t=1,p=1$planted$planted", "AKIAABCDEFPLANTEDMNO", "https://user:planted@host/", "https://b/?X-Amz-Signature=planted",
	"Bearer planted-value", "eyJhbGciOiJI.eyJzdWIiOiIx.planted", "/callback?state=1&code=planted",
}

func TestLogsHaveNoSecrets(t *testing.T) {
	var out bytes.Buffer
	for _, h := range []slog.Handler{
		slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: Attr, Level: slog.LevelDebug}), slog.NewJSONHandler(&out, &slog.HandlerOptions{ReplaceAttr: Attr}),
	} {
		log := slog.New(h)
		for _, s := range planted {
			log.Info("text", "value", s)
			log.Info(s)
			log.Info("in the middle", "value", "before "+s+" after")
			log.Warn("error", "error", fmt.Errorf("do something: %w", errors.New(s)))
			log.Info("struct", "value", struct{ A, B string }{"a", s})
			log.Info("slice", "value", []string{"x", s})
			log.With("who", s).WithGroup("g").Info("with", slog.Group("h", "value", s))
		}
	}
	for line := range strings.Lines(out.String()) {
		if strings.Contains(strings.ToLower(line), "planted") {
			t.Errorf("%s", line)
		}
	}
	if n := strings.Count(out.String(), Redacted); n < 2*7*len(planted) {
		t.Errorf("%d marks of what was taken out", n)
	}
}

func TestOthersStay(t *testing.T) {
	for _, s := range []string{"", "machine m1", "https://example.com/a?b=c", "roma_tomato", "ann@example.com", "openmigrate tokens create", "om1 omt whsec", "https://h:8080/a@b"} {
		if Hide(s) != s {
			t.Errorf("%q becomes %q", s, Hide(s))
		}
	}
	var out bytes.Buffer
	slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: Attr})).Info("x", "n", 3, "s", strings.Repeat("a", 1<<20), "any", []byte(strings.Repeat("b", 1<<20)))
	if out.Len() > 3*longest || !strings.Contains(out.String(), "n=3") {
		t.Errorf("%d bytes", out.Len())
	}
}
