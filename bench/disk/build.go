package disk

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"

	"github.com/openmigrate/openmigrate/bench/measure"
)

// Fixed identities, so that the same recipe gives the same file system.
const (
	fsUUID   = "6f70656e-6d69-4772-a174-650062656e63"
	hashSeed = "6f70656e-6d69-4772-a174-650068617368"
	extraDir = "/openmigrate-bench"
)

// build makes the image: the files with mke2fs, which writes a folder into a file system without mounting it; then the
// others with debugfs, which also deletes as a kernel does: blocks are freed, and keep what they held.
func build(ctx context.Context, image, work string, r Recipe, files selection) error {
	f, err := os.Create(image)
	if err != nil {
		return err
	}
	if err := f.Truncate(r.Size); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	root := r.Source
	if !files.all {
		root = filepath.Join(work, "files")
		if err := files.copyTo(r.Source, root); err != nil {
			return err
		}
	}
	mke2fs, err := measure.Tool(ctx, "mke2fs", "-q", "-F", "-t", "ext4", "-L", "bench", "-U", fsUUID, "-E", "hash_seed="+hashSeed, "-d", root, image)
	if err != nil {
		return err
	}
	if _, _, err := measure.Command(mke2fs); err != nil {
		return err
	}
	return addExtra(ctx, image, work, r)
}

// extraSize is how large the further files are.
const extraSize = 32 << 20

// addExtra writes random files and files that are deleted again, alternately, so that they lie among one another.
func addExtra(ctx context.Context, image, work string, r Recipe) error {
	var script, remove bytes.Buffer
	fmt.Fprintf(&script, "mkdir %s\n", extraDir)
	left := map[string]int64{"kept": r.Random, "deleted": r.Deleted}
	for i := 0; left["kept"] > 0 || left["deleted"] > 0; i++ {
		for kind, name := range []string{"kept", "deleted"} {
			n := min(left[name], extraSize)
			if n <= 0 {
				continue
			}
			left[name] -= n
			host, inside := filepath.Join(work, fmt.Sprintf("%s-%d", name, i)), fmt.Sprintf("%s/%s-%d", extraDir, name, i)
			text := name == "deleted" && i%2 == 1
			if err := writeContent(host, n, NewContent(r.Seed, uint64(i*2+kind), text)); err != nil {
				return err
			}
			fmt.Fprintf(&script, "write %s %s\n", host, inside)
			if name == "deleted" {
				fmt.Fprintf(&remove, "rm %s\n", inside)
			}
		}
	}
	script.Write(remove.Bytes())
	commands := filepath.Join(work, "commands")
	if err := os.WriteFile(commands, script.Bytes(), 0o600); err != nil {
		return err
	}
	debugfs, err := measure.Tool(ctx, "debugfs", "-w", "-f", commands, image)
	if err != nil {
		return err
	}
	var stderr bytes.Buffer
	debugfs.Stderr = &stderr
	if _, _, err := measure.Command(debugfs); err != nil {
		return err
	}
	// debugfs says what went wrong, and exits with 0. Its first line is its version.
	if _, problems, _ := bytes.Cut(stderr.Bytes(), []byte("\n")); len(bytes.TrimSpace(problems)) > 0 {
		return fmt.Errorf("write further files: debugfs: %.400s", bytes.TrimSpace(problems))
	}
	return nil
}

func writeContent(path string, n int64, content io.Reader) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if _, err := io.CopyN(f, content, n); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// NewContent returns endless bytes that depend on seed and stream only: incompressible ones, or such as compress to about
// two thirds of their size when text is set.
func NewContent(seed, stream uint64, text bool) io.Reader {
	var key [32]byte
	for i := range 8 {
		key[i], key[8+i] = byte(seed>>(8*i)), byte(stream>>(8*i))
	}
	r := io.Reader(rand.NewChaCha8(key))
	if text {
		r = letters{r}
	}
	return r
}

// letters maps random bytes onto 32 characters.
type letters struct{ io.Reader }

func (l letters) Read(p []byte) (int, error) {
	n, err := l.Reader.Read(p)
	for i, b := range p[:n] {
		p[i] = "etaoinshrdlcumwfgypbvkjxqz .,;\n-"[b&31]
	}
	return n, err
}
