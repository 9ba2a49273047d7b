package api

import (
	"bytes"
	"fmt"
	"net/http"

	"github.com/openmigrate/openmigrate/providers"
	"github.com/openmigrate/openmigrate/wire"
)

// pngSignature begins every PNG file.
var pngSignature = []byte("\x89PNG\r\n\x1a\n")

func (s *server) launchConsole(c *call) error {
	info, err := s.launch(c)
	if err != nil {
		return err
	}
	b, err := s.Launches.Console(c.ctx, info.ID)
	if err != nil {
		return err
	}
	return c.guest("text/plain; charset=utf-8", b[max(0, len(b)-providers.ConsoleLimit):])
}

func (s *server) launchScreenshot(c *call) error {
	info, err := s.launch(c)
	if err != nil {
		return err
	}
	b, err := s.Launches.Screenshot(c.ctx, info.ID)
	if err != nil {
		return err
	}
	if len(b) > providers.ScreenshotLimit || !bytes.HasPrefix(b, pngSignature) {
		return wire.NewProblem(http.StatusBadGateway, wire.CodeProvider, "%s gave a screenshot of %d bytes that is no PNG, or too large", info.Provider, len(b)).
			WithNext("look at the console: openmigrate launch console " + info.ID)
	}
	return c.guest("image/png", b)
}

// guest writes what a launched machine made. Whatever is in it, no browser takes it for a page, runs it, or keeps it.
func (c *call) guest(contentType string, b []byte) error {
	if err := c.torn(); err != nil {
		return err
	}
	h := c.w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", fmt.Sprint(len(b)))
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; sandbox")
	h.Set("Cache-Control", "no-store")
	_, _ = c.w.Write(b) // the caller may be gone
	return nil
}
