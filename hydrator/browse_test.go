package hydrator

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/hydrator/hydratortest"
	"github.com/openmigrate/openmigrate/hydrator/view"
	"github.com/openmigrate/openmigrate/wire"
)

func TestBrowse(t *testing.T) {
	w := hydratortest.NewWorld(t, nil)
	img := image(31, 50, 9)
	rp := w.Replicate(t, "r", hydratortest.Image{Data: img})
	err := Browse(t.Context(), w, w.Job(wire.JobExport, rp), nil, func(_ context.Context, v *view.View) error {
		got := make([]byte, len(img))
		if _, err := v.Disks()[0].ReadAt(got, 0); err != nil {
			return err
		}
		if !bytes.Equal(got, img) {
			t.Error("the view differs from the image")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if done, failed := w.Ended(); len(done) != 1 || done[0].Fetched == 0 || len(failed) != 0 {
		t.Errorf("ended: %+v, %+v", done, failed)
	}
}

func TestBrowseEndsWithItsLease(t *testing.T) {
	w := hydratortest.NewWorld(t, nil)
	img := image(32, 50, 9)
	rp := w.Replicate(t, "r", hydratortest.Image{Data: img})
	job := w.Job(wire.JobExport, rp)
	job.Lease.TTL = wire.Duration(200 * time.Millisecond)
	w.Cancel(job.ID)
	err := Browse(t.Context(), w, job, nil, func(ctx context.Context, v *view.View) error {
		<-ctx.Done()
		if _, err := v.Disks()[0].ReadAt(make([]byte, len(img)), 0); !errors.Is(err, ErrCancelled) {
			t.Errorf("read without a lease: %v", err)
		}
		return context.Cause(ctx)
	})
	if !errors.Is(err, ErrCancelled) {
		t.Errorf("%v", err)
	}
	other := w.Replicate(t, "o", hydratortest.Image{Data: img})
	other.Wire.Sequence++
	if err := Browse(t.Context(), w, w.Job(wire.JobExport, other), nil, nil); err == nil {
		t.Error("a restpoint with a wrong signature was opened")
	}
}
