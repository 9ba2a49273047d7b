package awsfake

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/openmigrate/openmigrate/internal/clock"
)

// Account is what everything belongs to.
const Account = "123456789012"

// Key is a long-lived access key of a principal.
type Key struct{ ID, Secret, Principal string }

// Options change a Server. The zero value, or nil, is an account in us-east-1 with one key (TestKey), two zones and nothing slow.
type Options struct {
	Region string
	Keys   []Key
	Roles  []Role
	Clock  clock.Clock // Real when nil
	// Settle is how long a thing stays in a state on its way (creating, pending, stopping…).
	Settle time.Duration
	// Lag is how long a new thing is unknown to calls that name or list it: UG/ec2-api-troubleshooting, "Eventual consistency".
	Lag time.Duration
	// Latency is how long each answer takes longer.
	Latency time.Duration
	// Dir keeps blocks in files of that folder; in memory when empty. The caller removes it.
	Dir    string
	Limits Limits
	Types  []Type // DefaultTypes when nil
	// Boot returns what the console shows of an instance that comes up. It must not call the server.
	Boot func(instance string) string
	// Allow says whether a principal may do an action such as "ec2:CreateVolume"; all of them when nil.
	Allow func(principal, action string) bool
}

// TestKey is the key of a Server without Options.Keys.
var TestKey = Key{"AKIAOPENMIGRATETEST1", "openmigrate/test/secret/key/of/no/account", "arn:aws:iam::" + Account + ":user/test"}

// Limits are quotas of the account. Zero fields have the defaults that AWS documents, negative ones are none.
type Limits struct {
	VolumeGiB        int // of all volumes together
	Snapshots        int
	PendingSnapshots int // that are written through the direct APIs
	VCPUs            int
	// Calls of the EC2 API: tokens in an action's bucket and its refill each second (UG/ec2-api-throttling). No limit when 0.
	CallBurst, CallRate float64
	// PutRate is blocks a second, of the account and of each snapshot; StartRate is calls of StartSnapshot, and of CompleteSnapshot, a second.
	PutRate, StartRate float64
}

func (l *Limits) defaults() {
	for _, x := range []struct {
		v *int
		d int
	}{{&l.VolumeGiB, 50 << 10}, {&l.Snapshots, 100_000}, {&l.PendingSnapshots, 100}, {&l.VCPUs, 256}} {
		if *x.v == 0 {
			*x.v = x.d
		}
	}
	if l.PutRate == 0 {
		l.PutRate = 1000
	}
	if l.StartRate == 0 {
		l.StartRate = 10
	}
}

// Server is the endpoint. It is an http.Handler.
type Server struct {
	opts  Options
	types map[string]*Type

	mu        sync.Mutex
	volumes   map[string]*volume   // guarded by mu, as all below
	snapshots map[string]*snapshot //
	images    map[string]*image
	instances map[string]*instance
	subnets   map[string]*subnet
	groups    map[string]*group
	kmsKeys   map[string]bool // whether it is enabled
	tokens    map[string]idempotent
	sessions  map[string]session // by temporary access key
	buckets   map[string]*bucket
	faults    []*Fault
	counts    map[string]int // of calls by action, throttled and refused ones, too
	blocks    *blockStore
	serial    int
	lost      int
}

// New returns an account with one VPC, a subnet in each of two zones, and the VPC's default security group.
func New(opts *Options) *Server {
	s := &Server{types: map[string]*Type{}, volumes: map[string]*volume{}, snapshots: map[string]*snapshot{}, images: map[string]*image{}, instances: map[string]*instance{},
		subnets: map[string]*subnet{}, groups: map[string]*group{}, kmsKeys: map[string]bool{}, tokens: map[string]idempotent{}, sessions: map[string]session{},
		buckets: map[string]*bucket{}, counts: map[string]int{}}
	if opts != nil {
		s.opts = *opts
	}
	if s.opts.Region == "" {
		s.opts.Region = "us-east-1"
	}
	if s.opts.Clock == nil {
		s.opts.Clock = clock.Real{}
	}
	if s.opts.Keys == nil {
		s.opts.Keys = []Key{TestKey}
	}
	if s.opts.Types == nil {
		s.opts.Types = DefaultTypes
	}
	for i := range s.opts.Types {
		s.types[s.opts.Types[i].Name] = &s.opts.Types[i]
	}
	s.opts.Limits.defaults()
	s.blocks = &blockStore{dir: s.opts.Dir}
	s.network()
	return s
}

// Region is where the account is.
func (s *Server) Region() string { return s.opts.Region }

// Zones are the availability zones of the region.
func (s *Server) Zones() []string { return []string{s.opts.Region + "a", s.opts.Region + "b"} }

// Calls is how often actions were called since the start, by name ("ec2:CreateVolume"), whatever became of them.
func (s *Server) Calls() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.counts)
}

// maxBody is the most that a request may carry: a block and what is around it.
const maxBody = 1 << 20

// ServeHTTP answers one request. Which service is meant is in the signature's scope, as at AWS behind one address.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil || len(body) > maxBody {
		http.Error(w, "request too large, or cut off", http.StatusRequestEntityTooLarge)
		return
	}
	if s.opts.Latency > 0 {
		time.Sleep(s.opts.Latency)
	}
	who, err := s.verify(r, body)
	service := who.service
	if service == "" {
		service = "ec2" // unsigned: answer in some form
	}
	if err != nil {
		write(w, service, failed(err))
		return
	}
	switch service {
	case "ec2", "sts":
		s.query(w, r, who, body)
	case "ebs":
		s.rest(w, r, who, body)
	default:
		write(w, "ec2", failed(&apiError{403, "SignatureDoesNotMatch", "Credential should be scoped to a service that is here, not " + service, ""}))
	}
}

// apiError is an answer that is no success. Reason is of the direct APIs only.
type apiError struct {
	status                int
	code, message, reason string
}

func (e *apiError) Error() string { return e.code + ": " + e.message }

func fail(code, message string) error { return &apiError{http.StatusBadRequest, code, message, ""} }

// answer is what goes back.
type answer struct {
	status int
	header map[string]string
	body   []byte
	err    *apiError
}

func failed(err error) *answer {
	var e *apiError
	if !errors.As(err, &e) {
		e = &apiError{http.StatusInternalServerError, "InternalError", err.Error(), ""}
	}
	return &answer{status: e.status, err: e}
}

// id makes an id of a kind: EC2's long form, seventeen hexadecimal digits (UG/resource-ids).
func (s *Server) id(prefix string) string {
	b := make([]byte, 9)
	_, _ = rand.Read(b) // never fails
	return prefix + "-" + hex.EncodeToString(b)[:17]
}

func (s *Server) now() time.Time { return s.opts.Clock.Now() }

// visible reports whether something that was made then is known to reads by now.
func (s *Server) visible(created time.Time) bool { return !s.now().Before(created.Add(s.opts.Lag)) }

func requestID() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails
	h := hex.EncodeToString(b)
	return strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")
}
