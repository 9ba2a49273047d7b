package lvm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Removal is tried again: udev's programs open a device for a moment whenever somebody closes it.
const (
	removeTries = 5
	removePause = 500 * time.Millisecond
)

// Remove removes the snapshot; whoever reads it has closed it. It does so also when ctx has ended.
func (s *Snapshot) Remove(ctx context.Context) error { return s.l.remove(ctx, s.made) }

func (l *LVM) remove(ctx context.Context, v *volume) error {
	ctx = context.WithoutCancel(ctx)
	var err error
	for try := range removeTries {
		if try > 0 {
			time.Sleep(removePause)
		}
		if _, err = l.run(ctx, changes, "lvm", "lvremove", "--yes", v.path()); err == nil {
			return nil
		}
	}
	return fmt.Errorf("remove snapshot %s (remove it with lvremove, or it is removed before the next one is taken): %w", v.path(), err)
}

// removeIfThere removes what lvcreate may have left.
func (l *LVM) removeIfThere(ctx context.Context, v *volume) error {
	all, err := l.list(context.WithoutCancel(ctx), v.Group)
	if err != nil {
		return nil // then there is nothing that could be removed either; Clean finds it
	}
	for i := range all {
		if all[i].Name == v.Name && l.ours(&all[i]) {
			return l.remove(ctx, &all[i])
		}
	}
	return nil
}

// ours reports whether this agent made v: it has one of our names and exactly our tag.
func (l *LVM) ours(v *volume) bool {
	return l.Tag != "" && ourName.MatchString(v.Name) && slices.Contains(strings.Split(v.Tags, ","), l.Tag)
}

// Clean removes snapshots that an earlier process of this agent left, and returns their names. No Snapshot may be in use.
func (l *LVM) Clean(ctx context.Context) ([]string, error) {
	all, err := l.list(ctx)
	if err != nil {
		return nil, fmt.Errorf("look for old snapshots: %w", err)
	}
	var removed []string
	var errs []error
	for i := range all {
		if !l.ours(&all[i]) {
			continue
		}
		if err := l.remove(ctx, &all[i]); err != nil {
			errs = append(errs, err)
			continue
		}
		removed = append(removed, all[i].path())
	}
	return removed, errors.Join(errs...)
}
