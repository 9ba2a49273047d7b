package hydrator

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"syscall"

	"github.com/openmigrate/openmigrate/hydrator/convert"
	"github.com/openmigrate/openmigrate/hydrator/convert/apart"
	"github.com/openmigrate/openmigrate/hydrator/fuse"
	"github.com/openmigrate/openmigrate/hydrator/layer"
	"github.com/openmigrate/openmigrate/hydrator/nbd"
	"github.com/openmigrate/openmigrate/hydrator/reader"
	"github.com/openmigrate/openmigrate/hydrator/view"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

const (
	defaultServes = 4        // serve jobs at once
	serveMemory   = 96 << 20 // bytes of chunks in memory, of each
	serveCache    = 4 << 30  // on disk

	maxSocket = 107 // bytes of a unix socket's path, see unix(7)
	atomicly  = 20  // that nbd.Listen adds for a moment
)

// serve shows a restpoint's disks to a provider until ctx ends. With a conversion, what it changes lies in a layer over the view: nothing is written
// to staging, and what is served does not change once it is served.
//
// Two conversions of the same restpoint are not the same bytes. So each has a name of its own: a machine that was started on one never reads another's.
func (n *node) serve(ctx context.Context, r *reader.Reader, rp *format.Restpoint, job *wire.Job, show func(wire.Progress)) (res wire.JobResult, err error) {
	if _, ok := n.o.Providers[job.Provider]; !ok {
		return res, fmt.Errorf("serve for provider %.80q: %w", job.Provider, ErrProvider)
	}
	target, err := conversion(job.Convert)
	if err != nil {
		return res, err
	}
	defer func() { res.Fetched = r.Fetched() }()
	v, err := view.New(ctx, r, rp, &view.Options{Memory: serveMemory, CacheDir: n.runDir(), CacheSize: serveCache, Log: n.o.Log})
	if err != nil {
		return res, err
	}
	defer v.Close()
	exports, names := map[string]nbd.Disk{}, []string{}
	if target == nil {
		for _, d := range v.Disks() {
			names = append(names, fmt.Sprintf("disk%d", d.Number()))
			exports[names[len(names)-1]] = d
		}
	} else {
		layers, err := n.converted(ctx, v, *target, &res, show)
		defer func() {
			for _, l := range layers {
				_ = l.Close() // what is in it is of no use any more
			}
		}()
		if err == nil {
			err = n.report(ctx, job.ID, res.Report)
		}
		if err != nil {
			return res, err
		}
		unique := rand.Text()[:12]
		for _, l := range layers {
			names = append(names, fmt.Sprintf("disk%d-%s", l.Number(), unique))
			exports[names[len(names)-1]] = l
		}
	}
	return res, n.export(ctx, job, exports, names, func(views []wire.View) {
		n.o.Log.Info("disks are served", "job", job.ID, "disks", len(views), "fetched", r.Fetched())
		show(wire.Progress{Phase: "serving", Views: views})
	})
}

// converted lays a layer over each disk and converts the system there. The layers are the caller's, also those that come with an error.
func (n *node) converted(ctx context.Context, v *view.View, target convert.Target, res *wire.JobResult, show func(wire.Progress)) ([]*layer.Layer, error) {
	var layers []*layer.Layer
	var list []fuse.Disk
	w := &watch{}
	for _, d := range v.Disks() {
		l, err := layer.New(ctx, n.runDir(), &watched{Disk: d, w: w}, nil)
		if err != nil {
			return layers, err
		}
		layers, list = append(layers, l), append(list, l)
	}
	var report *convert.Report
	err := n.shown(list, func(disks []apart.Disk) (err error) {
		_, report, err = apart.Convert(ctx, disks, target, n.apart(show))
		return err
	})
	if err != nil {
		return layers, w.why(err)
	}
	for _, l := range layers {
		l.Freeze()
		res.Written += l.Written()
	}
	res.Report, err = boundReport(report)
	return layers, err
}

// report hands over what a conversion did, before anything is served: whoever waits for the views finds it. Without it the machine starts all the same.
func (n *node) report(ctx context.Context, job string, report json.RawMessage) error {
	return n.again(ctx, "report the conversion", func() error {
		err := n.o.Client.ReportJob(ctx, job, report)
		var refused *wire.Problem
		if errors.As(err, &refused) && refused.Status < 500 && refused.Status != http.StatusTooManyRequests {
			n.o.Log.Warn("the master does not take the report of a conversion", "job", job, "error", err)
			return nil
		}
		return err
	})
}

// export serves disks on a unix socket until ctx ends. ready is told where.
func (n *node) export(ctx context.Context, job *wire.Job, exports map[string]nbd.Disk, names []string, ready func([]wire.View)) error {
	path, err := n.socket(job.ID)
	if err != nil {
		return err
	}
	l, err := nbd.Listen(ctx, path)
	if err != nil {
		return err
	}
	var views []wire.View
	for _, name := range names {
		views = append(views, wire.View{Socket: path, Export: name})
	}
	ready(views)
	if err := nbd.NewServer(exports, n.o.Log).Serve(ctx, l); err != nil {
		return err
	}
	return context.Cause(ctx)
}

// socket is where a job's disks are served: in the folder of this run, or, where its path is too long for a socket, in one of this node's among temporary
// files. The same job has the same path on this node.
func (n *node) socket(job string) (string, error) {
	dir, err := filepath.Abs(n.runDir())
	if err != nil {
		return "", err
	}
	name := short(job) + ".nbd"
	if len(dir)+1+max(len(name), atomicly) > maxSocket {
		dir = n.shortDir()
		if err := os.Mkdir(dir, 0o700); err != nil && (!errors.Is(err, os.ErrExist) || !mine(dir)) {
			return "", fmt.Errorf("make folder for sockets: %w", err)
		}
	}
	return filepath.Join(dir, name), nil
}

// shortDir is the other folder for sockets.
func (n *node) shortDir() string {
	dir, err := filepath.Abs(n.runDir())
	if err != nil {
		dir = n.runDir()
	}
	return filepath.Join(os.TempDir(), "openmigrate-"+short(dir))
}

// mine reports whether dir is a folder that only this user can change.
func mine(dir string) bool {
	st, err := os.Lstat(dir)
	return err == nil && st.Mode() == os.ModeDir|0o700 && owner(st) == os.Geteuid()
}

// short is a name for a longer one.
func short(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:6])
}

func owner(st os.FileInfo) int {
	if s, ok := st.Sys().(*syscall.Stat_t); ok {
		return int(s.Uid)
	}
	return -1
}
