package hydrator

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/staging/format"
)

// ErrDamaged: staging has no usable copy of something that was needed. What could be read was.
var ErrDamaged = errors.New("staging is damaged")

// maxListed is how many damaged places an error names.
const maxListed = 8

// damageList collects what could not be read of one disk.
type damageList struct {
	disk *format.Disk
	mu   sync.Mutex
	list []string // guarded by mu
}

// add notes that count chunks from index on are missing because of id.
func (l *damageList) add(index, count int64, id chunker.ID, cause error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.list) >= maxListed {
		return
	}
	what := "chunk"
	if count > 1 {
		what = "tree node"
	}
	off, _ := l.disk.Layout().Extent(index)
	end := min(off+count*int64(l.disk.ChunkSize), l.disk.Size)
	l.list = append(l.list, fmt.Sprintf("disk %d (%.80s) bytes %d to %d: %s %s: %v", l.disk.Number, l.disk.Name, off, end, what, id, cause))
}

func (l *damageList) error(total int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	more := ""
	if int64(len(l.list)) < total {
		more = fmt.Sprintf("; and %d more", total-int64(len(l.list)))
	}
	return fmt.Errorf("%w: %s%s; the damage is reported, and the machine's agent sends again what it still has", ErrDamaged, strings.Join(l.list, "; "), more)
}
