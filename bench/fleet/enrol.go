package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/openmigrate/openmigrate/bench/system"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

// perAddress is how many enrol from one address: the master lets a hundred in at once, then five a second. A fleet has many addresses, and so has loopback.
const perAddress = 80

// sharedTools is what all agents of one fleet have in common.
type sharedTools struct {
	url  string
	ca   []byte
	pool *x509.CertPool

	client *stagingClient
}

// enrolAll makes agents, a few at a time, and connects them.
func (b *bench) enrolAll(ctx context.Context, s *system.System, n int) ([]*agent, error) {
	api, err := s.API()
	if err != nil {
		return nil, err
	}
	defer api.Close()
	tools := &sharedTools{url: s.URL(), pool: x509.NewCertPool(), client: &stagingClient{}}
	if tools.ca, err = s.CA(); err != nil {
		return nil, err
	}
	root, err := x509.ParseCertificate(tools.ca)
	if err != nil {
		return nil, fmt.Errorf("read the master's CA: %w", err)
	}
	tools.pool.AddCert(root)
	agents := make([]*agent, n)
	var next, made atomic.Int64
	var workers sync.WaitGroup
	var once sync.Once
	var failed error
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	tokens := make(map[int]*wire.EnrolToken)
	const usesOfToken = 10_000
	for i := 0; i < n; i += usesOfToken {
		info, err := api.CreateEnrolToken(ctx, wire.EnrolTokenRequest{Kind: "agent", Uses: min(usesOfToken, n-i)})
		if err != nil {
			return nil, err
		}
		if tokens[i/usesOfToken], err = wire.ParseEnrolToken(info.Token); err != nil {
			return nil, err
		}
	}
	for range 8 {
		workers.Go(func() {
			for {
				i := int(next.Add(1) - 1)
				if i >= n || ctx.Err() != nil {
					return
				}
				a, err := tools.enrol(ctx, i, tokens[i/usesOfToken])
				if err != nil {
					once.Do(func() { failed = fmt.Errorf("enrol agent %d: %w", i, err); cancel() })
					return
				}
				agents[i] = a
				if k := made.Add(1); k%1000 == 0 {
					b.Say("%d agents have enrolled", k)
				}
			}
		})
	}
	workers.Wait()
	if failed == nil {
		failed = ctx.Err()
	}
	return agents, failed
}

// enrol makes one agent: its keys, its identity, its first Hello and its assignment.
func (t *sharedTools) enrol(ctx context.Context, number int, token *wire.EnrolToken) (*agent, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, err
	}
	public, signing, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	a := &agent{number: number, signing: signing, tools: t, rng: newRand(number)}
	host := fmt.Sprintf("server-%05d", number)
	q := &wire.EnrollRequest{Kind: "agent", TokenID: token.ID, Secret: token.Secret, CSR: csr, SigningKey: public, SigningSig: ed25519.Sign(signing, csr),
		Name: host, Fingerprint: host, Version: "bench", Inventory: inventoryOf(number)}
	out := &wire.EnrollResponse{}
	if err := t.post(ctx, number/perAddress, wire.PathEnroll, q, out); err != nil {
		return nil, err
	}
	a.id, a.name, a.project = out.ID, out.Name, out.Project
	cert := &tls.Certificate{Certificate: out.Certificate, PrivateKey: key}
	a.Client, err = wire.NewClient(wire.ClientOptions{URL: t.url, CA: t.ca, Certificate: func() *tls.Certificate { return cert }, Generation: func() uint64 { return 1 }, UserAgent: "openmigrate-bench"})
	if err != nil {
		return nil, err
	}
	if _, err := a.Hello(ctx, wire.PathAgentHello, &wire.Hello{Generation: 1, Fingerprint: host, Version: "bench"}); err != nil {
		return nil, err
	}
	as, err := a.Assignment(ctx, 0, 0)
	if err != nil {
		return nil, err
	}
	if as == nil {
		return nil, fmt.Errorf("there is no assignment")
	}
	a.version = as.Version
	if a.keys, err = format.UnmarshalKeys(as.Keys); err != nil {
		return nil, err
	}
	return a, t.client.use(as)
}

// post asks from an address of loopback that is the caller's own.
func (t *sharedTools) post(ctx context.Context, from int, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	dialer := &net.Dialer{Timeout: 30 * time.Second, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 1+byte(from>>16), byte(from>>8), 1+byte(from)&0x7f)}}
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: t.pool, MinVersion: tls.VersionTLS13}, DialContext: dialer.DialContext, DisableKeepAlives: true}
	defer tr.CloseIdleConnections()
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, t.url+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	q.Header.Set("Content-Type", "application/json")
	resp, err := tr.RoundTrip(q)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d: %.300s", resp.StatusCode, answer)
	}
	return json.Unmarshal(answer, out)
}

// inventoryOf is what a server with three disks says of itself: as large as that of a real one.
func inventoryOf(number int) *wire.Inventory {
	v := &wire.Inventory{Version: 1, Hostname: fmt.Sprintf("server-%05d", number), MemoryBytes: 16 << 30,
		OS: wire.OSRelease{ID: "debian", Version: "12", PrettyName: "Debian GNU/Linux 12 (bookworm)"}, Kernel: wire.Kernel{Release: "6.1.0-18-amd64", Arch: "amd64", Cmdline: "root=UUID=… ro"},
		CPU: wire.CPU{Model: "Intel(R) Xeon(R) CPU", Count: 8}, Firmware: wire.Firmware{Type: "uefi"}, Platform: wire.Platform{Virtualization: "kvm", Vendor: "QEMU"}}
	for i, name := range []string{"sda", "sdb", "sdc"} {
		d := wire.BlockDevice{ID: fmt.Sprintf("wwn-%d-%d", number, i), Name: name, Path: "/dev/" + name, Type: "disk", Size: 100 << 30, LogicalSector: 512, PhysicalSector: 4096,
			MajorMinor: fmt.Sprintf("8:%d", 16*i), Model: "QEMU HARDDISK", Selected: true, Table: &wire.PartitionTable{Scheme: "gpt", ID: fmt.Sprintf("00000000-0000-0000-0000-%012d", number), SectorSize: 512}}
		for p := range 3 {
			d.Table.Partitions = append(d.Table.Partitions, wire.Partition{Number: p + 1, Start: int64(p) << 33, Size: 1 << 33, Type: "0FC63DAF-8483-4772-8E79-3D69D8477DE4", TypeName: "Linux filesystem",
				UUID: fmt.Sprintf("00000000-0000-0000-%04d-%012d", p, number)})
		}
		v.Devices = append(v.Devices, d)
	}
	for i := range 30 {
		v.Services = append(v.Services, fmt.Sprintf("service-number-%d.service", i))
	}
	return v
}
