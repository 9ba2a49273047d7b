package track_test

import (
	"testing"

	"github.com/openmigrate/openmigrate/agent/track"
	"github.com/openmigrate/openmigrate/agent/track/tracktest"
)

func TestScan(t *testing.T) {
	tracktest.Run(t, tracktest.Subject{
		Open:  func() track.Tracker { return &track.Scan{} },
		Disk:  track.Disk{ID: "disk", Path: "/dev/zero", Size: 1 << 30},
		Write: func(int64) {},
	})
}
