// Package nbd serves disks to QEMU and others as read-only block devices over the NBD protocol (fixed newstyle handshake, simple and
// structured replies, base:allocation), so that a machine can start from a view before its volume is written.
// The protocol is https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md; numbers below are from there.
//
// A client may be hostile: what it makes the server keep is limited (options, their length, requests at once, bytes of one), it can
// change nothing, and what it may not do is answered or ends its connection, never the server. There is no authentication:
// whoever can open the socket can read the disks. Listen makes one for its owner only.
package nbd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"
)

// Disk is what an export shows.
type Disk interface {
	Size() int64
	// ReadContext is ReadAt with an end.
	ReadContext(ctx context.Context, p []byte, off int64) (int, error)
	// Extent tells how many bytes from off on are zeros, or are not; at most limit.
	Extent(ctx context.Context, off, limit int64) (n int64, zero bool, err error)
}

// Limits of what clients can take.
const (
	maxConns   = 16
	maxOptions = 32       // of one handshake
	maxOption  = 16 << 10 // bytes of one option
	maxRead    = 32 << 20 // bytes of one request, what clients may assume
	maxBusy    = 16       // requests of one connection at once
	maxBytes   = 32 << 20 // of answers of one connection in memory at once
	piece      = 1 << 20  // bytes of one structured reply
	maxExtents = 128      // in one answer about allocation
)

// handshakeTime is how long a client may take to say what it wants. Later it may be idle as long as it likes.
const handshakeTime = 30 * time.Second

// writeTime is how long a client may leave an answer unread.
const writeTime = 5 * time.Minute

// Server serves exports by name.
type Server struct {
	exports map[string]Disk
	names   []string
	log     *slog.Logger
}

// NewServer makes a Server of named exports. An empty name is the one that clients get who name none. log may be nil.
func NewServer(exports map[string]Disk, log *slog.Logger) *Server {
	if log == nil {
		log = slog.Default()
	}
	s := &Server{exports: exports, log: log}
	for name := range exports {
		s.names = append(s.names, name)
	}
	return s
}

// Listen makes a unix socket that only this user can open. A socket that a server left behind is replaced; one that answers is not.
func Listen(ctx context.Context, path string) (net.Listener, error) {
	if st, err := os.Lstat(path); err == nil {
		if st.Mode()&os.ModeSocket == 0 {
			return nil, fmt.Errorf("listen on %s: it is there and no socket", path)
		}
		var d net.Dialer
		if c, err := d.DialContext(ctx, "unix", path); err == nil {
			_ = c.Close()
			return nil, fmt.Errorf("listen on %s: another server answers there", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("listen on %s: %w", path, err)
		}
	}
	// The socket is made under a name in a folder that nobody else can enter, so that there is no moment at which others can open it.
	dir, err := os.MkdirTemp(parent(path), ".nbd-*")
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // what is left is an empty folder
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "unix", dir+"/s")
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	u := l.(*net.UnixListener)
	u.SetUnlinkOnClose(false)
	if err = os.Chmod(dir+"/s", 0o600); err == nil {
		err = os.Rename(dir+"/s", path)
	}
	if err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	return &socket{UnixListener: u, path: path}, nil
}

// socket removes its file when it is closed.
type socket struct {
	*net.UnixListener
	path string
	once sync.Once
}

func (s *socket) Close() error {
	s.once.Do(func() { os.Remove(s.path) }) //nolint:errcheck // the next server replaces it
	return s.UnixListener.Close()
}

// Serve serves all who connect until ctx ends or l fails. It closes l and all connections, and returns when they are done.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	var conns sync.WaitGroup
	defer conns.Wait()
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	defer l.Close() //nolint:errcheck // nothing was promised to who is on the other side
	slots := make(chan struct{}, maxConns)
	for {
		c, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("serve NBD: %w", err)
		}
		select {
		case slots <- struct{}{}:
		default:
			s.log.Warn("an NBD client was turned away: too many are connected", "limit", maxConns)
			_ = c.Close()
			continue
		}
		conns.Go(func() {
			defer func() { <-slots }()
			if err := s.ServeConn(ctx, c); err != nil && ctx.Err() == nil {
				s.log.Warn("an NBD connection ended", "err", err)
			}
		})
	}
}

// errBye: the client left as it should.
var errBye = errors.New("client left")

// ServeConn serves one client until it leaves, misbehaves, or ctx ends, and closes c.
func (s *Server) ServeConn(ctx context.Context, c net.Conn) error {
	defer c.Close() //nolint:errcheck // nothing was promised to who is on the other side
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	if err := c.SetDeadline(time.Now().Add(handshakeTime)); err != nil {
		return fmt.Errorf("serve NBD: %w", err)
	}
	h := handshake{s: s, c: c}
	err := h.run()
	if err == nil {
		if err = c.SetDeadline(time.Time{}); err == nil {
			err = newSession(ctx, c, &h, s.log).run()
		}
	}
	if errors.Is(err, errBye) {
		return nil
	}
	return err
}
