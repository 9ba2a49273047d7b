package outbox

import (
	"bytes"
	"context"
	"encoding/json"

	"github.com/openmigrate/openmigrate/master/store"
)

// Kinds of what tables hold. Rows are JSON objects whose project and machine are among their first fields.
var Kinds = map[string]string{
	"projects":     "project",
	"machines":     "machine",
	"restpoints":   "restpoint",
	"sessions":     "session",
	"jobs":         "job",
	"launches":     "launch",
	"nodes":        "node",
	"api_tokens":   "token",
	"enrol_tokens": "enrolment-token",
	"webhooks":     "webhook",
}

// Watch returns db with an ear: told is called after each transaction that changed watched tables, with what it changed, in no order. It is called by
// whoever made the change, so it must not wait.
func Watch(db store.Store, told func([]Event)) store.Store {
	return &watched{Store: db, told: told}
}

type watched struct {
	store.Store
	told func([]Event)
}

// Update implements store.Store.
func (d *watched) Update(ctx context.Context, fn func(store.Writer) error) error {
	var w *writer
	err := d.Store.Update(ctx, func(inner store.Writer) error {
		w = &writer{Writer: inner, changed: map[key]Event{}} // fn may run again
		return fn(w)
	})
	if err != nil || len(w.changed) == 0 {
		return err
	}
	events := make([]Event, 0, len(w.changed))
	for _, e := range w.changed {
		events = append(events, e)
	}
	d.told(events)
	return nil
}

type writer struct {
	store.Writer
	changed map[key]Event
}

// Put implements store.Writer.
func (w *writer) Put(table string, k, value []byte) error {
	if kind := Kinds[table]; kind != "" {
		w.note(kind, string(k), value, false)
	}
	return w.Writer.Put(table, k, value)
}

// Delete implements store.Writer.
func (w *writer) Delete(table string, k []byte) error {
	if kind := Kinds[table]; kind != "" {
		if was, err := w.Get(table, k); err == nil {
			w.note(kind, string(k), was, true)
		}
	}
	return w.Writer.Delete(table, k)
}

func (w *writer) note(kind, id string, row []byte, gone bool) {
	project, machine := belongs(row)
	if kind == "project" {
		project = id
	}
	w.changed[key{kind: kind, id: id}] = Event{Kind: kind, ID: id, Project: project, Machine: machine, Gone: gone}
}

// lookAhead is how many fields of a row are looked at: what a thing belongs to stands at its beginning, and rows can be long.
const lookAhead = 6

// belongs reads whose a row is. What is no such row is nobody's: nobody is told.
func belongs(row []byte) (project, machine string) {
	d := json.NewDecoder(bytes.NewReader(row))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return "", ""
	}
	for range lookAhead {
		name, err := d.Token()
		if err != nil {
			break
		}
		var v any
		switch name {
		case "project":
			err = d.Decode(&project)
		case "machine":
			err = d.Decode(&machine)
		default:
			err = d.Decode(&v)
		}
		if err != nil || project != "" && machine != "" {
			break
		}
	}
	return project, machine
}
