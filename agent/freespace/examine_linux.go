package freespace

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/openmigrate/openmigrate/agent/source"
	"github.com/openmigrate/openmigrate/internal/partition/fsprobe"
)

// magics are the file systems that this package knows, by mountinfo's names, with what statfs calls them.
var magics = map[string]int64{
	"ext2": unix.EXT4_SUPER_MAGIC, "ext3": unix.EXT4_SUPER_MAGIC, "ext4": unix.EXT4_SUPER_MAGIC,
	"xfs": unix.XFS_SUPER_MAGIC, "btrfs": unix.BTRFS_SUPER_MAGIC,
}

// examine finds the free ranges of a volume, as its own bytes. The caller sets Free in the note.
func (v *volume) examine(ctx context.Context, h *host, found *collector) Note {
	n := Note{Device: v.name}
	if v.why != "" {
		n.Why = v.why
		return n
	}
	err := v.use(ctx, h, found, &n)
	if err == nil && v.check != nil {
		err = v.check()
	}
	if err != nil {
		found.list = nil
		n.Why = err.Error()
	}
	if errors.Is(err, context.DeadlineExceeded) {
		n.Why = noTime
	}
	return n
}

// use finds out what the volume holds, says so in n, and maps it. After an error what was found is void.
func (v *volume) use(ctx context.Context, h *host, found *collector, n *Note) error {
	for _, m := range h.mounts {
		if m.device == v.number() {
			n.What = m.fs
			if v.covered {
				return errors.New("it is mounted, and yet others lie on it")
			}
			return v.mapMounted(ctx, h, m, func(dir *os.File) error { return v.scanFsmap(ctx, dir, found) })
		}
	}
	if m, fsid, ok := v.btrfsMount(h); ok {
		n.What = m.fs
		return v.mapMounted(ctx, h, m, func(dir *os.File) error { return v.scanBtrfs(ctx, dir, m, fsid, found, n) })
	}
	if h.swaps[v.number()] {
		n.What = "swap"
		return v.mapSwap(ctx, found)
	}
	if v.covered {
		return nil // what lies on it has its own notes
	}
	if content, err := v.probe(ctx); err == nil {
		n.What = content.Type
	}
	return errors.New("not in use by this system")
}

func (v *volume) mapSwap(ctx context.Context, found *collector) error {
	first := make([]byte, os.Getpagesize())
	if err := v.read(ctx, first, 0); err != nil {
		return err
	}
	r, err := swapContent(first, v.size)
	if err != nil {
		return err
	}
	found.add(r.Start, r.End)
	return nil
}

// open opens the volume's own bytes, past caches that may be stale.
func (v *volume) open(ctx context.Context) (source.Reader, error) {
	s, err := source.New(v.path, &source.Options{ID: v.name})
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Stat(v.path, &st); err != nil {
		return nil, fmt.Errorf("look at %s: %w", v.path, err)
	}
	if unix.Major(st.Rdev) != v.major || unix.Minor(st.Rdev) != v.minor {
		return nil, fmt.Errorf("look at %s: it is not device %s", v.path, v.number())
	}
	return s.Open(ctx)
}

// read fills p from the volume's bytes at off.
func (v *volume) read(ctx context.Context, p []byte, off int64) error {
	r, err := v.open(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	if n, err := r.ReadAt(p, off); n < len(p) {
		return err
	}
	return nil
}

func (v *volume) probe(ctx context.Context) (fsprobe.Content, error) {
	r, err := v.open(ctx)
	if err != nil {
		return fsprobe.Content{}, err
	}
	defer func() { _ = r.Close() }()
	return fsprobe.Probe(r, v.size)
}

// mapMounted calls scan between two syncs of a file system that is mounted for writing.
//
// The first sync ends what is half done: blocks that were handed out and written before the call, but that the maps do not show as
// used yet (btrfs notes them when it commits). The second makes sure that what the scan found free is free on the disk as well: until
// then a log or an older tree may still refer to it, and a copy that is started from those would find zeros in its files.
// A file system that went read-only meanwhile failed, and has not written what it knows.
func (v *volume) mapMounted(ctx context.Context, h *host, m mount, scan func(dir *os.File) error) error {
	if err := writable(h.mounts, m); err != nil {
		return err
	}
	dir, err := v.openMount(h.mounts, m)
	if err != nil {
		return err
	}
	defer dir.Close()
	for _, step := range []func() error{
		func() error { return syncfs(dir) },
		ctx.Err,
		func() error { return scan(dir) },
		ctx.Err,
		func() error { return syncfs(dir) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	now, err := readMounts()
	if err != nil {
		return err
	}
	return writable(now, m)
}

// writable reports why the maps of a file system may not be what is on the disk.
func writable(mounts []mount, m mount) error {
	found := false
	for _, o := range mounts {
		if o.device != m.device {
			continue
		}
		found = true
		switch {
		case o.has("ro"):
			return errors.New("it is mounted read-only, so its log may hold more than its maps show")
		case o.logless():
			return errors.New("it is mounted without its log")
		}
	}
	if !found {
		return errors.New("it was unmounted")
	}
	return nil
}

// openMount opens a folder of the file system: the first of its mount points that is one and that nothing was mounted over.
func (v *volume) openMount(mounts []mount, m mount) (*os.File, error) {
	last := errors.New("it has no mount point that can be opened")
	for _, o := range mounts {
		if o.device != m.device {
			continue
		}
		fd, err := unix.Open(o.point, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			last = fmt.Errorf("open %s: %w", o.point, err)
			continue
		}
		f := os.NewFile(uintptr(fd), o.point)
		var st unix.Stat_t
		var fs unix.Statfs_t
		err = errors.Join(unix.Fstat(fd, &st), unix.Fstatfs(fd, &fs))
		// A folder of btrfs has the number of its subvolume; who asks looks at the file system's id.
		same := m.fs == "btrfs" || (unix.Major(st.Dev) == v.major && unix.Minor(st.Dev) == v.minor)
		if err == nil && same && fs.Type == magics[m.fs] {
			return f, nil
		}
		_ = f.Close()
	}
	return nil, last
}

func syncfs(dir *os.File) error {
	c, err := dir.SyscallConn()
	if err != nil {
		return err
	}
	var serr error
	if err := c.Control(func(fd uintptr) { serr = unix.Syncfs(int(fd)) }); err != nil {
		return err
	}
	if serr != nil {
		return fmt.Errorf("sync %s: %w", dir.Name(), serr)
	}
	return nil
}
