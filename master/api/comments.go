package api

import (
	_ "embed"
	"encoding/json"

	"github.com/danielgtaylor/huma/v2"
)

// commentFile is what the Go types' comments say, by type and by type.field as in JSON. It is made by 'make openapi'.
//
//go:embed comments.json
var commentFile []byte

// describe puts the comments of the Go types into the document's schemas.
func describe(doc *huma.OpenAPI) error {
	comments := map[string]string{}
	if err := json.Unmarshal(commentFile, &comments); err != nil {
		return err
	}
	for name, schema := range doc.Components.Schemas.Map() {
		if c := comments[name]; c != "" && schema.Description == "" {
			schema.Description = c
		}
		for field, p := range schema.Properties {
			if c := comments[name+"."+field]; c != "" && p.Description == "" && p.Ref == "" {
				p.Description = c
			}
		}
	}
	return nil
}
