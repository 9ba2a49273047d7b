package qemu

import (
	"bytes"
	"net"
	"strings"
	"testing"
	"time"
)

// fakeConn is a QEMU that says something, whatever it is asked.
type fakeConn struct {
	net.Conn
	says *bytes.Reader
}

func (c fakeConn) Read(b []byte) (int, error)  { return c.says.Read(b) }
func (c fakeConn) Write(b []byte) (int, error) { return len(b), nil }
func (c fakeConn) SetDeadline(time.Time) error { return nil }

// talk runs commands of the provider against it.
func talk(t *testing.T, says []byte) (status string, err error) {
	t.Helper()
	q := newQMP(fakeConn{says: bytes.NewReader(says)})
	if err = q.greet(t.Context()); err == nil {
		status, err = q.status(t.Context())
	}
	if err == nil {
		_, err = findJob(t.Context(), q, "fill0")
	}
	return status, err
}

func TestQMP(t *testing.T) {
	greeting := `{"QMP": {}}` + "\n" + `{"return": {}}` + "\n"
	for name, c := range map[string]struct{ says, status, err string }{
		"all well":        {greeting + `{"event": "STOP"}` + "\n" + `{"return": {"status": "paused"}}` + "\n" + `{"return": []}` + "\n", "paused", ""},
		"refused":         {greeting + `{"error": {"class": "x", "desc": "no such thing"}}` + "\n", "", "no such thing"},
		"no JSON":         {greeting + "hello\n", "", "invalid character"},
		"another type":    {greeting + `{"return": 7}` + "\n", "", "cannot unmarshal"},
		"ends":            {greeting, "", "EOF"},
		"ends in a line":  {greeting + `{"return": {"sta`, "", "EOF"},
		"line of no end":  {greeting + strings.Repeat("x", qmpLine+8192), "", "in a line"},
		"no greeting":     {"", "", "EOF"},
		"bytes in a text": {greeting + "{\"error\": {\"desc\": \"\xff\"}}\n", "", "QEMU says"},
	} {
		t.Run(name, func(t *testing.T) {
			status, err := talk(t, []byte(c.says))
			if status != c.status || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("status %q, %v; want %q, %q", status, err, c.status, c.err)
			}
		})
	}
}

func FuzzQMP(f *testing.F) {
	f.Add([]byte("{\"QMP\": {}}\n{\"return\": {}}\n{\"return\": {\"status\": \"running\"}}\n{\"return\": [{\"id\": \"fill0\"}]}\n"))
	f.Add([]byte("{\"QMP\": {}}\n{\"return\": null}\n{\"error\": null}\n{}\n[]\n"))
	f.Add(bytes.Repeat([]byte("\n"), 100))
	f.Fuzz(func(t *testing.T, says []byte) {
		if status, err := talk(t, says); err == nil && status == "" && !bytes.Contains(says, []byte("return")) {
			t.Errorf("%q is taken for answers", says)
		}
	})
}
