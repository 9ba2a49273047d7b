// Command dashboard puts machines into the data directory of a master that is not running, so that `scripts/web fleet` can measure how the dashboard does with
// thousands of them. They are rows as enrolment and cycles leave them; nobody speaks for them, so the master will call them disconnected.
package main

import (
	"context"
	"crypto/ed25519"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"github.com/openmigrate/openmigrate/internal/clock"
	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/master/store/boltstore"
	"github.com/openmigrate/openmigrate/wire"
)

func main() {
	dir := flag.String("data-dir", "", "data directory of a master that has run and does not now")
	n := flag.Int("machines", 10_000, "how many machines are put into it")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *dir, *n); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, dir string, n int) (err error) {
	name := filepath.Join(dir, "master.db")
	if _, err := os.Stat(name); err != nil {
		return fmt.Errorf("open data directory of a master: %w; start one on it first", err)
	}
	db, err := boltstore.Open(name, nil)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := db.Close(); err == nil {
			err = cerr
		}
	}()
	_, key, err := ed25519.GenerateKey(nil) // nothing is signed with it
	if err != nil {
		return err
	}
	c, err := catalog.New(db, nil, nil, key, clock.Real{}, nil)
	if err != nil {
		return err
	}
	for i := range n {
		if _, err := c.CreateMachine(ctx, machine(i, time.Now())); err != nil {
			return fmt.Errorf("make machine %d: %w", i, err)
		}
	}
	return nil
}

var (
	systems       = []string{"Debian GNU/Linux 12 (bookworm)", "Ubuntu 24.04.2 LTS", "Red Hat Enterprise Linux 9.5 (Plow)", "SUSE Linux Enterprise Server 15 SP6", "Amazon Linux 2023"}
	groups        = []string{"shop", "billing", "search", "mail", "reports", "build", "archive"}
	consistencies = []string{"filesystem", "application", "crash", "fuzzy"}
)

// machine is the i-th: of ten, nine have restpoints.
func machine(i int, now time.Time) catalog.Machine {
	m := catalog.Machine{
		Name: fmt.Sprintf("server-%05d", i), SigningKey: make([]byte, ed25519.PublicKeySize), AgentVersion: "bench", LastSeen: now,
		Group: groups[i%len(groups)], Tags: []string{fmt.Sprintf("rack-%d", i%40)},
		Inventory: &wire.Inventory{Hostname: fmt.Sprintf("server-%05d", i), OS: wire.OSRelease{ID: "linux", PrettyName: systems[i%len(systems)]}},
	}
	for d := range 1 + i%4 {
		path := fmt.Sprintf("/dev/sd%c", 'a'+d)
		m.Inventory.Devices = append(m.Inventory.Devices, wire.BlockDevice{Name: path[5:], Path: path, ID: fmt.Sprintf("wwn-0x5000c500%06x%02d", i, d), Type: "disk", Size: 1 << 40})
	}
	if i%10 != 0 {
		at := now.Add(-time.Duration(i%900) * time.Second)
		m.LastRestpoint, m.LastTime, m.LastInstant, m.Sequence = fmt.Sprintf("bench-%d", i), at, at, uint64(1+i%50)
		m.LastConsistency = consistencies[i%len(consistencies)]
	}
	return m
}
