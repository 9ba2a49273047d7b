package disks

import (
	"fmt"
	"strings"
)

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
