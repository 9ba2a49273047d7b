package price

import (
	"errors"
	"math"
	"os"
	"strings"
	"testing"
	"time"
)

func TestExample(t *testing.T) {
	f, err := Load("example.json")
	if err != nil {
		t.Fatal(err)
	}
	if !f.Example {
		t.Error("the example does not say that it is one")
	}
	for _, n := range []string{VolumeGiB, VolumeIOPS, VolumeThroughput, SnapshotGiB, SnapshotPuts, BucketGiB, BucketPuts, BucketGets, MGNServer, DRSServer} {
		if p, ok := f.Get(n); !ok || !strings.HasPrefix(p.Source, "example") {
			t.Errorf("%s: %+v: every price of the example says that it is one", n, p)
		}
	}
	q := NewQuote(f, time.Now())
	q.Add("blocks", 2097.152, "thousand requests", SnapshotPuts)
	if math.Abs(q.Total-12.583) > 0.001 || !q.Known() || !strings.Contains(q.String(), "example") {
		t.Errorf("a TiB of blocks: %s", q)
	}
}

func TestQuoteWithoutPrices(t *testing.T) {
	q := NewQuote(nil, time.Now())
	q.Add("blocks", 10, "thousand requests", SnapshotPuts)
	q.Add("nothing", 0, "GiB-months", VolumeGiB)
	if q.Known() || q.Total != 0 || len(q.Lines) != 1 || !strings.Contains(q.String(), "no price for "+SnapshotPuts) || !strings.Contains(q.String(), "no price file") {
		t.Errorf("%s", q)
	}
	f := &File{Date: "2026-01-01", Currency: "USD", Prices: map[string]Price{VolumeGiB: {1, "x"}}}
	q = NewQuote(f, time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC))
	q.Add("volumes", 3, "GiB-months", VolumeGiB)
	q.Add("blocks", 10, "thousand requests", SnapshotPuts)
	if q.Known() || q.Total != 3 || !strings.Contains(q.String(), "at least 3.00 USD") || !strings.Contains(q.String(), "333 days old") {
		t.Errorf("%s", q)
	}
}

func TestBadFiles(t *testing.T) {
	good, err := os.ReadFile("example.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ old, new string }{
		{Format, "openmigrate-aws-prices/2"},
		{`"example": true`, `"exampel": true`},
		{"2026-11-30", "30.11.2026"},
		{`"USD"`, `"dollars"`},
		{"us-east-1", ""},
		{"0.023", "-1"},
		{"0.023", "1e300"},
		{`"price": 0.023, "source": "example; look it up at https://aws.amazon.com/s3/pricing/"`, `"price": 0.023, "source": ""`},
		{`"prices": {`, `"prices": {"A b": {"price": 1, "source": "x"},`},
		{"}\n}\n", "}\n}\n{}"},
	} {
		b := strings.Replace(string(good), c.old, c.new, 1)
		if b == string(good) {
			t.Fatalf("%q is not in the example", c.old)
		}
		if _, err := Parse([]byte(b)); !errors.Is(err, ErrFile) {
			t.Errorf("%q for %q: error %v", c.new, c.old, err)
		}
	}
	if _, err := Parse(make([]byte, maxFile+1)); !errors.Is(err, ErrFile) {
		t.Errorf("error %v", err)
	}
}

func FuzzParse(f *testing.F) {
	b, err := os.ReadFile("example.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Parse(b)
		if err != nil {
			return
		}
		q := NewQuote(p, time.Now())
		for n := range p.Prices {
			q.Add(n, 1, "x", n)
		}
		if math.IsNaN(q.Total) || !q.Known() {
			t.Errorf("total %v, missing %v", q.Total, q.Missing)
		}
	})
}
