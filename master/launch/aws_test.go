package launch

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/providers"
	"github.com/openmigrate/openmigrate/providers/aws"
	"github.com/openmigrate/openmigrate/providers/aws/awsfake"
	"github.com/openmigrate/openmigrate/wire"
)

// awsWorld is a world whose provider is an AWS account: the fake one, over its real protocols.
type awsWorld struct {
	*world
	fake   *awsfake.Server
	url    string
	writer string
	crash  *crash // at what goes over the wire; nil: none
}

const awsPause = time.Millisecond

func newAWSWorld(t *testing.T) *awsWorld {
	t.Helper()
	w := &awsWorld{world: newWorld(t, 0)}
	w.fake = awsfake.New(&awsfake.Options{Settle: 2 * time.Millisecond, Lag: time.Millisecond, Boot: func(string) string { return w.console(providers.Instance{}) }})
	server := httptest.NewServer(http.HandlerFunc(w.wire))
	t.Cleanup(server.Close)
	w.url = server.URL
	for k, v := range map[string]string{"AWS_ACCESS_KEY_ID": awsfake.TestKey.ID, "AWS_SECRET_ACCESS_KEY": awsfake.TestKey.Secret, "AWS_SESSION_TOKEN": "", "AWS_CONFIG_FILE": "/dev/null",
		"AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "AWS_EC2_METADATA_DISABLED": "true"} {
		t.Setenv(k, v)
	}
	w.open()
	w.hydrator()
	w.answer = w.work
	return w
}

// open makes the provider of a new master.
func (w *awsWorld) open() {
	w.t.Helper()
	p, err := aws.Open(w.t.Context(), aws.Options{Region: w.fake.Region(), Endpoint: w.url, Writer: w.writer, CallsPerSecond: 1e6, Pause: awsPause, Settle: 20 * time.Millisecond, Backoff: awsPause})
	if err != nil {
		w.t.Fatal(err)
	}
	w.p, w.world.writer = p, w.writer
	w.restart()
}

// wire passes calls on. Those that change something are points at which the master can die: before the call arrives, or before its answer does. After that
// nothing of the dead master gets through.
func (w *awsWorld) wire(rw http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	form, _ := url.ParseQuery(string(body)) // of the direct APIs, which no launch here uses, there is none
	action := form.Get("Action")
	c := w.crash
	if c == nil || strings.HasPrefix(action, "Describe") || strings.HasPrefix(action, "Get") {
		if c != nil && c.alive() != nil {
			panic(http.ErrAbortHandler)
		}
		w.fake.ServeHTTP(rw, r)
		return
	}
	if c.at("before "+action) != nil {
		panic(http.ErrAbortHandler)
	}
	held := httptest.NewRecorder()
	w.fake.ServeHTTP(held, r)
	if c.at("after "+action) != nil {
		panic(http.ErrAbortHandler)
	}
	for k, v := range held.Header() {
		rw.Header()[k] = v
	}
	rw.WriteHeader(held.Code)
	_, _ = rw.Write(held.Body.Bytes())
}

// hydrator makes the instance through which volumes are written.
func (w *awsWorld) hydrator() {
	w.t.Helper()
	ctx := w.t.Context()
	meta := func(token string) providers.Meta {
		return providers.Meta{Token: token, Owner: providers.Owner{System: "operator", Launch: "hydrator"}}
	}
	networks, err := w.p.Networks(ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	v, err := w.p.CreateVolume(ctx, providers.VolumeSpec{Meta: meta("v"), Size: 1 << 30, Zone: networks[0].Zone})
	if err == nil {
		_, err = providers.AwaitVolume(ctx, w.p, v.ID, awsPause)
	}
	var s providers.Snapshot
	if err == nil {
		if s, err = w.p.CreateSnapshot(ctx, providers.SnapshotSpec{Meta: meta("s"), Volume: v.ID}); err == nil {
			_, err = providers.AwaitSnapshot(ctx, w.p, s.ID, awsPause)
		}
	}
	var i providers.Instance
	if err == nil {
		i, err = w.p.CreateInstance(ctx, providers.InstanceSpec{Meta: meta("i"), Type: "t3.micro", Architecture: providers.AMD64, Firmware: providers.BIOS, NICs: []providers.NIC{{Network: networks[0].ID}},
			Disks: []providers.Disk{{From: providers.Source{Kind: providers.FromSnapshot, ID: s.ID}, Delete: true}}})
	}
	if err == nil {
		i, err = providers.AwaitInstance(ctx, w.p, i.ID, providers.StateRunning, awsPause)
	}
	if err == nil {
		err = w.p.DeleteVolume(ctx, v.ID)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.writer = i.ID
	w.open()
}

// work is what the node inside the hydrator's instance does with a job: it writes the restpoint onto the volume that it finds by its serial number. The
// real one is tested in package hydrator; this one shows that what is attached, is what becomes the machine's disk.
func (w *awsWorld) work(j *wire.Job) (*wire.Failure, bool) {
	if j.Kind == wire.JobHydrate {
		d := w.disks[*j.Disk]
		if _, err := w.fake.Disk(j.Volumes[0].Serial).WriteAt(d.Data, 0); err != nil {
			return &wire.Failure{Message: err.Error()}, true
		}
	}
	return nil, true
}

// left is what belongs to this master at the account, by kind, without the hydrator's instance.
func (w *awsWorld) left() map[providers.Kind]int {
	w.t.Helper()
	w.crash = nil
	all, err := w.p.List(w.t.Context(), testSystem)
	if err != nil {
		w.t.Fatal(err)
	}
	n := map[providers.Kind]int{}
	for _, r := range all {
		n[r.Kind]++
	}
	return n
}

// same fails unless the machine's disks hold the restpoint's bytes, and zeros after them.
func (w *awsWorld) same(instance string) {
	w.t.Helper()
	i, err := w.p.Instance(w.t.Context(), instance)
	if err != nil {
		w.t.Fatal(err)
	}
	if len(i.Disks) != len(w.disks) {
		w.t.Fatalf("the machine has %d disks, want %d", len(i.Disks), len(w.disks))
	}
	for n, d := range i.Disks {
		got := make([]byte, 2*awsfake.BlockSize)
		if _, err := w.fake.Disk(d.Volume).ReadAt(got, 0); err != nil {
			w.t.Fatal(err)
		}
		want := append(bytes.Clone(w.disks[n].Data), make([]byte, len(got)-len(w.disks[n].Data))...)
		if !bytes.Equal(got, want) {
			w.t.Errorf("disk %d of the machine does not hold what the restpoint holds", n)
		}
	}
}

// play launches a machine with a crash at one point of the wire (0: none) and ends it by a wish: revert or finalize. It returns how many points there were.
func playAWS(t *testing.T, kind, wish string, at int) int {
	t.Helper()
	w := newAWSWorld(t)
	w.crash = &crash{left: at}
	if at == 0 {
		w.crash.left = -1
	}
	first := w.crash
	survive := func() {
		if w.crash.alive() != nil {
			w.crash = &crash{left: -1}
			w.open()
		}
	}
	end := map[string]string{"revert": wire.LaunchReverted, "finalize": wire.LaunchFinalized}[wish]
	info, err := w.try(wire.LaunchRequest{Kind: kind})
	if err != nil {
		t.Fatal(err)
	}
	asked := false
	for n := 0; info.State != end; n++ {
		if n == 1000 || isOver(info.State) {
			b, _ := json.MarshalIndent(info, "", " ")
			t.Fatalf("crash %d (%s): it does not end: %s", at, first.where, b)
		}
		time.Sleep(awsPause)
		w.turn()
		survive()
		if info = w.get(info.ID); info.State == wire.LaunchRunning && !asked {
			w.same(info.Instance)
			if wish == "finalize" {
				_, err = w.s.Finalize(t.Context(), info.ID, "ann")
			} else {
				_, err = w.s.Revert(t.Context(), info.ID, "ann")
			}
			asked = err == nil
		}
	}
	for range 3 {
		w.turn()
		survive()
	}
	points := first.seen
	want := map[providers.Kind]int{}
	if wish == "finalize" {
		want[providers.KindInstance], want[providers.KindVolume] = 1, len(w.disks)
		w.same(info.Instance)
	}
	deadline := time.Now().Add(5 * time.Second)
	for fmt.Sprint(w.left()) != fmt.Sprint(want) { // what ends takes its time
		if time.Now().After(deadline) {
			t.Fatalf("crash %d (%s): at the account are %v, want %v", at, first.where, w.left(), want)
		}
		time.Sleep(awsPause)
		w.turn()
	}
	if n := w.fake.Live(); n["image"] != 0 || n["instance"] != 1+want[providers.KindInstance] {
		t.Errorf("crash %d (%s): at the account are %v", at, first.where, n)
	}
	return points
}

// TestAWS launches through a hydrator's instance: volumes, attachments, snapshots, an image, a machine. The master dies before and after calls that change
// something, at every sixteenth point, or with OPENMIGRATE_EXHAUSTIVE at every one; there is one machine all the same, with the restpoint's bytes, and nothing is left.
func TestAWS(t *testing.T) {
	fast(t)
	step := 16
	if os.Getenv("OPENMIGRATE_EXHAUSTIVE") != "" {
		step = 1
	}
	for i, s := range []struct{ kind, wish string }{{wire.LaunchTest, "revert"}, {wire.LaunchCutover, "finalize"}, {wire.LaunchCutover, "revert"}} {
		t.Run(s.kind+" "+s.wish, func(t *testing.T) {
			points := playAWS(t, s.kind, s.wish, 0)
			t.Logf("%d points", points)
			if points < 20 {
				t.Errorf("only %d points", points)
			}
			for n := 1 + 5*i%step; n <= points; n += step {
				playAWS(t, s.kind, s.wish, n)
			}
		})
	}
}
