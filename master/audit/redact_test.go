package audit

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

// planted are secrets as they come into changes: by name, by shape, deep inside.
var planted = map[string]any{
	"password": "hunter2-hunter2", "Password": "hunter3-hunter3", "new_password": "hunter4-hunter4", "secret": "s3cret-value", "client_secret": "client-s3cret",
	"token": "plain-token-value", "recovery_key": "plain-recovery-value", "private_key": "plain-private-value", "api_key": "plain-api-value", "pincode_secret": 123456789,
	"session_cookie": "plain-cookie-value", "credentials": map[string]any{"secret_key": "nested-plain-value"}, "passphrase": []any{"list-plain-value"},
	"a": "omt_0011223344556677_planted", "b": "see oms_aa_bb_planted here", "c": "om1.https://h.id.planted.pin", "d": "whsec_planted", "e": "AGE-SECRET-KEY-1PLANTED",
	"f": "-----BEGIN EC PRIVATE KEY-----\nplanted", "g": "AKIAABCDEFGHIJKLMNOP", "h": "https://user:planted@host/", "i": "https://b/?X-Amz-Signature=planted",
	"j": "Bearer planted-value", "k": "eyJhbGciOiJI.eyJzdWIiOiIx.planted", "l": []any{map[string]any{"deep": []any{"oml_1_planted"}}}, "omt_00_planted": "as a name",
	"m": "$argon2id$v=19$m=1,t=1,p=1$planted$planted", "n": "omd_1_2_planted", "o": "ome_planted",
}

func TestSecretsStayOut(t *testing.T) {
	w := newWorld(t, nil)
	after := map[string]any{}
	for k, v := range planted {
		after[k] = v
	}
	after["password"] = "hunter5-hunter5"
	w.add(
		Change{Operation: "create", After: planted}, Change{Operation: "change", Before: planted, After: after}, Change{Operation: "remove", Before: planted},
		Change{Operation: "text", After: "omt_0011223344556677_planted"}, Change{Operation: "omt_x_planted", Kind: "whsec_planted", ID: "oms_x_planted", From: "om1.planted",
			Who: Who{Name: "omt_x_planted", ID: "omt_x_planted", User: "omt_y_planted", Kind: "omt_x_planted"}, Project: "omt_x_planted"},
	)
	all := string(w.export())
	for _, word := range []string{"planted", "hunter", "s3cret", "plain-", "123456789", "AKIAABCD"} {
		for line := range strings.Lines(all) {
			if strings.Contains(line, word) {
				t.Errorf("%q is in %s", word, line)
			}
		}
	}
	if n := strings.Count(all, redacted); n < 2*len(planted) {
		t.Errorf("%d marks of what was taken out", n)
	}
	if !strings.Contains(all, `"before":{"password":"[redacted]"},"after":{"password":"[redacted]"}`) {
		t.Error("a password that was changed does not show")
	}
}

// TestShown: what is no secret stays readable.
func TestShown(t *testing.T) {
	w := newWorld(t, nil)
	w.add(Change{Operation: "create-token", Kind: "token", ID: "0011", After: map[string]any{"id": "0011", "token_id": "0011", "role": "viewer", "recovery_key": true, "expires": nil,
		"key": "value", "tokens": 3, "roma_tomato": "omitted", "url": "https://example.com/a?b=c", "mail": "ann@example.com", "secret": ""}})
	line := string(w.export())
	for _, want := range []string{`"token_id":"0011"`, `"recovery_key":true`, `"key":"value"`, `"tokens":3`, `"roma_tomato":"omitted"`, `https://example.com/a?b=c`, "ann@example.com", `"secret":""`} {
		if !strings.Contains(line, want) {
			t.Errorf("no %s in %s", want, line)
		}
	}
}

func TestDiffering(t *testing.T) {
	w := newWorld(t, nil)
	type v = map[string]any
	w.add(Change{Operation: "x", Before: v{"a": 1, "same": v{"x": 1}, "in": v{"p": 1, "q": 2}, "gone": true}, After: v{"a": 2, "same": v{"x": 1}, "in": v{"p": 1, "q": 3}, "new": "n"}})
	want := `"before":{"a":1,"gone":true,"in":{"q":2}},"after":{"a":2,"in":{"q":3},"new":"n"}`
	if got := string(w.export()); !strings.Contains(got, want) {
		t.Errorf("%s\nwant %s", got, want)
	}
}

func TestBounds(t *testing.T) {
	w := newWorld(t, nil)
	long := strings.Repeat("\u202e<x", 1<<17)
	w.add(Change{Project: long, Who: Who{long, long, long, long}, From: long, Operation: long, Kind: long, ID: long, Before: long, After: map[string]any{long: long}})
	w.add(Change{Operation: "x\xff\xfey", ID: strings.Repeat("é", 150)})
	if b := w.export(); len(b) > 20000 || !bytes.Contains(b, []byte(`"before":{"too_long":`)) || !bytes.Contains(b, []byte(`"xy"`)) {
		t.Errorf("%d bytes: %.500s", len(b), b)
	}
	if _, err := w.Verify(t.Context()); err != nil {
		t.Error(err)
	}
	if err := w.Record(t.Context(), Change{Before: func() {}}); err == nil {
		t.Error("a function was written down")
	}
}

func FuzzValues(f *testing.F) {
	f.Add(`{"a":{"password":"x"}}`, `{"a":{"password":"y"},"b":[1,{"token":"omt_1_2"}]}`)
	f.Fuzz(func(t *testing.T, x, y string) {
		var before, after any
		if json.Unmarshal([]byte(x), &before) != nil || json.Unmarshal([]byte(y), &after) != nil {
			return
		}
		b, a, err := values(before, after)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range []json.RawMessage{b, a} {
			if len(v) > MaxValue || len(v) > 0 && !json.Valid(v) || bytes.Contains(v, []byte("omt_1")) {
				t.Errorf("%s", v)
			}
		}
	})
}

func FuzzVerifyExport(f *testing.F) {
	f.Add([]byte(`{"sequence":1,"hash":"` + strings.Repeat("0", 64) + `"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if at, err := VerifyExport(bytes.NewReader(b), Mark{}); err == nil && len(bytes.TrimSpace(b)) > 0 && at.Sequence == 0 {
			t.Errorf("%q is taken for a log", b)
		}
	})
}
