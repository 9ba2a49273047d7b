package convert

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/openmigrate/openmigrate/hydrator/convert/fence"
)

// archive is what an initramfs holds, as far as conversion asks.
type archive struct {
	how   compression          // of its last part
	modes map[string]cpioEntry // by name; the last of a name
	text  map[string]string    // content of links and of small files in textDirs
}

// Limits on what is kept of an initramfs.
const (
	maxInside = 200000   // entries
	maxText   = 64 << 10 // bytes of a file
	maxTexts  = 16 << 20 // bytes of all
)

// textDirs hold what tells an initramfs how to start this machine.
var textDirs = []string{"conf/", "etc/", "lib/dracut/hooks/", "usr/lib/dracut/hooks/", "var/lib/dracut/hooks/"}

// parseArchive reads an initramfs.
func parseArchive(r io.Reader) (*archive, error) {
	a := &archive{modes: map[string]cpioEntry{}, text: map[string]string{}}
	left := int64(maxTexts)
	var err error
	a.how, err = readCpio(r, func(entry cpioEntry, content io.Reader) error {
		if len(a.modes) >= maxInside {
			return errors.New("it has too many entries")
		}
		a.modes[entry.name] = entry
		delete(a.text, entry.name)
		kind := entry.mode & cpioType
		configures := slices.ContainsFunc(textDirs, func(dir string) bool { return strings.HasPrefix(entry.name, dir) })
		if kind != cpioLink && (kind != cpioRegular || !configures) || entry.size > min(maxText, left) {
			return nil
		}
		left -= entry.size
		b := make([]byte, entry.size)
		_, err := io.ReadFull(content, b)
		a.text[entry.name] = string(b)
		return err
	})
	return a, err
}

// modules are the names of those in it.
func (a *archive) modules() map[string]bool {
	have := map[string]bool{}
	for name := range a.modes {
		if m := moduleName(name); m != "" {
			have[m] = true
		}
	}
	return have
}

// real follows the links on the way to a name. What is not there is where it would be made.
func (a *archive) real(name string) (string, error) {
	done, rest, links := "", strings.Split(name, "/"), 0
	for len(rest) > 0 {
		part := rest[0]
		rest = rest[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			done = strings.TrimPrefix(path.Dir("/"+done), "/")
			continue
		}
		next := path.Join(done, part)
		if a.modes[next].mode&cpioType != cpioLink {
			done = next
			continue
		}
		if links++; links > 40 {
			return "", fmt.Errorf("%s leads through too many links", name)
		}
		link, ok := a.text[next]
		if !ok {
			return "", fmt.Errorf("where %s leads is too long", next)
		}
		if path.IsAbs(link) {
			done = ""
		}
		rest = append(strings.Split(link, "/"), rest...)
	}
	return done, nil
}

// readInitramfs reads an initramfs of the system's. Compression that is not known here is undone by the system's own programs, in the fence.
func (e *editor) readInitramfs(ctx context.Context, name string) (*archive, error) {
	a, err := e.parseInitramfs(name)
	if !errors.Is(err, errCompression) {
		return a, err
	}
	unpacked := scratch + "/openmigrate-plain"
	script := `for tool in xz lzma lz4 lzop; do "$tool" -d -c "$1" >"$2" 2>/dev/null && exit; done; exit 1`
	if _, ferr := fence.Run(ctx, fence.Command{Root: e.dir, Args: []string{"/bin/sh", "-c", script, "sh", name, unpacked}, Timeout: e.options.Timeout}); ferr != nil {
		return nil, errors.Join(err, ferr)
	}
	defer func() { _ = e.Remove(unpacked) }()
	return e.parseInitramfs(unpacked)
}

func (e *editor) parseInitramfs(name string) (*archive, error) {
	f, err := e.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return parseArchive(f)
}
