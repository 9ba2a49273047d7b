package aws

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/openmigrate/openmigrate/providers"
)

// Tags that the provider keeps for itself. They are given with the create, so that nothing is ever without its owner.
const (
	tagSystem = providers.ReservedTags + "system"
	tagLaunch = providers.ReservedTags + "launch"
	tagToken  = providers.ReservedTags + "token" // where the API has no client tokens
	tagSpec   = providers.ReservedTags + "spec"  // a hash of what was asked for: a token is for one request
	tagBoot   = providers.ReservedTags + "boot"  // the place of the boot disk among an instance's disks
	tagDisk   = providers.ReservedTags + "disk"  // the volume was made as an instance's, by its token
	tagName   = "Name"                           // what the console shows
)

// fingerprint tells two requests of one token apart.
func fingerprint(spec any) string {
	b, _ := json.Marshal(spec) // of plain data
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:16])
}

// tags are those of a new thing, in the order of their keys so that a repeated request is the same request.
func tags(m *providers.Meta, spec string, more ...string) []types.Tag {
	all := maps.Clone(m.Tags)
	if all == nil {
		all = map[string]string{}
	}
	all[tagSystem], all[tagLaunch], all[tagToken], all[tagSpec] = m.Owner.System, m.Owner.Launch, m.Token, spec
	if m.Name != "" {
		all[tagName] = m.Name
	}
	for i := 0; i+1 < len(more); i += 2 {
		all[more[i]] = more[i+1]
	}
	var list []types.Tag
	for _, k := range slices.Sorted(maps.Keys(all)) {
		list = append(list, types.Tag{Key: aws.String(k), Value: aws.String(all[k])})
	}
	return list
}

func tagged(kind types.ResourceType, list []types.Tag) types.TagSpecification {
	return types.TagSpecification{ResourceType: kind, Tags: list}
}

// read takes tags apart: the owner, the name, the user's own, and all of them.
func read(list []types.Tag) (owner providers.Owner, name string, own, all map[string]string) {
	all = map[string]string{}
	for _, t := range list {
		all[aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
	for k, v := range all {
		if k == tagName || strings.HasPrefix(k, providers.ReservedTags) || strings.HasPrefix(k, "aws:") {
			continue
		}
		if own == nil {
			own = map[string]string{}
		}
		own[k] = v
	}
	return providers.Owner{System: all[tagSystem], Launch: all[tagLaunch]}, all[tagName], own, all
}

func filter(name string, values ...string) types.Filter {
	return types.Filter{Name: aws.String(name), Values: values}
}

// literal keeps a filter's wildcards from being any.
var literal = strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`)

var ids = regexp.MustCompile(`^(vol|snap|i|ami)-[0-9a-f]{8}([0-9a-f]{9})?$`)

// is reports whether an id can be one of that kind. EC2's answers to others differ from call to call.
func is(kind, id string) bool { return ids.MatchString(id) && strings.HasPrefix(id, kind+"-") }
