package qemu

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os/exec"
	"sync"
	"time"

	"github.com/openmigrate/openmigrate/providers"
)

// instance is a machine. What is wanted of it stands in its record; one worker at a time, in the background, makes it so.
type instance struct {
	instanceRecord
	// These, and the record, are guarded by Provider.mu.
	working   bool               // there is a worker
	interrupt context.CancelFunc // has the worker look again at what is wanted
	adopted   bool               // this Provider has seen the process of a running machine

	monitor sync.Mutex // held while one speaks QMP, because QEMU serves one client; taken before Provider.mu
}

func newInstance(r instanceRecord) *instance {
	return &instance{instanceRecord: r, interrupt: func() {}}
}

// CreateInstance implements providers.Instances. It returns when the machine is written down; it starts in the background.
func (p *Provider) CreateInstance(ctx context.Context, spec providers.InstanceSpec) (providers.Instance, error) {
	text, err := json.Marshal(spec)
	if err != nil {
		return providers.Instance{}, err
	}
	c := p.capabilities()
	if err := spec.Check(&c); err != nil {
		return providers.Instance{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if ctx.Err() != nil {
		return providers.Instance{}, ctx.Err()
	}
	id := idFor(providers.KindInstance, spec.Token)
	if i := p.instances[id]; i != nil {
		return i.view(), again(providers.KindInstance, id, i.Spec == string(text), i.Instance.State)
	}
	i, volumes, err := p.planInstance(id, &c, spec)
	if err != nil {
		return providers.Instance{}, fmt.Errorf("create instance: %w", err)
	}
	i.Spec = string(text)
	if err := p.saveInstance(i); err != nil {
		return providers.Instance{}, fmt.Errorf("create instance: %w", err)
	}
	p.instances[id] = i
	step("instance recorded")
	for _, v := range volumes {
		if err := p.addVolume(v); err != nil {
			p.fail(i, fmt.Errorf("make its disk: %w", err))
			break
		}
	}
	p.kick(i)
	return i.Instance, nil
}

// checkHost refuses, before anything is made, a machine that this host cannot run. It fills in the bus. The caller holds mu.
func (p *Provider) checkHost(spec *providers.InstanceSpec) error {
	typ, err := parseType(spec.Type)
	if err == nil {
		err = spec.CheckType(typ)
	}
	if err == nil {
		err = checkNICs(spec.NICs)
	}
	if err == nil {
		err = p.checkPrograms(spec.Firmware)
	}
	if err == nil {
		err = p.memoryRoom(typ.Memory)
	}
	return err
}

func (p *Provider) checkPrograms(firmware providers.Firmware) error {
	if _, err := exec.LookPath(p.opts.QEMU); err != nil {
		return fmt.Errorf("%w: %w; install the package qemu-system-x86", providers.ErrInvalid, err)
	}
	if firmware == providers.UEFI {
		_, _, err := findOVMF()
		return err
	}
	return nil
}

// planInstance looks at what a machine is made of and returns it with the volumes that must be made for it. The caller holds mu.
func (p *Provider) planInstance(id string, c *providers.Capabilities, spec providers.InstanceSpec) (*instance, []*volume, error) {
	if err := p.checkHost(&spec); err != nil {
		return nil, nil, err
	}
	sum := sha256.Sum256([]byte(id))
	i := newInstance(instanceRecord{Request: spec, Want: providers.StateRunning, UUID: newUUID()})
	i.Instance = providers.Instance{ID: id, Name: spec.Name, Owner: spec.Owner, Tags: maps.Clone(spec.Tags), Type: spec.Type, Firmware: spec.Firmware, Bus: spec.Bus,
		State: providers.StateCreating, Created: time.Now().UTC()}
	var made []*volume
	var size int64
	for n, d := range spec.Disks {
		volume := d.From.ID
		if d.From.Kind == providers.FromSnapshot {
			v, err := p.planVolume(idFor(providers.KindVolume, fmt.Sprintf("%s.%d", id, n)), c, providers.VolumeSpec{Meta: spec.Meta, From: d.From})
			if err != nil {
				return nil, nil, err
			}
			made, size, volume = append(made, v), size+v.Filled, v.Volume.ID
		} else if err := p.checkDisk(volume); err != nil {
			return nil, nil, err
		}
		i.Instance.Disks = append(i.Instance.Disks, providers.InstanceDisk{Volume: volume, Delete: d.Delete, Boot: n == spec.Boot})
	}
	for n, nic := range spec.NICs {
		i.Instance.NICs = append(i.Instance.NICs, plug(sum, n, nic))
	}
	return i, made, p.diskRoom(size)
}

// newUUID is a random one, so that no other machine on this host has it, whatever directory it is of.
func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// checkDisk refuses a volume that cannot become a disk. The caller holds mu.
func (p *Provider) checkDisk(id string) error {
	v, err := p.known(id)
	if err != nil {
		return err
	}
	user := p.userOf(id)
	switch {
	case v.Volume.State != providers.StateAvailable:
		err = fmt.Errorf("%w: volume %s is %s", providers.ErrConflict, id, v.Volume.State)
	case user != nil:
		err = fmt.Errorf("%w: volume %s is a disk of instance %s", providers.ErrConflict, id, user.Instance.ID)
	case v.Volume.Attachment != nil:
		err = fmt.Errorf("%w: volume %s is attached to a writer; detach it first", providers.ErrConflict, id)
	case v.readers > 0:
		err = fmt.Errorf("%w: volume %s is being copied", providers.ErrConflict, id)
	}
	return err
}

// plug makes the n-th card of the machine with that hash. The ports of its forwards are chosen at each start.
func plug(sum [32]byte, n int, nic providers.NIC) providers.InstanceNIC {
	out := providers.InstanceNIC{Network: nic.Network, MAC: nic.MAC}
	if out.MAC == "" {
		// Of a vendor that nobody is: locally administered.
		out.MAC = net.HardwareAddr{0x52, 0x54, 0x00, sum[16], sum[17], sum[18] + byte(n)}.String()
	} else if mac, err := net.ParseMAC(nic.MAC); err == nil {
		out.MAC = mac.String() // one form, whatever was given
	}
	if nic.Network == Isolated || nic.Network == NAT {
		addr := nic.Address
		if !addr.IsValid() {
			addr = netip.AddrFrom4([4]byte{10, 0, byte(userSubnet + n), 15})
		}
		out.Addresses = []netip.Addr{addr}
	}
	for _, port := range nic.Forward {
		out.Forwards = append(out.Forwards, providers.Forward{Port: port, Address: netip.AddrPortFrom(loopback, 0)})
	}
	return out
}

var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})
