package launch

import (
	"context"
	"crypto/sha256"
	"fmt"

	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/providers"
	"github.com/openmigrate/openmigrate/wire"
)

// converting: the system on the launch's own volumes is made to start at the target.
func converting(ctx context.Context, r *run) (string, error) {
	var all []wire.Volume
	for _, d := range r.row.Disks {
		v, ok, err := r.attach(ctx, d.Volume)
		if err != nil {
			return "", err
		}
		if ok {
			all = append(all, v)
		}
	}
	if len(all) < len(r.row.Disks) {
		return "", nil
	}
	target := r.row.conversion()
	target.Mark = r.mark()
	spec := catalog.JobSpec{ID: r.row.token("convert"), Kind: wire.JobConvert, Machine: r.row.Machine, Volumes: all, Convert: target, Provider: r.row.Provider}
	j, done, err := r.job(ctx, spec, "convert the system")
	r.show(j.Progress)
	if err != nil || !done {
		return "", err
	}
	if err := r.keepReport(ctx, j.ID); err != nil {
		return "", err
	}
	for _, d := range r.row.Disks {
		if err := r.p.DetachVolume(ctx, d.Volume); err != nil {
			return "", err
		}
	}
	return wire.LaunchStarting, nil
}

// keepReport copies the report of a conversion, which outlives the job.
func (r *run) keepReport(ctx context.Context, job string) error {
	report, err := r.Catalog.JobReport(ctx, job)
	if err != nil || len(report) == 0 {
		return err
	}
	return r.DB.Update(ctx, func(w store.Writer) error { return w.Put(tableReports, []byte(r.row.ID), report) })
}

// conversion is what the machine is converted for, without a mark.
func (r *row) conversion() *wire.Conversion {
	c := &wire.Conversion{Platform: platforms[r.Plan.Platform], Disk: buses[r.Plan.Bus], Firmware: string(r.Plan.Firmware)}
	if r.Plan.Bus == providers.PVSCSI {
		c.Platform = platforms[providers.PlatformVMware] // whoever has that bus has the cards of it as well
	}
	if a := r.Template.Address; a != nil {
		c.NICs = []wire.ConvertNIC{{MAC: r.Plan.MAC, LaunchAddress: *a}}
	}
	return c
}

// mark tells the copy that it is one.
func (r *run) mark() *wire.CopyMark {
	return &wire.CopyMark{Machine: r.row.Machine, Launch: r.row.ID, Restpoint: r.row.Restpoint, Kind: r.row.Kind, URL: r.URL, CA: r.CA, Secret: r.row.Secret}
}

// platforms are a provider's in the words of hydrator/convert.
var platforms = map[providers.Platform]string{
	providers.PlatformKVM: "kvm", providers.PlatformEC2Nitro: "ec2", providers.PlatformEC2Xen: "ec2", providers.PlatformVMware: "vmware",
	providers.PlatformGCP: "gcp", providers.PlatformAzure: "azure",
}

// buses are kinds of disks in the words of hydrator/convert.
var buses = map[providers.Bus]string{
	providers.VirtioBlk: "virtio-blk", providers.VirtioSCSI: "virtio-scsi", providers.NVMe: "nvme", providers.AHCI: "sata",
	providers.PVSCSI: "pvscsi", providers.XenBlk: "xen",
}

// macOf derives a locally administered address from a launch.
func macOf(launch string) string {
	sum := sha256.Sum256([]byte("mac of " + launch))
	return fmt.Sprintf("02:%02x:%02x:%02x:%02x:%02x", sum[0], sum[1], sum[2], sum[3], sum[4])
}
