package audit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"

	"github.com/openmigrate/openmigrate/internal/secretscan"
)

// redacted stands where a secret was.
const redacted = secretscan.Redacted

// secretNames are members whose texts are secrets, whatever they look like.
var secretNames = regexp.MustCompile(`(?i)(^|[_-])(password|passwd|passphrase|secret|token|credentials?|authorization|cookie|(private|signing|recovery|access|secret|api|data|id|encryption|master)[_-]?keys?|identity_file)$`)

// harmless are members that secretNames would take, and that hold no secret.
var harmless = map[string]bool{"token_id": true}

// values makes what is shown of a change: of two objects only the members that differ, without secrets, and not too long.
func values(before, after any) (b, a json.RawMessage, err error) {
	x, err := plain(before)
	if err != nil {
		return nil, nil, err
	}
	y, err := plain(after)
	if err != nil {
		return nil, nil, err
	}
	// A secret that was changed shows as one that was there before and after.
	x, y = differing(x, y)
	if b, err = bounded(redact("", x)); err != nil {
		return nil, nil, err
	}
	a, err = bounded(redact("", y))
	return b, a, err
}

// plain makes what JSON can say of a value; nil for nothing.
func plain(v any) (any, error) {
	if v == nil {
		return nil, nil
	}
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var p any
	return p, d.Decode(&p)
}

// differing takes out of two objects what they have in common.
func differing(x, y any) (any, any) {
	xo, ok1 := x.(map[string]any)
	yo, ok2 := y.(map[string]any)
	if !ok1 || !ok2 {
		return x, y
	}
	for k := range xo {
		v, ok := yo[k]
		switch {
		case !ok:
		case reflect.DeepEqual(xo[k], v):
			delete(xo, k)
			delete(yo, k)
		default:
			xo[k], yo[k] = differing(xo[k], v)
		}
	}
	return xo, yo
}

// redact takes secrets out of a value that stands under a name.
func redact(name string, v any) any {
	switch t := v.(type) {
	case map[string]any:
		shown := make(map[string]any, len(t))
		for k, e := range t {
			shown[text(k)] = redact(k, e)
		}
		return shown
	case []any:
		for i := range t {
			t[i] = redact(name, t[i])
		}
		return t
	case json.Number:
		if secretNames.MatchString(name) && !harmless[name] {
			return redacted
		}
	case string: // one that is longer is not shown anyway
		if len(t) <= MaxValue && t != "" && (secretscan.Looks(t) || secretNames.MatchString(name) && !harmless[name]) {
			return redacted
		}
	}
	return v
}

// bounded makes a value's JSON; of one that is too long only its size is told.
func bounded(v any) (json.RawMessage, error) {
	if v == nil {
		return nil, nil
	}
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	if len(b) > MaxValue {
		return json.RawMessage(fmt.Sprintf(`{"too_long":%d}`, len(b))), nil
	}
	return b, nil
}
