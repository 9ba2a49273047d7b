package main

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
)

// hostFingerprint tells this host from another that has a copy of its files. It gives nothing of the host away.
func hostFingerprint() string {
	h := sha256.New()
	for _, name := range []string{"/etc/machine-id", "/sys/class/dmi/id/product_uuid"} {
		if b, err := os.ReadFile(name); err == nil {
			h.Write(b)
		}
		h.Write([]byte{0})
	}
	return hex.EncodeToString(h.Sum(nil))
}
