package launch

import (
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/openmigrate/openmigrate/internal/roottest"
	"github.com/openmigrate/openmigrate/wire"
)

// TestSparse launches a disk that is far larger than this host's, and nearly empty.
func TestSparse(t *testing.T) {
	const size = 1 << 40 // bytes
	disk := t.TempDir() + "/disk.img"
	if err := os.WriteFile(disk, append(append(sector(1, ready), make([]byte, 510)...)[:510], 0x55, 0xaa), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(disk, size); err != nil {
		t.Fatal(err)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(disk, &fs); err != nil {
		t.Fatal(err)
	}
	if int64(fs.Bavail)*fs.Bsize > size {
		roottest.Lacks(t, "this host has room for the whole disk, so the test would show nothing")
	}
	began := time.Now()
	w := newWorld(t, disk)
	t.Logf("replicated after %.1f s", time.Since(began).Seconds())
	began = time.Now()
	q := w.request(wire.LaunchTest)
	q.Template.AsIs = true
	id := w.start(q)
	i := w.until(id, func(string) {}, func(i *wire.LaunchInfo) bool { return i.State == wire.LaunchRunning || isOver(i.State) })
	if i.State != wire.LaunchRunning {
		t.Fatal(tell(&i))
	}
	t.Logf("runs after %.1f s", time.Since(began).Seconds())
	w.revert(id)
	w.until(id, func(string) {}, func(i *wire.LaunchInfo) bool { return isOver(i.State) })
	w.nothingLeft()
}
