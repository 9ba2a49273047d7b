package live

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/internal/pgtest"
)

// TestPostgresUnderLoad: PostgreSQL starts from every restpoint that was taken while clients committed, and has each row once that was committed
// before it was asked for. Every page is sound.
func TestPostgresUnderLoad(t *testing.T) {
	for fs, usual := range map[string]int{"ext4": 3, "xfs": 2} {
		t.Run(fs, func(t *testing.T) {
			s := newServer(t, fs)
			db := pgtest.New(t, filepath.Join(s.dir, "data"))
			db.Init()
			db.Start()
			defer db.Stop()
			load := db.StartLoad(3)
			defer load.Stop()
			s.protect()
			for round := range rounds(t, usual) {
				least := load.Committed()
				p, out := s.restpoint(round)
				rows := recovered(t, fs, out)
				if err := os.Remove(out); err != nil { // it was written to
					t.Fatal(err)
				}
				for i := range least {
					count, last := rows[i][0], rows[i][1]
					if last < least[i] || count != last {
						t.Errorf("round %d: client %d has %d rows up to %d, and %d were committed before", round, i, count, last, least[i])
					}
				}
				t.Logf("round %d: committed before %v, there: %v; %d bytes of chunks changed", round, least, rows, p.Disks[0].Changed)
			}
		})
	}
}

// recovered starts PostgreSQL from a copy of the disk and returns how many rows each client has and the number of its last. Then it checks all pages.
func recovered(t *testing.T, fs, image string) (rows [3][2]int64) {
	t.Helper()
	mnt, options := pgtest.PublicDir(t), "loop"
	if fs == "xfs" {
		options += ",nouuid" // the original is mounted
	}
	run(t, "mount", "-o", options, image, mnt)
	defer func() {
		run(t, "umount", mnt)
		if fs != "xfs" {
			return
		}
		// Another process's mount namespace may have a copy of the mount for a while.
		for deadline := time.Now().Add(time.Minute); run(t, "losetup", "-j", image) != ""; time.Sleep(50 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s is still in use", image)
			}
		}
		run(t, "xfs_repair", "-n", "-f", image)
	}()
	db := pgtest.New(t, filepath.Join(mnt, "data"))
	if err := os.Remove(filepath.Join(db.Data, "postmaster.pid")); err != nil { // of the source, whose process runs here, too
		t.Fatal(err)
	}
	db.Start()
	out := db.Query("select client, count(*), max(n) from entry group by client order by client")
	db.Stop()
	for line := range strings.Lines(out) {
		var client int
		var count, last int64
		if _, err := fmt.Sscanf(line, "%d|%d|%d", &client, &count, &last); err != nil {
			t.Fatalf("answer %q: %v", line, err)
		}
		rows[client] = [2]int64{count, last}
	}
	db.Run("pg_checksums", "--check", "-D", db.Data)
	return rows
}
