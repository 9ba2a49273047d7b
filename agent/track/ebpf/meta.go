package ebpf

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
)

const (
	metaVersion = 1
	metaSize    = 64 << 10
	// maxBases bounds how many unsettled intentions are remembered. Forgetting one costs a scan.
	maxBases = 16
)

// meta is what must be known of the pins to go on with them. It is one value of a map, written by one system call, so a
// process that is killed leaves the value before or after.
type meta struct {
	Version  int               `json:"version"`
	Instance string            `json:"instance"`
	Boot     string            `json:"boot"`
	Maps     map[string]uint32 `json:"maps"`     // ids, by name of the pin
	Programs map[string]uint32 `json:"programs"` // ids, by name
	Links    map[string]uint32 `json:"links"`    // ids, by name of the program
	Misses   map[string]uint64 `json:"misses"`   // recursion misses at the last look, by program
	Disks    []diskMeta        `json:"disks"`
	// First is why disks are new to a tracker that had to begin anew, and Refused why those are that it could not take over, by id, until
	// an agent has watched them: one that dies before takes no reason with it.
	First   string            `json:"first,omitempty"`
	Refused map[string]string `json:"refused,omitempty"`
}

// diskMeta is what must be known of one disk's marks.
type diskMeta struct {
	ID      string `json:"id"`
	Path    string `json:"path"`
	Slot    int    `json:"slot"`
	Dev     uint32 `json:"dev"` // as the kernel's programs know it
	Seq     uint64 `json:"seq"`
	Size    int64  `json:"size"`
	Grain   int64  `json:"grain"`
	BitMaps [3]uint32
	// Bases are the restpoints since each of which the marks hold all writes. Empty: none, because of Why.
	Bases []string `json:"bases"`
	Why   string   `json:"why"`
	// Settling: the marks that were flipped are being dropped.
	Settling bool `json:"settling"`
}

func (m *meta) save(to *ebpf.Map) error {
	b, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode the state of tracking: %w", err)
	}
	if len(b)+4 > metaSize {
		return fmt.Errorf("save the state of tracking: %d bytes are more than fit", len(b))
	}
	value := make([]byte, metaSize)
	binary.LittleEndian.PutUint32(value, uint32(len(b)))
	copy(value[4:], b)
	if err := to.Put(uint32(0), value); err != nil {
		return fmt.Errorf("save the state of tracking: %w", err)
	}
	return nil
}

func loadMeta(from *ebpf.Map) (*meta, error) {
	value := make([]byte, metaSize)
	if from.ValueSize() != metaSize {
		return nil, errors.New("its size is not ours")
	}
	if err := from.Lookup(uint32(0), &value); err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint32(value)
	if n == 0 || n > metaSize-4 {
		return nil, errors.New("it is empty or damaged")
	}
	m := new(meta)
	if err := json.Unmarshal(value[4:4+n], m); err != nil {
		return nil, err
	}
	seen := map[int]bool{}
	for _, d := range m.Disks {
		if d.Slot < 0 || d.Slot >= slots || seen[d.Slot] || d.Size <= 0 || d.Grain < 4096 || d.Grain&(d.Grain-1) != 0 {
			return nil, errors.New("it is damaged")
		}
		seen[d.Slot] = true
	}
	return m, nil
}
