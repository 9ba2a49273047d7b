package providercheck

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/openmigrate/openmigrate/providers"
)

// newVolume makes an empty volume and waits for it.
func (c *checker) newVolume(ctx context.Context, launch string) (providers.Volume, error) {
	v, err := c.CreateVolume(ctx, providers.VolumeSpec{Meta: c.meta(launch), Size: c.opts.VolumeSize, Zone: c.zone()})
	if err != nil {
		return v, err
	}
	return providers.AwaitVolume(ctx, c, v.ID, c.opts.Pause)
}

func (c *checker) zone() string {
	if len(c.caps.Zones) == 0 {
		return ""
	}
	return c.caps.Zones[0]
}

func (c *checker) volumes(ctx context.Context) error {
	size, err := c.caps.RoundSize(c.opts.VolumeSize)
	if err != nil {
		return err
	}
	meta := c.meta("volumes")
	made, err := c.CreateVolume(ctx, providers.VolumeSpec{Meta: meta, Size: c.opts.VolumeSize, Zone: c.zone()})
	if err != nil {
		return err
	}
	// It is listed from the first moment, so that a crash right after the create leaves no orphan unseen.
	if err := c.count(ctx, providers.KindVolume, "volumes", 1); err != nil {
		return err
	}
	v, err := providers.AwaitVolume(ctx, c, made.ID, c.opts.Pause)
	if err != nil {
		return err
	}
	if v.ID != made.ID || v.Size != size || v.Owner != meta.Owner || v.Name != meta.Name || !maps.Equal(v.Tags, meta.Tags) || v.Created.IsZero() ||
		v.Zone != c.zone() || v.Attachment != nil || v.Instance != "" {
		return fmt.Errorf("volume is %+v, want %d bytes, owner %v, tags %q", v, size, meta.Owner, meta.Tags)
	}
	for range 2 {
		if err := c.DeleteVolume(ctx, v.ID); err != nil {
			return err
		}
	}
	_, err = providers.Await(ctx, c.opts.Pause, func(ctx context.Context) (providers.Volume, error) { return c.Volume(ctx, v.ID) },
		func(v providers.Volume) (bool, error) { return false, nil })
	if err := wants("volume that was deleted", err, providers.ErrNotFound); err != nil {
		return err
	}
	return c.count(ctx, providers.KindVolume, "volumes", 0)
}

func (c *checker) tokens(ctx context.Context) error {
	spec := providers.VolumeSpec{Meta: c.meta("tokens"), Size: c.opts.VolumeSize, Zone: c.zone()}
	first, err := c.CreateVolume(ctx, spec)
	if err != nil {
		return err
	}
	for _, when := range []string{"at once", "when it is available"} {
		again, err := c.CreateVolume(ctx, spec)
		if err != nil || again.ID != first.ID {
			return fmt.Errorf("the same token %s: volume %q and error %w, want %q", when, again.ID, orNone(err), first.ID)
		}
		if _, err := providers.AwaitVolume(ctx, c, first.ID, c.opts.Pause); err != nil {
			return err
		}
	}
	other := spec
	other.Size += max(c.caps.VolumeStep, c.caps.MinVolume, 1<<20)
	_, err = c.CreateVolume(ctx, other)
	if err := wants("the token with another size", err, providers.ErrConflict); err != nil {
		return err
	}
	snap := providers.SnapshotSpec{Meta: c.meta("tokens"), Volume: first.ID}
	a, err := c.CreateSnapshot(ctx, snap)
	if err != nil {
		return err
	}
	b, err := c.CreateSnapshot(ctx, snap)
	if err != nil || a.ID != b.ID {
		return fmt.Errorf("the same token for snapshots: %q and error %w, want %q", b.ID, orNone(err), a.ID)
	}
	return errors.Join(c.count(ctx, providers.KindVolume, "tokens", 1), c.count(ctx, providers.KindSnapshot, "tokens", 1))
}

func orNone(err error) error {
	if err == nil {
		return errNone
	}
	return err
}

func (c *checker) concurrentTokens(ctx context.Context) error {
	if !c.caps.ConcurrentTokens {
		return skipped("the provider needs one caller for each token")
	}
	spec := providers.VolumeSpec{Meta: c.meta("race"), Size: c.opts.VolumeSize, Zone: c.zone()}
	var wg sync.WaitGroup
	ids, errs := make([]string, 8), make([]error, 8)
	for i := range ids {
		wg.Go(func() {
			v, err := providers.Await(ctx, c.opts.Pause, func(ctx context.Context) (providers.Volume, error) { return c.CreateVolume(ctx, spec) },
				func(providers.Volume) (bool, error) { return true, nil })
			ids[i], errs[i] = v.ID, err
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if slices.Sort(ids); ids[0] != ids[len(ids)-1] {
		return fmt.Errorf("one token made %q", slices.Compact(ids))
	}
	return c.count(ctx, providers.KindVolume, "race", 1)
}

// badInput gives what no provider may take. Nothing may be there afterwards.
func (c *checker) badInput(ctx context.Context) error {
	for what, spoil := range map[string]func(*providers.VolumeSpec){
		"no token":         func(s *providers.VolumeSpec) { s.Token = "" },
		"token of a path":  func(s *providers.VolumeSpec) { s.Token = "../../etc/passwd" },
		"long token":       func(s *providers.VolumeSpec) { s.Token = strings.Repeat("t", providers.MaxToken+1) },
		"no owner":         func(s *providers.VolumeSpec) { s.Owner.System = "" },
		"no launch":        func(s *providers.VolumeSpec) { s.Owner.Launch = "" },
		"name of lines":    func(s *providers.VolumeSpec) { s.Name = "a\n-device evil" },
		"name of zeros":    func(s *providers.VolumeSpec) { s.Name = "a\x00b" },
		"name not UTF-8":   func(s *providers.VolumeSpec) { s.Name = "\xff" },
		"long name":        func(s *providers.VolumeSpec) { s.Name = strings.Repeat("n", providers.MaxName+1) },
		"reserved tag":     func(s *providers.VolumeSpec) { s.Tags = map[string]string{providers.ReservedTags + "system": "x"} },
		"tag of lines":     func(s *providers.VolumeSpec) { s.Tags = map[string]string{"k": "a\nb"} },
		"no size":          func(s *providers.VolumeSpec) { s.Size = 0 },
		"negative size":    func(s *providers.VolumeSpec) { s.Size = -1 },
		"overfull":         func(s *providers.VolumeSpec) { s.Filled = s.Size + 1 },
		"too large":        func(s *providers.VolumeSpec) { s.Size = c.caps.MaxVolume + 1 },
		"unknown zone":     func(s *providers.VolumeSpec) { s.Zone = "no-such-zone" },
		"unknown setting":  func(s *providers.VolumeSpec) { s.Settings = map[string]string{"no-such-setting": "x"} },
		"unknown source":   func(s *providers.VolumeSpec) { s.From = providers.Source{Kind: "tape", ID: "x"} },
		"source of spaces": func(s *providers.VolumeSpec) { s.From = providers.Source{Kind: providers.FromSnapshot, ID: "a b"} },
	} {
		spec := providers.VolumeSpec{Meta: c.meta("bad"), Size: c.opts.VolumeSize}
		spoil(&spec)
		_, err := c.CreateVolume(ctx, spec)
		if err := wants(what, err, providers.ErrInvalid); err != nil {
			return err
		}
	}
	return c.count(ctx, providers.KindVolume, "bad", 0)
}

// body is content that differs by seed.
func body(seed byte, size int) []byte {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b) // never fails
	return b
}

// access attaches a volume where it is a file, and calls do with it.
func (c *checker) access(ctx context.Context, id string, do func(*os.File) error) error {
	if err := c.AttachVolume(ctx, id, ""); err != nil {
		return err
	}
	v, err := providers.AwaitVolume(ctx, c, id, c.opts.Pause)
	if err != nil {
		return err
	}
	if v.Attachment == nil || v.Attachment.Kind != providers.WriterFile || v.Attachment.Path == "" {
		return fmt.Errorf("attachment is %+v, want a file", v.Attachment)
	}
	f, err := os.OpenFile(v.Attachment.Path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	err = errors.Join(do(f), f.Sync(), f.Close())
	return errors.Join(err, c.DetachVolume(ctx, id))
}

func (c *checker) write(ctx context.Context, id string, off int64, b []byte) error {
	return c.access(ctx, id, func(f *os.File) error {
		_, err := f.WriteAt(b, off)
		return err
	})
}

func (c *checker) holds(ctx context.Context, id string, off int64, want []byte) error {
	return c.access(ctx, id, func(f *os.File) error {
		got := make([]byte, len(want))
		if _, err := f.ReadAt(got, off); err != nil {
			return err
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("volume %s does not hold what was written at %d", id, off)
		}
		return nil
	})
}

func (c *checker) attachment(ctx context.Context) error {
	if len(c.caps.Writers) == 0 {
		return skipped("volumes cannot be written here")
	}
	v, err := c.newVolume(ctx, "attach")
	if err != nil {
		return err
	}
	writer := ""
	if c.caps.Writers[0] == providers.WriterDevice {
		if writer, err = c.writer(ctx); err != nil {
			return err
		}
	}
	for range 2 {
		if err := c.AttachVolume(ctx, v.ID, writer); err != nil {
			return err
		}
	}
	got, err := providers.AwaitVolume(ctx, c, v.ID, c.opts.Pause)
	if err != nil {
		return err
	}
	a := got.Attachment
	if a == nil || a.Writer != writer || !slices.Contains(c.caps.Writers, a.Kind) || (a.Path == "") == (a.Serial == "") {
		return fmt.Errorf("attachment is %+v", a)
	}
	if err := wants("delete a volume that is attached", c.DeleteVolume(ctx, v.ID), providers.ErrConflict); err != nil {
		return err
	}
	if writer == "" {
		err = errors.Join(wants("attach to somebody else", c.AttachVolume(ctx, v.ID, "another-writer"), providers.ErrConflict),
			c.holds(ctx, v.ID, v.Size-4096, make([]byte, 4096)))
		if err != nil {
			return err
		}
	}
	for range 2 {
		if err := c.DetachVolume(ctx, v.ID); err != nil {
			return err
		}
	}
	_, err = providers.Await(ctx, c.opts.Pause, func(ctx context.Context) (providers.Volume, error) { return c.Volume(ctx, v.ID) },
		func(v providers.Volume) (bool, error) { return v.Attachment == nil, nil })
	if err != nil {
		return err
	}
	return c.DeleteVolume(ctx, v.ID)
}

// writer is the instance that volumes are attached to.
func (c *checker) writer(ctx context.Context) (string, error) {
	if c.opts.Writer != "" {
		return c.opts.Writer, nil
	}
	if c.opts.NoInstances {
		return "", skipped("volumes are written by an instance, and instances are left out")
	}
	i, err := c.newInstance(ctx, "attach", 1, true)
	return i.ID, err
}
