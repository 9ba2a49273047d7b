package accounts

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/wire"
)

// TestHashVectors: hashes that the reference implementation made (github.com/P-H-C/phc-winner-argon2, src/test.c, version 0x13).
func TestHashVectors(t *testing.T) {
	h := newHasher()
	for _, v := range []struct{ password, hash string }{
		{"password", "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"},
		{"password", "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"},
		{"password", "$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc"},
	} {
		if ok, p, err := h.check(t.Context(), v.hash, v.password, quick, false); !ok || err != nil || p.Time != 2 {
			t.Errorf("%s: %v, %+v, %v", v.hash, ok, p, err)
		}
		if ok, _, err := h.check(t.Context(), v.hash, v.password+" ", quick, false); ok || err != nil {
			t.Errorf("%s: takes another password: %v", v.hash, err)
		}
	}
}

func TestHash(t *testing.T) {
	h := newHasher()
	a, err := h.make(t.Context(), good, defaultHash)
	if err != nil {
		t.Fatal(err)
	}
	b, err := h.make(t.Context(), good, defaultHash)
	if err != nil {
		t.Fatal(err)
	}
	if a == b || !strings.HasPrefix(a, "$argon2id$v=19$m=65536,t=3,p=4$") {
		t.Errorf("%s\n%s", a, b)
	}
	if ok, p, err := h.check(t.Context(), a, good, quick, true); !ok || p != defaultHash || err != nil {
		t.Error(ok, p, err)
	}
	if ok, _, err := h.check(t.Context(), "", good, quick, false); ok || err != nil {
		t.Error("no hash is somebody's", err)
	}
}

// TestOldHashesAreReplaced: when parameters change, each login brings one password up to them.
func TestOldHashesAreReplaced(t *testing.T) {
	w := newWorld(t)
	w.admin("ann")
	w.hash = HashParams{Time: 2, Memory: 128, Threads: 1}
	w.login("ann", good)
	row, err := w.byName(t.Context(), "ann")
	if err != nil || !strings.Contains(row.Hash, "m=128,t=2") {
		t.Errorf("%s, %v", row.Hash, err)
	}
	w.login("ann", good)
}

// TestHashingIsBounded: a crowd of logins takes the memory of a few, and who comes after them is sent away at once.
func TestHashingIsBounded(t *testing.T) {
	h := newHasher()
	g := h.strangers
	var leaves []func()
	for range hashesAtOnce {
		leave, err := g.enter(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		leaves = append(leaves, leave)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range hashesWaiting {
		wg.Go(func() {
			if _, err := g.enter(ctx); err == nil {
				t.Error("one more than may hash at once")
			}
		})
	}
	for len(g.queue) < cap(g.queue) {
		time.Sleep(time.Millisecond)
	}
	_, err := g.enter(t.Context())
	wantCode(t, "one more than may wait", err, wire.CodeBusy)
	leave, err := h.trusted.enter(t.Context())
	if err != nil {
		t.Errorf("a browser that is known: %v", err)
	} else {
		leave()
	}
	cancel()
	wg.Wait()
	for _, leave := range leaves {
		leave()
	}
	if leave, err = g.enter(t.Context()); err != nil {
		t.Fatal(err)
	}
	leave()
	if len(g.queue) != 0 || len(g.run) != 0 {
		t.Error("a place was lost")
	}
}

func TestPasswords(t *testing.T) {
	for _, p := range []string{good, "корабль плывёт далеко", "ＦＵＬＬ ＷＩＤＴＨ ＬＥＴＴＥＲＳ", strings.Repeat("abcde", 50)} {
		if err := checkPassword("ann", p); err != nil {
			t.Errorf("%s: %v", p, err)
		}
	}
	for name, p := range map[string]string{
		"empty": "", "short": "fourteen chars", "one letter": strings.Repeat("a", 40), "name": "annannannannannannann bob", "product": "openmigrate-password-1",
		"long": strings.Repeat("abcdefg", 200), "not UTF-8": "seven green boats\xff\xfe",
	} {
		wantCode(t, name, checkPassword("ann", p), wire.CodeBadRequest)
	}
	if normalPassword("caf\u00e9") != normalPassword("cafe\u0301") {
		t.Error("the same letters from another keyboard are another password")
	}
}

func FuzzParseHash(f *testing.F) {
	f.Add("$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHApl8ArZWb2GRPPc")
	f.Add("$argon2id$v=19$m=4294967295,t=1,p=0$$")
	f.Fuzz(func(t *testing.T, s string) {
		p, salt, tag, err := parseHash(s)
		if err == nil && (p.Memory > 1<<20 || p.Time < 1 || p.Threads < 1 || len(salt) < 8 || len(tag) < 16) {
			t.Errorf("%q gives %+v", s, p)
		}
	})
}

// BenchmarkHash is what one login costs with the parameters that a master uses.
func BenchmarkHash(b *testing.B) {
	h := newHasher()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := h.make(b.Context(), good, defaultHash); err != nil {
			b.Fatal(err)
		}
	}
}
