package builtin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/s3api/middlewares"
	"github.com/versity/versitygw/s3err"
	"github.com/versity/versitygw/s3response"
)

// durable is the posix backend with the fsyncs that it lacks: the file before it gets its name, then the directory that holds the name, and
// those above it, up to the first that is known to be durable. Paths are relative to the root, which posix.New makes the
// working directory.
type durable struct {
	*posix.Posix
	put  *posix.Posix         // over the same directory, for PutObject only
	sync func(*os.File) error // (*os.File).Sync but in tests
	dirs *folders
}

// newDurable opens root. Objects are written past the page cache, which costs a third less CPU per byte since all of it goes to disk before
// the answer anyway; they are read through it, because neighbouring ranges of a pack are asked for one after another.
func newDurable(root string) (durable, error) {
	d := durable{sync: (*os.File).Sync, dirs: new(folders)}
	for _, b := range []struct {
		to     **posix.Posix
		direct bool
	}{{&d.Posix, false}, {&d.put, true}} {
		store, err := posix.New(root, meta.XattrMeta{}, posix.PosixOpts{DataIntegrityEtag: true, EnableODirect: b.direct})
		if err != nil {
			return d, fmt.Errorf("open staging directory: %w", err)
		}
		*b.to = store
	}
	return d, nil
}

func (d durable) PutObject(ctx context.Context, in s3response.PutObjectInput) (s3response.PutObjectOutput, error) {
	if _, trailer := in.Body.(middlewares.ChecksumReader); !trailer && in.Body != nil {
		in.Body = filling{in.Body}
	}
	out, err := d.put.PutObjectWithPostFunc(ctx, in, d.sync)
	if err == nil {
		// Attributes are set on the file after the hook, so it is synced once more; its data are clean by then.
		err = d.syncNew(filepath.Join(*in.Bucket, *in.Key))
	}
	return out, full(err)
}

func (d durable) CompleteMultipartUpload(ctx context.Context, in *s3.CompleteMultipartUploadInput) (s3response.CompleteMultipartUploadResult, string, error) {
	res, version, err := d.Posix.CompleteMultipartUpload(ctx, in)
	if err == nil {
		err = d.syncPath(filepath.Join(*in.Bucket, *in.Key))
	}
	return res, version, full(err)
}

func (d durable) CreateBucket(ctx context.Context, in *s3.CreateBucketInput, acl []byte) error {
	err := d.Posix.CreateBucket(ctx, in, acl)
	if err == nil {
		err = d.syncPath(*in.Bucket)
	}
	return full(err)
}

func (d durable) DeleteObject(ctx context.Context, in *s3.DeleteObjectInput) (*s3.DeleteObjectOutput, error) {
	dir := filepath.Dir(filepath.Join(*in.Bucket, *in.Key))
	defer d.dirs.deleting(dir)()
	out, err := d.Posix.DeleteObject(ctx, in)
	if err == nil {
		err = d.syncPath(dir)
	}
	return out, err
}

func (d durable) DeleteObjects(ctx context.Context, in *s3.DeleteObjectsInput) (s3response.DeleteResult, error) {
	dirs := map[string]bool{}
	for _, o := range in.Delete.Objects {
		dirs[filepath.Dir(filepath.Join(*in.Bucket, *o.Key))] = true
	}
	for dir := range dirs {
		defer d.dirs.deleting(dir)()
	}
	res, err := d.Posix.DeleteObjects(ctx, in)
	for dir := range dirs {
		if err == nil {
			err = d.syncPath(dir)
		}
	}
	return res, err
}

func (d durable) DeleteBucket(ctx context.Context, bucket string) error {
	defer d.dirs.deleting(bucket)()
	err := d.Posix.DeleteBucket(ctx, bucket)
	if err == nil {
		err = d.syncPath(".")
	}
	return err
}

// syncNew syncs the new object at path, its directory, whose entry it is, and those above that may be new.
func (d durable) syncNew(path string) error {
	if err := d.syncOne(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	remember := d.dirs.walk()
	var synced []string
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		if err := d.syncOne(dir); err != nil {
			if errors.Is(err, os.ErrNotExist) {
				return d.syncPath(dir) // removed by a delete, which covers it
			}
			return err
		}
		if dir == "." || d.dirs.has(dir) {
			break
		}
		synced = append(synced, dir)
	}
	remember(synced)
	return nil
}

// syncPath syncs path and its parents. One that is gone was removed by somebody else, whose own sync covers that.
func (d durable) syncPath(path string) error {
	for {
		if err := d.syncOne(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if path == "." {
			return nil
		}
		path = filepath.Dir(path)
	}
}

func (d durable) syncOne(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	return errors.Join(d.sync(f), f.Close())
}

// filling reads whole buffers: TLS hands out 16 KiB and less at a time, and direct writes need an aligned length.
type filling struct{ io.Reader }

func (f filling) Read(p []byte) (int, error) {
	n, err := io.ReadFull(f.Reader, p)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = io.EOF
	}
	return n, err
}

// full gives a full disk the answer 507.
func full(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return s3err.GetAPIError(s3err.ErrNoSpaceLeftOnDevice)
	}
	return err
}
