package policy

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// update writes what is made from the table, when OPENMIGRATE_UPDATE is set.
func update(t *testing.T, path string, want []byte) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil && os.Getenv("OPENMIGRATE_UPDATE") == "" {
		t.Fatal(err)
	}
	if bytes.Equal(got, want) {
		return
	}
	if os.Getenv("OPENMIGRATE_UPDATE") == "" {
		t.Errorf("%s is not what the table says: run OPENMIGRATE_UPDATE=1 go test ./deploy/aws/policy", path)
		return
	}
	if err := os.WriteFile(path, want, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestDocuments(t *testing.T) {
	files, err := filepath.Glob("../policies/*.json")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for i := range Documents {
		d := &Documents[i]
		path := "../policies/" + d.Name + ".json"
		known[path] = true
		update(t, path, d.JSON())
		// A managed policy may have 6,144 characters and a role's own ones 10,240, white space aside.
		var small bytes.Buffer
		if err := json.Compact(&small, d.JSON()); err != nil || small.Len() > 6144 {
			t.Errorf("policy %s: %d characters, %v", d.Name, small.Len(), err)
		}
	}
	for _, f := range files {
		if !known[f] {
			t.Errorf("%s is of no document of the table", f)
		}
	}
}

var line = regexp.MustCompile(`(?m)^( +PolicyDocument: ).*( # policy: ([a-z-]+))$`)

func TestCloudFormation(t *testing.T) {
	const path = "../cloudformation/openmigrate.yaml"
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{}
	want := line.ReplaceAllStringFunc(string(b), func(s string) string {
		m := line.FindStringSubmatch(s)
		for i := range Documents {
			if d := &Documents[i]; d.Name == m[3] {
				used[d.Name] = true
				return m[1] + d.CloudFormation() + m[2]
			}
		}
		t.Errorf("the template wants policy %q", m[3])
		return s
	})
	for i := range Documents {
		if !used[Documents[i].Name] {
			t.Errorf("the template does not use policy %s", Documents[i].Name)
		}
	}
	update(t, path, []byte(want))
}

// TestDocumented: the table for people is in docs/AWS.md.
func TestDocumented(t *testing.T) {
	const path = "../../../docs/AWS.md"
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- made from deploy/aws/policy: begin -->\n", "<!-- made from deploy/aws/policy: end -->"
	head, rest, ok := strings.Cut(string(b), begin)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s lacks %q", path, strings.TrimSpace(begin))
	}
	update(t, path, []byte(head+begin+Markdown()+"\n"+end+tail))
}

// TestLeastPrivilege: what changes something is bounded to things of ours, and what is not bounded only looks.
func TestLeastPrivilege(t *testing.T) {
	action := regexp.MustCompile(`^(ec2|ebs|s3|kms|sts|iam):[A-Za-z]+$`)
	bare := map[string]bool{"ec2:RunInstances": true, "ec2:CreateSecurityGroup": true} // what they put a machine into, and make, is not ours before
	for _, d := range Documents {
		for _, p := range d.Parts {
			for _, a := range p.Actions {
				if !action.MatchString(a.Name) || a.Why == "" {
					t.Errorf("%s/%s: %+v: want one action, without *, and its reason", d.Name, p.ID, a)
				}
				looks := strings.HasPrefix(a.Name, "ec2:Describe")
				for _, r := range p.Resources {
					if r == "*" && !looks {
						t.Errorf("%s/%s: %s on everything", d.Name, p.ID, a.Name)
					}
				}
				if service, _, _ := strings.Cut(a.Name, ":"); (service == "ec2" || service == "ebs") && !looks && len(p.Conditions) == 0 && !bare[a.Name] {
					t.Errorf("%s/%s: %s without a condition", d.Name, p.ID, a.Name)
				}
			}
		}
	}
}
