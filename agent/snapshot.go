package agent

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/openmigrate/openmigrate/agent/cycle"
	"github.com/openmigrate/openmigrate/agent/quiesce"
	"github.com/openmigrate/openmigrate/agent/source"
	"github.com/openmigrate/openmigrate/agent/source/lvm"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

// Times of snapshots.
const (
	snapshotLimit = 2 * time.Minute  // for the programs that take those of one cycle
	snapshotLook  = 10 * time.Second // how often it is looked whether they are whole
)

// snapshotsFile is there while snapshots of this agent may be. A start that finds it looks for them.
const snapshotsFile = "snapshots.json"

// snapshots is what an agent knows of the snapshots of logical volumes. It belongs to the loop's goroutine.
type snapshots struct {
	lvm       *lvm.LVM
	tooLittle map[string]int64 // room of snapshots that were lost for lack of it, by disk id
}

func (a *agent) snapshots() *snapshots {
	if a.snaps == nil {
		a.snaps = &snapshots{lvm: &lvm.LVM{Tag: "openmigrate." + a.member.Identity().ID}, tooLittle: map[string]int64{}}
	}
	return a.snaps
}

// snapshot is how a cycle gets at one instant of logical volumes; nil: it is not wanted, or none of the disks is one.
func (a *agent) snapshot(as *wire.Assignment, disks []source.Source) cycle.Snapshot {
	s := a.snapshots()
	is := func(d source.Source) bool { return isDevice(d) && s.lvm.Is(d.Name()) }
	if as.Consistency == string(format.Fuzzy) || !slices.ContainsFunc(disks, is) {
		return nil
	}
	return func(ctx context.Context) (*cycle.Snapshots, error) {
		if i := slices.IndexFunc(disks, func(d source.Source) bool { return !is(d) }); i >= 0 {
			return nil, fmt.Errorf("%w: %s is no logical volume, and has no snapshot that could be of the same instant", cycle.ErrNotFrozen, disks[i].Name())
		}
		out, err := a.takeSnapshots(ctx, as, disks)
		if errors.Is(err, lvm.ErrNone) && ctx.Err() == nil {
			err = fmt.Errorf("%w: %w", cycle.ErrNotFrozen, err)
		}
		return out, err
	}
}

func (a *agent) takeSnapshots(ctx context.Context, as *wire.Assignment, disks []source.Source) (_ *cycle.Snapshots, err error) {
	s := a.snapshots()
	a.removeOldSnapshots(ctx)
	var prepared []*lvm.Prepared
	var paths []string
	for _, d := range disks {
		p, err := s.lvm.Prepare(ctx, d.Name(), s.tooLittle[d.ID()])
		if err != nil {
			return nil, err
		}
		prepared, paths = append(prepared, p), append(paths, d.Name())
	}
	each, points, why, err := snapshotLevels(paths)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", lvm.ErrNone, err)
	}
	plan := quiesce.Plan{Suspends: true, Hooks: a.hooks(as), Budget: snapshotLimit, Grace: snapshotLimit}
	if err := a.dir.Write(snapshotsFile, paths); err != nil {
		return nil, fmt.Errorf("%w: remember it: %w", lvm.ErrNone, err)
	}
	h := &held{agent: a, disks: disks}
	defer func() {
		if err != nil {
			h.close()
		}
	}()
	q := quiesce.Quiescer{Watchdog: []string{"/proc/self/exe", "watchdog"}}
	var at time.Time
	rep, err := q.Run(ctx, plan, func(ctx context.Context) error {
		// What is dirty is written back by a suspension otherwise, while writers wait.
		for _, point := range points {
			quiesce.Sync(point)
		}
		at = time.Now()
		for _, p := range prepared {
			snap, err := p.Take(ctx)
			if err != nil {
				return err
			}
			h.snaps = append(h.snaps, snap)
		}
		return nil
	})
	if err != nil && !errors.Is(err, lvm.ErrNone) {
		err = fmt.Errorf("%w: %w", lvm.ErrNone, err)
	}
	if err != nil {
		return nil, err
	}
	out := &cycle.Snapshots{Readers: map[string]source.Reader{}, Each: map[string]format.Consistency{}, Time: at, Check: h.check, Close: h.close,
		Frozen: cycle.Frozen{Consistency: rep.Level}, // how long it took lvcreate says nothing of how long writers waited
		Note:   fmt.Sprintf("snapshots were taken in %v; writers waited for a part of that", rep.For.Round(time.Millisecond))}
	why = append(rep.Why, why...)
	for i, d := range disks {
		r, err := h.open(ctx, i)
		if err != nil {
			return nil, err
		}
		out.Readers[d.ID()] = r
		level := weaker(rep.Level, each[i])
		if weaker(level, format.Crash) != level && needsRecovery(r) {
			level = format.Crash
			why = append(why, "the file system on "+d.Name()+" was not frozen while its snapshot was taken")
		}
		out.Each[d.ID()] = level
		out.Consistency = weaker(out.Consistency, level)
	}
	if len(disks) > 1 {
		out.Consistency = format.Fuzzy
		why = append(why, "each volume is of one instant, but snapshots of several volumes are taken one after another")
	}
	out.Why = strings.Join(why, "; ")
	h.look(ctx)
	return out, nil
}

// removeOldSnapshots removes what an earlier process of this agent left. If it cannot, that is said in the log, and tried again.
func (a *agent) removeOldSnapshots(ctx context.Context) {
	var paths []string
	if there, err := a.dir.Read(snapshotsFile, &paths); !there && err == nil {
		return
	}
	removed, err := a.snapshots().lvm.Clean(ctx)
	for _, name := range removed {
		a.log.Info("a snapshot that was left over is removed", "snapshot", name)
	}
	if err == nil {
		err = a.forgetSnapshots()
	}
	if err != nil {
		a.log.Warn("snapshots that were left over could not be removed", "error", err)
	}
}

// forgetSnapshots notes that there are none of this agent.
func (a *agent) forgetSnapshots() error {
	if err := os.Remove(a.dir.Path(snapshotsFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// frozenBySnapshot are the file systems that dm's suspension is known to leave clean; others may be, and are called crash consistent.
var frozenBySnapshot = []string{"ext2", "ext3", "ext4", "xfs"}

// snapshotLevels is the best that a snapshot of each volume can be: of the instant of a freeze, where all that is mounted from it is mounted
// directly and freezes with it; else of any instant. points are where file systems of the volumes are mounted.
func snapshotLevels(paths []string) (each []format.Consistency, points, why []string, err error) {
	for _, path := range paths {
		device, err := quiesce.Number(path)
		if err != nil {
			return nil, nil, nil, err
		}
		mounts, not, err := quiesce.Targets([]string{path})
		if err != nil {
			return nil, nil, nil, err
		}
		level := format.Application
		if len(mounts) == 0 && len(not) == 0 {
			not = []string{"no file system is mounted from " + path}
		}
		for _, m := range mounts {
			points = append(points, m.Point)
			if len(m.Devices) != 1 || m.Devices[0] != device || !slices.Contains(frozenBySnapshot, m.FSType) {
				not = append(not, fmt.Sprintf("a snapshot of %s does not freeze %s on %s", path, m.FSType, m.Point))
			}
		}
		if len(not) > 0 {
			level = format.Crash
		}
		each, why = append(each, level), append(why, not...)
	}
	return each, points, why, nil
}

// Where an ext2, ext3 or ext4 superblock says that its journal must be replayed (Documentation/filesystems/ext4/super.rst).
const (
	extAt       = 1024
	extMagic    = 0x38
	extIncompat = 0x60
	extRecover  = 0x4
)

// needsRecovery reports whether r holds an ext file system whose journal is in use, as that of one that is frozen is not.
func needsRecovery(r io.ReaderAt) bool {
	b := source.AlignedBuffer(4096)
	if _, err := r.ReadAt(b, 0); err != nil {
		return true
	}
	super := b[extAt:]
	return binary.LittleEndian.Uint16(super[extMagic:]) == 0xef53 && binary.LittleEndian.Uint32(super[extIncompat:])&extRecover != 0
}

// weaker is the weaker of two levels.
func weaker(a, b format.Consistency) format.Consistency {
	ladder := []format.Consistency{format.Fuzzy, format.Crash, format.Filesystem, format.Application}
	if slices.Index(ladder, a) < slices.Index(ladder, b) {
		return a
	}
	return b
}
