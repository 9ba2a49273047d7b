package master

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"time"

	"github.com/openmigrate/openmigrate/internal/durable"
	"github.com/openmigrate/openmigrate/master/ca"
	"github.com/openmigrate/openmigrate/staging"
	"github.com/openmigrate/openmigrate/staging/builtin"
	"github.com/openmigrate/openmigrate/staging/retry"
	"github.com/openmigrate/openmigrate/staging/s3store"
)

// bucket is staging as the master uses it: retried, with the right to sign, and the server behind it if that is ours.
type bucket struct {
	staging.Store
	staging.Signer
	host   string // host:port that agents may talk to
	own    string // host:port that this process reaches it under
	ca     []byte // DER; nil: the system's authorities are enough
	s3     *s3store.Store
	signs  *s3store.Store // for the address under which others reach it; talks to nobody
	server *builtin.Server
}

// access is what built-in staging is reached with. It is kept, so that signed URLs and assignments outlive a restart.
type access struct {
	Address   string `json:"address"` // that it listens on; its port stays when the host changes
	SecretKey string `json:"secret_key"`
}

// builtinUser owns the bucket. It is always the same, so that a master that lost its secret still owns what is on its disk.
const builtinUser = "openmigrate"

const builtinBucket = "openmigrate"

func openBucket(ctx context.Context, conf Config, authority *ca.CA) (*bucket, error) {
	b := &bucket{}
	var o s3store.Options
	var err error
	if conf.Staging == "" {
		if o, err = b.startBuiltin(ctx, conf, authority); err != nil {
			return nil, err
		}
	} else {
		if o, err = s3store.ParseURL(conf.Staging); err != nil {
			return nil, err
		}
		o.AddEnvironment()
	}
	if b.s3, err = s3store.New(o); err != nil {
		b.close()
		return nil, err
	}
	if b.signs, err = s3store.New(b.public(o, conf)); err != nil {
		b.close()
		return nil, err
	}
	if err := b.probe(ctx, conf.Log); err != nil {
		b.close()
		return nil, err
	}
	if b.ca, err = authorityOf(o); err != nil {
		b.close()
		return nil, err
	}
	b.Signer = b.signs
	b.Store = retry.New(b.s3, nil)
	return b, nil
}

// public is o with the endpoint that agents and nodes are told of: built-in staging goes by the same name as the master does, which this
// machine itself need not be able to reach.
func (b *bucket) public(o s3store.Options, conf Config) s3store.Options {
	if b.server == nil {
		return o
	}
	address := b.server.Address()
	if _, port, err := net.SplitHostPort(address); err == nil {
		o.Endpoint = "https://" + net.JoinHostPort(serverNames(conf.Names, address)[0], port)
	}
	return o
}

// authorityOf is the CA, as DER, that agents must trust for staging beside their system's.
func authorityOf(o s3store.Options) ([]byte, error) {
	if len(o.CA) > 0 || o.CAFile == "" {
		return o.CA, nil
	}
	text, err := os.ReadFile(o.CAFile)
	if err != nil {
		return nil, fmt.Errorf("read staging CA: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, fmt.Errorf("read staging CA: %s holds no certificate", o.CAFile)
	}
	return block.Bytes, nil
}

// probe finds out what the bucket can do, and which host its signed URLs name.
func (b *bucket) probe(ctx context.Context, log *slog.Logger) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	can, err := b.s3.Probe(ctx)
	if err != nil {
		return err
	}
	if !can.IfAbsent || !can.SignedChecksum || !can.SignedSize {
		log.Warn("staging does not enforce all that it should: an agent that was taken over could write over its own packs",
			"conditional_put", can.IfAbsent, "signed_checksum", can.SignedChecksum, "signed_size", can.SignedSize)
	}
	if b.host, err = signedHost(ctx, b.signs); err != nil {
		return err
	}
	b.own, err = signedHost(ctx, b.s3)
	return err
}

func signedHost(ctx context.Context, s *s3store.Store) (string, error) {
	signed, err := s.SignGet(ctx, "probe", time.Minute)
	if err != nil {
		return "", err
	}
	u, err := url.Parse(signed.URL)
	if err != nil {
		return "", errors.New("staging signs URLs that cannot be parsed")
	}
	return u.Host, nil
}

func (b *bucket) startBuiltin(ctx context.Context, conf Config, authority *ca.CA) (s3store.Options, error) {
	dir := conf.DataDir + "/staging"
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return s3store.Options{}, fmt.Errorf("make staging directory: %w", err)
	}
	acc, err := builtinAccess(conf.DataDir + "/keys/staging.json")
	if err != nil {
		return s3store.Options{}, err
	}
	listen, err := stagingListen(conf, acc.Address)
	if err != nil {
		return s3store.Options{}, err
	}
	certFile, keyFile := conf.DataDir+"/ca/staging.pem", conf.DataDir+"/ca/staging.key"
	if err := authority.WriteServer(certFile, keyFile, serverNames(conf.Names, listen)...); err != nil {
		return s3store.Options{}, err
	}
	config := builtin.Config{Root: dir, Address: listen, CertFile: certFile, KeyFile: keyFile, AccessKey: builtinUser, SecretKey: acc.SecretKey}
	if b.server, err = builtin.Start(ctx, builtin.StartOptions{
		Config: config, Args: conf.ServeStaging, CA: authority.Certificate().Raw, Bucket: builtinBucket, Log: os.Stderr,
	}); err != nil {
		return s3store.Options{}, err
	}
	if address := b.server.Address(); acc.Address != address {
		acc.Address = address
		j, err := json.Marshal(acc)
		if err == nil {
			err = durable.WriteFile(conf.DataDir+"/keys/staging.json", j, 0o600)
		}
		if err != nil {
			return s3store.Options{}, err
		}
	}
	return b.server.S3, nil
}

// stagingListen is where built-in staging listens: where the operator wants it, else on the host that the master listens on. A port that was
// chosen at the first start stays.
func stagingListen(conf Config, kept string) (string, error) {
	listen := conf.StagingListen
	if listen == "" {
		host, _, err := net.SplitHostPort(conf.Listen)
		if err != nil {
			return "", fmt.Errorf("start staging: %w", err)
		}
		listen = net.JoinHostPort(host, "0")
	}
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return "", fmt.Errorf("start staging: %w", err)
	}
	if _, was, err := net.SplitHostPort(kept); err == nil && port == "0" {
		port = was
	}
	return net.JoinHostPort(host, port), nil
}

// builtinAccess reads how built-in staging is reached, or makes new keys.
func builtinAccess(name string) (access, error) {
	var acc access
	j, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		acc.SecretKey = randomText(20)
		j, err := json.Marshal(acc)
		if err != nil {
			return acc, err
		}
		return acc, durable.WriteFile(name, j, 0o600)
	}
	if err == nil {
		err = json.Unmarshal(j, &acc)
	}
	if err != nil {
		return acc, fmt.Errorf("read %s: %w", name, err)
	}
	return acc, nil
}

func randomText(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails since Go 1.24
	return hex.EncodeToString(b)
}

func (b *bucket) close() {
	for _, s := range []*s3store.Store{b.s3, b.signs} {
		if s != nil {
			s.Close()
		}
	}
	if b.server != nil {
		b.server.Close()
	}
}
