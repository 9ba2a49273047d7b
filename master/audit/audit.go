// Package audit keeps a log of what people changed: who, what, before, after, from where, when. Lines are only ever added, and each holds
// the hash of the one before, so one that was changed, taken out or moved is found (Verify). SPEC.md is the format, for programs that
// check an export without this one.
//
// Secrets have no place in it: what looks like one, by the name of its member or by itself, is taken out before a line is made (redact.go).
// Everything in a line is bounded, and so is the number of lines. A Log may be used by any number of goroutines.
package audit

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/openmigrate/openmigrate/internal/clock"
	"github.com/openmigrate/openmigrate/internal/secretscan"
	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/master/store/rows"
)

const tableLines = "audit" // sequence, 8 bytes big-endian → the line as it is exported

var (
	tableMeta = rows.Table[Mark]{Name: "audit_marks"} // head, anchor
	keyHead   = "head"                                // the newest line
	keyAnchor = "anchor"                              // the line before the oldest that is kept
)

// Limits.
const (
	MaxValue        = 16 << 10 // bytes of before, and of after
	maxText         = 200      // bytes of every other text
	DefaultMaxLines = 1 << 20
	cutAtOnce       = 256 // lines that one Append may drop
)

// Who made a change.
type Who struct {
	Kind string `json:"kind"`           // user, token, master
	ID   string `json:"id"`             // of the session's user, or of the token
	Name string `json:"name"`           //
	User string `json:"user,omitempty"` // whose token it is
}

// Change is what somebody changed. Before and After are made into JSON; nil: not there.
type Change struct {
	Project   string // empty: the master itself
	Who       Who
	From      string // address
	Operation string // id in the OpenAPI document, or a word for what is none
	Kind, ID  string // of the thing
	Before    any
	After     any
}

// Line is a line of the log. Its members stand in this order; Hash is last.
type Line struct {
	Sequence  uint64          `json:"sequence"` // 1 and up, without gaps
	Time      time.Time       `json:"time"`
	Project   string          `json:"project,omitempty"`
	Who       Who             `json:"who"`
	From      string          `json:"from,omitempty"`
	Operation string          `json:"operation"`
	Kind      string          `json:"kind"`
	ID        string          `json:"id,omitempty"`
	Before    json.RawMessage `json:"before,omitempty"` // members that differ
	After     json.RawMessage `json:"after,omitempty"`
	Previous  string          `json:"previous"` // hash of the line before; 64 zeros for the first
	Hash      string          `json:"hash"`
}

// Mark is a place in the chain.
type Mark struct {
	Sequence uint64 `json:"sequence"`
	Hash     string `json:"hash"`
}

// start is the mark before the first line.
var start = Mark{Hash: strings.Repeat("0", 64)}

// Log is the audit log.
type Log struct {
	db    store.Store
	clock clock.Clock
	max   uint64
}

// Options change a Log; nil is what a master uses.
type Options struct {
	MaxLines uint64 // that are kept; 0: DefaultMaxLines
}

// New makes a log over a store.
func New(db store.Store, clk clock.Clock, o *Options) *Log {
	l := &Log{db: db, clock: clk, max: DefaultMaxLines}
	if o != nil && o.MaxLines > 0 {
		l.max = o.MaxLines
	}
	return l
}

// Record adds a line in a transaction of its own. It does so also when ctx has ended: the change was made.
func (l *Log) Record(ctx context.Context, c Change) error {
	if err := l.db.Update(context.WithoutCancel(ctx), func(tx store.Writer) error { return l.Append(tx, c) }); err != nil {
		return fmt.Errorf("write audit log: %w", err)
	}
	return nil
}

// Append adds a line in the transaction that makes the change, so that neither is there without the other.
func (l *Log) Append(tx store.Writer, c Change) error {
	before, after, err := values(c.Before, c.After)
	if err != nil {
		return fmt.Errorf("write audit log: %w", err)
	}
	head, err := mark(tx, keyHead)
	if err != nil {
		return err
	}
	line := Line{
		Sequence: head.Sequence + 1, Time: l.clock.Now().UTC(), Project: text(c.Project), From: text(c.From), Operation: text(c.Operation), Kind: text(c.Kind), ID: text(c.ID),
		Who:    Who{Kind: text(c.Who.Kind), ID: text(c.Who.ID), Name: text(c.Who.Name), User: text(c.Who.User)},
		Before: before, After: after, Previous: head.Hash,
	}
	b, hash, err := seal(&line)
	if err != nil {
		return fmt.Errorf("write audit log: %w", err)
	}
	if err := tx.Put(tableLines, key(line.Sequence), b); err != nil {
		return err
	}
	if err := tableMeta.Put(tx, keyHead, &Mark{line.Sequence, hash}); err != nil {
		return err
	}
	return l.shorten(tx, line.Sequence)
}

// shorten drops the oldest lines when there are too many, and remembers where the chain goes on.
func (l *Log) shorten(tx store.Writer, head uint64) error {
	anchor, err := mark(tx, keyAnchor)
	if err != nil {
		return err
	}
	for range cutAtOnce {
		if head-anchor.Sequence <= l.max {
			return nil
		}
		next := anchor.Sequence + 1
		b, err := tx.Get(tableLines, key(next))
		if err != nil {
			return fmt.Errorf("shorten audit log: line %d: %w", next, err)
		}
		_, hash, err := open(b)
		if err != nil {
			return fmt.Errorf("shorten audit log: line %d: %w", next, err)
		}
		anchor = &Mark{next, hash}
		if err := tx.Delete(tableLines, key(next)); err != nil {
			return err
		}
		if err := tableMeta.Put(tx, keyAnchor, anchor); err != nil {
			return err
		}
	}
	return nil
}

// Head is the newest line's place. Whoever keeps one somewhere else can prove later that nothing before it was changed (Verify).
func (l *Log) Head(ctx context.Context) (m Mark, err error) {
	err = l.db.View(ctx, func(tx store.Reader) error {
		head, err := mark(tx, keyHead)
		if err == nil {
			m = *head
		}
		return err
	})
	return m, err
}

func mark(tx store.Reader, name string) (*Mark, error) {
	m, err := tableMeta.Get(tx, name)
	if errors.Is(err, store.ErrNotFound) {
		s := start
		return &s, nil
	}
	return m, err
}

func key(sequence uint64) []byte { return binary.BigEndian.AppendUint64(nil, sequence) }

// text bounds a text and takes secrets out of it.
func text(s string) string {
	if len(s) > maxText {
		s = s[:maxText]
	}
	s = strings.ToValidUTF8(s, "")
	if secretscan.Looks(s) {
		return redacted
	}
	return s
}

// hashMember begins the last member of a line.
const hashMember = `,"hash":"`

// seal makes a line's bytes: its JSON without the hash, then the hash of that.
func seal(l *Line) (b []byte, hash string, err error) {
	l.Hash = ""
	if b, err = json.Marshal(l); err != nil {
		return nil, "", err
	}
	b, ok := bytes.CutSuffix(b, []byte(hashMember+`"}`))
	if !ok {
		return nil, "", errors.New("the hash is not the last member")
	}
	hash = hashOf(append(b, '}'))
	return append(b[:len(b):len(b)], hashMember+hash+`"}`...), hash, nil
}

var errLine = errors.New("it is not a line of the log")

// open takes a line apart: what was hashed, and the hash that it says.
func open(line []byte) (content []byte, hash string, err error) {
	tail := len(hashMember) + 64 + len(`"}`)
	i := len(line) - tail
	if i < 1 || !bytes.HasPrefix(line[i:], []byte(hashMember)) || !bytes.HasSuffix(line, []byte(`"}`)) {
		return nil, "", errLine
	}
	hash = string(line[i+len(hashMember) : i+len(hashMember)+64])
	if _, err := hex.DecodeString(hash); err != nil {
		return nil, "", errLine
	}
	return append(line[:i:i], '}'), hash, nil
}
