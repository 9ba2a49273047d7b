// Package lvm reads logical volumes as they are at one instant, through snapshots that it makes and removes with lvm2's programs.
//
// A snapshot is taken by lvcreate, which suspends the volume for a moment; the kernel freezes a file system that is mounted directly from
// it meanwhile. A thick snapshot keeps, in extents of the group, what is overwritten while it stands; when these are full it is lost, and with it
// the pass that reads it. A thin snapshot takes from its pool, which the volumes of the machine need themselves.
//
// Invariants. What was read from a snapshot counts only if Check finds it whole after the last read. Only volumes that have a name and
// the tag that this agent makes are ever removed. A program that changes volumes is never killed: it may hold a volume suspended. A snapshot
// is given up before it fills its pool.
//
// A Snapshot may be used by many goroutines at once; an LVM belongs to one at a time.
package lvm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrNone: no snapshot can be taken, and trying again at once would not help. It wraps the reason.
var ErrNone = errors.New("no snapshot can be taken")

// LVM takes snapshots on this host.
type LVM struct {
	Run Runner // nil: the host's programs
	Tag string // of the snapshots of this agent, which no other agent of the host has: [a-z0-9._-]
	Sys string // put before /sys; for tests
}

// Is reports whether path leads to a logical volume. It starts no program.
func (l *LVM) Is(path string) bool { return l.dmUUID(path) != "" }

// uuidLen is the length of a group's or volume's UUID without its dashes.
const uuidLen = 32

// dmUUID is "LVM-", the group's and the volume's UUID without dashes; "" for anything else, the hidden parts of volumes included.
func (l *LVM) dmUUID(path string) string {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return ""
	}
	b, err := os.ReadFile(filepath.Join(l.Sys, "/sys/dev/block", fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev)), "dm/uuid"))
	if err != nil {
		return ""
	}
	uuid := strings.TrimSpace(string(b))
	if rest, ok := strings.CutPrefix(uuid, "LVM-"); !ok || len(rest) != 2*uuidLen {
		return ""
	}
	return uuid
}

// volume is a logical volume as lvs shows it. Sizes are bytes.
type volume struct {
	UUID       string `json:"lv_uuid"`
	GroupUUID  string `json:"vg_uuid"`
	Name       string `json:"lv_name"`
	Group      string `json:"vg_name"`
	Device     string `json:"lv_dm_path"`
	SizeText   string `json:"lv_size"`
	Type       string `json:"segtype"`
	Tags       string `json:"lv_tags"`
	Pool       string `json:"pool_lv"`
	Data       string `json:"data_percent"`
	Metadata   string `json:"metadata_percent"`
	FreeText   string `json:"vg_free"`
	ExtentText string `json:"vg_extent_size"`
}

const columns = "lv_uuid,vg_uuid,lv_name,vg_name,lv_dm_path,lv_size,segtype,lv_tags,pool_lv,data_percent,metadata_percent,vg_free,vg_extent_size"

func (v *volume) path() string { return v.Group + "/" + v.Name }

func (v *volume) dmUUID() string {
	return "LVM-" + strings.ReplaceAll(v.GroupUUID, "-", "") + strings.ReplaceAll(v.UUID, "-", "")
}

func (v *volume) thin() bool { return v.Type == "thin" }

// list asks lvs for the volumes that its arguments choose, each once.
func (l *LVM) list(ctx context.Context, args ...string) ([]volume, error) {
	args = append([]string{"lvs", "--reportformat", "json", "--units", "b", "--nosuffix", "-o", columns}, args...)
	out, err := l.run(ctx, reads, "lvm", args...)
	if err != nil {
		return nil, err
	}
	var reports struct {
		Report []struct{ LV []volume }
	}
	if err := json.Unmarshal(out, &reports); err != nil {
		return nil, fmt.Errorf("read what lvs says: %w", err)
	}
	var all []volume
	seen := map[string]bool{}
	for _, r := range reports.Report {
		for _, v := range r.LV { // one for each segment
			if !seen[v.UUID] {
				seen[v.UUID] = true
				all = append(all, v)
			}
		}
	}
	return all, nil
}

// find is the volume at path.
func (l *LVM) find(ctx context.Context, path string) (*volume, error) {
	uuid := l.dmUUID(path)
	if uuid == "" {
		return nil, fmt.Errorf("%w: %s is no logical volume", ErrNone, path)
	}
	all, err := l.list(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNone, err)
	}
	for i := range all {
		if all[i].dmUUID() == uuid {
			return &all[i], nil
		}
	}
	return nil, fmt.Errorf("%w: lvs does not list %s", ErrNone, path)
}

func number(text string) (int64, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("read what lvs says: %.40q is no size", text)
	}
	return n, nil
}
