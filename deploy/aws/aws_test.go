// Package aws has no code: it tests what operators copy from here. policy holds the table that the rights are made from.
package aws

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/openmigrate/openmigrate/deploy/aws/policy"
)

const template = "cloudformation/openmigrate.yaml"

// names are the keys of a mapping of the template.
func names(n *yaml.Node) (out []string) {
	for i := 0; n != nil && i+1 < len(n.Content); i += 2 {
		out = append(out, n.Content[i].Value)
	}
	return out
}

func child(n *yaml.Node, key string) *yaml.Node {
	for i := 0; n != nil && i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

var inSub = regexp.MustCompile(`\$\{([A-Za-z0-9:.]+)\}`)

// TestCloudFormation follows every reference of the template.
func TestCloudFormation(t *testing.T) {
	b, err := os.ReadFile(template)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) > 51_200 {
		t.Errorf("the template has %d bytes: CloudFormation takes 51,200 without a bucket", len(b))
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(b, &doc); err != nil {
		t.Fatal(err)
	}
	root := doc.Content[0]
	parameters, resources, conditions := names(child(root, "Parameters")), names(child(root, "Resources")), names(child(root, "Conditions"))
	used := map[string]bool{}
	ref := func(what, name string) {
		name, _, _ = strings.Cut(name, ".")
		used[name] = true
		if !strings.HasPrefix(name, "AWS::") && !slices.Contains(parameters, name) && !slices.Contains(resources, name) {
			t.Errorf("%s: there is no %q", what, name)
		}
	}
	condition := func(what, name string) {
		used[name] = true
		if !slices.Contains(conditions, name) {
			t.Errorf("%s: there is no condition %q", what, name)
		}
	}
	var walk func(n *yaml.Node, path string)
	walk = func(n *yaml.Node, path string) {
		if n.Kind == yaml.AliasNode || n.Anchor != "" {
			t.Errorf("%s: CloudFormation knows no aliases", path)
			return
		}
		text := n.Value
		switch n.Tag {
		case "!Ref", "!GetAtt":
			ref(path, text)
		case "!Condition":
			condition(path, text)
		case "!If":
			condition(path, n.Content[0].Value)
		case "!Sub":
			for _, m := range inSub.FindAllStringSubmatch(text, -1) {
				ref(path, m[1])
			}
		}
		for i, c := range n.Content {
			at := path
			if n.Kind == yaml.MappingNode && i%2 == 1 {
				key := n.Content[i-1].Value
				at += "/" + key
				if key == "Condition" && c.Kind == yaml.ScalarNode {
					condition(at, c.Value)
				}
				if key == "Fn::Sub" {
					for _, m := range inSub.FindAllStringSubmatch(c.Value, -1) {
						ref(at, m[1])
					}
				}
			}
			walk(c, at)
		}
	}
	walk(root, "")
	for _, n := range slices.Concat(parameters, conditions) {
		if !used[n] {
			t.Errorf("%s is not used", n)
		}
	}
	for _, want := range []string{"BlockPublicPolicy: true", "aws:SecureTransport", "HttpTokens: required", "NoEcho: true", "sts:ExternalId", "AbortIncompleteMultipartUpload", "DeletionPolicy: Retain"} {
		if !strings.Contains(string(b), want) {
			t.Errorf("the template lacks %q", want)
		}
	}
}

var (
	tfVar      = regexp.MustCompile(`\bvar\.([a-z_0-9]+)`)
	tfDeclared = regexp.MustCompile(`(?m)^variable "([a-z_0-9]+)" \{$`)
	tfLocal    = regexp.MustCompile(`\blocal\.([a-z_0-9]+)`)
	tfUse      = regexp.MustCompile(`\b(?:data\.)?(aws_[a-z0-9_]+)\.([a-z0-9_]+)\b`)
	tfBlock    = regexp.MustCompile(`(?m)^(?:resource|data) "(aws_[a-z0-9_]+)" "([a-z0-9_]+)" \{`)
)

// TestTerraform looks for what is used and not declared, and the other way round. What Terraform itself says is TestTools.
func TestTerraform(t *testing.T) {
	files, err := filepath.Glob("terraform/*.tf")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	var all strings.Builder
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(b)
	}
	text := all.String()
	set := func(re *regexp.Regexp) map[string]bool {
		m := map[string]bool{}
		for _, x := range re.FindAllStringSubmatch(text, -1) {
			m[strings.Join(x[1:], ".")] = true
		}
		return m
	}
	used, declared := set(tfVar), set(tfDeclared)
	for n := range used {
		if !declared[n] {
			t.Errorf("var.%s is not declared", n)
		}
	}
	for n := range declared {
		if !used[n] {
			t.Errorf("variable %s is not used", n)
		}
	}
	blocks := set(tfBlock)
	for n := range set(tfUse) {
		if !blocks[n] {
			t.Errorf("%s is not declared", n)
		}
	}
	for n := range set(tfLocal) {
		if !regexp.MustCompile(`(?m)^  ` + n + ` *= `).MatchString(text) {
			t.Errorf("local.%s is not declared", n)
		}
	}
	for _, d := range policy.Documents {
		if !strings.Contains(text, `"`+d.Name+`"`) {
			t.Errorf("the module does not use policy %s", d.Name)
		}
	}
	for _, want := range []string{"block_public_policy     = true", "aws:SecureTransport", `http_tokens                 = "required"`, "sts:ExternalId", "abort_incomplete_multipart_upload"} {
		if !strings.Contains(text, want) {
			t.Errorf("the module lacks %q", want)
		}
	}
}

// TestTools runs Terraform and cfn-lint, where OPENMIGRATE_DEPLOY_TOOLS is set: they take a minute, and Terraform its AWS provider, from the folder that
// OPENMIGRATE_TERRAFORM_PLUGINS names or from its registry.
func TestTools(t *testing.T) {
	if os.Getenv("OPENMIGRATE_DEPLOY_TOOLS") == "" {
		return // the two tests above look at the same files
	}
	run := func(dir, name string, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
		}
	}
	run(".", "cfn-lint", "--region", "us-east-1", "--", template)
	dir := t.TempDir()
	for _, d := range []string{"terraform", "policies"} {
		if err := os.CopyFS(filepath.Join(dir, d), os.DirFS(d)); err != nil {
			t.Fatal(err)
		}
	}
	dir = filepath.Join(dir, "terraform")
	run(dir, "terraform", "fmt", "-check", "-diff")
	init := []string{"init", "-backend=false", "-input=false"}
	if p := os.Getenv("OPENMIGRATE_TERRAFORM_PLUGINS"); p != "" {
		init = append(init, "-plugin-dir="+p)
	}
	run(dir, "terraform", init...)
	run(dir, "terraform", "validate")
}
