package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"unicode"

	"github.com/openmigrate/openmigrate/master/accounts"
	"github.com/openmigrate/openmigrate/wire"
)

// fakeFiles has one folder of names, each a file whose content is its path.
type fakeFiles struct {
	names  []string
	at     atomic.Pointer[wire.FilePlace]
	looked atomic.Int64
	open   atomic.Int64
	fail   error
}

func (f *fakeFiles) List(_ context.Context, at wire.FilePlace, pick func([]string) ([]int, error)) ([]wire.FileInfo, error) {
	f.at.Store(&at)
	places, err := pick(f.names)
	if err = errors.Join(err, f.fail); err != nil {
		return nil, err
	}
	var out []wire.FileInfo
	for _, i := range places {
		f.looked.Add(1)
		out = append(out, wire.FileInfo{Name: f.names[i], Type: wire.FileRegular})
	}
	return out, nil
}

type openFile struct {
	io.Reader
	f *fakeFiles
}

func (o *openFile) Close() error { o.f.open.Add(-1); return nil }

func (f *fakeFiles) Open(_ context.Context, at wire.FilePlace) (io.ReadCloser, int64, error) {
	f.at.Store(&at)
	if f.fail != nil {
		return nil, 0, f.fail
	}
	f.open.Add(1)
	return &openFile{strings.NewReader(at.Path), f}, int64(len(at.Path)), nil
}

// filesOf has a machine with a restpoint, and files on it.
func filesOf(t *testing.T, w *world, f *fakeFiles) (base string) {
	t.Helper()
	m := w.env.NewAgent("web1")
	rp, _ := m.Replicate(catalogDisk())
	w.handler.s.Files = f
	return "/api/v1/restpoints/" + rp + "/disks/0"
}

func (w *world) getAs(who *actor, path string) *http.Response {
	w.t.Helper()
	q, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, w.url+path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	q.Header.Set("Authorization", "Bearer "+who.token)
	resp, err := w.raw(true).Do(q)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp
}

// TestFolderPages: names of any bytes are on one page each, only what is on a page is looked at, and each can be asked for.
func TestFolderPages(t *testing.T) {
	w := newWorld(t)
	f := &fakeFiles{names: []string{"b", "\xff", "\xfe", "a", "\ufffd", "ü", "50% &=+#;", "\n", "\u202e", "<b>"}}
	for i := range 40 {
		f.names = append(f.names, fmt.Sprintf("f%02d\xff", i))
	}
	base, who := filesOf(t, w, f), w.person(accounts.RoleOperator)
	var got []string
	cursor, pages := "", 0
	for {
		resp := w.getAs(who, base+"/files?limit=7&path=/x&cursor="+cursor)
		var page wire.Page[wire.FileInfo]
		err := json.NewDecoder(resp.Body).Decode(&page)
		resp.Body.Close()
		if err != nil || resp.StatusCode != 200 || page.Total != len(f.names) {
			t.Fatalf("status %d, %d in all, %v", resp.StatusCode, page.Total, err)
		}
		for _, i := range page.Items {
			name := url.QueryEscape(i.Name)
			if i.Encoded != "" {
				name = i.Encoded
			}
			down := w.getAs(who, base+"/download?path=/x/"+name)
			b, err := io.ReadAll(down.Body)
			down.Body.Close()
			if err != nil || down.StatusCode != 200 {
				t.Fatalf("%q: status %d, %v", name, down.StatusCode, err)
			}
			got = append(got, strings.TrimPrefix(string(b), "/x/"))
		}
		pages++
		if cursor = page.NextCursor; cursor == "" {
			break
		}
	}
	want := slices.Clone(f.names)
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) || pages != 8 || f.looked.Load() != int64(len(f.names)) {
		t.Errorf("%d pages, %d looked at: %q", pages, f.looked.Load(), got)
	}
	if at := f.at.Load(); at.Disk != 0 || at.Partition != 0 {
		t.Errorf("%+v", at)
	}
}

func TestFilesRefused(t *testing.T) {
	w := newWorld(t)
	f := &fakeFiles{names: []string{"a"}}
	base, who := filesOf(t, w, f), w.person(accounts.RoleOperator)
	elsewhere := &actor{}
	_, text, err := w.accounts.NewToken(t.Context(), nil, accounts.Token{Project: "other", Name: "x", Role: accounts.RoleAdmin}, 0)
	if err != nil {
		t.Fatal(err)
	}
	elsewhere.token = text
	for _, what := range []string{"/files", "/download"} {
		for _, c := range []struct {
			who    *actor
			query  string
			status int
		}{
			{who, "?path=/a%00b", 400}, {who, "?path=/a&partition=-1", 400}, {who, "?path=/a&disk=1", 400}, {who, "?path=" + strings.Repeat("a", 5000), 400},
			{who, "?partition=99999", 400}, {w.person(accounts.RoleViewer), "", 403}, {elsewhere, "", 404}, {&actor{}, "", 401},
		} {
			resp := w.getAs(c.who, base+what+c.query)
			resp.Body.Close()
			if resp.StatusCode != c.status || resp.Header.Get("Content-Type") != wire.ProblemType {
				t.Errorf("%s%.40s: status %d, want %d", what, c.query, resp.StatusCode, c.status)
			}
		}
		resp := w.getAs(who, strings.Replace(base, "disks/0", "disks/1", 1)+what)
		resp.Body.Close()
		if resp.StatusCode != 404 {
			t.Errorf("%s of a missing disk: status %d", what, resp.StatusCode)
		}
	}
	if f.at.Load() != nil {
		t.Error("a refused request was looked at")
	}
}

// TestFileTurns: a caller has so many at once, another is served meanwhile, and whatever ends gives its turn back.
func TestFileTurns(t *testing.T) {
	w := newWorld(t)
	f := &fakeFiles{names: []string{"a"}}
	base, who := filesOf(t, w, f), w.person(accounts.RoleOperator)
	p := w.handler.s.reading
	var leave []func()
	for range p.each {
		l, err := w.handler.s.reading.enter("somebody")
		if err != nil {
			t.Fatal(err)
		}
		leave = append(leave, l)
	}
	if _, err := w.handler.s.reading.enter("somebody"); !wire.HasCode(err, wire.CodeBusy) {
		t.Errorf("one too many: %v", err)
	}
	for _, l := range leave {
		l()
	}
	f.fail = wire.NewProblem(404, wire.CodeNotFound, "nothing there")
	for range 3 * p.each {
		for _, what := range []string{"/files", "/download"} {
			resp := w.getAs(who, base+what)
			resp.Body.Close()
			if resp.StatusCode != 404 {
				t.Fatalf("status %d", resp.StatusCode)
			}
		}
	}
	f.fail = nil
	for range 3 * p.each {
		resp := w.getAs(who, base+"/download?path=/a")
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != 200 {
			t.Fatalf("status %d, %v", resp.StatusCode, err)
		}
		resp.Body.Close()
	}
	if n := f.open.Load(); n != 0 {
		t.Errorf("%d files are still open", n)
	}
}

func TestSaveName(t *testing.T) {
	for path, want := range map[string]string{
		"/etc/fstab": "fstab", "/a/": "a", "/": "file", "": "file", "/x/..": "file", "/x/...": "file", "/caf\xe9": "caf_", "/a\nb": "a_b", "/\u202egpj.exe": "_gpj.exe", `/a"b\c`: "a_b_c",
		"/ünï": "ünï", "/.bashrc": ".bashrc", "/" + strings.Repeat("ü", 200): strings.Repeat("ü", 127),
	} {
		got := saveName(path)
		if got != want {
			t.Errorf("%q is saved as %q, want %q", path, got, want)
		}
		how, values, err := mime.ParseMediaType(mime.FormatMediaType("attachment", map[string]string{"filename": got}))
		if err != nil || how != "attachment" || values["filename"] != got || strings.IndexFunc(got, unicode.IsControl) >= 0 {
			t.Errorf("%q: %q, %q, %v", got, how, values, err)
		}
	}
}
