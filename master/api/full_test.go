package api

import (
	"errors"
	"strings"
	"testing"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/master/ca"
	"github.com/openmigrate/openmigrate/wire"
)

// TestFullDisk fills the disk that the database is on: whoever writes hears what is the matter, whoever reads is served, and with
// room all goes on.
func TestFullDisk(t *testing.T) {
	w := newWorld(t)
	agent, node, admin := w.enrol(ca.KindAgent, true), w.enrol(ca.KindNode, true), w.admin()
	disks := &wire.SessionRequest{Disks: []wire.SessionDisk{{ID: "d", Name: "sda", Size: 1 << 20, ChunkSize: chunker.MinSize}}}
	tok := w.enrolToken(ca.KindAgent)
	q, _ := enrolRequest(t, tok, ca.KindAgent)
	stranger := w.client(wire.ClientOptions{Pin: &tok.Pin})
	writes := map[string]func() error{
		"agent's hello": func() error {
			_, err := agent.Hello(t.Context(), wire.PathAgentHello, &wire.Hello{Generation: agent.generation.Add(1), Fingerprint: "f"})
			return err
		},
		"node's hello": func() error {
			_, err := node.Hello(t.Context(), wire.PathNodeHello, &wire.Hello{Generation: node.generation.Add(1), Fingerprint: "f"})
			return err
		},
		"token":     func() error { _, err := admin.CreateEnrolToken(t.Context(), wire.EnrolTokenRequest{}); return err },
		"pause":     func() error { return admin.PauseMachine(t.Context(), agent.id) },
		"enrolment": func() error { _, err := stranger.Enroll(t.Context(), q); return err },
	}
	w.env.DB.Fill(true)
	for name, write := range writes {
		err := write()
		wantCode(t, name, err, wire.CodeFull)
		if p := (*wire.Problem)(nil); errors.As(err, &p) && (p.Status != 507 || !strings.Contains(p.Next, "disk")) {
			t.Errorf("%s: %+v", name, p)
		}
		if wire.Passing(err) {
			t.Errorf("%s: clients would try again at once", name)
		}
	}
	if _, err := admin.Machines(t.Context()); err != nil {
		t.Errorf("reading: %v", err)
	}
	w.env.DB.Fill(false)
	for name, write := range writes {
		if err := write(); err != nil {
			t.Errorf("%s with room again: %v", name, err)
		}
	}
	agent.generation.Add(1)
	if _, err := agent.Hello(t.Context(), wire.PathAgentHello, &wire.Hello{Generation: agent.generation.Load(), Fingerprint: "f"}); err != nil {
		t.Fatal(err)
	}
	w.env.DB.Fill(true)
	_, err := agent.OpenSession(t.Context(), disks)
	wantCode(t, "session", err, wire.CodeFull)
}
