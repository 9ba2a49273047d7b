package system

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestParseEnv(t *testing.T) {
	got := parseEnv("A='https://x:1'\nexport B=\"two=2\"\n\n# no variable\nC=3\n")
	if want := []string{"A=https://x:1", "B=two=2", "C=3"}; !slices.Equal(got, want) {
		t.Errorf("parseEnv = %q, want %q", got, want)
	}
}

func TestProcess(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	p, err := start(t.Context(), log, []string{"WORD=hello"}, "/bin/sh", "-c", "echo $WORD; exec sleep 1000")
	if err != nil {
		t.Fatal(err)
	}
	if err := eventually(t.Context(), p, "it has spoken", func() error {
		if !strings.Contains(p.tail(), "hello") {
			return errors.New("silence")
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	p.stop()
	if err := eventually(context.Background(), p, "it lives", func() error { return errors.New("no") }); err == nil || !strings.Contains(err.Error(), "hello") {
		t.Errorf("a program that ended: %v", err)
	}
	(*process)(nil).stop()
}
