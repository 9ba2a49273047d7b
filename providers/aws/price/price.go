// Package price reads what things cost in one AWS region from a file that the user keeps up to date, and adds estimates up. The
// project knows no prices: where the file has none an estimate says which are missing, and its total is a lower bound.
//
// The file is JSON:
//
//	{
//	  "format": "openmigrate-aws-prices/1",
//	  "example": false,            // true: made up to show the format; every estimate says so
//	  "date": "2026-11-30",        // when the prices were looked up
//	  "region": "eu-central-1",
//	  "currency": "USD",
//	  "prices": {
//	    "ec2.m7i.large.hour": {"price": 0.1, "source": "https://aws.amazon.com/ec2/pricing/on-demand/"},
//	    …
//	  }
//	}
//
// Names of prices: "ec2.TYPE.hour" (on demand) and "ec2.TYPE.spot-hour"; the other ones are the constants below. Taxes, discounts and free tiers are not
// looked at.
//
// A File does not change and may be used by any number of goroutines; a Quote belongs to one.
package price

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Format is what the file's "format" must say.
const Format = "openmigrate-aws-prices/1"

// Names of prices.
const (
	VolumeGiB        = "ebs.gp3.gib-month"
	VolumeIOPS       = "ebs.gp3.iops-month"  // each above 3,000
	VolumeThroughput = "ebs.gp3.mibps-month" // each MiB/s above 125
	SnapshotGiB      = "ebs.snapshot.gib-month"
	SnapshotPuts     = "ebs.put-snapshot-block.1000"
	BucketGiB        = "s3.standard.gib-month"
	BucketPuts       = "s3.put.1000"
	BucketGets       = "s3.get.1000"
	MGNServer        = "mgn.server.hour" // after the free hours
	DRSServer        = "drs.server.hour"
)

// Instance names the price of an hour of an instance type, on demand or spot.
func Instance(name string, spot bool) string {
	if spot {
		return "ec2." + name + ".spot-hour"
	}
	return "ec2." + name + ".hour"
}

// HoursPerMonth is what AWS counts a month as in its own examples.
const HoursPerMonth = 730

const (
	maxFile   = 8 << 20
	maxPrices = 20_000
	maxText   = 500
	maxPrice  = 1e6
)

// ErrFile: the file is not a price file, or not a good one.
var ErrFile = errors.New("price file cannot be used")

// Price is one entry.
type Price struct {
	Price  float64 `json:"price"`
	Source string  `json:"source"` // where it was looked up
}

// File is a price file.
type File struct {
	Format   string           `json:"format"`
	Example  bool             `json:"example,omitempty"`
	Date     string           `json:"date"`
	Region   string           `json:"region"`
	Currency string           `json:"currency"`
	Prices   map[string]Price `json:"prices"`
}

// Load reads a file.
func Load(path string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open price file: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read price file %s: %w", path, err)
	}
	p, err := Parse(b)
	if err != nil {
		return nil, fmt.Errorf("read price file %s: %w", path, err)
	}
	return p, nil
}

var (
	name   = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{0,99}$`)
	region = regexp.MustCompile(`^[a-z0-9-]{1,40}$`)
	money  = regexp.MustCompile(`^[A-Z]{3}$`)
)

// Parse reads a file's content. Unknown fields and prices without a source are errors: a slip of the pen must not become an estimate.
func Parse(b []byte) (*File, error) {
	bad := func(format string, a ...any) (*File, error) {
		return nil, fmt.Errorf("%w: %s", ErrFile, fmt.Sprintf(format, a...))
	}
	if len(b) > maxFile {
		return bad("it has more than %d bytes", maxFile)
	}
	f := new(File)
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(f); err != nil {
		return bad("%v", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return bad("something follows the JSON object")
	}
	if f.Format != Format {
		return bad("its format is %.60q, want %q", f.Format, Format)
	}
	if _, err := time.Parse(time.DateOnly, f.Date); err != nil {
		return bad("date %.40q is not like 2026-11-30", f.Date)
	}
	if !region.MatchString(f.Region) || !money.MatchString(f.Currency) {
		return bad("region %.60q or currency %.20q is not one", f.Region, f.Currency)
	}
	if len(f.Prices) > maxPrices {
		return bad("%d prices, at most %d", len(f.Prices), maxPrices)
	}
	for n, p := range f.Prices {
		if !name.MatchString(n) || p.Source == "" || len(p.Source) > maxText || math.IsNaN(p.Price) || p.Price < 0 || p.Price > maxPrice {
			return bad("price %.120q: want a name, a price of 0 to %g and a source of up to %d bytes", n, float64(maxPrice), maxText)
		}
	}
	return f, nil
}

// Age is how old the prices are.
func (f *File) Age(now time.Time) time.Duration {
	at, err := time.Parse(time.DateOnly, f.Date)
	if err != nil {
		return 0 // Parse lets none of these pass
	}
	return now.Sub(at)
}

// Get finds a price; false also when there is no file.
func (f *File) Get(n string) (Price, bool) {
	if f == nil {
		return Price{}, false
	}
	p, ok := f.Prices[n]
	return p, ok
}

// Line is one item of an estimate.
type Line struct {
	What   string   `json:"what"`
	Amount float64  `json:"amount"` // in the unit of the price
	Unit   string   `json:"unit"`
	Price  *float64 `json:"price,omitempty"` // nil: not known
	Cost   *float64 `json:"cost,omitempty"`
	Source string   `json:"source,omitempty"`
}

// Quote is an estimate. The zero Quote with a File is ready for Add.
type Quote struct {
	Currency string   `json:"currency,omitempty"`
	Lines    []Line   `json:"lines"`
	Total    float64  `json:"total"`             // of the lines that have a price
	Missing  []string `json:"missing,omitempty"` // prices that the file has not
	Notes    []string `json:"notes,omitempty"`

	file *File
}

// NewQuote begins an estimate from a file, or nil when there is none.
func NewQuote(f *File, now time.Time) *Quote {
	q := &Quote{file: f}
	switch {
	case f == nil:
		q.Notes = []string{"no price file is given: amounts only"}
	case f.Example:
		q.Currency = f.Currency
		q.Notes = []string{"the price file is an example and no price list: look the prices up"}
	default:
		q.Currency = f.Currency
		if age := f.Age(now); age > 90*24*time.Hour {
			q.Notes = []string{fmt.Sprintf("the prices are %d days old", int(age.Hours()/24))}
		}
	}
	return q
}

// Add adds amount of what a price is for. Nothing is not listed.
func (q *Quote) Add(what string, amount float64, unit, price string) {
	if amount == 0 {
		return
	}
	l := Line{What: what, Amount: amount, Unit: unit}
	if p, ok := q.file.Get(price); ok {
		cost := amount * p.Price
		l.Price, l.Cost, l.Source = &p.Price, &cost, p.Source
		q.Total += cost
	} else if !slices.Contains(q.Missing, price) {
		q.Missing = append(q.Missing, price)
	}
	q.Lines = append(q.Lines, l)
}

// Known reports whether every line has a price, so that Total is all of it.
func (q *Quote) Known() bool { return len(q.Missing) == 0 }

// String is the estimate in words.
func (q *Quote) String() string {
	var b strings.Builder
	for _, l := range q.Lines {
		fmt.Fprintf(&b, "%s: %.6g %s", l.What, l.Amount, l.Unit)
		if l.Cost != nil {
			fmt.Fprintf(&b, " at %g = %.2f %s", *l.Price, *l.Cost, q.Currency)
		}
		b.WriteByte('\n')
	}
	switch {
	case q.Known():
		fmt.Fprintf(&b, "total: %.2f %s\n", q.Total, q.Currency)
	case q.Total > 0:
		fmt.Fprintf(&b, "total: at least %.2f %s; no price for %s\n", q.Total, q.Currency, strings.Join(q.Missing, ", "))
	default:
		fmt.Fprintf(&b, "no price for %s\n", strings.Join(q.Missing, ", "))
	}
	for _, n := range q.Notes {
		b.WriteString(n + "\n")
	}
	return b.String()
}
