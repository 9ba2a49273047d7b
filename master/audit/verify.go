package audit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/openmigrate/openmigrate/master/store"
)

// readAtOnce is how many lines one transaction reads: long readers keep the store's file from being reused.
const readAtOnce = 1000

func hashOf(content []byte) string {
	h := sha256.Sum256(content)
	return hex.EncodeToString(h[:])
}

// Broken says where the chain is broken.
type Broken struct {
	Sequence uint64 // of the first line that is wrong
	Reason   string
}

// Error implements error.
func (b *Broken) Error() string {
	return fmt.Sprintf("the audit log is broken at line %d: %s; compare it with an export that was kept elsewhere", b.Sequence, b.Reason)
}

// Report is what a log that was found whole consists of.
type Report struct {
	Lines uint64 `json:"lines"`
	First Mark   `json:"first"` // the place before the oldest line that is kept
	Head  Mark   `json:"head"`  // the newest line's
	Known int    `json:"known"` // marks that were kept elsewhere and stand; those of lines that are not kept any more do not count
}

// checker follows a chain.
type checker struct {
	at    Mark
	known map[uint64]string
}

// line takes the next line.
func (c *checker) line(b []byte) error {
	next := c.at.Sequence + 1
	broken := func(reason string) error { return &Broken{next, reason} }
	content, hash, err := open(b)
	if err != nil {
		return broken("it is not a line of the log")
	}
	if hashOf(content) != hash {
		return broken("it was changed: its hash is another one")
	}
	var l Line
	d := json.NewDecoder(bytes.NewReader(content))
	if err := d.Decode(&l); err != nil {
		return broken("it is not a line of the log")
	}
	switch {
	case l.Sequence != next:
		return broken(fmt.Sprintf("line %d stands in its place", l.Sequence))
	case l.Previous != c.at.Hash:
		return broken("it does not follow the line before it")
	case c.known[next] != "" && c.known[next] != hash:
		return broken("it is not the line that was there when its hash was noted")
	}
	c.at = Mark{next, hash}
	return nil
}

// Verify reads the whole log and checks the chain: *Broken when a line was changed, taken out, put in or moved. known are marks that were kept
// elsewhere: with one of those, lines that were taken away at the end are missed, too, and a chain that was made anew is found.
func (l *Log) Verify(ctx context.Context, known ...Mark) (*Report, error) {
	var anchor, head Mark
	if err := l.db.View(ctx, func(tx store.Reader) error {
		a, err := mark(tx, keyAnchor)
		if err != nil {
			return err
		}
		h, err := mark(tx, keyHead)
		anchor, head = *a, *h
		return err
	}); err != nil {
		return nil, err
	}
	c := &checker{at: anchor, known: map[uint64]string{}}
	for _, m := range known {
		switch {
		case m.Sequence > head.Sequence:
			return nil, &Broken{head.Sequence + 1, fmt.Sprintf("lines up to %d were there once", m.Sequence)}
		case m.Sequence == anchor.Sequence && m.Hash != anchor.Hash:
			return nil, &Broken{m.Sequence, "it is not the line that was there when its hash was noted"}
		}
		if m.Sequence >= anchor.Sequence {
			c.known[m.Sequence] = m.Hash
		}
	}
	for c.at.Sequence < head.Sequence {
		next := c.at.Sequence + 1
		n := 0
		err := l.db.View(ctx, func(tx store.Reader) error {
			return tx.Scan(tableLines, nil, key(next), func(k, b []byte) error {
				if n++; n > readAtOnce || c.at.Sequence == head.Sequence {
					return store.ErrStop
				}
				if !bytes.Equal(k, key(c.at.Sequence+1)) {
					return &Broken{c.at.Sequence + 1, "it is missing"}
				}
				return c.line(b)
			})
		})
		if err != nil {
			return nil, err
		}
		if n == 0 {
			return nil, &Broken{next, "it is missing"}
		}
	}
	if c.at != head {
		return nil, &Broken{head.Sequence, "it is not the line that was written last"}
	}
	return &Report{Lines: head.Sequence - anchor.Sequence, First: anchor, Head: head, Known: len(c.known)}, nil
}

// VerifyExport checks lines that Export wrote, which begin after the mark from (the zero Mark: with line 1).
func VerifyExport(r io.Reader, from Mark) (Mark, error) {
	if from == (Mark{}) {
		from = start
	}
	c := &checker{at: from}
	next := newLines(r)
	for {
		b, err := next()
		if errors.Is(err, io.EOF) {
			return c.at, nil
		}
		if err == nil {
			err = c.line(b)
		}
		if err != nil {
			return c.at, err
		}
	}
}
