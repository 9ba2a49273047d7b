package main

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/openmigrate/openmigrate/apiclient"
	"github.com/openmigrate/openmigrate/internal/cli"
	"github.com/openmigrate/openmigrate/internal/secretscan"
	"github.com/openmigrate/openmigrate/internal/version"
	"github.com/openmigrate/openmigrate/wire"
)

// app is what all commands share: where the master is, and how to print.
type app struct {
	url, caFile, token string
	verbose            bool
	out                cli.Output
}

func (a *app) flags(root *cobra.Command) {
	f := root.PersistentFlags()
	f.StringVar(&a.url, "url", "", "the master's URL (OPENMIGRATE_URL)")
	f.StringVar(&a.caFile, "ca-file", "", "PEM of the CA to trust (OPENMIGRATE_CA_FILE)")
	f.BoolVarP(&a.verbose, "verbose", "v", false, "log more")
	a.out.Flag(root)
}

// logger writes to standard error.
func (a *app) logger() *slog.Logger {
	level := slog.LevelInfo
	if a.verbose {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level, ReplaceAttr: secretscan.Attr}))
}

// saved is what 'openmigrate login' keeps.
type saved struct {
	URL   string `json:"url"`
	CA    string `json:"ca"` // PEM
	Token string `json:"token"`
}

func savedFile() (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("find the configuration folder: %w", err)
	}
	return filepath.Join(dir, "openmigrate", "login.json"), nil
}

// where finds the master: flags, then environment, then what login saved.
func (a *app) where() (saved, error) {
	s := saved{URL: firstOf(a.url, os.Getenv("OPENMIGRATE_URL")), Token: firstOf(a.token, os.Getenv("OPENMIGRATE_TOKEN"))}
	if file := firstOf(a.caFile, os.Getenv("OPENMIGRATE_CA_FILE")); file != "" {
		b, err := os.ReadFile(file)
		if err != nil {
			return s, fmt.Errorf("read the master's CA: %w", err)
		}
		s.CA = string(b)
	}
	if s.URL == "" || s.Token == "" {
		old, err := readSaved()
		if err != nil {
			return s, err
		}
		s.URL, s.CA, s.Token = firstOf(s.URL, old.URL), firstOf(s.CA, old.CA), firstOf(s.Token, old.Token)
	}
	if s.URL == "" {
		return s, cli.Usagef("where is the master? Set OPENMIGRATE_URL (and _CA_FILE, _TOKEN), as D/env of 'openmigrate dev --data-dir D' does, or run 'openmigrate login'")
	}
	return s, nil
}

func readSaved() (saved, error) {
	var s saved
	name, err := savedFile()
	if err != nil {
		return s, nil // no home: nothing was saved
	}
	b, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	if err != nil {
		return s, fmt.Errorf("read %s: %w", name, err)
	}
	return s, nil
}

func firstOf(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

// master makes a client of the operator API.
func (a *app) master() (*apiclient.Client, error) {
	s, err := a.where()
	if err != nil {
		return nil, err
	}
	return dial(s)
}

func dial(s saved) (*apiclient.Client, error) {
	o := wire.ClientOptions{URL: s.URL, Token: s.Token, UserAgent: "openmigrate/" + version.String()}
	if s.CA != "" {
		block, _ := pem.Decode([]byte(s.CA))
		if block == nil {
			return nil, errors.New("the master's CA file holds no PEM certificate")
		}
		o.CA = block.Bytes
	}
	c, err := wire.NewClient(o)
	if err != nil {
		return nil, cli.Usagef("%w", err)
	}
	return apiclient.New(c), nil
}

// retry repeats a read while the master is away for a moment.
func retry[T any](ctx context.Context, f func() (T, error)) (v T, err error) {
	err = wire.Retry(ctx, 15*time.Second, func() error {
		v, err = f()
		return err
	})
	return v, err
}
