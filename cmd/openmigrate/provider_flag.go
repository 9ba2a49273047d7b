package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/openmigrate/openmigrate/internal/cli"
	"github.com/openmigrate/openmigrate/providers"
	"github.com/openmigrate/openmigrate/providers/qemu"
)

// qemuName is what the provider on this host is called.
const qemuName = "qemu"

// providerOptions are the --provider flags of a master.
type providerOptions struct{ specs []string }

func (o *providerOptions) flags(c *cobra.Command, what string) {
	c.Flags().StringArrayVar(&o.specs, "provider", nil, "qemu[=DIR][,accel=kvm|tcg]: bring machines up as QEMU processes of this host, kept in DIR (default D/providers/qemu)"+what)
}

// providerSpec is one --provider.
type providerSpec struct{ name, dir, accel string }

// parse reads the flags. Several of one name are an error.
func (o *providerOptions) parse(dataDir string) ([]providerSpec, error) {
	var specs []providerSpec
	for _, text := range o.specs {
		head, rest, _ := strings.Cut(text, ",")
		name, dir, _ := strings.Cut(head, "=")
		s := providerSpec{name: name, dir: dir}
		if name != qemuName {
			return nil, cli.Usagef("--provider %q: there is only qemu[=DIR][,accel=kvm|tcg]", text)
		}
		if s.dir == "" {
			s.dir = filepath.Join(dataDir, "providers", name)
		}
		if rest != "" {
			accel, ok := strings.CutPrefix(rest, "accel=")
			if s.accel = accel; !ok || accel != "kvm" && accel != "tcg" {
				return nil, cli.Usagef("--provider %q: after the comma comes accel=kvm or accel=tcg", text)
			}
		}
		if len(specs) > 0 {
			return nil, cli.Usagef("--provider %s is given twice", name)
		}
		specs = append(specs, s)
	}
	return specs, nil
}

// opened are the providers of a master.
type opened struct {
	usable  map[string]providers.Provider
	broken  map[string]error  // why the others cannot be used
	folders map[string]string // that a node on this host writes volumes in, by provider
	close   []func() error
}

// openProviders opens all that it can: a master whose provider is in use elsewhere, or broken, replicates all the same.
func openProviders(specs []providerSpec, log *slog.Logger) (*opened, error) {
	o := &opened{usable: map[string]providers.Provider{}, broken: map[string]error{}, folders: map[string]string{}}
	for _, s := range specs {
		dir, err := filepath.Abs(s.dir)
		if err != nil {
			return nil, fmt.Errorf("folder of provider %s: %w", s.name, err)
		}
		p, err := qemu.Open(qemu.Options{Dir: dir, Accel: s.accel})
		if err != nil {
			log.Warn("a provider cannot be used; replication goes on", "provider", s.name, "error", err)
			o.broken[s.name] = err
			continue
		}
		o.usable[s.name], o.folders[s.name] = p, qemu.VolumesDir(dir)
		o.close = append(o.close, p.Close)
	}
	return o, nil
}

// Close lets all go. Machines go on running, and are found again at the next start.
func (o *opened) Close() error {
	var errs []error
	for _, f := range o.close {
		errs = append(errs, f())
	}
	return errors.Join(errs...)
}

// warnIfNotRoot says what does not work without root.
func warnIfNotRoot(log *slog.Logger) {
	if os.Geteuid() != 0 {
		log.Warn("not root: disks are replicated, but no machine can be launched, for conversion mounts file systems", "next", "run it as root")
	}
}
