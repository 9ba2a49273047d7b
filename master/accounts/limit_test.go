package accounts

import (
	"fmt"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/wire"
)

func (w *world) try(name, password, address, device string) error {
	_, err := w.Login(w.t.Context(), Attempt{Name: name, Password: password, Address: address, Device: device})
	return err
}

func TestGuessingFromOneAddress(t *testing.T) {
	w := newWorld(t)
	w.admin("ann")
	for i := range addressTries {
		wantCode(t, fmt.Sprint(i), w.try("ann", another, fmt.Sprintf("192.0.2.1:%d", i+1), ""), wire.CodeUnauthorized)
	}
	err := w.try("ann", another, "192.0.2.1:99", "")
	wantCode(t, "one too many", err, wire.CodeBusy)
	if wait, ok := TooMany(err); !ok || wait <= 0 || wait > addressEvery+time.Second {
		t.Errorf("wait %v, %v", wait, ok)
	}
	wantCode(t, "the right one, from there", w.try("ann", good, "[::ffff:192.0.2.1]:99", ""), wire.CodeBusy)
	if err := w.try("ann", good, "192.0.2.2:1", ""); err != nil {
		t.Errorf("from elsewhere: %v", err)
	}
	w.clock.Advance(addressEvery)
	if err := w.try("ann", good, "192.0.2.1:1", ""); err != nil {
		t.Errorf("a little later: %v", err)
	}
	// IPv6: who has one address has 2^64.
	for i := range addressTries {
		wantCode(t, fmt.Sprint(i), w.try("nobody", another, fmt.Sprintf("[2001:db8::%x]:1", i+1), ""), wire.CodeUnauthorized)
	}
	wantCode(t, "another address of the same network", w.try("nobody", another, "[2001:db8::ffff]:1", ""), wire.CodeBusy)
}

// TestSuccessUsesNothingUp: a tool that logs in all day is not sent away.
func TestSuccessUsesNothingUp(t *testing.T) {
	w := newWorld(t)
	w.admin("ann")
	for i := range 2 * accountTries {
		if err := w.try("ann", good, "192.0.2.1:1", ""); err != nil {
			t.Fatalf("%d: %v", i, err)
		}
	}
}

// TestFloodLocksNobodyOut: thousands of addresses guess one account's password. Its owner gets in from the browser that he
// has used without waiting, and from any other place within pairEvery.
func TestFloodLocksNobodyOut(t *testing.T) {
	w := newWorld(t)
	w.admin("ann")
	l := w.login("ann", good)
	if l.Device == "" {
		t.Fatal("no device cookie")
	}
	tried := 0
	flood := func() {
		for i := range 2000 {
			if err := w.try("ann", another, fmt.Sprintf("10.%d.%d.1:1", i/250, i%250), ""); wire.HasCode(err, wire.CodeUnauthorized) {
				tried++
			}
		}
	}
	flood()
	if tried > 2000 {
		t.Fatal(tried)
	}
	tried = 0
	for range 10 { // ten rounds in a second: of each address at most one is looked at
		flood()
		w.clock.Advance(100 * time.Millisecond)
	}
	if most := 2000 + accountTries; tried > most {
		t.Errorf("%d passwords were tried in a second, at most %d", tried, most)
	}
	if err := w.try("ann", good, "203.0.113.9:1", l.Device); err != nil {
		t.Errorf("from a browser that is known: %v", err)
	}
	if err := w.try("ann", good, "10.0.1.1:1", l.Device); err != nil {
		t.Errorf("from a browser that is known, at an address of the flood: %v", err)
	}
	wantCode(t, "a device cookie is no password", w.try("ann", another, "203.0.113.9:1", l.Device), wire.CodeUnauthorized)
	if err := w.try("ann", good, "203.0.113.10:1", ""); err != nil {
		t.Errorf("from a new place: %v", err)
	}
	wantCode(t, "a slip", w.try("ann", another, "203.0.113.11:1", ""), wire.CodeUnauthorized)
	wantCode(t, "right after it", w.try("ann", good, "203.0.113.11:1", ""), wire.CodeBusy)
	w.clock.Advance(pairEvery)
	flood()
	if err := w.try("ann", good, "203.0.113.11:1", ""); err != nil {
		t.Errorf("from a new place after %v: %v", pairEvery, err)
	}
}

func TestDeviceCookies(t *testing.T) {
	w := newWorld(t)
	w.admin("ann")
	w.user("bob", nil)
	ann, bob := w.login("ann", good), w.login("bob", good)
	row, err := w.byName(t.Context(), "ann")
	if err != nil {
		t.Fatal(err)
	}
	if w.deviceOf(row, ann.Device) == "" {
		t.Error("her own is not known")
	}
	for name, text := range map[string]string{
		"somebody else's": bob.Device, "empty": "", "prefix": "omd_", "cut": ann.Device[:len(ann.Device)-1], "changed": "omd_0" + ann.Device[5:], "session": ann.Cookie,
	} {
		if w.deviceOf(row, text) != "" {
			t.Errorf("%s is taken for ann's", name)
		}
	}
	if again, err := w.Login(t.Context(), Attempt{Name: "ann", Password: good, Address: "192.0.2.1:1", Device: ann.Device}); err != nil || again.Device != "" {
		t.Errorf("%+v, %v", again, err)
	}
	// A stolen one has an allowance, too.
	for i := range deviceTries {
		wantCode(t, fmt.Sprint(i), w.try("ann", another, fmt.Sprintf("192.0.2.%d:1", i), ann.Device), wire.CodeUnauthorized)
	}
	wantCode(t, "one too many", w.try("ann", good, "192.0.2.200:1", ann.Device), wire.CodeBusy)
}

func TestAllowancesAreBounded(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	a := newAllowances(2, time.Minute, 10)
	for i := range 10 {
		a.take(fmt.Sprint(i), now)
	}
	served := 0
	for i := range 1000 {
		if _, ok := a.take(fmt.Sprint("late", i), now); ok {
			served++
		}
	}
	if len(a.each) != 10 || served != sharedTries {
		t.Errorf("%d entries, %d served of those without one", len(a.each), served)
	}
	now = now.Add(time.Minute)
	if _, ok := a.take("later", now); !ok || len(a.each) != 1 {
		t.Errorf("%v; %d entries, want those that are full again to be forgotten", ok, len(a.each))
	}
	if _, ok := a.take("later", now.Add(-time.Hour)); !ok {
		t.Error("a clock that jumps back takes away what was left")
	}
	if wait, ok := a.take("later", now.Add(-time.Hour)); ok || wait > time.Minute {
		t.Errorf("%v, %v", wait, ok)
	}
}

func BenchmarkFloodOfAddresses(b *testing.B) {
	a := newAllowances(addressTries, addressEvery, maxAllowances)
	now := time.Now()
	for i := range b.N {
		a.take(fmt.Sprint(i), now)
	}
}
