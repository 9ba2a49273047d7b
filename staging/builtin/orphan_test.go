package builtin_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/openmigrate/openmigrate/staging/builtin"
)

// ownStaging is a parent for TestParentKilled: it starts a server, says which, and waits to be killed.
func ownStaging(config string) int {
	var o builtin.StartOptions
	if err := json.Unmarshal([]byte(config), &o); err != nil {
		return 1
	}
	srv, err := builtin.Start(context.Background(), o)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(srv.PID(), srv.S3.Endpoint)
	<-make(chan struct{})
	return 0
}

// TestParentKilled: when the parent gets SIGKILL, its server ends, too, and gives its port back.
func TestParentKilled(t *testing.T) {
	o := options(t)
	o.Log = nil
	config, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	parent := exec.CommandContext(t.Context(), os.Args[0], "own-staging", string(config))
	parent.Stderr = os.Stderr
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	var endpoint string
	_, serr := fmt.Fscan(bufio.NewReader(out), &pid, &endpoint)
	child, perr := unix.PidfdOpen(pid, 0) // of this process for sure: its parent lives
	_ = parent.Process.Kill()
	_ = parent.Wait() // its exit tells nothing: it was killed
	if serr != nil || perr != nil {
		t.Fatalf("the parent did not start a server: %v, %v", serr, perr)
	}
	defer func() { _ = unix.Close(child) }() // only read
	fds := []unix.PollFd{{Fd: int32(child), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, int((20 * time.Second).Milliseconds()))
	for errors.Is(err, unix.EINTR) {
		n, err = unix.Poll(fds, int((20 * time.Second).Milliseconds()))
	}
	if n != 1 || err != nil {
		_ = unix.Kill(pid, unix.SIGKILL) // leave no orphan behind
		t.Fatalf("the server outlives its parent: %v", err)
	}
	u, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", u.Host)
	if err != nil {
		t.Fatalf("the port is not free: %v", err)
	}
	_ = l.Close()
}
