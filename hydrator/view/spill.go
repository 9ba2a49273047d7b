package view

import (
	"fmt"
	"os"
	"sync"

	"github.com/openmigrate/openmigrate/chunker"
)

// spill keeps chunks in one file of fixed slots that are filled in turn. The file has no name, so nothing of it stays, however the
// process ends. A slot may be overwritten while it is read: who reads compares what comes with the id. Errors of the disk only cost what
// the cache would have saved.
type spill struct {
	f    *os.File
	slot int64 // bytes

	mu    sync.Mutex
	at    map[chunker.ID]int64 // guarded by mu, as is all below
	owner []chunker.ID
	next  int64
}

func newSpill(dir string, slot int, size int64) (*spill, error) {
	f, err := os.CreateTemp(dir, ".openmigrate-cache-*")
	if err != nil {
		return nil, fmt.Errorf("make a disk cache: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, fmt.Errorf("make a disk cache: %w", err)
	}
	return &spill{f: f, slot: int64(slot), at: map[chunker.ID]int64{}, owner: make([]chunker.ID, max(1, size/int64(slot)))}, nil
}

func (s *spill) close() { s.f.Close() }

func (s *spill) read(id chunker.ID, b []byte) bool {
	s.mu.Lock()
	i, ok := s.at[id]
	s.mu.Unlock()
	if !ok {
		return false
	}
	_, err := s.f.ReadAt(b, i*s.slot)
	return err == nil
}

func (s *spill) write(id chunker.ID, content []byte) {
	s.mu.Lock()
	if _, ok := s.at[id]; ok {
		s.mu.Unlock()
		return
	}
	i := s.next
	s.next = (i + 1) % int64(len(s.owner))
	delete(s.at, s.owner[i])
	s.owner[i] = id
	s.mu.Unlock()
	if _, err := s.f.WriteAt(content, i*s.slot); err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.owner[i] == id {
		s.at[id] = i
	}
}
