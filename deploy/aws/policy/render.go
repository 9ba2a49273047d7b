package policy

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// statement is what IAM reads.
type statement struct {
	Sid       string
	Effect    string
	Action    []string
	Resource  any
	Condition map[string]map[string]any `json:",omitempty"`
}

type document struct {
	Version   string
	Statement []statement
}

var parameter = regexp.MustCompile(`\$\{[A-Za-z]+\}`)

// sub makes what CloudFormation needs of a text with placeholders.
func sub(s string) any {
	if !parameter.MatchString(s) {
		return s
	}
	return map[string]string{"Fn::Sub": strings.ReplaceAll(s, partition, "${AWS::Partition}")}
}

func (d *Document) build(cloudFormation bool) *document {
	out := &document{Version: "2012-10-17"}
	for _, p := range d.Parts {
		s := statement{Sid: p.ID, Effect: "Allow"}
		for _, a := range p.Actions {
			s.Action = append(s.Action, a.Name)
		}
		slices.Sort(s.Action)
		var all []any
		for _, r := range p.Resources {
			if cloudFormation {
				all = append(all, sub(r))
				continue
			}
			all = append(all, r)
		}
		s.Resource = all
		if len(all) == 1 {
			s.Resource = all[0]
		}
		for op, keys := range p.Conditions {
			if s.Condition == nil {
				s.Condition = map[string]map[string]any{}
			}
			s.Condition[op] = map[string]any{}
			for k, v := range keys {
				s.Condition[op][k] = v
				if list := strings.Split(v, ","); len(list) > 1 {
					s.Condition[op][k] = list
				}
			}
		}
		out.Statement = append(out.Statement, s)
	}
	return out
}

// JSON is the document as IAM takes it, with placeholders as Terraform's templatefile fills them in.
func (d *Document) JSON() []byte {
	b, err := json.MarshalIndent(d.build(false), "", "  ")
	if err != nil {
		panic(err) // of strings
	}
	return append(b, '\n')
}

// CloudFormation is the document on one line, as a template takes it.
func (d *Document) CloudFormation() string {
	b, err := json.Marshal(d.build(true))
	if err != nil {
		panic(err) // of strings
	}
	return string(b)
}

// Markdown is the table for people.
func Markdown() string {
	var b strings.Builder
	for i := range Documents {
		d := &Documents[i]
		fmt.Fprintf(&b, "\n**%s** (`policies/%s.json`): %s.\n\n| action | why |\n|---|---|\n", d.Name, d.Name, d.For)
		seen := map[string]bool{}
		for _, p := range d.Parts {
			for _, a := range p.Actions {
				if line := fmt.Sprintf("| `%s` | %s |\n", a.Name, a.Why); !seen[a.Name] {
					seen[a.Name] = true
					b.WriteString(line)
				}
			}
		}
	}
	return b.String()
}
