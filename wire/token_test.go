package wire

import (
	"fmt"
	"strings"
	"testing"
)

func token() EnrolToken {
	t := EnrolToken{URL: "https://master.example:7443", ID: "0123456789abcdef", Secret: strings.Repeat("5e", 16)}
	t.Pin[0], t.Pin[31] = 0xab, 0xcd
	return t
}

func TestEnrolTokenRoundTrip(t *testing.T) {
	want := token()
	got, err := ParseEnrolToken(" " + want.Text() + "\n")
	if err != nil {
		t.Fatal(err)
	}
	if *got != want {
		t.Errorf("got %+v, want %+v", *got, want)
	}
}

func TestEnrolTokenHidesItsSecret(t *testing.T) {
	tok := token()
	for _, s := range []string{tok.String(), fmt.Sprint(tok), fmt.Sprint(&tok), fmt.Sprintf("%v %s %+v", tok, &tok, tok), fmt.Sprintf("%#v", tok), fmt.Sprintf("%q", tok)} {
		if strings.Contains(s, tok.Secret) {
			t.Errorf("%q shows the secret", s)
		}
	}
	_, err := ParseEnrolToken(tok.Text()[:len(tok.Text())-1])
	if err == nil || strings.Contains(err.Error(), tok.Secret) {
		t.Errorf("error of a cut token: %v", err)
	}
}

func TestParseEnrolTokenRefuses(t *testing.T) {
	tok := token()
	with := func(fn func(*EnrolToken)) string { t := tok; fn(&t); return t.Text() }
	for name, s := range map[string]string{
		"empty":        "",
		"api token":    "omt_0123456789abcdef_00",
		"version":      strings.Replace(tok.Text(), "om1.", "om2.", 1),
		"http":         with(func(t *EnrolToken) { t.URL = "http://master.example" }),
		"no host":      with(func(t *EnrolToken) { t.URL = "https://" }),
		"user in URL":  with(func(t *EnrolToken) { t.URL = "https://a:b@master.example" }),
		"short secret": with(func(t *EnrolToken) { t.Secret = t.Secret[1:] }),
		"long secret":  with(func(t *EnrolToken) { t.Secret += "0" }),
		"upper case":   with(func(t *EnrolToken) { t.Secret = strings.ToUpper(t.Secret) }),
		"id":           with(func(t *EnrolToken) { t.ID = "../../../../etc/" }),
		"cut":          tok.Text()[:100],
		"too much":     tok.Text() + ".x",
		"huge":         strings.Repeat("a", 1<<20),
	} {
		if got, err := ParseEnrolToken(s); err == nil {
			t.Errorf("%s: taken as %+v", name, got)
		}
	}
}

func FuzzParseEnrolToken(f *testing.F) {
	tok := token()
	f.Add(tok.Text())
	f.Add("om1....")
	f.Add("om1.aHR0cHM6Ly9h.0123456789abcdef.x.y")
	f.Fuzz(func(t *testing.T, s string) {
		got, err := ParseEnrolToken(s)
		if err != nil {
			return
		}
		if got.Text() != strings.TrimSpace(s) {
			t.Errorf("%q reads as %q", s, got.Text())
		}
	})
}
