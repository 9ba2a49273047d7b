package nbd_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/openmigrate/openmigrate/hydrator/nbd"
	"github.com/openmigrate/openmigrate/internal/roottest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is a disk whose second MiB is a hole, and which may have a place that cannot be read.
type memory struct {
	b   []byte
	bad int64 // 0: none
}

func (m *memory) Size() int64 { return int64(len(m.b)) }
func (m *memory) ReadContext(_ context.Context, p []byte, off int64) (int, error) {
	if m.bad > 0 && off <= m.bad && m.bad < off+int64(len(p)) {
		return 0, errors.New("staging has no usable copy")
	}
	return bytes.NewReader(m.b).ReadAt(p, off)
}

func (m *memory) Extent(_ context.Context, off, limit int64) (int64, bool, error) {
	switch {
	case off < 1<<20:
		return min(limit, 1<<20-off), false, nil
	case off < 2<<20:
		return min(limit, 2<<20-off), true, nil
	}
	return min(limit, m.Size()-off), false, nil
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{7}).Read(b)
	clear(b[1<<20 : 2<<20])
	return b
}

func serve(t *testing.T, d nbd.Disk) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "nbd.sock")
	l, err := nbd.Listen(t.Context(), socket)
	if err != nil {
		t.Fatal(err)
	}
	s := nbd.NewServer(map[string]nbd.Disk{"disk0": d}, slog.New(slog.NewTextHandler(t.Output(), nil)))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(socket); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket stays: %v", err)
		}
	})
	return socket
}

func run(t *testing.T, name string, args ...string) (string, error) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		roottest.Lacks(t, name+" is needed")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	return string(out), err
}

func TestQEMU(t *testing.T) {
	img := random(7<<20 + 512)
	socket := serve(t, &memory{b: img})
	url := "nbd+unix:///disk0?socket=" + socket
	dir := t.TempDir()
	copied, overlay := filepath.Join(dir, "copy.raw"), filepath.Join(dir, "overlay.qcow2")
	if out, err := run(t, "qemu-img", "convert", "-O", "raw", url, copied); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got, err := os.ReadFile(copied); err != nil || !bytes.Equal(got, img) {
		t.Errorf("the copy differs: %v, %d bytes", err, len(got))
	}
	out, err := run(t, "qemu-img", "map", "--output=json", url)
	var extents []struct {
		Start, Length int64
		Zero          bool
	}
	if err == nil {
		err = json.Unmarshal([]byte(out), &extents)
	}
	if err != nil || len(extents) != 3 || !extents[1].Zero || extents[1].Start != 1<<20 || extents[1].Length != 1<<20 || extents[2].Zero {
		t.Errorf("map: %v, %s", err, out)
	}
	if out, err := run(t, "qemu-img", "create", "-f", "qcow2", "-b", url, "-F", "raw", overlay); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, c := range []string{"write -P 0x5a 3M 64k", "read -P 0x5a 3M 64k", "read -P 0 1M 1M", "read 0 1M"} {
		if out, err := run(t, "qemu-io", "-f", "qcow2", "-c", c, overlay); err != nil || strings.Contains(out, "failed") {
			t.Errorf("%s: %v, %s", c, err, out)
		}
	}
	if out, err := run(t, "qemu-io", "-f", "raw", "-c", "write 0 512", url); err == nil && strings.Contains(out, "wrote") {
		t.Errorf("a write went through: %s", out)
	}
	if out, err := run(t, "qemu-img", "info", "nbd+unix:///none?socket="+socket); err == nil {
		t.Errorf("an export that is not there was found: %s", out)
	}
}

func TestQEMUGetsEIO(t *testing.T) {
	socket := serve(t, &memory{b: random(8 << 20), bad: 5 << 20})
	out, _ := run(t, "qemu-io", "-r", "-f", "raw", "-c", "read 5M 4k", "-c", "read 6M 4k", "nbd+unix:///disk0?socket="+socket)
	if !strings.Contains(out, "Input/output error") || !strings.Contains(out, "read 4096/4096") {
		t.Errorf("%s", out)
	}
}

func TestListen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	l, err := nbd.Listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	if _, err := nbd.Listen(t.Context(), path); err == nil {
		t.Error("a socket that somebody listens on was taken")
	}
	_ = l.Close()
	old, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	old.SetUnlinkOnClose(false)
	_ = old.Close() // as if its server had been killed
	l, err = nbd.Listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if l, err := nbd.Listen(t.Context(), path); err == nil {
		_ = l.Close()
		t.Error("a file was replaced by a socket")
	}
}

// FuzzServe lets a client say anything. The server must end the connection or answer, without writing anything it was not asked.
func FuzzServe(f *testing.F) {
	hello := []byte{0, 0, 0, 3}
	goTo := append([]byte("IHAVEOPT\x00\x00\x00\x07\x00\x00\x00\x0b\x00\x00\x00\x05disk0\x00\x00"), 0)[:16+11]
	structured := []byte("IHAVEOPT\x00\x00\x00\x08\x00\x00\x00\x00")
	read := []byte("\x25\x60\x95\x13\x00\x00\x00\x00cookie..\x00\x00\x00\x00\x00\x00\x10\x00\x00\x00\x20\x00")
	leave := []byte("\x25\x60\x95\x13\x00\x00\x00\x02cookie..\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	meta := []byte("IHAVEOPT\x00\x00\x00\x0a\x00\x00\x00\x20\x00\x00\x00\x05disk0\x00\x00\x00\x01\x00\x00\x00\x0fbase:allocation")
	status := bytes.Clone(read)
	status[7] = 7
	f.Add(bytes.Join([][]byte{hello, goTo, read, leave}, nil))
	f.Add(bytes.Join([][]byte{hello, structured, meta, goTo, read, status, leave}, nil))
	f.Add(bytes.Join([][]byte{hello, []byte("IHAVEOPT\x00\x00\x00\x01\x00\x00\x00\x05disk0"), read}, nil))
	f.Add(bytes.Join([][]byte{hello, []byte("IHAVEOPT\x00\x00\x00\x03\x00\x00\x00\x00"), leave}, nil))
	s := nbd.NewServer(map[string]nbd.Disk{"disk0": &memory{b: random(3 << 20)}}, slog.New(slog.DiscardHandler))
	f.Fuzz(func(t *testing.T, b []byte) {
		server, client := net.Pipe()
		done := make(chan struct{})
		go func() { defer close(done); _ = s.ServeConn(context.Background(), server) }()
		go func() { _, _ = client.Write(b); _ = client.Close() }()
		_, _ = io.Copy(io.Discard, client)
		<-done
	})
}
