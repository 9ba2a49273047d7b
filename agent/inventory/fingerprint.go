package inventory

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"path/filepath"
	"slices"
	"strings"

	"github.com/openmigrate/openmigrate/agent/source"
)

// HostFingerprint tells a host from a copy of it: a hash of the machine id, which a copied disk carries along, and of the UUID
// that the firmware gives the machine, which it does not. Where there is no such UUID the first disk, in the order of names,
// that has a world wide name or a serial number stands in for it. So a clone has another fingerprint, and a restart, another
// kernel, a new address and, on all but such hosts, a replaced disk leave it the same. Root is put before every path; empty on a real host.
//
// It is the same for two hosts only if a copy was given the same UUID; the agent's generation counter is for those.
func HostFingerprint(root string) string {
	h := sha256.New()
	for _, s := range []string{"openmigrate host fingerprint v1", machineID(root), hardwareID(root)} {
		h.Write([]byte(s))
		h.Write([]byte{0}) // no part holds one
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

func hardwareID(root string) string {
	if id := attr(filepath.Join(root, "/sys/class/dmi/id"), "product_uuid"); usableUUID(id) {
		return "dmi " + strings.ToLower(id)
	}
	list := names(filepath.Join(root, "/sys/block"))
	slices.SortFunc(list, byImportance)
	for _, name := range list {
		if deviceType(name) != "disk" {
			continue
		}
		var a source.DeviceAttrs
		a.ReadSys(filepath.Join(root, "/sys/block", name))
		if id := (source.DeviceAttrs{WWN: a.WWN, Model: a.Model, Serial: a.Serial}).StableID(); id != "" {
			return "disk " + id
		}
	}
	return ""
}

// usableUUID refuses what firmware gives when no one set it.
func usableUUID(id string) bool {
	switch id = strings.ToLower(id); {
	case strings.Trim(id, "0-") == "", strings.Trim(id, "f-") == "", id == "03000200-0400-0500-0006-000700080009":
		return false
	}
	return true
}

func machineID(root string) string {
	if id := attr(filepath.Join(root, "/etc"), "machine-id"); id != "" {
		return id
	}
	return attr(filepath.Join(root, "/var/lib/dbus"), "machine-id")
}

// hashedMachineID is what may leave the host: machine-id(5) asks that the id itself be kept, and hashed with a key for each use.
func hashedMachineID(root string) string {
	id := machineID(root)
	if id == "" {
		return ""
	}
	mac := hmac.New(sha256.New, []byte(id))
	mac.Write([]byte("openmigrate machine id v1"))
	return hex.EncodeToString(mac.Sum(nil)[:16])
}
