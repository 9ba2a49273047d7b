package api

import (
	"bytes"
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/openmigrate/openmigrate/providers"
	"github.com/openmigrate/openmigrate/wire"
)

// pngSignature begins every PNG file.
var pngSignature = []byte("\x89PNG\r\n\x1a\n")

func (s *server) launchConsole(ctx context.Context, in *LaunchRef) (*huma.StreamResponse, error) {
	info, err := s.launch(ctx, in.Launch)
	if err != nil {
		return nil, err
	}
	b, err := s.Launches.Console(ctx, info.ID)
	if err != nil {
		return nil, err
	}
	return guestBytes("text/plain; charset=utf-8", b[max(0, len(b)-providers.ConsoleLimit):]), nil
}

func (s *server) launchScreenshot(ctx context.Context, in *LaunchRef) (*huma.StreamResponse, error) {
	info, err := s.launch(ctx, in.Launch)
	if err != nil {
		return nil, err
	}
	b, err := s.Launches.Screenshot(ctx, info.ID)
	if err != nil {
		return nil, err
	}
	if len(b) > providers.ScreenshotLimit || !bytes.HasPrefix(b, pngSignature) {
		return nil, wire.NewProblem(http.StatusBadGateway, wire.CodeProvider, "%s gave a screenshot of %d bytes that is no PNG, or too large", info.Provider, len(b)).
			WithNext("look at the console: openmigrate launch console " + info.ID)
	}
	return guestBytes("image/png", b), nil
}
