package builtin

import (
	"path/filepath"
	"sync"
)

// maxFolders bounds what is remembered; staging has a few hundred folders.
const maxFolders = 4096

// folders remembers which directories are durable, with all above them, so that a PUT need not sync them again: their entries reached the
// disk before, and entries stay until somebody removes them. Only this process does, through deletes, which also remove folders that they
// empty. A folder that merely exists proves nothing: another PUT may have made it and not synced it yet, or one before a power cut. So
// a folder is remembered only once its own walk up to the root has ended, and only when no delete ran beside that walk.
type folders struct {
	mu       sync.Mutex
	durable  map[string]bool // guarded by mu
	deletes  int             // that run; guarded by mu
	deletion uint64          // counts deletes that began; guarded by mu
}

// deleting forgets all that a delete below path may remove, and keeps walks beside it from being remembered until done is called.
func (f *folders) deleting(path string) (done func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.deletes++
	f.deletion++
	for ; path != "."; path = filepath.Dir(path) {
		delete(f.durable, path)
	}
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.deletes--
	}
}

// has tells whether path is durable. The caller has just put something into it, so that no later delete removes it.
func (f *folders) has(path string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.durable[path]
}

// walk begins a walk of syncs. The function that it returns remembers the directories that were synced, or that nobody may.
func (f *folders) walk() (remember func(paths []string)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	began, quiet := f.deletion, f.deletes == 0
	return func(paths []string) {
		f.mu.Lock()
		defer f.mu.Unlock()
		if !quiet || f.deletion != began {
			return
		}
		if f.durable == nil || len(f.durable)+len(paths) > maxFolders {
			f.durable = map[string]bool{}
		}
		for _, p := range paths {
			f.durable[p] = true
		}
	}
}
