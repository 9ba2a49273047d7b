package api

import (
	"bytes"
	"io"
	"mime"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"
)

// writeTime is how long the caller may take for each piece of a long answer.
const writeTime = 30 * time.Second

// guestStream answers with what a source or a launched machine made. Whatever is in it, no browser takes it for a page, runs it, or keeps it. name: it is offered
// as a file to save; size -1: not known. content is closed.
func guestStream(contentType, name string, size int64, content io.ReadCloser) *huma.StreamResponse {
	return &huma.StreamResponse{Body: func(ctx huma.Context) {
		defer content.Close()
		_, w := humachi.Unwrap(ctx)
		h := w.Header()
		h.Set("Content-Type", contentType)
		if size >= 0 {
			h.Set("Content-Length", strconv.FormatInt(size, 10))
		}
		if name != "" {
			h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": name}))
		}
		h.Set("Content-Security-Policy", "default-src 'none'; sandbox")
		w.WriteHeader(http.StatusOK)
		control := http.NewResponseController(w)
		defer func() { _ = control.SetWriteDeadline(time.Time{}) }()
		buf := make([]byte, 64<<10)
		for {
			n, err := content.Read(buf)
			if n > 0 {
				_ = control.SetWriteDeadline(time.Now().Add(writeTime))
				if _, err := w.Write(buf[:n]); err != nil {
					return // the caller is gone
				}
			}
			if err == io.EOF {
				return
			}
			if err != nil {
				panic(http.ErrAbortHandler) // so that the caller does not take a part for the whole
			}
		}
	}}
}

func guestBytes(contentType string, b []byte) *huma.StreamResponse {
	return guestStream(contentType, "", int64(len(b)), io.NopCloser(bytes.NewReader(b)))
}
