package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/openmigrate/openmigrate/hydrator/files"
	"github.com/openmigrate/openmigrate/hydrator/view"
	"github.com/openmigrate/openmigrate/internal/cli"
	"github.com/openmigrate/openmigrate/internal/progress"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

// filesOptions say which file system of a restpoint is meant.
type filesOptions struct {
	view viewOptions
	disk string
}

func (o *filesOptions) flags(c *cobra.Command) {
	o.view.flags(c)
	c.Flags().StringVar(&o.disk, "disk", "0", "N or N:PARTITION: number of the disk in the restpoint, from 0, and of the partition, from 1, if it has several")
}

const filesHelp = `

Reads ext2, ext3, ext4 and XFS without a mount and without root. For anything else, and for LVM, use 'restpoints mount'. Journals are not
replayed: of a restpoint that is not consistent at least as 'filesystem', the last seconds before it may be missing.`

func newFiles(a *app) *cobra.Command {
	var o filesOptions
	c := &cobra.Command{Use: "files R [--disk N[:PARTITION]] PATH", Short: "List files on a restpoint's disk, without restoring it", Args: cobra.ExactArgs(2),
		Long: "List a folder, or one file, on a restpoint's disk, without restoring it." + filesHelp, Example: "  openmigrate restpoints files web1/latest --disk 0:1 /etc",
		RunE: func(c *cobra.Command, args []string) error { return runFiles(c.Context(), a, &o, args[0], args[1]) }}
	o.flags(c)
	return c
}

func newCp(a *app) *cobra.Command {
	var o filesOptions
	var overwrite bool
	c := &cobra.Command{Use: "cp R:PATH FILE", Short: "Copy one file out of a restpoint's disk, without restoring it", Args: cobra.ExactArgs(2),
		Long: "Copy one file out of a restpoint's disk, without restoring it. FILE may be a folder." + filesHelp, Example: "  openmigrate restpoints cp web1/latest:/etc/fstab fstab.old",
		RunE: func(c *cobra.Command, args []string) error {
			ref, from, ok := strings.Cut(args[0], ":")
			if !ok || ref == "" || from == "" {
				return cli.Usagef("the first argument is R:PATH, such as web1/latest:/etc/fstab, not %q", args[0])
			}
			return runCp(c.Context(), a, &o, ref, from, args[1], overwrite)
		}}
	o.flags(c)
	c.Flags().BoolVar(&overwrite, "overwrite", false, "replace FILE")
	return c
}

// fileSystem opens what --disk names and has use look at it.
func (a *app) fileSystem(ctx context.Context, ref string, o *filesOptions, use func(context.Context, files.FS) error) error {
	number, part, err := parseDisk(o.disk)
	if err != nil {
		return err
	}
	err = a.browse(ctx, ref, &number, &o.view, func(ctx context.Context, v *view.View, r *wire.RestpointInfo) error {
		d := v.Disks()[number]
		p, err := files.Partition(d, d.Size(), part)
		if err != nil {
			return fmt.Errorf("disk %d: %w", number, err)
		}
		f, err := files.Open(p, p.Size())
		if err != nil {
			return fmt.Errorf("disk %s: %w", o.disk, err)
		}
		if c := format.Consistency(r.Consistency); f.Unclean() || c == format.Fuzzy || c == format.Crash {
			fmt.Fprintf(os.Stderr, "note: the restpoint is %s: if the file system was being written, its last changes may be missing\n", r.Consistency)
		}
		return use(ctx, f)
	})
	if errors.Is(err, fs.ErrNotExist) {
		return wire.NewProblem(404, wire.CodeNotFound, "%s", err.Error())
	}
	return err
}

// parseDisk splits N or N:PARTITION.
func parseDisk(s string) (disk, part int, err error) {
	number, rest, has := strings.Cut(s, ":")
	disk, err = strconv.Atoi(number)
	if err == nil && has {
		part, err = strconv.Atoi(rest)
	}
	if err != nil || disk < 0 || has && part < 1 {
		return 0, 0, cli.Usagef("--disk wants N or N:PARTITION, such as 0:1, not %q", s)
	}
	return disk, part, nil
}

// fileInfo is one line of a listing. Link is where a symbolic link points to.
type fileInfo struct {
	Name     string    `json:"name"`
	Mode     string    `json:"mode"`
	Size     int64     `json:"size"`
	Modified time.Time `json:"modified"`
	UID      uint32    `json:"uid"`
	GID      uint32    `json:"gid"`
	Link     string    `json:"link,omitempty"`
}

// maxListed is how many entries of one folder are shown.
const maxListed = 1 << 20

func runFiles(ctx context.Context, a *app, o *filesOptions, ref, name string) error {
	var list []fileInfo
	err := a.fileSystem(ctx, ref, o, func(ctx context.Context, f files.FS) error {
		info, err := files.Lookup(f, name, true)
		if err != nil {
			return err
		}
		if !info.Mode.IsDir() {
			one, err := describe(f, path.Base(name), info.Inode)
			list = append(list, one)
			return err
		}
		return f.ReadDir(info.Inode, func(name string, inode uint64) error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if len(list) >= maxListed {
				return fmt.Errorf("list %s: more than %d entries", name, maxListed)
			}
			one, err := describe(f, name, inode)
			list = append(list, one)
			return err
		})
	})
	if err != nil {
		return err
	}
	slices.SortFunc(list, func(a, b fileInfo) int { return cmp.Compare(a.Name, b.Name) })
	return a.out.Print(os.Stdout, list, func(w io.Writer) {
		for i := range list {
			l := &list[i]
			shown := printable(l.Name)
			if l.Link != "" {
				shown += " -> " + printable(l.Link)
			}
			cli.Row(w, l.Mode, l.UID, l.GID, l.Size, l.Modified.Format(time.RFC3339), shown)
		}
	})
}

func describe(f files.FS, name string, inode uint64) (fileInfo, error) {
	info, err := f.Stat(inode)
	if err != nil {
		return fileInfo{}, fmt.Errorf("look at %s: %w", printable(name), err)
	}
	one := fileInfo{Name: name, Mode: info.Mode.String(), Size: info.Size, Modified: info.ModTime.UTC(), UID: info.UID, GID: info.GID}
	if info.Mode.Type() == fs.ModeSymlink {
		if one.Link, err = f.ReadLink(inode); err != nil {
			return one, fmt.Errorf("read link %s: %w", printable(name), err)
		}
	}
	return one, nil
}

// printable quotes names that would do something to a terminal.
func printable(name string) string {
	if q := strconv.Quote(name); q != `"`+name+`"` {
		return q
	}
	return name
}

func runCp(ctx context.Context, a *app, o *filesOptions, ref, from, to string, overwrite bool) error {
	if st, err := os.Stat(to); err == nil && st.IsDir() {
		to = filepath.Join(to, path.Base(from))
	}
	if _, err := os.Lstat(to); err == nil && !overwrite {
		return fmt.Errorf("copy to %s: it exists (--overwrite replaces it)", to)
	}
	var info files.Info
	err := a.fileSystem(ctx, ref, o, func(ctx context.Context, f files.FS) (err error) {
		if info, err = files.Lookup(f, from, true); err != nil {
			return err
		}
		if !info.Mode.IsRegular() {
			return fmt.Errorf("copy %s: it is no regular file (%s)", from, info.Mode)
		}
		c, err := f.Open(info.Inode)
		if err != nil {
			return fmt.Errorf("copy %s: %w", from, err)
		}
		return copyOut(ctx, c, &info, to)
	})
	if err != nil {
		return err
	}
	return a.out.Print(os.Stdout, map[string]any{"path": from, "file": to, "size": info.Size}, func(w io.Writer) {
		cli.Row(w, fmt.Sprintf("%s: %s", to, progress.Bytes(info.Size)))
	})
}

// copyOut makes the file under another name first, so that it is whole or not there.
func copyOut(ctx context.Context, c *files.Content, info *files.Info, to string) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(to), ".openmigrate-cp-*")
	if err != nil {
		return fmt.Errorf("copy to %s: %w", to, err)
	}
	defer func() {
		tmp.Close()
		if err != nil {
			err = errors.Join(err, os.Remove(tmp.Name()))
		}
	}()
	meter := progress.New(os.Stderr, filepath.Base(to))
	err = files.Copy(ctx, tmp, c, func(n int64) { meter.Set(progress.State{Phase: "copy", Total: c.Size(), Done: n}) })
	meter.Finish("")
	if err != nil {
		return err
	}
	// The bits that give rights to who runs it are not for this machine.
	if err := tmp.Chmod(info.Mode.Perm()); err != nil {
		return fmt.Errorf("copy to %s: %w", to, err)
	}
	if err := os.Chtimes(tmp.Name(), time.Time{}, info.ModTime); err != nil {
		return fmt.Errorf("copy to %s: %w", to, err)
	}
	if err := os.Rename(tmp.Name(), to); err != nil {
		return fmt.Errorf("copy to %s: %w", to, err)
	}
	return nil
}
