// Package files reads files of restpoints through the real programs: an agent replicates a disk, and the master shows what is on it.
package files

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/e2e/lab"
	"github.com/openmigrate/openmigrate/wire"
)

func TestMain(m *testing.M) {
	code := m.Run()
	lab.RemoveBinaries()
	os.Exit(code)
}

// many is how many files are in one folder: more than a page, and than two.
const many = 1200

// source makes a folder, a disk with it as ext4 in its second partition, and returns what is in each file.
func source(t *testing.T, dir, disk string) map[string][]byte {
	t.Helper()
	noise := rand.NewChaCha8([32]byte{7})
	files := map[string][]byte{}
	add := func(name string, b []byte) {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, b, 0o640); err != nil {
			t.Fatal(err)
		}
		files["/"+name] = b
	}
	for i := range many {
		add(fmt.Sprintf("many/file-%04d", i), fmt.Appendf(nil, "this is file %d", i))
	}
	for i, name := range []string{"plain", "caf\xe9", "ünï€", "a\nb", "a\"b\\c", "\u202egpj.exe", "50%&x=y+z #?;", "<img src=x onerror=alert(1)>"} {
		b := make([]byte, 1000*i)
		_, _ = noise.Read(b)
		add("names/"+name, b)
	}
	large := make([]byte, 20<<20)
	_, _ = noise.Read(large)
	add("var/large", large)
	sparse := make([]byte, 8<<20)
	copy(sparse[5<<20:], "in the middle")
	add("var/sparse", sparse)
	command(t, "truncate", "-s", "96M", disk)
	script := exec.CommandContext(t.Context(), "sfdisk", "-q", disk)
	script.Stdin = bytes.NewReader([]byte("label: gpt\nstart=2048,size=2048\nstart=8192,size=180000\n"))
	if out, err := script.CombinedOutput(); err != nil {
		t.Fatalf("sfdisk: %v: %s", err, out)
	}
	command(t, "mkfs.ext4", "-q", "-d", dir, disk+".ext4", "80M")
	command(t, "dd", "if="+disk+".ext4", "of="+disk, "bs=4M", "seek=1", "conv=notrunc,sparse", "status=none")
	return files
}

func command(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
}

// api asks the master over HTTPS.
type api struct {
	t          *testing.T
	url, token string
	http       *http.Client
}

func newAPI(t *testing.T, l *lab.Lab) *api {
	t.Helper()
	pem, err := os.ReadFile(l.Env("OPENMIGRATE_CA_FILE"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		t.Fatal("no CA")
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}}
	t.Cleanup(transport.CloseIdleConnections)
	return &api{t: t, url: l.Env("OPENMIGRATE_URL"), token: l.Env("OPENMIGRATE_TOKEN"), http: &http.Client{Transport: transport}}
}

func (a *api) get(ctx context.Context, path string) *http.Response {
	a.t.Helper()
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, a.url+path, nil)
	if err != nil {
		a.t.Fatal(err)
	}
	q.Header.Set("Authorization", "Bearer "+a.token)
	resp, err := a.http.Do(q)
	if err != nil {
		a.t.Fatal(err)
	}
	return resp
}

// json decodes the answer, which must have that status.
func (a *api) json(status int, path string, v any) {
	a.t.Helper()
	resp := a.get(a.t.Context(), path)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil {
		err = json.Unmarshal(b, v)
	}
	if err != nil || resp.StatusCode != status {
		a.t.Fatalf("%s: status %d, want %d, %v: %.500s", path, resp.StatusCode, status, err, b)
	}
}

// TestFilesOfRestpoint: all folders and files of a replicated disk, byte by byte, through a master that agents know by a name which this machine cannot
// resolve. Nothing is written for it but the audit log and one job, which ends with the master.
func TestFilesOfRestpoint(t *testing.T) {
	l := lab.NewWith(t, lab.Options{})
	disk := l.Path("disk.img")
	files := source(t, l.Path("tree"), disk)
	l.StartAgent(l.Token("agent"), disk)
	l.Eventually(2*time.Minute, "restpoint", func() error {
		_, err := l.CLI("machines", "sync", "web1", "--wait", "--timeout", "60s")
		return err
	})
	l.Proc("agent").Stop()
	var rp wire.RestpointInfo
	l.JSON(&rp, "restpoints", "show", "web1/latest")
	// From here on the master goes by a name that does not lead anywhere. It reaches its staging all the same.
	l.Proc("master").Stop()
	l.Rename("master.invalid")
	a := newAPI(t, l)
	base := "/api/v1/restpoints/" + rp.ID + "/disks/0"

	seen := map[string]wire.FileInfo{}
	for _, folder := range []string{"/", "/many", "/names", "/var"} {
		cursor := ""
		for {
			var page wire.Page[wire.FileInfo]
			a.json(200, base+"/files?limit=500&path="+folder+"&cursor="+cursor, &page)
			for _, f := range page.Items {
				name := f.Name
				if f.Encoded != "" {
					var err error
					if name, err = url.QueryUnescape(f.Encoded); err != nil {
						t.Fatal(err)
					}
				}
				p := filepath.Join(folder, name)
				if _, twice := seen[p]; twice {
					t.Errorf("%q is on two pages", p)
				}
				seen[p] = f
			}
			if cursor = page.NextCursor; cursor == "" {
				break
			}
		}
	}
	var paths []string
	for p, want := range files {
		f, ok := seen[p]
		if !ok || f.Type != wire.FileRegular || f.Size != int64(len(want)) || f.Mode != "-rw-r-----" {
			t.Errorf("%q is shown as %+v", p, f)
		}
		if filepath.Dir(p) != "/many" || p == "/many/file-0777" {
			paths = append(paths, p)
		}
	}
	for _, p := range paths {
		a.download(base, p, files[p])
	}
	var again wire.Page[wire.FileInfo]
	a.json(200, base+"/files?partition=2&path=/var/large", &again)
	if len(again.Items) != 1 || again.Items[0].Size != 20<<20 {
		t.Errorf("one file of the partition: %+v", again)
	}
	for path, want := range map[string]struct {
		status int
		code   string
	}{
		"/files?partition=1": {501, wire.CodeUnsupported}, "/files?partition=7": {404, wire.CodeNotFound}, "/files?path=/none": {404, wire.CodeNotFound},
		"/files?path=/a%00b": {400, wire.CodeBadRequest}, "/download?path=/many": {409, wire.CodeConflict}, "/download?path=": {409, wire.CodeConflict},
	} {
		var p wire.Problem
		a.json(want.status, base+path, &p)
		if p.Code != want.code {
			t.Errorf("%s: %+v", path, p)
		}
	}
	a.leave(base)

	var jobs wire.Page[wire.JobInfo]
	a.json(200, "/api/v1/jobs", &jobs)
	if i := slices.IndexFunc(jobs.Items, func(j wire.JobInfo) bool { return j.Holder == "master" && j.State == "leased" }); i < 0 {
		t.Errorf("no job holds what is shown: %+v", jobs)
	}
	var log struct {
		Items []json.RawMessage `json:"items"`
	}
	a.json(200, "/api/v1/audit?limit=500&operation=download-file", &log)
	if len(log.Items) < len(paths) || !bytes.Contains(log.Items[len(log.Items)-1], []byte("downloaded")) {
		t.Errorf("%d downloads are in the audit log: %s", len(log.Items), log.Items)
	}
	l.Proc("master").Stop()
	l.Rename("")
	a = newAPI(t, l)
	a.json(200, "/api/v1/jobs", &jobs)
	for _, j := range jobs.Items {
		if j.Kind == wire.JobExport && j.State != "done" {
			t.Errorf("after the master stopped: %+v", j)
		}
	}
}

// download compares a file byte by byte, and sees that no browser would take it for anything but a file to save.
func (a *api) download(base, p string, want []byte) {
	a.t.Helper()
	resp := a.get(a.t.Context(), base+"/download?path="+url.QueryEscape(p))
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 || !bytes.Equal(got, want) || resp.ContentLength != int64(len(want)) {
		a.t.Errorf("%q: status %d, %d bytes of %d, %v: %.300s", p, resp.StatusCode, len(got), len(want), err, got[:min(len(got), 300*(resp.StatusCode/400))])
	}
	how, values, err := mime.ParseMediaType(resp.Header.Get("Content-Disposition"))
	if err != nil || how != "attachment" || values["filename"] == "" || values["filename"] != filepath.Base(values["filename"]) {
		a.t.Errorf("%q: %q", p, resp.Header.Get("Content-Disposition"))
	}
	if resp.Header.Get("Content-Type") != "application/octet-stream" || resp.Header.Get("X-Content-Type-Options") != "nosniff" || resp.Header.Get("Content-Security-Policy") == "" {
		a.t.Errorf("%q: %v", p, resp.Header)
	}
}

// leave has as many downloads as a caller may have go away in the middle; others can begin then.
func (a *api) leave(base string) {
	a.t.Helper()
	ctx, cancel := context.WithCancel(a.t.Context())
	var open []*http.Response
	for {
		resp := a.get(ctx, base+"/download?path=/var/large")
		open = append(open, resp)
		if resp.StatusCode != 200 {
			if resp.StatusCode != 429 || len(open) < 3 {
				a.t.Errorf("download %d: status %d", len(open), resp.StatusCode)
			}
			break
		}
		if len(open) > 20 {
			a.t.Fatal("there is no limit of downloads")
		}
	}
	cancel()
	for _, r := range open {
		r.Body.Close()
	}
	deadline := time.Now().Add(20 * time.Second)
	for {
		resp := a.get(a.t.Context(), base+"/files?path=/var")
		resp.Body.Close()
		if resp.StatusCode == 200 {
			return
		}
		if time.Now().After(deadline) {
			a.t.Fatalf("after the callers went away: status %d", resp.StatusCode)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
