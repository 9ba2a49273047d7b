package channel

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// open connects a client to a server through a pipe that holds noise first.
func open(t *testing.T, noise string) *Client {
	t.Helper()
	here, there := net.Pipe()
	served := make(chan error, 1)
	go func() { served <- Serve(there) }()
	if noise != "" {
		if _, err := here.Write([]byte(noise)); err != nil {
			t.Fatal(err)
		}
	}
	c := NewClient(here)
	t.Cleanup(func() {
		_ = c.Close()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
		_ = there.Close()
	})
	return c
}

func TestRun(t *testing.T) {
	c := open(t, "")
	for _, test := range []struct {
		script, stdin string
		want          Result
	}{
		{"cat; echo no >&2; exit 3", "yes", Result{3, []byte("yes"), []byte("no\n")}},
		{"true", "", Result{}},
		{"kill -9 $$", "", Result{Status: 137}},
	} {
		got, err := c.Run(t.Context(), []byte(test.stdin), "sh", "-c", test.script)
		if err != nil {
			t.Fatal(err)
		}
		if got.Status != test.want.Status || !bytes.Equal(got.Stdout, test.want.Stdout) || !bytes.Equal(got.Stderr, test.want.Stderr) {
			t.Errorf("%s: got %v, want %v", test.script, got, test.want)
		}
	}
	if _, err := c.Run(t.Context(), nil, "/does/not/exist"); err == nil {
		t.Error("a program that is not there ran")
	}
}

func TestOutputIsCut(t *testing.T) {
	got, err := open(t, "").Run(t.Context(), nil, "head", "-c", "9000000", "/dev/zero")
	if err != nil || len(got.Stdout) != MaxOutput {
		t.Errorf("got %d bytes, %v", len(got.Stdout), err)
	}
}

func TestDeadlineKillsTheCommand(t *testing.T) {
	c := open(t, "")
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if got, err := c.Run(ctx, nil, "sh", "-c", "sleep 60 & wait"); err == nil && got.Status != 137 {
		t.Errorf("got %v", got)
	}
	if err := c.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestFiles(t *testing.T) {
	c := open(t, "")
	for _, size := range []int{0, 1, fileChunk, 2*fileChunk + 5} {
		want := bytes.Repeat([]byte("0123456"), size/7+1)[:size]
		name := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(name, []byte("what was there before"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := c.Put(t.Context(), name, bytes.NewReader(want), 0o755); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o755 {
			t.Errorf("mode: %v, %v", info, err)
		}
		var got bytes.Buffer
		if err := c.Get(t.Context(), name, &got); err != nil || !bytes.Equal(got.Bytes(), want) {
			t.Errorf("%d bytes: got %d back, %v", size, got.Len(), err)
		}
	}
	if err := c.Get(t.Context(), "/does/not/exist", &bytes.Buffer{}); err == nil {
		t.Error("got a file that is not there")
	}
}

func TestNoiseIsSkipped(t *testing.T) {
	for _, noise := range []string{"login: ", magic + "\xff\xff\xff\xff", magic + "\x00\x00\x00\x03abc", "OMVM" + magic[:5]} {
		if err := open(t, noise).Ping(t.Context()); err != nil {
			t.Errorf("%q: %v", noise, err)
		}
	}
}

func TestClosed(t *testing.T) {
	here, there := net.Pipe()
	c := NewClient(here)
	_ = there.Close()
	if err := c.Ping(t.Context()); err == nil {
		t.Error("a closed channel answered")
	}
	_ = c.Close()
	if err := c.Ping(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v", err)
	}
}

func FuzzReadMessage(f *testing.F) {
	var b bytes.Buffer
	if err := writeMessage(&b, &request{ID: 7, Op: opRun, Args: []string{"true"}}); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte("x" + b.String()))
	f.Add([]byte(magic + "\xff\xff\xff\xff" + strings.Repeat("x", 20)))
	f.Fuzz(func(_ *testing.T, data []byte) {
		for r := bufio.NewReader(bytes.NewReader(data)); ; {
			if readMessage(r, new(request)) != nil {
				return
			}
		}
	})
}
