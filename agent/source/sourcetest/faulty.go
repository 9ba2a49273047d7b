package sourcetest

import (
	"context"
	"sync"

	"github.com/openmigrate/openmigrate/agent/source"
)

// Faulty wraps a source with scripted faults. Its methods may be called while passes are open, and take effect at their next
// read. Its zero value with Source set has none.
type Faulty struct {
	source.Source

	mu      sync.Mutex
	faults  []fault                     // guarded by mu
	gone    error                       // guarded by mu: ErrVanished once it vanished
	shrunk  int64                       // guarded by mu: size in bytes + 1 if it was cut, else 0
	onRead  func(off int64, length int) // guarded by mu
	reads   int64                       // guarded by mu
	skipped int64                       // guarded by mu: reads until vanishAfter
}

type fault struct {
	off, length int64
	times       int // left; negative: for ever
	err         error
}

// FailReads makes reads that touch [off, off+length) fail with err at the first byte of it that they touch, times times;
// negative: for ever.
func (f *Faulty) FailReads(off, length int64, times int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = append(f.faults, fault{off, length, times, err})
}

// Heal takes back what FailReads did.
func (f *Faulty) Heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = nil
}

// Vanish makes everything fail with ErrVanished.
func (f *Faulty) Vanish() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gone = source.ErrVanished
}

// VanishAfter makes it vanish after that many more reads.
func (f *Faulty) VanishAfter(reads int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.skipped = f.reads + reads + 1
}

// ShrinkTo cuts it to size bytes.
func (f *Faulty) ShrinkTo(size int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.shrunk = size + 1
}

// OnRead calls fn before each read, outside any lock: a slow disk blocks there.
func (f *Faulty) OnRead(fn func(off int64, length int)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.onRead = fn
}

// Reads returns how many reads there were.
func (f *Faulty) Reads() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.reads
}

// Size is that of the source under it, or what ShrinkTo said.
func (f *Faulty) Size(ctx context.Context) (int64, error) {
	n, err := f.Source.Size(ctx)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.gone != nil {
		return 0, f.gone
	}
	if f.shrunk > 0 {
		n = min(n, f.shrunk-1)
	}
	return n, err
}

// Open starts a pass that has the faults.
func (f *Faulty) Open(ctx context.Context) (source.Reader, error) {
	size, err := f.Size(ctx)
	if err != nil {
		return nil, err
	}
	r, err := f.Source.Open(ctx)
	if err != nil {
		return nil, err
	}
	return &faultyReader{r, f, min(size, r.Size())}, nil
}

type faultyReader struct {
	source.Reader
	f    *Faulty
	size int64
}

func (r *faultyReader) Size() int64 { return r.size }

func (r *faultyReader) ReadAt(p []byte, off int64) (int, error) {
	r.f.mu.Lock()
	hook := r.f.onRead
	r.f.reads++
	r.f.mu.Unlock()
	if hook != nil {
		hook(off, len(p))
	}
	good, ferr := r.f.apply(off, min(int64(len(p)), max(r.size-off, 0)))
	if ferr == nil {
		return r.Reader.ReadAt(p[:len(p):len(p)], off)
	}
	n, err := r.Reader.ReadAt(p[:good], off)
	if int64(n) < good {
		return n, err
	}
	return n, &source.ReadError{Source: r.f.Name(), Offset: off + good, Length: len(p) - n, Err: ferr}
}

// apply says how many bytes of a read are good, and what the byte after them fails with.
func (f *Faulty) apply(off, length int64) (good int64, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.skipped > 0 && f.reads >= f.skipped {
		f.gone = source.ErrVanished
	}
	if f.gone != nil {
		return 0, f.gone
	}
	good = length
	if f.shrunk > 0 && off+good > f.shrunk-1 {
		good, err = max(f.shrunk-1-off, 0), source.ErrShrunk
	}
	for i := range f.faults {
		ft := &f.faults[i]
		if ft.times == 0 || off+good <= ft.off || off >= ft.off+ft.length {
			continue
		}
		good, err = max(ft.off-off, 0), ft.err
		if ft.times > 0 {
			ft.times--
		}
	}
	return good, err
}

func (r *faultyReader) NextData(off int64) (start, end int64, err error) {
	r.f.mu.Lock()
	switch {
	case r.f.gone != nil:
		err = r.f.gone
	case r.f.shrunk > 0 && r.f.shrunk-1 < r.size:
		err = source.ErrShrunk
	}
	r.f.mu.Unlock()
	if err != nil {
		return 0, 0, &source.ReadError{Source: r.f.Name(), Offset: off, Err: err}
	}
	return r.Reader.NextData(off)
}
