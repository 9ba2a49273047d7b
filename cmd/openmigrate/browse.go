package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/openmigrate/openmigrate/hydrator"
	"github.com/openmigrate/openmigrate/hydrator/fuse"
	"github.com/openmigrate/openmigrate/hydrator/view"
	"github.com/openmigrate/openmigrate/internal/cli"
	"github.com/openmigrate/openmigrate/internal/partition"
	"github.com/openmigrate/openmigrate/internal/progress"
	"github.com/openmigrate/openmigrate/wire"
)

// viewOptions are the flags of all that reads a restpoint lazily.
type viewOptions struct {
	memory, diskCache int // MiB
	cacheDir          string
}

func (o *viewOptions) flags(c *cobra.Command) {
	f := c.Flags()
	f.IntVar(&o.memory, "memory", 128, "MiB of memory for what was fetched")
	f.StringVar(&o.cacheDir, "cache-dir", "", "folder for a cache on disk, unencrypted and without a name (default: none)")
	f.IntVar(&o.diskCache, "cache-size", 1024, "MiB of the cache on disk")
}

// browse opens a view of a restpoint's disks, of one if disk is not nil, and holds a lease on it while use runs.
func (a *app) browse(ctx context.Context, ref string, disk *int, o *viewOptions, use func(context.Context, *view.View, *wire.RestpointInfo) error) error {
	if o.memory <= 0 || o.diskCache <= 0 {
		return cli.Usagef("--memory and --cache-size are in MiB, above 0")
	}
	m, err := a.master()
	if err != nil {
		return err
	}
	r, err := retry(ctx, func() (wire.RestpointInfo, error) { return m.Restpoint(ctx, ref) })
	if err != nil {
		return err
	}
	if disk != nil && (*disk < 0 || *disk >= len(r.Disks)) {
		return wire.NewProblem(404, wire.CodeNotFound, "restpoint %s has no disk %d: it has %d, from 0", r.ID, *disk, len(r.Disks))
	}
	job, err := m.Export(ctx, r.ID, disk)
	if err != nil {
		return err
	}
	return hydrator.Browse(ctx, m.Client, job, &hydrator.BrowseOptions{View: view.Options{
		Memory: int64(o.memory) << 20, CacheDir: o.cacheDir, CacheSize: int64(o.diskCache) << 20, Log: a.logger(),
	}}, func(ctx context.Context, v *view.View) error { return use(ctx, v, &r) })
}

func newMount(a *app) *cobra.Command {
	var o viewOptions
	var allowOther bool
	c := &cobra.Command{Use: "mount R DIR", Short: "Show a restpoint's disks as read-only files, fetched as they are read", Args: cobra.ExactArgs(2),
		Long: `Show a restpoint's disks as read-only files DIR/disk0.img, DIR/disk1.img and so on, until interrupted.

Nothing is restored: what is read is fetched from staging then, checked, and kept for a while. DIR must exist and be empty.
The restpoint cannot be deleted meanwhile. 'restpoints files' and 'restpoints cp' get at single files without a mount.`,
		Example: `  openmigrate restpoints mount web1/latest /mnt/web1
  mount -o ro,loop,offset=1048576 /mnt/web1/disk0.img /mnt/root     (as root, in another terminal; the offsets are printed)`,
		RunE: func(c *cobra.Command, args []string) error {
			return runMount(c.Context(), a, &o, args[0], args[1], allowOther)
		}}
	o.flags(c)
	c.Flags().BoolVar(&allowOther, "allow-other", false, "let other users read, too")
	return c
}

func runMount(ctx context.Context, a *app, o *viewOptions, ref, dir string, allowOther bool) error {
	dir, err := filepath.Abs(dir) // for whoever copies the lines that are printed
	if err != nil {
		return fmt.Errorf("mount on %s: %w", dir, err)
	}
	asked := ctx // ends when somebody wants the mount to end; the other one also when it cannot go on
	return a.browse(asked, ref, nil, o, func(ctx context.Context, v *view.View, r *wire.RestpointInfo) error {
		disks := make([]fuse.Disk, 0, len(v.Disks()))
		for _, d := range v.Disks() {
			disks = append(disks, d)
		}
		m, err := fuse.New(dir, disks, &fuse.Options{AllowOther: allowOther, Name: "openmigrate:" + r.ID, Time: r.Listed, Log: a.logger()})
		if err != nil {
			return err
		}
		if err := a.printMount(ctx, v, r, dir); err != nil {
			return errors.Join(err, m.Unmount())
		}
		gone := make(chan struct{})
		go func() { defer close(gone); m.Wait() }()
		select {
		case <-gone: // somebody unmounted it
			return nil
		case <-ctx.Done():
		}
		var why error
		if asked.Err() == nil {
			why = fmt.Errorf("the mount ends: %w", context.Cause(ctx))
		}
		return errors.Join(why, unmount(m, dir, gone))
	})
}

// unmount waits a moment for those who still have a file open. Then the folder is taken away from under them: they get I/O errors.
func unmount(m *fuse.Mount, dir string, gone <-chan struct{}) error {
	deadline := time.Now().Add(5 * time.Second)
	for told := false; ; told = true {
		err := m.Unmount()
		if err == nil {
			<-gone
			return nil
		}
		if time.Now().After(deadline) {
			if err := m.Detach(); err != nil {
				return err
			}
			return fmt.Errorf("%s was in use until the end: who has its files open, such as a loop device (losetup -l), gets I/O errors from now on", dir)
		}
		if !told {
			fmt.Fprintf(os.Stderr, "%s is in use; waiting a moment for that to end\n", dir)
		}
		select {
		case <-gone:
			return nil
		case <-time.After(100 * time.Millisecond):
		}
	}
}

type mountedPartition struct {
	Number int    `json:"number"`
	Offset int64  `json:"offset"`
	Size   int64  `json:"size"`
	Type   string `json:"type"`
}

type mountedDisk struct {
	Number     int                `json:"number"`
	File       string             `json:"file"`
	Size       int64              `json:"size"`
	Partitions []mountedPartition `json:"partitions"`
}

func (a *app) printMount(ctx context.Context, v *view.View, r *wire.RestpointInfo, dir string) error {
	list := make([]mountedDisk, 0, len(v.Disks()))
	for _, d := range v.Disks() {
		m := mountedDisk{Number: d.Number(), File: filepath.Join(dir, fuse.Name(d.Number())), Size: d.Size(), Partitions: []mountedPartition{}}
		t, err := partition.Read(d, d.Size(), 0)
		if err != nil && !errors.Is(err, partition.ErrNone) {
			a.logger().WarnContext(ctx, "cannot read a partition table", "disk", d.Number(), "err", err)
		}
		if err == nil {
			for _, p := range t.Partitions {
				m.Partitions = append(m.Partitions, mountedPartition{Number: p.Number, Offset: p.Start, Size: p.Size, Type: firstOf(p.TypeName, p.Type)})
			}
		}
		list = append(list, m)
	}
	return a.out.Print(os.Stdout, map[string]any{"restpoint": r.ID, "disks": list}, func(w io.Writer) {
		cli.Row(w, r.ID+" is on "+dir+" until this command is interrupted")
		for _, d := range list {
			cli.Row(w, d.File, progress.Bytes(d.Size))
			for _, p := range d.Partitions {
				cli.Row(w, fmt.Sprintf("  partition %d", p.Number), progress.Bytes(p.Size), p.Type,
					fmt.Sprintf("mount -o ro,loop,offset=%d,sizelimit=%d %s MOUNTPOINT", p.Offset, p.Size, d.File))
			}
		}
	})
}
