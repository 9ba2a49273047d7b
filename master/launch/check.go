package launch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/openmigrate/openmigrate/providers"
	"github.com/openmigrate/openmigrate/wire"
)

const (
	probeTime = 4 * time.Second // for one try of one check
	probeBody = 64 << 10        // bytes of an answer that are looked at
)

// checking: the machine is up when all its checks have passed. It is given up at once when its console says that it will not come up.
func checking(ctx context.Context, r *run) (string, error) {
	i, err := r.alive(ctx)
	if err != nil {
		return "", err
	}
	// Its volumes are filled once it is up: until then the machine has the host and the way to staging to itself.
	if err := r.served(ctx); err != nil {
		return "", err
	}
	console, err := r.p.Console(ctx, i.ID)
	if err != nil && !errors.Is(err, providers.ErrTryAgain) {
		return "", fmt.Errorf("read the console: %w", err)
	}
	after := r.Clock.Now().Sub(r.row.Started)
	passed := r.probe(ctx, &i, console)
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	left, changed := 0, false
	for n, c := range r.row.Checks {
		if changed = changed || passed[n].ok && !c.Passed || passed[n].why != c.Message; !c.Passed && !passed[n].ok {
			left++
		}
	}
	if changed {
		err := r.save(ctx, func(l *row) {
			for n := range l.Checks {
				c := &l.Checks[n]
				if c.Passed {
					continue
				}
				if c.Passed, c.Message = passed[n].ok, passed[n].why; c.Passed {
					c.After = wire.Duration(after)
					l.say(r.Clock.Now(), "check passed: %s, after %s", words(&c.LaunchCheck), after.Round(time.Second/10))
				}
			}
			l.reached(&i)
		})
		if err != nil {
			return "", err
		}
	}
	r.show(&wire.Progress{Phase: "checks", Total: int64(len(r.row.Checks)), Done: int64(len(r.row.Checks) - left)})
	if left == 0 {
		r.keepEvidence(ctx)
		return wire.LaunchRunning, nil
	}
	if cause, found := likelyCause(console); found && cause.fatal {
		return "", &refusal{reason: "the machine does not come up", cause: cause.words, console: console}
	}
	return "", r.late(after, console)
}

// late refuses a machine whose check took too long.
func (r *run) late(after time.Duration, console []byte) error {
	for _, c := range r.row.Checks {
		limit := time.Duration(c.Timeout)
		if limit == 0 {
			limit = checkTime
		}
		if c.Passed || after <= limit {
			continue
		}
		reason := fmt.Sprintf("check %s did not pass within %s of the start", words(&c.LaunchCheck), limit)
		if c.Message != "" {
			reason += ": " + c.Message
		}
		return &refusal{reason: reason, console: console}
	}
	return nil
}

// words names a check for people.
func words(c *wire.LaunchCheck) string {
	switch c.Kind {
	case wire.CheckConsole:
		return fmt.Sprintf("console %q", c.Text)
	case wire.CheckTCP:
		return fmt.Sprintf("tcp port %d", c.Port)
	case wire.CheckHTTP:
		return fmt.Sprintf("http port %d %s", c.Port, c.Path)
	}
	return c.Kind
}

type outcome struct {
	ok  bool
	why string // it has not passed yet
}

// probe tries every check that has not passed, at once.
func (r *run) probe(ctx context.Context, i *providers.Instance, console []byte) []outcome {
	out := make([]outcome, len(r.row.Checks))
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	var all sync.WaitGroup
	for n := range r.row.Checks {
		c := &r.row.Checks[n]
		if c.Passed {
			out[n] = outcome{true, c.Message}
			continue
		}
		all.Go(func() {
			if err := r.try(ctx, &c.LaunchCheck, i, console); err != nil {
				out[n].why = clean(err.Error(), 200)
				return
			}
			out[n].ok = true
		})
	}
	all.Wait()
	return out
}

// try reports what keeps a check from passing now.
func (r *run) try(ctx context.Context, c *wire.LaunchCheck, i *providers.Instance, console []byte) error {
	switch c.Kind {
	case wire.CheckBoot:
		if !booted(console) {
			return errors.New("the console shows neither a login prompt nor the multi-user target")
		}
	case wire.CheckConsole:
		if !bytes.Contains(console, []byte(c.Text)) && !strings.Contains(plain(console), c.Text) {
			return errors.New("the console does not show it")
		}
	case wire.CheckCallHome:
		if r.row.CallHome == nil {
			return errors.New("the agent on the copy was not heard of")
		}
	case wire.CheckScreenshot:
		png, err := r.p.Screenshot(ctx, i.ID)
		if err != nil {
			return err
		}
		return checkPNG(png)
	case wire.CheckTCP, wire.CheckHTTP:
		at, ok := r.row.endpoint(i, c.Port)
		if !ok {
			return errors.New("the machine's address is not known")
		}
		if c.Kind == wire.CheckHTTP {
			return tryHTTP(ctx, c, at)
		}
		return tryTCP(ctx, at)
	}
	return nil
}

// tryTCP connects. A port that is forwarded by the provider's host may accept for a machine that does not: so the connection must also stay for a
// moment.
func tryTCP(ctx context.Context, at string) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", at)
	if err != nil {
		return errors.New("no connection")
	}
	defer func() { _ = conn.Close() }() // nothing was sent
	if err := conn.SetReadDeadline(time.Now().Add(tcpStay)); err != nil {
		return err
	}
	_, err = conn.Read(make([]byte, 1))
	var timeout net.Error
	if err == nil || errors.As(err, &timeout) && timeout.Timeout() {
		return nil
	}
	return errors.New("the connection was closed at once")
}

const tcpStay = 500 * time.Millisecond

// tryHTTP asks once; whatever answers is hostile.
func tryHTTP(ctx context.Context, c *wire.LaunchCheck, at string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+at+c.Path, nil)
	if err != nil {
		return err
	}
	transport := &http.Transport{DisableKeepAlives: true, MaxResponseHeaderBytes: probeBody, Proxy: nil}
	client := http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Do(req)
	if err != nil {
		return errors.New("no answer")
	}
	defer res.Body.Close()
	want := c.Status
	if want == 0 {
		want = http.StatusOK
	}
	if res.StatusCode != want {
		return fmt.Errorf("it answers %d, not %d", res.StatusCode, want)
	}
	if c.Text == "" {
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, probeBody))
	if !bytes.Contains(body, []byte(c.Text)) {
		return errors.Join(fmt.Errorf("its answer does not hold %q", c.Text), err)
	}
	return nil
}

func addrPort(a netip.Addr, port uint16) string {
	return net.JoinHostPort(a.String(), strconv.Itoa(int(port)))
}

const maxScreen = 4 << 20 // bytes of a screenshot that is kept

func checkPNG(b []byte) error {
	if !bytes.HasPrefix(b, []byte("\x89PNG\r\n\x1a\n")) {
		return errors.New("the screenshot is no PNG")
	}
	if len(b) > maxScreen {
		return fmt.Errorf("the screenshot has %d bytes, of at most %d", len(b), maxScreen)
	}
	return nil
}
