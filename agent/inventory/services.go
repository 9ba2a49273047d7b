package inventory

import (
	"maps"
	"slices"
	"strings"

	"github.com/openmigrate/openmigrate/wire"
)

// services lists the units that an administrator, or a package for him, has enabled: those that targets below /etc want or
// require. What systemd itself ships as wanted below /usr/lib is on every host, and tells nothing.
func (c *collector) services() {
	const dir = "/etc/systemd/system"
	units := map[string]bool{}
	for _, sub := range names(c.path(dir)) {
		if !strings.HasSuffix(sub, ".wants") && !strings.HasSuffix(sub, ".requires") {
			continue
		}
		for _, unit := range names(c.path(dir + "/" + sub)) {
			if len(unit) <= wire.MaxNameLength && len(units) <= wire.MaxServices {
				units[clip(unit)] = true
			}
		}
	}
	c.inv.Services = cut(c, "services", slices.Sorted(maps.Keys(units)), wire.MaxServices)
}
