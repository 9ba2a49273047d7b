package builtin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/openmigrate/openmigrate/staging/s3store"
)

// StartOptions say how the child runs.
type StartOptions struct {
	Config           // Address may be "" (a loopback address) and may have port 0: a free port is chosen and kept
	Args   []string  // of this program, that lead it to ServeFrom(stdin)
	CA     []byte    // DER, that CertFile descends from
	Bucket string    // made when missing
	Log    io.Writer // of the child's output; nil drops it
}

// Server is a running child, started again whenever it ends.
type Server struct {
	S3     s3store.Options // how to reach it from this machine
	addr   string
	cancel context.CancelFunc
	done   chan struct{}
	pid    atomic.Int64
}

// PID is the process id of the child, 0 while none runs.
func (s *Server) PID() int { return int(s.pid.Load()) }

// Address is the host:port on which it listens.
func (s *Server) Address() string { return s.addr }

// freePort chooses a port where address has none.
func freePort(ctx context.Context, address string) (string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil || port != "0" {
		return address, err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return "", err
	}
	_, port, err = net.SplitHostPort(l.Addr().String())
	return net.JoinHostPort(host, port), errors.Join(err, l.Close())
}

// reach is where this machine reaches a server that listens on address.
func reach(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		if host = "127.0.0.1"; ip != nil && ip.To4() == nil {
			host = "::1"
		}
	}
	return net.JoinHostPort(host, port)
}

// Start runs the server and returns once its bucket can be used. Close ends it.
func Start(ctx context.Context, o StartOptions) (*Server, error) {
	if o.Address == "" {
		o.Address = "127.0.0.1:0"
	}
	var err error
	if o.Address, err = freePort(ctx, o.Address); err != nil {
		return nil, fmt.Errorf("start staging: %w", err)
	}
	config, err := json.Marshal(o.Config)
	if err != nil {
		return nil, fmt.Errorf("start staging: %w", err)
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s := &Server{addr: o.Address, cancel: cancel, done: make(chan struct{}), S3: s3store.Options{
		Endpoint: "https://" + reach(o.Address), Bucket: o.Bucket, CA: o.CA, AccessKey: o.AccessKey, SecretKey: o.SecretKey,
	}}
	failed := make(chan error, 1)
	go s.supervise(run, o, config, failed)
	if err := s.ready(ctx, failed); err != nil {
		s.Close()
		return nil, fmt.Errorf("start staging: %w", err)
	}
	return s, nil
}

// Close ends the child and waits for that.
func (s *Server) Close() {
	s.cancel()
	<-s.done
}

// supervise owns the child. Its thread is locked: the kernel kills the child when the thread that made it ends.
func (s *Server) supervise(ctx context.Context, o StartOptions, config []byte, failed chan<- error) {
	defer close(s.done)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	wait := 50 * time.Millisecond
	for ctx.Err() == nil {
		began := time.Now()
		err := s.runChild(ctx, o, config)
		select {
		case failed <- fmt.Errorf("the server ended: %w", err):
		default:
		}
		if time.Since(began) > time.Minute {
			wait = 50 * time.Millisecond
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		wait = min(2*wait, time.Second)
	}
}

func (s *Server) runChild(ctx context.Context, o StartOptions, config []byte) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, exe, o.Args...)
	cmd.Stdout, cmd.Stderr = o.Log, o.Log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	s.pid.Store(int64(cmd.Process.Pid))
	defer s.pid.Store(0)
	_, werr := stdin.Write(config) // the pipe stays open: its end tells the child that we are gone
	return errors.Join(cmd.Wait(), werr)
}

// ready waits until the bucket exists or the first child has ended.
func (s *Server) ready(ctx context.Context, failed <-chan error) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	store, err := s3store.New(s.S3)
	if err != nil {
		return err
	}
	defer store.Close()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if err = store.CreateBucket(ctx); err == nil {
			return nil
		}
		select {
		case ferr := <-failed:
			return ferr
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}
