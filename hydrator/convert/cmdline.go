package convert

import (
	"slices"
	"strings"
)

// splitArgs takes a kernel command line apart, each part with its quotes. It fails for one that goes on in the next line.
func splitArgs(line string) (list []string, ok bool) {
	var args []string
	var quote byte
	start := -1
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'':
			quote = c
			if start < 0 {
				start = i
			}
		case c == ' ' || c == '\t':
			if start >= 0 {
				args = append(args, line[start:i])
				start = -1
			}
			continue
		case start < 0:
			start = i
		}
	}
	if start >= 0 {
		args = append(args, line[start:])
	}
	return args, quote == 0 && !strings.HasSuffix(line, `\`)
}

// cmdline changes a kernel's arguments so that they hold on the target. A line that is right comes back as it is. Complete tells
// that the line is all that the kernel gets, and not a part of it to which a boot loader adds the root.
func (e *editor) cmdline(line string, complete bool) string {
	args, ok := splitArgs(line)
	if !ok {
		e.warn("these kernel arguments were left as they are, because their quotes do not end on their line: %.200q", line)
		return line
	}
	was := slices.Clone(args)
	var out []string
	for _, arg := range args {
		key, value, _ := strings.Cut(arg, "=")
		switch key {
		case "root":
			arg = e.rootArg(arg, value)
		case "resume":
			if arg = e.resumeArg(arg, value); arg == "" {
				continue
			}
		}
		out = append(out, arg)
	}
	// An offset is good for nothing without the device.
	if !slices.ContainsFunc(out, func(a string) bool { return strings.HasPrefix(a, "resume=") }) {
		out = slices.DeleteFunc(out, func(a string) bool { return complete && strings.HasPrefix(a, "resume_offset=") })
	}
	for _, arg := range e.args {
		if complete && !slices.Contains(out, arg) {
			out = append(out, arg)
		}
	}
	out = e.consoles(out, complete)
	if slices.Equal(out, was) {
		return line
	}
	return strings.Join(out, " ")
}

// rootArg names the root by what does not change with the hypervisor. Lines for another system stay as they are.
func (e *editor) rootArg(arg, value string) string {
	s := e.system
	i, how := s.find(unquote(value), "")
	switch {
	case how == byID || strings.Contains(value, "$"):
		return arg
	case i == s.Root || i < 0 && (kernelName.MatchString(value) || otherPart.MatchString(value)):
		if name := s.stable(s.Root); name != "" {
			return "root=" + name
		}
	}
	return arg
}

// resumeArg drops the swap that a hibernated system is in when it is on none of the disks: the initramfs would wait for it.
func (e *editor) resumeArg(arg, value string) string {
	if strings.Contains(value, "$") {
		return arg
	}
	i, how := e.system.find(unquote(value), "swap")
	switch {
	case i < 0:
		return ""
	case how == byID:
		return arg
	}
	if name := e.system.stable(i); name != "" {
		return "resume=" + name
	}
	return ""
}

// consoles sends the kernel's messages to the screen and to the serial port that the platform records. The last console is the
// one that init writes to.
func (e *editor) consoles(args []string, complete bool) []string {
	port := platforms[e.target.Platform].console
	if port == "" || !complete {
		return args
	}
	has := func(name string) bool {
		return slices.ContainsFunc(args, func(a string) bool { return a == "console="+name || strings.HasPrefix(a, "console="+name+",") })
	}
	if has(port) {
		return args
	}
	if !has("tty0") {
		args = append(args, "console=tty0")
	}
	return append(args, "console="+port+",115200")
}
