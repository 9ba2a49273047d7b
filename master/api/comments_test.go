package api

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

// commented are the packages whose types are in the document.
var commented = []string{"../../wire", "../../staging/format", "../accounts", "../audit", "../webhook"}

// TestCommentsAreUpToDate: what the document says of types is what their Go comments say. OPENMIGRATE_UPDATE=1 writes it.
func TestCommentsAreUpToDate(t *testing.T) {
	want := map[string]string{}
	for _, dir := range commented {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			if !strings.HasSuffix(name, "_test.go") {
				readComments(t, name, want)
			}
		}
	}
	schemas := openAPI(t).Components.Schemas.Map()
	for key := range want {
		name, _, _ := strings.Cut(key, ".")
		if schemas[name] == nil {
			delete(want, key)
		}
	}
	if os.Getenv("OPENMIGRATE_UPDATE") != "" {
		b, err := json.MarshalIndent(want, "", " ")
		if err == nil {
			err = os.WriteFile("comments.json", append(b, '\n'), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
		commentFile = b
	}
	got := map[string]string{}
	if err := json.Unmarshal(commentFile, &got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Error("comments.json is not what the comments of the Go types say: run 'make openapi'")
	}
}

// readComments adds those of a file's exported types, and of their fields.
func readComments(t *testing.T, name string, into map[string]string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	for _, decl := range file.Decls {
		g, ok := decl.(*ast.GenDecl)
		if !ok || g.Tok != token.TYPE {
			continue
		}
		for _, spec := range g.Specs {
			typ := spec.(*ast.TypeSpec)
			body, ok := typ.Type.(*ast.StructType)
			if !ok || !typ.Name.IsExported() {
				continue
			}
			doc := typ.Doc
			if doc == nil {
				doc = g.Doc
			}
			put(into, typ.Name.Name, doc)
			for _, f := range body.Fields.List {
				if f.Tag == nil {
					continue
				}
				text, err := strconv.Unquote(f.Tag.Value)
				if err != nil {
					t.Fatal(err)
				}
				field, _, _ := strings.Cut(reflect.StructTag(text).Get("json"), ",")
				if field != "" && field != "-" {
					put(into, typ.Name.Name+"."+field, f.Doc, f.Comment)
				}
			}
		}
	}
}

func put(into map[string]string, key string, groups ...*ast.CommentGroup) {
	var parts []string
	for _, g := range groups {
		if text := strings.Join(strings.Fields(g.Text()), " "); text != "" {
			parts = append(parts, text)
		}
	}
	if text := strings.Join(parts, " "); text != "" && into[key] == "" {
		into[key] = text
	}
}
