package format

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"
)

// A keys object holds a project's keys once for each way of opening them:
//
//	envelope "OMKY" (16), number of slots u16, slots
//	slot: kind u8, hint length u8, hint, length u32, age file
//	inside each age file: "openmigrate v1 keys\n", project length u8, project, data key [32], id key [32]
const (
	keysMagic   = "OMKY"
	keysDomain  = "openmigrate v1 keys\n"
	maxKeys     = 64 << 10 // bytes of object
	maxSlots    = 16
	maxWrapped  = 8 << 10 // bytes of one slot's age file
	maxScryptLN = 20      // log2 of the work that a hostile passphrase slot may ask for
)

// SlotKind says who can open a slot.
type SlotKind uint8

// Kinds of slots.
const (
	SlotLocal      SlotKind = 1 // the master's key file
	SlotRecovery   SlotKind = 2 // an offline recovery key
	SlotPassphrase SlotKind = 3
)

// Slot is one way of opening a project's keys. Hint tells people which one it is; it is not secret.
type Slot struct {
	Kind      SlotKind
	Hint      string
	Recipient age.Recipient // for wrapping
	wrapped   []byte
}

// KeysName is the object that holds a project's keys.
func KeysName(project string) string { return "keys/" + project }

// WrapKeys makes a keys object.
func WrapKeys(project string, k *Keys, slots []Slot) ([]byte, error) {
	for i := range slots {
		if err := slots[i].wrap(project, k); err != nil {
			return nil, err
		}
	}
	return encodeSlots(k.ID(), slots)
}

// AddSlot adds a way of opening the keys to a keys object, in the place of one with the same kind and hint.
func AddSlot(object []byte, project string, k *Keys, slot Slot) ([]byte, error) {
	slots, keyID, err := decodeSlots(object)
	if err != nil {
		return nil, err
	}
	if keyID != k.ID() {
		return nil, fmt.Errorf("%w: keys object", ErrWrongKey)
	}
	if err := slot.wrap(project, k); err != nil {
		return nil, err
	}
	keep := slots[:0]
	for _, s := range slots {
		if s.Kind != slot.Kind || s.Hint != slot.Hint {
			keep = append(keep, s)
		}
	}
	return encodeSlots(keyID, append(keep, slot))
}

// ListSlots tells the ways of opening a keys object.
func ListSlots(object []byte) ([]Slot, error) {
	slots, _, err := decodeSlots(object)
	return slots, err
}

// UnwrapKeys opens a keys object with any of ids. ErrWrongKey when none of them opens a slot or the keys are another project's.
func UnwrapKeys(object []byte, project string, ids ...age.Identity) (*Keys, error) {
	slots, keyID, err := decodeSlots(object)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		if s, ok := id.(*age.ScryptIdentity); ok {
			s.SetMaxWorkFactor(maxScryptLN)
		}
	}
	for _, s := range slots {
		plain, err := unwrap(s.wrapped, ids)
		if err != nil {
			continue // another slot may open
		}
		secret, ok := bytes.CutPrefix(plain, boundTo(project))
		if !ok {
			return nil, fmt.Errorf("%w: keys are not of project %s", ErrWrongKey, project)
		}
		k, err := UnmarshalKeys(secret)
		if err != nil {
			return nil, err
		}
		if k.ID() != keyID {
			return nil, fmt.Errorf("%w: keys object holds other keys than it names", ErrCorrupt)
		}
		return k, nil
	}
	return nil, fmt.Errorf("%w: none of its %d slots opens with the keys given", ErrWrongKey, len(slots))
}

func unwrap(wrapped []byte, ids []age.Identity) ([]byte, error) {
	if len(ids) == 0 {
		return nil, errors.New("no key given")
	}
	r, err := age.Decrypt(bytes.NewReader(wrapped), ids...)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(r, maxWrapped))
}

func boundTo(project string) []byte {
	return append(append([]byte(keysDomain), byte(len(project))), project...)
}

func (s *Slot) wrap(project string, k *Keys) error {
	if err := CheckID(project); err != nil {
		return fmt.Errorf("wrap keys: %w", err)
	}
	var out bytes.Buffer
	w, err := age.Encrypt(&out, s.Recipient)
	if err != nil {
		return fmt.Errorf("wrap keys: %w", err)
	}
	if _, err := w.Write(append(boundTo(project), k.MarshalBinary()...)); err != nil {
		return fmt.Errorf("wrap keys: %w", err)
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("wrap keys: %w", err)
	}
	s.wrapped = out.Bytes()
	return nil
}

func encodeSlots(keyID KeyID, slots []Slot) ([]byte, error) {
	if len(slots) == 0 || len(slots) > maxSlots {
		return nil, fmt.Errorf("encode keys object: %d slots, want 1 to %d", len(slots), maxSlots)
	}
	b := make([]byte, envelopeSize)
	putEnvelope(b, keysMagic, keyID)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(slots)))
	for _, s := range slots {
		if len(s.Hint) > 255 || len(s.wrapped) > maxWrapped {
			return nil, fmt.Errorf("encode keys object: slot of %d bytes with a hint of %d", len(s.wrapped), len(s.Hint))
		}
		b = append(b, byte(s.Kind), byte(len(s.Hint)))
		b = append(b, s.Hint...)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(s.wrapped)))
		b = append(b, s.wrapped...)
	}
	if len(b) > maxKeys {
		return nil, fmt.Errorf("encode keys object: %d bytes, limit %d; remove a slot first", len(b), maxKeys)
	}
	return b, nil
}

func decodeSlots(b []byte) ([]Slot, KeyID, error) {
	var keyID KeyID
	bad := func() ([]Slot, KeyID, error) { return nil, keyID, fmt.Errorf("%w: keys object", ErrCorrupt) }
	if len(b) > maxKeys {
		return bad()
	}
	if err := checkEnvelope(b, keysMagic, "keys object", nil); err != nil {
		return nil, keyID, err
	}
	keyID = KeyID(b[8:16])
	b = b[envelopeSize:]
	if len(b) < 2 {
		return bad()
	}
	n := int(binary.LittleEndian.Uint16(b))
	b = b[2:]
	if n == 0 || n > maxSlots {
		return bad()
	}
	slots := make([]Slot, n)
	for i := range slots {
		if len(b) < 2 || len(b) < 2+int(b[1])+4 {
			return bad()
		}
		slots[i].Kind, slots[i].Hint = SlotKind(b[0]), string(b[2:2+int(b[1])])
		b = b[2+int(b[1]):]
		size := int64(binary.LittleEndian.Uint32(b))
		b = b[4:]
		if size > maxWrapped || size > int64(len(b)) {
			return bad()
		}
		slots[i].wrapped = bytes.Clone(b[:size])
		b = b[size:]
	}
	if len(b) != 0 {
		return bad()
	}
	return slots, keyID, nil
}
