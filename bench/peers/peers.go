// Package peers runs other backup programs on the same disk, each with the settings that make it fastest at this: a
// repository on the local disk, the quickest zstd level, encryption on as ours is, chunks of a fixed size where it has them. Making the
// repository is not part of the time.
//
// One peer runs at a time.
package peers

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/openmigrate/openmigrate/bench/measure"
)

// password is no secret: it only makes the programs encrypt.
const password = "bench"

// Peer is a program that can copy a disk into a repository of its own.
type Peer struct {
	Name string
	// init makes a repository, backup copies disk into it. dir is empty and belongs to the peer.
	init    func(ctx context.Context, dir string) (*exec.Cmd, error)
	backup  func(ctx context.Context, dir, disk string) (*exec.Cmd, error)
	version []string
}

// Result is what a peer took.
type Result struct {
	measure.Run
	Stored int64 `json:"stored"` // bytes of its repository's files
}

// Restic with a repository on the local disk. "auto" is its fastest zstd level; data that does not compress is stored as it is.
func Restic() Peer {
	command := func(ctx context.Context, dir string, args ...string) (*exec.Cmd, error) {
		return restic(ctx, dir, []string{"--repo", filepath.Join(dir, "repo")}, args...)
	}
	return Peer{
		Name: "restic",
		init: func(ctx context.Context, dir string) (*exec.Cmd, error) {
			return command(ctx, dir, "init", "--repository-version", "2")
		},
		backup: func(ctx context.Context, dir, disk string) (*exec.Cmd, error) {
			return command(ctx, dir, "backup", "--compression", "auto", disk)
		},
		version: []string{"restic", "version"},
	}
}

// Bucket is where ResticS3 puts its repository.
type Bucket struct {
	Endpoint, Name, CAFile, AccessKey, SecretKey string
}

// ResticS3 is restic with its repository in an S3 bucket, as ours is.
func ResticS3(b Bucket) Peer {
	command := func(ctx context.Context, dir string, args ...string) (*exec.Cmd, error) {
		cmd, err := restic(ctx, dir, []string{"--repo", "s3:" + b.Endpoint + "/" + b.Name, "--cacert", b.CAFile}, args...)
		if err == nil {
			cmd.Env = append(cmd.Env, "AWS_ACCESS_KEY_ID="+b.AccessKey, "AWS_SECRET_ACCESS_KEY="+b.SecretKey)
		}
		return cmd, err
	}
	return Peer{
		Name: "restic-s3",
		init: func(ctx context.Context, dir string) (*exec.Cmd, error) {
			return command(ctx, dir, "init", "--repository-version", "2")
		},
		backup: func(ctx context.Context, dir, disk string) (*exec.Cmd, error) {
			return command(ctx, dir, "backup", "--compression", "auto", disk)
		},
		version: []string{"restic", "version"},
	}
}

func restic(ctx context.Context, dir string, repo []string, args ...string) (*exec.Cmd, error) {
	cmd, err := measure.Tool(ctx, "restic", append(append(repo, "--quiet", "--cache-dir", filepath.Join(dir, "cache")), args...)...)
	if err == nil {
		cmd.Env = append(os.Environ(), "RESTIC_PASSWORD="+password)
	}
	return cmd, err
}

// Borg with fixed chunks of the same size as ours, which also lets it skip holes, and the quicker of its two ways to
// authenticate: SHA-256 where the CPU has instructions for it, else BLAKE2b.
func Borg(chunkSize int) Peer {
	command := func(ctx context.Context, dir string, args ...string) (*exec.Cmd, error) {
		cmd, err := measure.Tool(ctx, "borg", args...)
		if err == nil {
			cmd.Env = append(os.Environ(), "BORG_BASE_DIR="+dir, "BORG_REPO="+filepath.Join(dir, "repo"), "BORG_PASSPHRASE="+password,
				"BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes", "LC_ALL=C.UTF-8")
		}
		return cmd, err
	}
	return Peer{
		Name: "borg",
		init: func(ctx context.Context, dir string) (*exec.Cmd, error) {
			mode := "repokey-blake2"
			if b, err := os.ReadFile("/proc/cpuinfo"); err == nil && strings.Contains(measure.CPUField(b, "flags")+" ", " sha_ni ") {
				mode = "repokey"
			}
			return command(ctx, dir, "init", "--encryption", mode)
		},
		backup: func(ctx context.Context, dir, disk string) (*exec.Cmd, error) {
			return command(ctx, dir, "create", "--compression", "zstd,1", "--chunker-params", fmt.Sprintf("fixed,%d", chunkSize), "--sparse", "::first", disk)
		},
		version: []string{"borg", "--version"},
	}
}

// Version is what the program says it is.
func (p Peer) Version(ctx context.Context) (string, error) {
	cmd, err := measure.Tool(ctx, p.version[0], p.version[1:]...)
	if err != nil {
		return "", err
	}
	_, out, err := measure.Command(cmd)
	f := strings.Fields(string(out))
	if err != nil || len(f) < 2 {
		return "", fmt.Errorf("ask %s for its version: %q: %w", p.Name, out, err)
	}
	return f[0] + " " + f[1], nil
}

// Init makes a repository in dir, which is made, too.
func (p Peer) Init(ctx context.Context, dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make repository of %s: %w", p.Name, err)
	}
	cmd, err := p.init(ctx, dir)
	if err != nil {
		return err
	}
	_, _, err = measure.Command(cmd)
	return err
}

// Backup copies disk into the repository and measures that.
func (p Peer) Backup(ctx context.Context, dir, disk string) (Result, error) {
	cmd, err := p.backup(ctx, dir, disk)
	if err != nil {
		return Result{}, err
	}
	run, _, err := measure.Command(cmd)
	if err != nil {
		return Result{}, err
	}
	stored, err := Size(filepath.Join(dir, "repo"))
	return Result{Run: run, Stored: stored}, err
}

// Size adds up the files below dir, in bytes; 0 when there is no dir.
func Size(dir string) (int64, error) {
	var n int64
	err := filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().IsRegular() {
			n += info.Size()
		}
		return err
	})
	if os.IsNotExist(err) {
		err = nil
	}
	return n, err
}
