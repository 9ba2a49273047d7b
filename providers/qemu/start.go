package qemu

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/openmigrate/openmigrate/internal/durable"
	"github.com/openmigrate/openmigrate/providers"
)

// portTries is how often other ports are chosen when somebody else took one between the choice and QEMU's use of it.
const portTries = 5

// start starts a machine that has no process.
func (p *Provider) start(ctx context.Context, i *instance, disks []disk) error {
	m, err := p.describe(i, disks)
	if err != nil {
		return err
	}
	m.accel = p.accel.find(ctx, &p.opts).Name
	for try := 1; ; try++ {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if m.nics, err = p.planStart(i); err != nil {
			return err
		}
		step("start recorded")
		taps, files, err := openTaps(m.nics)
		if err != nil {
			return err
		}
		m.taps = taps
		err = p.spawn(m.id, m.args(), files)
		for _, f := range files {
			f.Close()
		}
		if err != nil {
			return err
		}
		step("spawned")
		err = p.adopt(ctx, i)
		if err == nil || try == portTries || !strings.Contains(err.Error(), "host forwarding rule") {
			return err
		}
	}
}

// describe puts together what the command line is made of.
func (p *Provider) describe(i *instance, disks []disk) (*machine, error) {
	typ, err := parseType(i.Instance.Type)
	if err != nil {
		return nil, err
	}
	m := &machine{id: i.Instance.ID, uuid: i.UUID, typ: typ, firmware: i.Instance.Firmware, bus: i.Instance.Bus, disks: disks,
		model: nicModels["virtio"], clock: "utc"}
	if model := nicModels[i.Request.Settings["nic"]]; model != "" {
		m.model = model
	}
	if i.Request.Settings["clock"] == "localtime" {
		m.clock = "localtime"
	}
	if m.firmware == providers.UEFI {
		code, template, err := findOVMF()
		if err != nil {
			return nil, err
		}
		m.code, m.vars = code, p.path(instancesDir, m.id, varsName)
		// Its own variables, for as long as it lives.
		if _, err := os.Stat(m.vars); errors.Is(err, os.ErrNotExist) {
			b, err := os.ReadFile(template)
			if err == nil {
				err = durable.WriteFile(m.vars, b, 0o600)
			}
			if err != nil {
				return nil, fmt.Errorf("copy the template of UEFI variables: %w", hostError(err))
			}
		}
	}
	return m, nil
}

// planStart writes down that a machine is about to start, and with which ports, so that whoever comes next finds it.
func (p *Provider) planStart(i *instance) ([]providers.InstanceNIC, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	nics := slices.Clone(i.Instance.NICs)
	for n := range nics {
		nics[n].Forwards = slices.Clone(nics[n].Forwards)
		for f := range nics[n].Forwards {
			port, err := freePort()
			if err != nil {
				return nil, fmt.Errorf("choose a port: %w", err)
			}
			nics[n].Forwards[f].Address = netip.AddrPortFrom(loopback, port)
		}
	}
	i.Instance.NICs = nics
	i.Run = run{Boot: bootID(), Ever: i.Run.Ever}
	return nics, p.saveInstance(i)
}

// freePort returns a TCP port of the loopback that nobody listened on a moment ago.
func freePort() (uint16, error) {
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return 0, err
	}
	port := l.Addr().(*net.TCPAddr).AddrPort().Port()
	return port, l.Close()
}
