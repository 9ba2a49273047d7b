package aws

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"golang.org/x/time/rate"

	"github.com/openmigrate/openmigrate/providers"
)

// pace keeps calls below a rate, which it halves when the service throttles (EC2 answers 503, RequestLimitExceeded) and raises again bit by bit. It is
// below the SDK's retries, so that they count, too.
type pace struct {
	next  aws.HTTPClient
	limit *rate.Limiter
	most  float64 // calls a second

	mu  sync.Mutex
	now float64 // guarded by mu; calls a second
}

func newPace(next aws.HTTPClient, perSecond float64) *pace {
	return &pace{next: client(next), limit: rate.NewLimiter(rate.Limit(perSecond), 1+int(perSecond/4)), most: perSecond, now: perSecond}
}

// least is the slowest that a throttled provider becomes, calls a second.
const least = 0.5

func (p *pace) learn(status int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests {
		p.now = max(p.now/2, min(least, p.most))
	} else if p.now < p.most {
		p.now = min(p.now+p.most/100, p.most)
	} else {
		return
	}
	p.limit.SetLimit(rate.Limit(p.now))
}

// checkEndpoint refuses endpoints that would carry signed requests over a network in the clear.
func checkEndpoint(text string) error {
	if text == "" {
		return nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && u.Scheme != "http" {
		return fmt.Errorf("%w: endpoint %.200q: want https://HOST", providers.ErrInvalid, text)
	}
	if u.Scheme == "http" && u.Hostname() != "localhost" {
		if a, err := netip.ParseAddr(u.Hostname()); err != nil || !a.IsLoopback() {
			return fmt.Errorf("%w: endpoint %.200q: http is for loopback only", providers.ErrInvalid, text)
		}
	}
	return nil
}
