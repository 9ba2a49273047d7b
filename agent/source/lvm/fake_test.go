package lvm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

const (
	groupUUID = "GGGGGG-GGGG-GGGG-GGGG-GGGG-GGGG-GGGGGG"
	tag       = "openmigrate.m1"
)

// fake is lvm2 and the kernel, for one volume group, as the programs of LVM 2.03.16 were seen to speak.
type fake struct {
	t   *testing.T
	sys string

	mu      sync.Mutex
	lvs     []map[string]string // guarded by mu
	status  map[string]string   // of dmsetup, by volume's name; guarded by mu
	fail    map[string]error    // of a command; guarded by mu
	calls   []string            // guarded by mu
	devices map[string]string   // of snapshots to come, by origin; guarded by mu
	n       int                 // guarded by mu
}

// newFake has a group "vg" with 1000 MiB free.
func newFake(t *testing.T) (*LVM, *fake) {
	t.Helper()
	f := &fake{t: t, sys: t.TempDir(), status: map[string]string{}, fail: map[string]error{}, devices: map[string]string{}}
	return &LVM{Run: f.run, Tag: tag, Sys: f.sys}, f
}

func uuidOf(n int) string { return fmt.Sprintf("%06d-aaaa-bbbb-cccc-dddd-eeee-ffffff", n) }

// add makes a volume.
func (f *fake) add(name string, set map[string]string) map[string]string {
	f.n++
	v := map[string]string{
		"lv_uuid": uuidOf(f.n), "vg_uuid": groupUUID, "lv_name": name, "vg_name": "vg", "lv_dm_path": "/dev/mapper/vg-" + name,
		"lv_size": "1073741824", "segtype": "linear", "lv_tags": "", "pool_lv": "", "data_percent": "", "metadata_percent": "",
		"vg_free": "1048576000", "vg_extent_size": "4194304",
	}
	for k, s := range set {
		v[k] = s
	}
	f.lvs = append(f.lvs, v)
	return v
}

// is makes sysfs say that the device at path is v.
func (f *fake) is(path string, v map[string]string) {
	f.t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		f.t.Fatal(err)
	}
	dir := filepath.Join(f.sys, "/sys/dev/block", fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev)), "dm")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		f.t.Fatal(err)
	}
	uuid := "LVM-" + strings.ReplaceAll(v["vg_uuid"]+v["lv_uuid"], "-", "")
	if err := os.WriteFile(filepath.Join(dir, "uuid"), []byte(uuid+"\n"), 0o600); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fake) names() (names []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, v := range f.lvs {
		names = append(names, v["lv_name"])
	}
	return names
}

func (f *fake) run(_ context.Context, kill bool, name string, args ...string) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	verb := args[0]
	f.calls = append(f.calls, name+" "+strings.Join(args, " "))
	if kill != (verb == "lvs" || verb == "status") {
		f.t.Errorf("%s: may be killed: %v", verb, kill)
	}
	if err := f.fail[verb]; err != nil {
		return nil, err
	}
	last := args[len(args)-1]
	arg := func(flag string) string {
		if i := slices.Index(args, flag); i >= 0 {
			return args[i+1]
		}
		return ""
	}
	switch verb {
	case "lvs":
		var shown []map[string]string
		for _, v := range f.lvs {
			if last == arg("-o") || last == v["vg_name"] || last == v["vg_name"]+"/"+v["lv_name"] {
				shown = append(shown, v)
			}
		}
		b, err := json.Marshal(map[string]any{"report": []any{map[string]any{"lv": shown}}, "log": []any{}})
		return b, err
	case "lvcreate":
		origin := strings.TrimPrefix(last, "vg/")
		snap := f.add(arg("--name"), map[string]string{"lv_tags": arg("--addtag")})
		if d := f.devices[origin]; d != "" {
			snap["lv_dm_path"] = d
			f.is(d, snap)
		}
		if f.status[arg("--name")] = "0 2097152 snapshot 16/409600 16"; arg("--size") == "" {
			snap["segtype"] = "thin"
			f.status[arg("--name")] = "0 2097152 thin 1024 2097151"
		}
		return nil, f.fail["half of lvcreate"]
	case "lvremove":
		n := len(f.lvs)
		f.lvs = slices.DeleteFunc(f.lvs, func(v map[string]string) bool { return v["vg_name"]+"/"+v["lv_name"] == last })
		if len(f.lvs) == n {
			return nil, errors.New("lvm lvremove: exit status 5: not found")
		}
		return nil, nil
	case "status":
		for _, v := range f.lvs {
			if v["lv_dm_path"] == last {
				return []byte(f.status[v["lv_name"]] + "\n"), nil
			}
		}
		return nil, errors.New("dmsetup status: exit status 1: Device does not exist")
	}
	return nil, fmt.Errorf("%s is not played", verb)
}
