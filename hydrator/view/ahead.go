package view

import "sync"

const (
	maxStreams = 8 // that are followed on one disk
	maxAhead   = 4 // fetches ahead at once
	firstAhead = 4 // chunks, doubled as long as the stream goes on
	slack      = 4 // chunks: the kernel's own reading ahead comes a little out of order
)

// ahead tells who reads in order, and how far to fetch for them.
type ahead struct {
	limit  int64 // chunks; 0: never
	chunks int64 // of the disk

	mu      sync.Mutex
	streams [maxStreams]stream // guarded by mu, as is tick
	tick    uint64
}

type stream struct {
	next   int64 // chunk after the last that was read
	end    int64 // chunk after the last that was fetched ahead
	window int64
	used   uint64
}

// note takes a read of chunks first to last and returns what to fetch ahead, nothing unless that is possible now: [from, to).
func (a *ahead) note(first, last int64, possible bool) (from, to int64) {
	if a.limit <= 0 {
		return 0, 0
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tick++
	oldest := &a.streams[0]
	for i := range a.streams {
		s := &a.streams[i]
		if s.used > 0 && first >= s.next-slack && first <= s.end {
			s.used = a.tick
			s.next = max(s.next, last+1)
			s.end = max(s.end, s.next)
			if !possible || s.end-s.next > s.window/2 {
				return 0, 0
			}
			from, to = s.end, min(s.next+s.window, a.chunks)
			s.end, s.window = max(from, to), min(2*s.window, a.limit)
			return from, to
		}
		if s.used < oldest.used {
			oldest = s
		}
	}
	*oldest = stream{next: last + 1, end: last + 1, window: min(firstAhead, a.limit), used: a.tick}
	return 0, 0
}

// readAhead fetches what a stream is likely to want next, if there is room and not too much of it goes on.
func (d *Disk) readAhead(first, last int64) {
	token := false
	select {
	case d.v.ahead <- struct{}{}:
		token = true
	default:
	}
	from, to := d.ahead.note(first, last, token)
	if from >= to {
		if token {
			<-d.v.ahead
		}
		return
	}
	started := d.v.start(func() {
		defer func() { <-d.v.ahead }()
		ids, err := d.tree.ids(d.v.ctx, from, to)
		if err != nil {
			return // who reads there is told
		}
		if fresh := d.v.cache.more(d.wants(from, ids)); len(fresh) > 0 {
			d.v.fill(fresh)
		}
	})
	if !started {
		<-d.v.ahead
	}
}
