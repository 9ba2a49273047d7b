package awsfake

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

// thing is what all resources have.
type thing struct {
	id      string
	tags    map[string]string
	created time.Time
	state   string
	due     time.Time // when the state changes by itself; zero: it does not
}

func (t *thing) tagSet() node {
	return set("tagSet", slices.Sorted(maps.Keys(t.tags)), func(k string) []node { return []node{el("key", k), el("value", t.tags[k])} })
}

// field is what a filter of that name looks at; false: there is no such filter.
func (t *thing) field(name string) ([]string, bool) {
	if key, ok := strings.CutPrefix(name, "tag:"); ok {
		v, has := t.tags[key]
		if !has {
			return nil, true
		}
		return []string{v}, true
	}
	if name == "tag-key" {
		return slices.Collect(maps.Keys(t.tags)), true
	}
	return nil, false
}

// matches reports whether something passes the filters of a call: one value of each (EC2/Filter, "Filter using the CLI and API": * and ? are wildcards).
func matches(in params, field func(name string) ([]string, bool)) (bool, error) {
	for _, f := range in.structs("Filter") {
		have, ok := field(f["Name"])
		if !ok {
			return false, fail("InvalidParameterValue", fmt.Sprintf("The filter '%s' is invalid", f["Name"]))
		}
		values := f.list("Value")
		if len(values) == 0 || len(values) > 200 {
			return false, fail("InvalidParameterValue", "a filter has from 1 to 200 values")
		}
		if !slices.ContainsFunc(values, func(v string) bool {
			return slices.ContainsFunc(have, func(h string) bool { return wildcard(v, h) })
		}) {
			return false, nil
		}
	}
	return true, nil
}

func wildcard(pattern, s string) bool {
	if !strings.ContainsAny(pattern, `*?\`) {
		return pattern == s
	}
	re := strings.NewReplacer(`\*`, ".*", `\?`, ".").Replace(regexp.QuoteMeta(pattern))
	return regexp.MustCompile("(?s)^" + re + "$").MatchString(s)
}

// described lists what a Describe call asks for: by ids, all of which must be there, or all that pass the filters. missing is the error of an unknown id.
func described[T any](s *Server, in params, ids []string, all map[string]T, of func(T) *thing, field func(T, string) ([]string, bool), missing func(id string) error) ([]T, error) {
	var list []T
	if len(ids) > 0 {
		for _, id := range ids {
			x, ok := all[id]
			if !ok || !s.visible(of(x).created) {
				return nil, missing(id)
			}
			list = append(list, x)
		}
	} else {
		for _, x := range all {
			if s.visible(of(x).created) {
				list = append(list, x)
			}
		}
		slices.SortFunc(list, func(a, b T) int {
			return cmp.Or(of(a).created.Compare(of(b).created), strings.Compare(of(a).id, of(b).id))
		})
	}
	var kept []T
	for _, x := range list {
		ok, err := matches(in, func(name string) ([]string, bool) {
			if v, ok := of(x).field(name); ok {
				return v, true
			}
			return field(x, name)
		})
		if err != nil {
			return nil, err
		}
		if ok {
			kept = append(kept, x)
		}
	}
	return kept, nil
}

// tagged reads the tags that a create gives to resources of a type (EC2/TagSpecification).
func tagged(in params, types ...string) (map[string]map[string]string, error) {
	out := map[string]map[string]string{}
	for _, spec := range in.structs("TagSpecification") {
		t := spec["ResourceType"]
		if !slices.Contains(types, t) {
			return nil, fail("InvalidParameterValue", fmt.Sprintf("'%s' is not a valid taggable resource type for this operation.", t))
		}
		if out[t] != nil {
			return nil, fail("InvalidParameterValue", "Tag specification resource types must be unique within the request.")
		}
		tags, err := tagList(spec.structs("Tag"))
		if err != nil {
			return nil, err
		}
		out[t] = tags
	}
	return out, nil
}

// tagList checks tags by UG/Using_Tags "Tag restrictions": up to 50, keys up to 128 and values up to 256 characters, no key that begins with aws:.
func tagList(list []params) (map[string]string, error) {
	tags := map[string]string{}
	for _, t := range list {
		k, v := t["Key"], t["Value"]
		_, twice := tags[k]
		switch {
		case k == "" || len([]rune(k)) > 128 || len([]rune(v)) > 256:
			return nil, fail("InvalidParameterValue", "Tag keys have 1 to 128 characters, values up to 256")
		case strings.HasPrefix(strings.ToLower(k), "aws:"):
			return nil, fail("InvalidParameterValue", "Tag keys starting with 'aws:' are reserved for internal use")
		case twice:
			return nil, fail("InvalidParameterValue", "Duplicate tag key '"+k+"' specified.")
		}
		tags[k] = v
	}
	if len(tags) > 50 {
		return nil, fail("TagLimitExceeded", "The maximum number of Tags for a resource has been reached.")
	}
	return tags, nil
}

// resource finds anything that has tags.
func (s *Server) resource(id string) *thing {
	switch {
	case s.volumes[id] != nil:
		return &s.volumes[id].thing
	case s.snapshots[id] != nil:
		return &s.snapshots[id].thing
	case s.images[id] != nil:
		return &s.images[id].thing
	case s.instances[id] != nil:
		return &s.instances[id].thing
	case s.subnets[id] != nil:
		return &s.subnets[id].thing
	case s.groups[id] != nil:
		return &s.groups[id].thing
	}
	return nil
}

// changeTags: EC2/CreateTags, which overwrites, and EC2/DeleteTags, which with a value removes only a tag that has it.
func (s *Server) changeTags(c *call) ([]node, error) {
	ids := c.in.list("ResourceId")
	if len(ids) == 0 {
		return nil, fail("MissingParameter", "The request must contain the parameter resourceIdSet")
	}
	for _, id := range ids {
		if t := s.resource(id); t == nil || !s.visible(t.created) {
			return nil, fail("InvalidID", fmt.Sprintf("The ID '%s' is not valid", id))
		}
	}
	tags, err := tagList(c.in.structs("Tag"))
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		t := s.resource(id)
		if c.action == "DeleteTags" {
			maps.DeleteFunc(t.tags, func(k, v string) bool {
				want, ok := tags[k]
				return len(tags) == 0 || ok && (want == "" || want == v)
			})
			continue
		}
		if t.tags == nil {
			t.tags = map[string]string{}
		}
		maps.Copy(t.tags, tags)
	}
	return []node{el("return", true)}, nil
}
