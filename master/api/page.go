package api

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"github.com/openmigrate/openmigrate/wire"
)

// PageParams are those of every list.
type PageParams struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"500" default:"100" doc:"Items of a page, at most."`
	Cursor string `query:"cursor" maxLength:"1024" doc:"next_cursor of the page before; empty: the first page."`
}

// sortKey orders items: by number, then text, then id.
type sortKey struct {
	Number int64  `json:"n,omitempty"`
	Text   string `json:"t,omitempty"`
	ID     string `json:"i"`
}

func (k sortKey) compare(o sortKey) int {
	return cmp.Or(cmp.Compare(k.Number, o.Number), cmp.Compare(k.Text, o.Text), cmp.Compare(k.ID, o.ID))
}

// cursor says where a page ended: after the item with that key, in that order.
type cursor struct {
	Sort string  `json:"s"`
	Key  sortKey `json:"k"`
}

func (c cursor) text() string {
	b, err := json.Marshal(c)
	if err != nil { // it holds text and a number
		panic(err)
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

func parseCursor(text, sort string) (*cursor, error) {
	if text == "" {
		return nil, nil
	}
	c := &cursor{}
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err == nil {
		err = json.Unmarshal(b, c)
	}
	if err != nil {
		return nil, badField("cursor", "this is no cursor of a page").WithNext("leave it out for the first page")
	}
	if c.Sort != sort {
		return nil, badField("cursor", "the cursor is of a list that is sorted by %.40q", c.Sort).WithNext("leave it out for the first page")
	}
	return c, nil
}

// page sorts items by key ("-name" is descending) and cuts the page out that p asks for. Items that come and go between two pages neither
// repeat nor hide others: a page begins after the key at which the one before ended.
func page[T any](items []T, p *PageParams, sort string, key func(*T) sortKey) (*wire.Page[T], error) {
	at, err := parseCursor(p.Cursor, sort)
	if err != nil {
		return nil, err
	}
	down := strings.HasPrefix(sort, "-")
	order := func(a, b sortKey) int {
		if down {
			return b.compare(a)
		}
		return a.compare(b)
	}
	type keyed struct {
		key   sortKey
		index int
	}
	keys := make([]keyed, len(items))
	for i := range items {
		keys[i] = keyed{key(&items[i]), i}
	}
	slices.SortFunc(keys, func(a, b keyed) int { return order(a.key, b.key) })
	start := 0
	if at != nil {
		var found bool
		start, found = slices.BinarySearchFunc(keys, at.Key, func(k keyed, t sortKey) int { return order(k.key, t) })
		if found {
			start++
		}
	}
	end := min(start+max(p.Limit, 1), len(keys))
	out := &wire.Page[T]{Items: make([]T, 0, end-start), Total: len(items)}
	for _, k := range keys[start:end] {
		out.Items = append(out.Items, items[k.index])
	}
	if end < len(keys) {
		out.NextCursor = cursor{sort, keys[end-1].key}.text()
	}
	return out, nil
}

// pageOut is the answer to a list.
type pageOut[T any] struct{ Body wire.Page[T] }

func listed[T any](items []T, p *PageParams, sort string, key func(*T) sortKey) (*pageOut[T], error) {
	out, err := page(items, p, sort, key)
	if err != nil {
		return nil, err
	}
	return &pageOut[T]{*out}, nil
}

func badField(field, format string, args ...any) *wire.Problem {
	b := wire.NewProblem(http.StatusBadRequest, wire.CodeBadRequest, format, args...)
	b.Field = field
	return b
}

// oneOf reports whether a list of wanted values is empty or has v.
func oneOf(wanted []string, v string) bool { return len(wanted) == 0 || slices.Contains(wanted, v) }
