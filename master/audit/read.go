package audit

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/openmigrate/openmigrate/master/store"
)

// Filter chooses lines; empty members choose all.
type Filter struct {
	Project   string
	Who       string // id or name, of the user or the token
	Operation string
	Kind, ID  string
	Since     time.Time
	Until     time.Time
}

func (f *Filter) takes(l *Line) bool {
	eq := func(want, got string) bool { return want == "" || want == got }
	return eq(f.Project, l.Project) && eq(f.Operation, l.Operation) && eq(f.Kind, l.Kind) && eq(f.ID, l.ID) &&
		(f.Who == "" || f.Who == l.Who.ID || f.Who == l.Who.Name || f.Who == l.Who.User) &&
		(f.Since.IsZero() || !l.Time.Before(f.Since)) && (f.Until.IsZero() || l.Time.Before(f.Until))
}

// MaxPage is how many lines one List gives at most; maxLooked how many it looks at.
const (
	MaxPage   = 500
	maxLooked = 20000
)

// List gives lines that a filter takes, the newest first: of those before a sequence (0: from the newest on), at most limit. next is where the
// following page begins (its before); 0: there is none. A page may be short, or empty, with more to come: a call looks at 20000 lines at most.
func (l *Log) List(ctx context.Context, f Filter, before uint64, limit int) (lines []Line, next uint64, err error) {
	limit = min(max(limit, 1), MaxPage)
	lines = []Line{}
	err = l.db.View(ctx, func(tx store.Reader) error {
		head, err := mark(tx, keyHead)
		if err != nil {
			return err
		}
		anchor, err := mark(tx, keyAnchor)
		if err != nil {
			return err
		}
		end := head.Sequence + 1
		if before > 0 {
			end = min(end, before)
		}
		for looked := 0; end > anchor.Sequence+1; {
			if len(lines) == limit || looked >= maxLooked {
				next = end
				return nil
			}
			block, err := readBlock(tx, max(anchor.Sequence+1, end-min(end, readAtOnce/2)), end)
			if err != nil {
				return err
			}
			for _, line := range slices.Backward(block) {
				if len(lines) == limit {
					next = end
					return nil
				}
				end = line.Sequence
				looked++
				if f.takes(&line) {
					lines = append(lines, line)
				}
			}
			if len(block) == 0 {
				return nil
			}
		}
		return nil
	})
	if err != nil {
		return nil, 0, fmt.Errorf("read audit log: %w", err)
	}
	return lines, next, nil
}

// readBlock reads the lines from one sequence to before another.
func readBlock(tx store.Reader, from, end uint64) ([]Line, error) {
	var block []Line
	err := tx.Scan(tableLines, nil, key(from), func(k, b []byte) error {
		if binary.BigEndian.Uint64(k) >= end {
			return store.ErrStop
		}
		var line Line
		if err := json.Unmarshal(b, &line); err != nil {
			return fmt.Errorf("line %x: %w", k, err)
		}
		block = append(block, line)
		return nil
	})
	return block, err
}

// Export writes all lines after a sequence, one JSON document on each, the oldest first: the whole chain, which VerifyExport checks.
func (l *Log) Export(ctx context.Context, w io.Writer, after uint64) error {
	for {
		var buf bytes.Buffer
		n := 0
		err := l.db.View(ctx, func(tx store.Reader) error {
			head, err := mark(tx, keyHead)
			if err != nil {
				return err
			}
			return tx.Scan(tableLines, nil, key(after+1), func(k, b []byte) error {
				if n++; n > readAtOnce || binary.BigEndian.Uint64(k) > head.Sequence {
					return store.ErrStop
				}
				after = binary.BigEndian.Uint64(k)
				buf.Write(b)
				return buf.WriteByte('\n')
			})
		})
		if err != nil {
			return fmt.Errorf("export audit log: %w", err)
		}
		if _, err := w.Write(buf.Bytes()); err != nil {
			return fmt.Errorf("export audit log: %w", err)
		}
		if n <= readAtOnce {
			return nil
		}
	}
}

// newLines reads lines of at most maxLine bytes.
func newLines(r io.Reader) func() ([]byte, error) {
	const maxLine = 1 << 20
	s := bufio.NewScanner(r)
	s.Buffer(nil, maxLine)
	return func() ([]byte, error) {
		if s.Scan() {
			return s.Bytes(), nil
		}
		if err := s.Err(); err != nil {
			return nil, fmt.Errorf("read export: %w", err)
		}
		return nil, io.EOF
	}
}
