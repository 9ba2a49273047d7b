// Package builtin is the staging server of a single machine: versitygw over a directory, in a child process of its own because
// it changes the working directory and allows one instance per process. What it acknowledged survives a power cut.
// Start is for the parent, Serve for the child.
package builtin

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/versity/versitygw/embedgw"
)

const healthPath = "/openmigrate-health"

// Config is what the child needs; it comes through a pipe, since arguments and environment can be read by others.
type Config struct {
	Root      string // existing directory, absolute
	Address   string // host:port to listen on; an empty or unspecified host: on every address
	CertFile  string
	KeyFile   string
	AccessKey string
	SecretKey string
}

// ServeFrom reads the Config from r and serves until ctx ends or r does, which it does when the parent dies.
func ServeFrom(ctx context.Context, r io.Reader) error {
	var c Config
	if err := json.NewDecoder(io.LimitReader(r, 1<<16)).Decode(&c); err != nil {
		return fmt.Errorf("read staging server's configuration: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // ends with r, at the latest with the process
		_, _ = io.Copy(io.Discard, r)
		cancel()
	}()
	return Serve(ctx, c)
}

// Serve runs the server until ctx ends. It changes the working directory, and may run once at a time in a process.
func Serve(ctx context.Context, c Config) error {
	backend, err := newDurable(c.Root)
	if err != nil {
		return err
	}
	err = embedgw.RunVersityGW(ctx, backend, &embedgw.Config{
		RootUserAccess: c.AccessKey, RootUserSecret: c.SecretKey, Ports: []string{c.Address},
		CertFile: c.CertFile, KeyFile: c.KeyFile, MaxConnections: 1024, MaxRequests: 512, MultipartMaxParts: 10000,
		Quiet: true, KeepAlive: true, HealthPath: healthPath,
	})
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("serve staging: %w", err)
	}
	return nil
}
