package fat

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

// ErrFull says that there is no room.
var ErrFull = errors.New("the FAT file system is full")

// WriteFile replaces a file, or makes it in a folder that is there. The name of a new one has the form 8.3.
func (f *FS) WriteFile(name string, b []byte) error {
	dir, last := split(name)
	d, err := f.walk(dir)
	if err == nil {
		err = f.write(d, last, b)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

func (f *FS) write(d folder, name string, b []byte) error {
	if len(b) > MaxFile {
		return fmt.Errorf("it is larger than %d MiB", MaxFile>>20)
	}
	old, err := f.find(d, name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if old != nil && old.Dir {
		return errors.New("it is a folder")
	}
	first, err := f.store(b)
	if err != nil {
		return err
	}
	if old == nil {
		return f.add(d, name, attrArchive, first, len(b))
	}
	e := make([]byte, 32)
	if _, err := f.dev.ReadAt(e, old.at); err != nil {
		return err
	}
	place(e, first, len(b))
	if _, err := f.dev.WriteAt(e, old.at); err != nil {
		return err
	}
	return f.release(old.first)
}

// MkdirAll makes a folder and those above it. New ones have names of the form 8.3.
func (f *FS) MkdirAll(name string) error {
	path := ""
	for part := range strings.SplitSeq(name, "/") {
		if part == "" {
			continue
		}
		parent, err := f.walk(path)
		if err != nil {
			return fmt.Errorf("make folder %s: %w", name, err)
		}
		path += "/" + part
		if _, err := f.find(parent, part); err == nil {
			continue
		}
		if err := f.mkdir(parent, part); err != nil {
			return fmt.Errorf("make folder %s: %w", name, err)
		}
	}
	return nil
}

func (f *FS) mkdir(parent folder, name string) error {
	b := make([]byte, f.cluster)
	first, err := f.store(b)
	if err != nil {
		return err
	}
	up := parent.first
	if f.fat32 && up == f.root {
		up = 0 // as every other writer has it
	}
	copy(b, ".          ")
	copy(b[32:], "..         ")
	for i, c := range []uint32{first, up} {
		b[32*i+11] = attrDir
		place(b[32*i:], c, 0)
	}
	if _, err := f.dev.WriteAt(b, f.at(first)); err != nil {
		return err
	}
	return f.add(parent, name, attrDir, first, 0)
}

// place writes first cluster and size into an entry.
func place(e []byte, first uint32, size int) {
	le := binary.LittleEndian
	le.PutUint16(e[20:], uint16(first>>16))
	le.PutUint16(e[26:], uint16(first))
	le.PutUint32(e[28:], uint32(size))
}

// add makes an entry.
func (f *FS) add(d folder, name string, attr byte, first uint32, size int) error {
	short, err := shortName(name)
	if err != nil {
		return err
	}
	_, free, err := f.entries(d)
	if err != nil {
		return err
	}
	if len(free) == 0 {
		at, err := f.grow(d)
		if err != nil {
			return err
		}
		free = []int64{at}
	}
	e := make([]byte, 32)
	copy(e, short)
	e[11] = attr
	// 1 January 1980, the earliest that there is: conversion is to give the same bytes each time.
	for _, at := range []int{16, 18, 24} {
		binary.LittleEndian.PutUint16(e[at:], 1<<5|1)
	}
	place(e, first, size)
	_, err = f.dev.WriteAt(e, free[0])
	return err
}

// grow gives a folder one more cluster and returns where it is.
func (f *FS) grow(d folder) (int64, error) {
	if d.first == 0 {
		return 0, ErrFull // the root of FAT16
	}
	list, err := f.chain(d.first, maxFolder)
	if err != nil {
		return 0, err
	}
	more, err := f.store(make([]byte, f.cluster))
	if err != nil {
		return 0, err
	}
	return f.at(more), f.set(list[len(list)-1], more)
}

// shortName is a name as an entry has it, 8 and 3 characters.
func shortName(name string) (string, error) {
	stem, ext, _ := strings.Cut(strings.ToUpper(name), ".")
	for _, c := range stem + ext {
		ok := c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-'
		if !ok {
			return "", fmt.Errorf("%q is not of the form 8.3", name)
		}
	}
	if stem == "" || len(stem) > 8 || len(ext) > 3 {
		return "", fmt.Errorf("%q is not of the form 8.3", name)
	}
	return fmt.Sprintf("%-8s%-3s", stem, ext), nil
}

// store writes b to free clusters and returns the first; 0 for nothing. The chain is complete before anything names it.
func (f *FS) store(b []byte) (uint32, error) {
	n := (int64(len(b)) + f.cluster - 1) / f.cluster
	list, err := f.allocate(int(n))
	if err != nil {
		return 0, err
	}
	if f.info != 0 {
		// Unknown is allowed for the number of free clusters and for the next of them, and wrong is not.
		if _, err := f.dev.WriteAt([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, f.info+488); err != nil {
			return 0, err
		}
	}
	next := uint32(0x0fffffff)
	if !f.fat32 {
		next = 0xffff
	}
	for i := len(list) - 1; i >= 0; i-- {
		part := make([]byte, f.cluster)
		copy(part, b[int64(i)*f.cluster:])
		if _, err := f.dev.WriteAt(part, f.at(list[i])); err != nil {
			return 0, err
		}
		if err := f.set(list[i], next); err != nil {
			return 0, err
		}
		next = list[i]
	}
	if len(list) == 0 {
		return 0, nil
	}
	return list[0], nil
}

// allocate finds n free clusters.
func (f *FS) allocate(n int) ([]uint32, error) {
	var list []uint32
	for ; len(list) < n; f.next++ {
		if f.next > f.last {
			return nil, ErrFull
		}
		used, err := f.get(f.next)
		if err != nil {
			return nil, err
		}
		if used == 0 {
			list = append(list, f.next)
		}
	}
	return list, nil
}

// release frees a chain.
func (f *FS) release(first uint32) error {
	list, err := f.chain(first, MaxFile+maxCluster)
	if err != nil {
		return err
	}
	for _, c := range list {
		if err := f.set(c, 0); err != nil {
			return err
		}
	}
	return nil
}
