package api

import (
	"context"
	"encoding/hex"
	"io"
	"net/http"
	"net/url"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/wire"
)

// Files reads files on disks of restpoints, without restoring them. The caller has seen to it that the restpoint may be read by who asks. Errors are wire.Problem
// documents, or those of staging.
type Files interface {
	// List looks at what is in a folder, or at the one file that the path names. pick is given all names, in no order, and returns the places of those
	// that are wanted; only these are looked at.
	List(ctx context.Context, at wire.FilePlace, pick func(names []string) ([]int, error)) ([]wire.FileInfo, error)
	// Open returns a regular file's content and size. Reading ends with ctx.
	Open(ctx context.Context, at wire.FilePlace) (content io.ReadCloser, size int64, err error)
}

// How many folders and files are read at once, by all and by one caller.
const (
	maxFiles      = 64
	maxOwnerFiles = 4
)

func newReading() *streams {
	return &streams{max: maxFiles, each: maxOwnerFiles, what: "files and folders are being read", owner: map[string]int{}}
}

type FileIn struct {
	RestpointRef
	Disk      int    `path:"disk" minimum:"0" maximum:"127" doc:"Number of the disk in the restpoint, from 0."`
	Partition int    `query:"partition" minimum:"0" maximum:"256" doc:"Number of the partition, from 1; 0: the only one, or the whole disk."`
	Path      string `query:"path" default:"/" maxLength:"4096" doc:"Path on that file system. It may hold any percent-encoded bytes."`
}

type listFilesIn struct {
	FileIn
	PageParams
}

// onDisk finds what files are asked of. leave ends the caller's turn.
func (s *server) onDisk(ctx context.Context, in *FileIn) (r catalog.Restpoint, at wire.FilePlace, leave func(), err error) {
	r, err = s.restpoint(ctx, in.Restpoint)
	switch {
	case err != nil:
		return r, at, nil, err
	case in.Disk >= len(r.Disks):
		return r, at, nil, wire.NewProblem(http.StatusNotFound, wire.CodeNotFound, "restpoint %s has no disk %d, it has %d, from 0", r.ID, in.Disk, len(r.Disks))
	case strings.IndexByte(in.Path, 0) >= 0:
		return r, at, nil, badField("path", "path: no file has a zero byte in its name")
	case s.Files == nil:
		return r, at, nil, wire.NewProblem(http.StatusNotImplemented, wire.CodeUnsupported, "this master reads no files of restpoints").
			WithNext("openmigrate restpoints files " + r.ID + " reads them on the machine that it runs on")
	}
	if leave, err = s.reading.enter(person(ctx).Holder()); err != nil {
		return r, at, nil, err
	}
	return r, wire.FilePlace{Restpoint: r.ID, Disk: in.Disk, Partition: in.Partition, Path: in.Path}, leave, nil
}

func (s *server) listFiles(ctx context.Context, in *listFilesIn) (*pageOut[wire.FileInfo], error) {
	_, at, leave, err := s.onDisk(ctx, &in.FileIn)
	if err != nil {
		return nil, err
	}
	defer leave()
	var cut *wire.Page[int]
	list, err := s.Files.List(ctx, at, func(names []string) ([]int, error) {
		places := make([]int, len(names))
		for i := range places {
			places[i] = i
		}
		if cut, err = page(places, &in.PageParams, "name", func(i *int) sortKey { return nameKey(names[*i]) }); err != nil {
			return nil, err
		}
		return cut.Items, nil
	})
	if err != nil {
		return nil, err
	}
	for i := range list {
		if f := &list[i]; !utf8.ValidString(f.Name) {
			f.Encoded = url.QueryEscape(f.Name)
		}
	}
	return &pageOut[wire.FileInfo]{wire.Page[wire.FileInfo]{Items: list, NextCursor: cut.NextCursor, Total: cut.Total}}, nil
}

// nameKey orders names. Those that are not UTF-8 would not survive a cursor, which is JSON.
func nameKey(name string) sortKey {
	if utf8.ValidString(name) {
		return sortKey{Text: name}
	}
	return sortKey{Text: strings.ToValidUTF8(name, "\uFFFD"), ID: hex.EncodeToString([]byte(name))}
}

func (s *server) downloadFile(ctx context.Context, in *FileIn) (*huma.StreamResponse, error) {
	r, at, leave, err := s.onDisk(ctx, in)
	if err != nil {
		return nil, err
	}
	content, size, err := s.Files.Open(ctx, at)
	if err != nil {
		leave()
		return nil, err
	}
	s.changed(ctx, "restpoint", r.ID, r.Machine, nil, map[string]any{"downloaded": in.Path, "disk": in.Disk, "size": size})
	return guestStream("application/octet-stream", saveName(in.Path), size, &turn{content, leave}), nil
}

// turn is content that ends its reader's turn.
type turn struct {
	io.ReadCloser
	leave func()
}

// Close implements io.Closer.
func (t *turn) Close() error {
	defer t.leave()
	return t.ReadCloser.Close()
}

// saveName is what a browser may offer to save a file of a guest as: nothing that hides what kind of file it is, or leads elsewhere.
func saveName(of string) string {
	name := strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) && r != '\uFFFD' && !strings.ContainsRune(`/\:*?"<>|`, r) {
			return r
		}
		return '_' // so also marks that turn the direction of text
	}, path.Base(of))
	if strings.Trim(name, "._ ") == "" {
		return "file"
	}
	const most = 255
	for len(name) > most {
		_, n := utf8.DecodeLastRuneInString(name)
		name = name[:len(name)-n]
	}
	return name
}
