package disks

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/openmigrate/openmigrate/internal/partition/fsprobe"
)

const (
	lvmSector  = 512
	maxLVs     = 1024
	maxExtents = 1 << 40 // of a group; no sum of them overflows
)

// groups collects the physical volumes of all disks, and what they say of their volume groups.
type groups struct {
	physical map[string]Volume // by UUID
	docs     map[string]*section
	seqno    map[string]int64
	names    []string
}

func newGroups() *groups {
	return &groups{physical: map[string]Volume{}, docs: map[string]*section{}, seqno: map[string]int64{}}
}

// add takes the metadata of one physical volume. Of a group the newest text counts.
func (g *groups) add(doc []byte, pv Volume) {
	g.physical[pv.UUID] = pv
	root := parseLVM(doc)
	for _, name := range root.order {
		group, ok := root.values[name].(*section)
		if !ok {
			continue
		}
		n := group.number("seqno")
		if _, ok := g.docs[name]; !ok {
			g.names = append(g.names, name)
		} else if n <= g.seqno[name] {
			continue
		}
		g.docs[name], g.seqno[name] = group, n
	}
}

// volumes returns the logical volumes that users see.
func (g *groups) volumes(disks []Disk) ([]Volume, error) {
	var all []Volume
	for _, name := range g.names {
		group := g.docs[name]
		lvs := group.section("logical_volumes")
		origins := snapshotOrigins(lvs)
		for _, lv := range lvs.order {
			s, ok := lvs.values[lv].(*section)
			if !ok || len(all) >= maxLVs || !slices.Contains(s.list("status"), any("VISIBLE")) {
				continue
			}
			v := g.place(group, s)
			v.LV, v.Snapshots = name+"/"+lv, origins[lv]
			if v.Trouble == "" {
				if err := probe(&v, disks[v.Disk].Path); err != nil {
					return nil, fmt.Errorf("look at %v: %w", v, err)
				}
			}
			all = append(all, v)
		}
	}
	return all, nil
}

func snapshotOrigins(lvs *section) map[string]bool {
	origins := map[string]bool{}
	for _, lv := range lvs.order {
		if s, ok := lvs.values[lv].(*section); ok {
			if seg := s.section("segment1"); seg.text("type") == "snapshot" {
				origins[seg.text("origin")] = true
			}
		}
	}
	return origins
}

// place finds the one range of bytes that a logical volume is.
func (g *groups) place(group, lv *section) Volume {
	extent := group.number("extent_size") * lvmSector
	if extent <= 0 || extent > 1<<40 {
		return Volume{Trouble: "its volume group has no extent size"}
	}
	var v Volume
	for i := int64(1); i <= min(lv.number("segment_count"), 4096); i++ {
		seg := lv.section(fmt.Sprintf("segment%d", i))
		stripes := seg.list("stripes")
		if kind := seg.text("type"); kind != "striped" || seg.number("stripe_count") != 1 || len(stripes) != 2 {
			if kind == "striped" {
				kind = "striped over several disks"
			}
			return Volume{Trouble: "it is " + kind + ", and only linear logical volumes can be opened without device mapper"}
		}
		pvName, _ := stripes[0].(string)
		from, _ := stripes[1].(int64)
		count := seg.number("extent_count")
		described := group.section("physical_volumes").section(pvName)
		pv, ok := g.physical[described.text("id")]
		if !ok {
			return Volume{Trouble: "its disk " + pvName + " is not among those given"}
		}
		peStart := described.number("pe_start")
		if from < 0 || count <= 0 || from > maxExtents || count > maxExtents || peStart < 0 || peStart > 1<<40 ||
			from+count > (pv.Size-peStart*lvmSector)/extent {
			return Volume{Trouble: "its metadata points outside of its disk"}
		}
		start := pv.Start + peStart*lvmSector + from*extent
		switch {
		case i == 1:
			v = Volume{Disk: pv.Disk, Start: start, Size: count * extent}
		case pv.Disk == v.Disk && start == v.Start+v.Size:
			v.Size += count * extent
		default:
			return Volume{Trouble: "it lies in several pieces, and only one piece can be opened without device mapper"}
		}
	}
	if v.Size == 0 {
		return Volume{Trouble: "it has no segments"}
	}
	return v
}

func probe(v *Volume, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return errors.Join(ErrNoDisk, err)
	}
	defer f.Close()
	c, err := fsprobe.Probe(io.NewSectionReader(f, v.Start, v.Size), v.Size)
	v.Type, v.UUID, v.Label = c.Type, c.UUID, c.Label
	return err
}

// section is a "name { … }" of LVM's metadata: values are int64, string, []any of the two, or *section.
type section struct {
	values map[string]any
	order  []string
}

func (s *section) section(name string) *section {
	if sub, ok := s.values[name].(*section); ok {
		return sub
	}
	return &section{}
}

func (s *section) number(name string) int64 { n, _ := s.values[name].(int64); return n }

func (s *section) text(name string) string { t, _ := s.values[name].(string); return t }

func (s *section) list(name string) []any { l, _ := s.values[name].([]any); return l }

func (s *section) set(name string, v any) {
	if s.values == nil {
		s.values = map[string]any{}
	}
	if _, ok := s.values[name]; !ok {
		s.order = append(s.order, name)
	}
	s.values[name] = v
}

// parseLVM reads metadata as far as it makes sense. See lvm.conf(5), which has the same syntax.
func parseLVM(doc []byte) *section {
	p := &lvmParser{text: string(doc)}
	root := &section{}
	p.body(root, 0)
	return root
}

type lvmParser struct{ text string }

// body reads assignments and sections up to a closing brace.
func (p *lvmParser) body(into *section, depth int) {
	for {
		p.space()
		name := p.word()
		if name == "" {
			if strings.HasPrefix(p.text, "}") {
				p.text = p.text[1:]
			} else {
				p.text = "" // nothing that can be read
			}
			return
		}
		p.space()
		switch {
		case strings.HasPrefix(p.text, "{"):
			p.text = p.text[1:]
			sub := &section{}
			if depth < 16 {
				p.body(sub, depth+1)
			} else {
				p.text = ""
			}
			into.set(name, sub)
		case strings.HasPrefix(p.text, "="):
			p.text = p.text[1:]
			into.set(name, p.value())
		default:
			p.text = ""
			return
		}
	}
}

func (p *lvmParser) value() any {
	p.space()
	if !strings.HasPrefix(p.text, "[") {
		return p.scalar()
	}
	p.text = p.text[1:]
	list := []any{}
	for {
		p.space()
		switch {
		case p.text == "":
			return list
		case p.text[0] == ']':
			p.text = p.text[1:]
			return list
		case p.text[0] == ',':
			p.text = p.text[1:]
			continue
		}
		before := len(p.text)
		list = append(list, p.scalar())
		if len(p.text) == before {
			p.text = ""
		}
	}
}

func (p *lvmParser) scalar() any {
	if strings.HasPrefix(p.text, `"`) {
		var b strings.Builder
		for i := 1; i < len(p.text); i++ {
			switch p.text[i] {
			case '"':
				p.text = p.text[i+1:]
				return b.String()
			case '\\':
				i++
				if i == len(p.text) {
					continue
				}
			}
			b.WriteByte(p.text[i])
		}
		p.text = ""
		return b.String()
	}
	word := p.word()
	var n int64
	if _, err := fmt.Sscanf(word, "%d", &n); err == nil {
		return n
	}
	return word
}

func (p *lvmParser) word() string {
	i := 0
	for i < len(p.text) && (p.text[i] >= 'a' && p.text[i] <= 'z' || p.text[i] >= 'A' && p.text[i] <= 'Z' ||
		p.text[i] >= '0' && p.text[i] <= '9' || strings.IndexByte("_.+-", p.text[i]) >= 0) {
		i++
	}
	word := p.text[:i]
	p.text = p.text[i:]
	return word
}

// space skips white space and comments.
func (p *lvmParser) space() {
	for {
		p.text = strings.TrimLeft(p.text, " \t\r\n")
		if !strings.HasPrefix(p.text, "#") {
			return
		}
		_, p.text, _ = strings.Cut(p.text, "\n")
	}
}
