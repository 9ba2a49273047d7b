package convert

import (
	"fmt"
	"strings"
)

// convertCloudInit names the data sources of the target, so that cloud-init does not look for that of the old platform until it
// gives up, and keeps it from setting up a machine that has been in use as if it were new.
func convertCloudInit(e *editor) error {
	if !e.system.CloudInit {
		return nil
	}
	sources := append(platforms[e.target.Platform].datasources, "None")
	text := fmt.Sprintf(`# Written by OpenMigrate: this machine was moved here, it is not new.
datasource_list: [%s]
datasource: {None: {metadata: {instance-id: openmigrate}}}
network: {config: disabled}
preserve_hostname: true
ssh_deletekeys: false
ssh_genkeytypes: []
ssh_pwauth: unchanged
resize_rootfs: false
growpart: {mode: "off"}
apt_preserve_sources_list: true
manage_etc_hosts: false
`, strings.Join(sources, ", "))
	return e.put("/etc/cloud/cloud.cfg.d/99-openmigrate.cfg", []byte(text), 0o644, "cloud-init knows the target's data source and leaves the machine as it is")
}
