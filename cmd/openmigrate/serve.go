package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/openmigrate/openmigrate/internal/cli"
	"github.com/openmigrate/openmigrate/internal/durable"
	"github.com/openmigrate/openmigrate/internal/enrol"
	"github.com/openmigrate/openmigrate/internal/statedir"
	"github.com/openmigrate/openmigrate/internal/telemetry/otlp"
	"github.com/openmigrate/openmigrate/internal/version"
	ctl "github.com/openmigrate/openmigrate/master"
	"github.com/openmigrate/openmigrate/master/accounts"
	"github.com/openmigrate/openmigrate/master/ca"
	"github.com/openmigrate/openmigrate/master/catalog"

	"github.com/openmigrate/openmigrate/hydrator"
	"github.com/openmigrate/openmigrate/hydrator/browser"
	"github.com/openmigrate/openmigrate/staging/s3store"
	"github.com/openmigrate/openmigrate/web"
	"github.com/openmigrate/openmigrate/wire"
)

type serveOptions struct {
	dataDir, listen, staging, stagingListen, recoveryKey string
	names, webhookAllow                                  []string
	providers                                            providerOptions
	oidc                                                 oidcOptions
}

func (o *serveOptions) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&o.dataDir, "data-dir", "", "folder for keys, store and built-in staging (needed)")
	f.StringVar(&o.listen, "listen", "127.0.0.1:7443", "host:port to serve on; port 0 chooses one")
	f.StringVar(&o.staging, "staging", "", "s3://bucket/prefix?endpoint=https://host:port (credentials from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY); default: built-in")
	f.StringVar(&o.stagingListen, "staging-listen", "", "host:port on which built-in staging is served to agents and nodes (default: the host of --listen, and a port that is chosen once)")
	f.StringVar(&o.recoveryKey, "recovery-key", "", "file with the offline recovery key, when the data directory was lost")
	f.StringSliceVar(&o.webhookAllow, "webhook-allow", nil, "private network that webhooks may reach, also without TLS, such as 10.1.0.0/16; again for each")
	o.oidc.flags(c)
	f.StringSliceVar(&o.names, "name", nil, "host name or address under which agents reach this master and built-in staging; again for each, the first goes into tokens")
}

// config checks what can be before anything is made.
func (o *serveOptions) config(log *slog.Logger) (ctl.Config, error) {
	if o.dataDir == "" {
		return ctl.Config{}, cli.Usagef("--data-dir D is needed: where keys, store and built-in staging live")
	}
	if _, _, err := net.SplitHostPort(o.listen); err != nil {
		return ctl.Config{}, cli.Usagef("--listen %q: want host:port", o.listen)
	}
	if o.stagingListen != "" {
		if _, _, err := net.SplitHostPort(o.stagingListen); err != nil {
			return ctl.Config{}, cli.Usagef("--staging-listen %q: want host:port", o.stagingListen)
		}
		if o.staging != "" {
			return ctl.Config{}, cli.Usagef("--staging-listen is for built-in staging: leave out --staging or --staging-listen")
		}
	}
	if o.staging != "" {
		if _, err := s3store.ParseURL(o.staging); err != nil {
			return ctl.Config{}, cli.Usagef("--staging: %w", err)
		}
	}
	networks, err := parseNetworks(o.webhookAllow)
	if err != nil {
		return ctl.Config{}, err
	}
	provider, err := o.oidc.config()
	if err != nil {
		return ctl.Config{}, err
	}
	return ctl.Config{WebhookNetworks: networks, OIDC: provider, DataDir: o.dataDir, Listen: o.listen, Names: o.names, Staging: o.staging, StagingListen: o.stagingListen, RecoveryKey: o.recoveryKey,
		ServeStaging: []string{"serve-staging"}, Dashboard: web.Handler, Log: log,
		Files: func(jobs *ctl.Jobs) ctl.Files { return browser.New(jobs, &browser.Options{Log: log}) }}, nil
}

// parseNetworks reads networks, or single addresses.
func parseNetworks(list []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, s := range list {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			ip, err := netip.ParseAddr(s)
			if err != nil {
				return nil, cli.Usagef("--webhook-allow %q: want a network such as 10.1.0.0/16, or an address", s)
			}
			p = netip.PrefixFrom(ip, ip.BitLen())
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

func newMaster(a *app) *cobra.Command {
	o := &serveOptions{}
	c := &cobra.Command{Use: "master --data-dir D", Short: "Run the master", Args: cobra.NoArgs,
		Long: `Run the master. It serves agents, nodes and people on one port, and keeps its state in --data-dir.

When it is ready it writes D/env, a shell file with OPENMIGRATE_URL, OPENMIGRATE_CA_FILE, OPENMIGRATE_TOKEN (an admin's) and
OPENMIGRATE_ENROLL_TOKEN (for one agent, good for a day).`,
		RunE: func(c *cobra.Command, _ []string) error { return serve(c.Context(), a, o, false) }}
	o.flags(c)
	o.providers.flags(c, "; without it no machine can be launched")
	return c
}

func newDev(a *app) *cobra.Command {
	o := &serveOptions{}
	c := &cobra.Command{Use: "dev --data-dir D", Short: "Run master, staging and one hydrator in one process, ready to use", Args: cobra.NoArgs,
		Long: `Run master, built-in staging and one hydrator in one process. When it is ready it writes D/env:

  . D/env; export OPENMIGRATE_URL OPENMIGRATE_CA_FILE OPENMIGRATE_TOKEN
  openmigrate-agent run --master $OPENMIGRATE_URL --token $OPENMIGRATE_ENROLL_TOKEN --state-dir S --disk disk.img

To serve other machines, say where to listen and under which name they reach it:

  openmigrate dev --data-dir D --listen 0.0.0.0:7443 --staging-listen 0.0.0.0:7444 --name master.example.com`,
		RunE: func(c *cobra.Command, _ []string) error { return serve(c.Context(), a, o, true) }}
	o.flags(c)
	o.providers.flags(c, ", as it is without the flag")
	return c
}

// serve runs a master, and with dev a hydrator beside it, until ctx ends.
func serve(ctx context.Context, a *app, o *serveOptions, dev bool) (err error) {
	log := a.logger()
	stop, err := otlp.Start(ctx, "openmigrate", version.String(), log)
	if err != nil {
		return err
	}
	defer stop()
	conf, err := o.config(log)
	if err != nil {
		return err
	}
	if dev && o.providers.specs == nil {
		o.providers.specs = []string{qemuName}
	}
	specs, err := o.providers.parse(o.dataDir)
	if err != nil {
		return err
	}
	places, err := openProviders(ctx, specs, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, places.Close()) }() // after the master, which uses them
	conf.Providers, conf.BrokenProviders, conf.Writers = places.usable, places.broken, places.writers
	m, err := ctl.Open(ctx, conf)
	if err != nil {
		return err
	}
	defer m.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	served := make(chan error, 1)
	go func() { served <- m.Run(ctx) }()
	if err := writeEnv(ctx, m, o.dataDir); err != nil {
		cancel()
		return errors.Join(err, <-served)
	}
	log.Info("master is ready", "url", m.URL(), "env", filepath.Join(o.dataDir, "env"), "version", version.String())
	if err := welcome(ctx, m); err != nil {
		cancel()
		return errors.Join(err, <-served)
	}
	if !m.HasRecoveryKey() {
		log.Warn("no recovery key is saved: if this data directory is lost, so is everything in staging", "next", "openmigrate keys recovery --to FILE")
	}
	node := make(chan error, 1)
	if dev {
		warnIfNotRoot(log)
		go func() { node <- devNode(ctx, a, m, filepath.Join(o.dataDir, "hydrator"), places.folders) }()
	}
	select {
	case err = <-served:
		cancel()
	case err = <-node:
		cancel()
		return errors.Join(err, <-served)
	}
	if dev {
		err = errors.Join(err, <-node)
	}
	return err
}

// devJobs is how many jobs the hydrator of a dev master does at once: a job that serves a disk, or proves packs for minutes, must not keep a launch waiting.
const devJobs = 4

// devNode enrols and runs the hydrator of a dev master. It writes the volumes of the master's own providers.
func devNode(ctx context.Context, a *app, m *ctl.Master, dir string, folders map[string]string) error {
	_, token, err := m.Identity.NewEnrolToken(ctx, m.URL(), catalog.DefaultProject, ca.KindNode, "dev", 0, 1)
	if err != nil {
		return err
	}
	o := &nodeOptions{master: m.URL(), token: token, dataDir: dir, name: "dev", jobs: devJobs}
	for name, folder := range folders {
		o.providers = append(o.providers, name+"="+folder)
	}
	return runNode(ctx, a, o)
}

// welcome prints the link with which the first user is made, as long as there is none. It goes to standard output, never into the log.
func welcome(ctx context.Context, m *ctl.Master) error {
	text, l, ok, err := m.Accounts.FirstLink(ctx)
	if err != nil || !ok {
		return err
	}
	_, err = fmt.Fprintf(os.Stdout, "There are no users yet. Make the first one, an admin, here (once, until %s, or until the master starts again):\n\n  %s%s#%s\n\n",
		l.Expires.Format(time.RFC3339), m.URL(), accounts.WelcomePath, text)
	return err
}

// adminFile keeps the admin token's text, so that a restart does not make another.
const adminFile = "keys/admin-token"

// writeEnv writes D/env, last of all: who waits for it finds everything ready.
func writeEnv(ctx context.Context, m *ctl.Master, dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	admin, err := adminToken(ctx, m, filepath.Join(dir, adminFile))
	if err != nil {
		return err
	}
	_, enroll, err := m.Identity.NewEnrolToken(ctx, m.URL(), catalog.DefaultProject, ca.KindAgent, "start of the master", 24*time.Hour, 1)
	if err != nil {
		return err
	}
	env := fmt.Sprintf("OPENMIGRATE_URL='%s'\nOPENMIGRATE_CA_FILE='%s'\nOPENMIGRATE_TOKEN='%s'\nOPENMIGRATE_ENROLL_TOKEN='%s'\n",
		m.URL(), m.CAFile(), admin, enroll)
	return durable.WriteFile(filepath.Join(dir, "env"), []byte(env), 0o600)
}

func adminToken(ctx context.Context, m *ctl.Master, name string) (string, error) {
	b, err := os.ReadFile(name)
	if err == nil {
		if p, err := m.Accounts.Bearer(ctx, string(b)); err == nil && p.Role(accounts.AllProjects) == accounts.RoleAdmin {
			return string(b), nil
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("read admin token: %w", err)
	}
	_, text, err := m.Accounts.NewToken(ctx, nil, accounts.Token{Project: accounts.AllProjects, Name: "admin of the data directory", Role: accounts.RoleAdmin}, 0)
	if err != nil {
		return "", err
	}
	return text, durable.WriteFile(name, []byte(text), 0o600)
}

type nodeOptions struct {
	master, token, dataDir, name string
	jobs                         int
	providers                    []string
}

// folders are the providers whose volumes the node may write.
func (o *nodeOptions) folders() (map[string]string, error) {
	m := map[string]string{}
	for _, p := range o.providers {
		name, folder, _ := strings.Cut(p, "=")
		if name == "" {
			return nil, cli.Usagef("--provider %q: want NAME=FOLDER, or NAME for volumes that are disks of this host", p)
		}
		if folder != "" {
			abs, err := filepath.Abs(folder)
			if err != nil {
				return nil, err
			}
			folder = abs
		}
		m[name] = folder
	}
	return m, nil
}

func newHydrator(a *app) *cobra.Command {
	o := &nodeOptions{}
	c := &cobra.Command{Use: "hydrator --master URL --token T --data-dir D", Short: "Run a node: it rebuilds, verifies and proves what is in staging", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if o.dataDir == "" {
				return cli.Usagef("--data-dir D is needed: where the node's identity and volumes live")
			}
			stop, err := otlp.Start(c.Context(), "openmigrate-hydrator", version.String(), a.logger())
			if err != nil {
				return err
			}
			defer stop()
			return runNode(c.Context(), a, o)
		}}
	f := c.Flags()
	f.StringVar(&o.master, "master", "", "the master's URL (default: the one in the token)")
	f.StringVar(&o.token, "token", os.Getenv("OPENMIGRATE_ENROLL_TOKEN"), "enrolment token for a node, at the first start (OPENMIGRATE_ENROLL_TOKEN)")
	f.StringVar(&o.dataDir, "data-dir", "", "folder for identity and volumes (needed)")
	f.StringVar(&o.name, "name", "", "name to enrol under (default: the host's)")
	f.IntVar(&o.jobs, "jobs", 1, "jobs at once")
	f.StringArrayVar(&o.providers, "provider", nil, "NAME=FOLDER: a provider whose volumes this node may write, and the folder that their files must lie in; "+
		"NAME alone when they are disks of this host; again for each")
	return c
}

func runNode(ctx context.Context, a *app, o *nodeOptions) (err error) {
	log := a.logger()
	folders, err := o.folders()
	if err != nil {
		return err
	}
	dir, err := statedir.Open(o.dataDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	if o.name == "" {
		if o.name, err = os.Hostname(); err != nil {
			o.name = "hydrator"
		}
	}
	fingerprint := hostFingerprint()
	member, err := enrol.Join(ctx, enrol.Options{Dir: dir, Kind: enrol.Node, MasterURL: o.master, Token: o.token, Name: o.name, Fingerprint: fingerprint, Log: log})
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	defer member.Client().Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	renewed := make(chan error, 1)
	go func() {
		renewed <- member.Renewals(ctx)
		cancel()
	}()
	err = hydrator.Run(ctx, hydrator.Options{
		Client: member.Client(), DataDir: o.dataDir, MasterKey: member.Identity().MasterKey, Concurrency: max(o.jobs, 1), Providers: folders, Log: log,
		Hello: func() (*wire.Hello, error) {
			generation, err := dir.NextGeneration()
			return &wire.Hello{Generation: generation, Fingerprint: fingerprint, Version: version.String()}, err
		},
	})
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	cancel()
	return errors.Join(err, <-renewed)
}
