package memprovider

import (
	"context"

	"github.com/openmigrate/openmigrate/providers"
)

// Capabilities implements providers.Catalogue.
func (p *Provider) Capabilities(ctx context.Context) (providers.Capabilities, error) {
	return p.capabilities(), ctx.Err()
}

func (p *Provider) capabilities() providers.Capabilities {
	c := providers.Capabilities{
		Provider: "memory", Notes: []string{"nothing boots here"},
		MinVolume: 1, MaxVolume: 64 << 40, VolumeStep: 512,
		VolumeSources:   []providers.SourceKind{providers.FromNothing, providers.FromVolume, providers.FromSnapshot},
		InstanceSources: []providers.SourceKind{providers.FromVolume, providers.FromSnapshot},
		MaxDisks:        60, MaxNICs: 8, MAC: true, Address: true, Forwards: true, Console: true, Screenshot: true, ConcurrentTokens: true,
	}
	if p.opts.Dir != "" {
		c.Writers = []providers.WriterKind{providers.WriterFile}
	}
	if p.opts.Shape == Cloud {
		c.Zones = []string{"zone-a", "zone-b"}
		c.MinVolume, c.VolumeStep = 1<<20, 1<<20
		c.VolumeSources = []providers.SourceKind{providers.FromNothing, providers.FromSnapshot}
		c.InstanceSources = []providers.SourceKind{providers.FromSnapshot}
		c.SnapshotInUse = true
		c.Writers = []providers.WriterKind{providers.WriterDevice}
		c.Forwards, c.MAC = false, false
		c.SnapshotBlocks = &providers.BlockLimits{Size: blockSize, PerSecond: 1000, MaxPending: 100, MaxBlocks: c.MaxVolume / blockSize}
		c.VolumeSettings = []providers.Setting{{Name: "type", Help: "kind of volume", Values: []string{"gp3", "io2"}}}
	}
	return c
}

// InstanceTypes implements providers.Catalogue.
func (p *Provider) InstanceTypes(ctx context.Context) ([]providers.InstanceType, error) {
	t := providers.InstanceType{
		ID: SmallType, CPUs: 1, Memory: 1 << 30, Architectures: []providers.Architecture{providers.AMD64},
		Firmware: []providers.Firmware{providers.BIOS, providers.UEFI},
		Buses:    []providers.Bus{providers.VirtioBlk, providers.VirtioSCSI, providers.NVMe, providers.AHCI}, Platform: providers.PlatformKVM,
	}
	if p.opts.Shape == Cloud {
		t.Buses, t.Platform = []providers.Bus{providers.NVMe}, providers.PlatformEC2Nitro
	}
	large := t
	large.ID, large.CPUs, large.Memory = LargeType, 64, 1<<40
	return []providers.InstanceType{t, large}, ctx.Err()
}

// Networks implements providers.Catalogue.
func (p *Provider) Networks(ctx context.Context) ([]providers.Network, error) {
	return []providers.Network{{ID: Isolated, Name: "isolated", Isolated: true}, {ID: Production, Name: "production"}}, ctx.Err()
}
