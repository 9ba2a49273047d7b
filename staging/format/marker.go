package format

import (
	"encoding/json"
	"fmt"
	"time"
)

// MarkerName is the object that says whose bucket it is.
const MarkerName = "openmigrate"

const (
	markerMagic = "OMBK"
	maxMarker   = 4 << 10 // bytes
)

// Marker is the first object in a bucket, so that no second project and no older program writes into it by mistake:
// envelope "OMBK" (16, with the key id of the project's keys), then JSON.
type Marker struct {
	Bucket  string    `json:"bucket"`  // random id
	Project string    `json:"project"` // id
	Created time.Time `json:"created"`
}

// EncodeMarker writes a marker.
func EncodeMarker(m *Marker, keys KeyID) ([]byte, error) {
	for _, id := range []string{m.Bucket, m.Project} {
		if err := CheckID(id); err != nil {
			return nil, fmt.Errorf("encode marker: %w", err)
		}
	}
	j, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode marker: %w", err)
	}
	b := make([]byte, envelopeSize)
	putEnvelope(b, markerMagic, keys)
	return append(b, j...), nil
}

// DecodeMarker reads a marker. ErrVersion, ErrCorrupt.
func DecodeMarker(b []byte) (*Marker, KeyID, error) {
	var id KeyID
	if len(b) > maxMarker {
		return nil, id, fmt.Errorf("%w: bucket marker of %d bytes", ErrCorrupt, len(b))
	}
	if err := checkEnvelope(b, markerMagic, "bucket marker", nil); err != nil {
		return nil, id, err
	}
	m := new(Marker)
	if err := json.Unmarshal(b[envelopeSize:], m); err != nil {
		return nil, id, fmt.Errorf("%w: bucket marker: %w", ErrCorrupt, err)
	}
	for _, s := range []string{m.Bucket, m.Project} {
		if err := CheckID(s); err != nil {
			return nil, id, err
		}
	}
	return m, KeyID(b[8:16]), nil
}
