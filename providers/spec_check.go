package providers

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Check refuses, with ErrInvalid, what no provider takes and what these capabilities rule out. Providers call it first.
func (s *VolumeSpec) Check(c *Capabilities) error {
	err := s.checkMeta()
	switch {
	case err != nil:
	case s.Size < 0 || s.Size == 0 && s.From.Kind == FromNothing:
		err = fmt.Errorf("size of %d bytes", s.Size)
	case s.Filled < 0 || s.Size > 0 && s.Filled > s.Size:
		err = fmt.Errorf("%d bytes of data in %d", s.Filled, s.Size)
	case s.From.Kind == FromNothing && s.From.ID != "" || s.From.Kind != FromNothing && !id(s.From.ID):
		err = fmt.Errorf("source %q", s.From.ID)
	case s.From.Kind != FromNothing && !c.CanMakeVolumeFrom(s.From.Kind):
		err = fmt.Errorf("%s cannot make volumes from a %q, only from %q", c.Provider, s.From.Kind, c.VolumeSources)
	case s.Zone != "" && !slices.Contains(c.Zones, s.Zone):
		err = fmt.Errorf("unknown zone %q; there are %q", s.Zone, c.Zones)
	default:
		err = settings(s.Settings, c.VolumeSettings)
	}
	if err == nil && s.Size > 0 {
		_, err = c.RoundSize(s.Size)
	}
	return invalid("create volume", err)
}

// Check is as VolumeSpec.Check.
func (s *SnapshotSpec) Check(*Capabilities) error {
	err := s.checkMeta()
	if err == nil && !id(s.Volume) {
		err = fmt.Errorf("volume %q", s.Volume)
	}
	return invalid("create snapshot", err)
}

// Check is as VolumeSpec.Check.
func (s *BlockSnapshotSpec) Check(c *Capabilities) error {
	err := s.checkMeta()
	switch {
	case err != nil:
	case c.SnapshotBlocks == nil:
		err = fmt.Errorf("%s has no snapshots that are written by blocks", c.Provider)
	case s.Parent != "" && !id(s.Parent):
		err = fmt.Errorf("parent %q", s.Parent)
	default:
		_, err = c.RoundSize(s.Size)
	}
	return invalid("begin snapshot", err)
}

// Check is as VolumeSpec.Check. Whether the type has that firmware, bus and architecture is CheckType's to say.
func (s *InstanceSpec) Check(c *Capabilities) error {
	err := s.checkMeta()
	switch {
	case err != nil:
	case !id(s.Type):
		err = fmt.Errorf("instance type %q", s.Type)
	case len(s.Disks) == 0 || len(s.Disks) > c.MaxDisks:
		err = fmt.Errorf("%d disks; it takes 1 to %d", len(s.Disks), c.MaxDisks)
	case s.Boot < 0 || s.Boot >= len(s.Disks):
		err = fmt.Errorf("boot disk %d of %d", s.Boot, len(s.Disks))
	case len(s.NICs) > c.MaxNICs:
		err = fmt.Errorf("%d network cards; it takes up to %d", len(s.NICs), c.MaxNICs)
	default:
		err = settings(s.Settings, c.InstanceSettings)
	}
	seen := map[Source]bool{}
	for _, d := range s.Disks {
		switch {
		case err != nil:
		case !id(d.From.ID):
			err = fmt.Errorf("disk %q", d.From.ID)
		case !c.CanMakeInstanceFrom(d.From.Kind):
			err = fmt.Errorf("%s cannot make instances from a %q, only from %q", c.Provider, d.From.Kind, c.InstanceSources)
		case d.From.Kind == FromVolume && seen[d.From]:
			err = fmt.Errorf("volume %s is named twice", d.From.ID)
		}
		seen[d.From] = true
	}
	for _, n := range s.NICs {
		if err == nil {
			err = n.check(c)
		}
	}
	return invalid("create instance", err)
}

// CheckType refuses, with ErrInvalid, an instance that its type cannot be. An empty bus becomes the type's first.
func (s *InstanceSpec) CheckType(t InstanceType) error {
	if s.Bus == "" && len(t.Buses) > 0 {
		s.Bus = t.Buses[0]
	}
	var err error
	switch {
	case !slices.Contains(t.Architectures, s.Architecture):
		err = fmt.Errorf("type %s is for %q, and the machine's architecture is %q", t.ID, t.Architectures, s.Architecture)
	case !slices.Contains(t.Firmware, s.Firmware):
		err = fmt.Errorf("type %s has firmware %q, and the machine needs %q", t.ID, t.Firmware, s.Firmware)
	case !slices.Contains(t.Buses, s.Bus):
		err = fmt.Errorf("type %s has disks on %q, not on %q", t.ID, t.Buses, s.Bus)
	}
	return invalid("create instance", err)
}

func (n *NIC) check(c *Capabilities) error {
	switch {
	case !id(n.Network):
		return fmt.Errorf("network %q", n.Network)
	case n.MAC != "" && !c.MAC, n.Address.IsValid() && !c.Address, len(n.Forward) > 0 && !c.Forwards:
		return fmt.Errorf("%s cannot keep a MAC (%v), keep an address (%v) or forward ports (%v)", c.Provider, c.MAC, c.Address, c.Forwards)
	case len(n.Forward) > 64 || slices.Contains(n.Forward, 0):
		return fmt.Errorf("forwards of ports %v", n.Forward)
	}
	if n.MAC != "" {
		mac, err := net.ParseMAC(n.MAC)
		if err != nil || len(mac) != 6 || mac[0]&1 != 0 {
			return fmt.Errorf("MAC %q", n.MAC)
		}
	}
	for i, p := range n.Forward {
		if slices.Contains(n.Forward[:i], p) {
			return fmt.Errorf("port %d is forwarded twice", p)
		}
	}
	for _, g := range n.Groups {
		if !id(g) {
			return fmt.Errorf("group %q", g)
		}
	}
	return nil
}

func (m *Meta) checkMeta() error {
	if m.Token == "" || len(m.Token) > MaxToken || strings.IndexFunc(m.Token, notWord) >= 0 {
		return fmt.Errorf("token %q: want up to %d letters, digits, - and _", clip(m.Token), MaxToken)
	}
	if !text(m.Owner.System, 1, MaxTagValue) || !text(m.Owner.Launch, 1, MaxTagValue) {
		return fmt.Errorf("owner %q, %q", clip(m.Owner.System), clip(m.Owner.Launch))
	}
	if !text(m.Name, 0, MaxName) {
		return fmt.Errorf("name %q: want up to %d bytes of printable text", clip(m.Name), MaxName)
	}
	if len(m.Tags) > MaxTags {
		return fmt.Errorf("%d tags, of at most %d", len(m.Tags), MaxTags)
	}
	for k, v := range m.Tags {
		if !text(k, 1, MaxTagKey) || !text(v, 0, MaxTagValue) || strings.HasPrefix(k, ReservedTags) {
			return fmt.Errorf("tag %q=%q: want printable text, up to %d and %d bytes, and no key that begins with %q",
				clip(k), clip(v), MaxTagKey, MaxTagValue, ReservedTags)
		}
	}
	return nil
}

func settings(got map[string]string, known []Setting) error {
	for name, value := range got {
		i := slices.IndexFunc(known, func(s Setting) bool { return s.Name == name })
		if i < 0 {
			return fmt.Errorf("unknown setting %q", clip(name))
		}
		if !text(value, 0, MaxSetting) || len(known[i].Values) > 0 && !slices.Contains(known[i].Values, value) {
			return fmt.Errorf("setting %s=%q; it takes %q", name, clip(value), known[i].Values)
		}
	}
	return nil
}

func notWord(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
}

// id reports whether s can be an id of a provider's. Ids are still never put into a path or a command line by trust in this.
func id(s string) bool { return text(s, 1, 255) && !strings.ContainsRune(s, ' ') }

func text(s string, least, most int) bool {
	return len(s) >= least && len(s) <= most && utf8.ValidString(s) && strings.IndexFunc(s, unprintable) < 0
}

func unprintable(r rune) bool { return !unicode.IsPrint(r) }

func clip(s string) string { return s[:min(len(s), 80)] }

func invalid(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w: %w", what, ErrInvalid, err)
}
