package durable

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
)

// recordHeader is the bytes before the JSON.
const recordHeader = 12

// Record is a kind of small file that proves itself: magic, version u16, flags u16, length of the JSON u32, the JSON, SHA-256 over all
// before it. Numbers are little-endian, flags are 0.
type Record struct {
	Name    string // for people: volume journal
	Magic   string // 4 bytes
	Version uint16
	Max     int // bytes of a file

	Corrupt error // what Decode's errors are, when it cannot be read
	Newer   error // when a newer version wrote it
}

// Encode writes v as it is in the file.
func (r *Record) Encode(v any) ([]byte, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", r.Name, err)
	}
	b := append(make([]byte, 0, recordHeader+len(body)+sha256.Size), r.Magic...)
	b = binary.LittleEndian.AppendUint16(b, r.Version)
	b = binary.LittleEndian.AppendUint16(b, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(body)))
	b = append(b, body...)
	sum := sha256.Sum256(b)
	return append(b, sum[:]...), nil
}

// Decode reads into v what Encode writes: Corrupt or Newer otherwise.
func (r *Record) Decode(b []byte, v any) error {
	if len(b) < recordHeader+sha256.Size || len(b) > r.Max || string(b[:4]) != r.Magic {
		return fmt.Errorf("%w: %d bytes", r.Corrupt, len(b))
	}
	if v := binary.LittleEndian.Uint16(b[4:]); v != r.Version || binary.LittleEndian.Uint16(b[6:]) != 0 {
		return fmt.Errorf("%w: version %d, this program knows %d; upgrade it", r.Newer, v, r.Version)
	}
	end := len(b) - sha256.Size
	if sum := sha256.Sum256(b[:end]); !bytes.Equal(sum[:], b[end:]) || int64(binary.LittleEndian.Uint32(b[8:])) != int64(end-recordHeader) {
		return fmt.Errorf("%w: checksum", r.Corrupt)
	}
	if err := json.Unmarshal(b[recordHeader:end], v); err != nil {
		return fmt.Errorf("%w: %w", r.Corrupt, err)
	}
	return nil
}
