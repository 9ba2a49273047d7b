package main

import (
	"bytes"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/openmigrate/openmigrate/wire"
)

// TestWriteLaunch: an operator reads the state and what to do first, each step's time, each check, and why it failed. What a guest wrote cannot move the cursor.
func TestWriteLaunch(t *testing.T) {
	now := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	l := &wire.LaunchInfo{
		ID: "l1", Kind: wire.LaunchTest, MachineName: "web1", State: wire.LaunchFailed, NextStep: "look at the console", Restpoint: "r1", Provider: "qemu", Instance: "vm-1",
		Volumes: []string{"vol-1", "vol-2"}, Created: now.Add(-2 * time.Minute), Ended: now.Add(-time.Minute), Forecast: wire.Duration(90 * time.Second),
		Steps: []wire.LaunchStep{
			{Name: wire.LaunchHydrating, Started: now.Add(-2 * time.Minute), Ended: now.Add(-100 * time.Second), Progress: &wire.Progress{Total: 10, Done: 10}},
			{Name: wire.LaunchChecking, Started: now.Add(-time.Minute), Message: "boot"},
		},
		Log:       []wire.LaunchLine{{Time: now, Message: "machine vm-1 runs\x1b[2J"}},
		Checks:    []wire.LaunchOutcome{{LaunchCheck: wire.LaunchCheck{Kind: "tcp", Port: 22}, Passed: true, After: wire.Duration(31 * time.Second)}, {LaunchCheck: wire.LaunchCheck{Kind: "console", Text: "up"}, Message: "not within 10m"}},
		Endpoints: []wire.LaunchEndpoint{{Port: 22, Address: "127.0.0.1:4022"}}, Screenshot: true,
		Failure: &wire.LaunchFailure{Step: wire.LaunchChecking, Reason: "the system did not come up", Cause: "root device not found: /dev/sda1", Console: "Gave up\r\n\r\n\x1b[31mALERT!\x1b[0m /dev/sda1 does not exist\a\r\n"},
	}
	var b bytes.Buffer
	w := tabwriter.NewWriter(&b, 2, 8, 2, ' ', 0)
	writeLaunch(w, l, now)
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	for _, want := range [][2]string{
		{"state", "failed"}, {"next step", "look at the console"}, {"provider", "qemu, instance vm-1, volumes vol-1 vol-2"}, {"took", "1m0s, forecast by the last one 1m30s"},
		{"reached at", "port 22: 127.0.0.1:4022"}, {"step hydrating", "20s, 100 %"}, {"step checking", "1m0s so far, boot"}, {"check tcp:22", "passed after 31s"},
		{"check console:up", "not passed: not within 10m"}, {"screenshot", "openmigrate launch screenshot l1 --to FILE"}, {"2026-03-02T12:00:00Z", "machine vm-1 runs\ufffd[2J"},
		{"failed in", "checking"}, {"reason", "the system did not come up"}, {"likely cause", "root device not found: /dev/sda1"}, {"console", "Gave up"},
		{"console", "ALERT! /dev/sda1 does not exist\ufffd"},
	} {
		found := false
		for line := range strings.SplitSeq(b.String(), "\n") {
			found = found || strings.HasPrefix(line, want[0]+"  ") && strings.HasSuffix(line, "  "+want[1])
		}
		if !found {
			t.Errorf("there is no line %q in\n%s", want, &b)
		}
	}
	err := launchFailure(l)
	want := "launch l1 of web1 failed in step checking: the system did not come up\nlikely cause: root device not found: /dev/sda1\n" +
		"the console's last lines:\n  Gave up\n  ALERT! /dev/sda1 does not exist\ufffd"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// TestLogTail shows each line once, also when the log has forgotten its oldest ones.
func TestLogTail(t *testing.T) {
	at := time.Unix(0, 0)
	line := func(n int) wire.LaunchLine {
		return wire.LaunchLine{Time: at.Add(time.Duration(n)), Message: "same words"}
	}
	var tail logTail
	for _, step := range []struct{ from, to, want int }{{0, 0, 0}, {0, 3, 3}, {0, 3, 0}, {1, 5, 2}, {5, 8, 3}, {20, 22, 2}} {
		var log []wire.LaunchLine
		for n := step.from; n < step.to; n++ {
			log = append(log, line(n))
		}
		if got := tail.news(log); len(got) != step.want || len(got) > 0 && !got[len(got)-1].Time.Equal(line(step.to-1).Time) {
			t.Errorf("%+v: %v", step, got)
		}
	}
}

// TestCutoverWords: whoever starts a cutover reads what it does to the source.
func TestCutoverWords(t *testing.T) {
	for _, tt := range []struct {
		q    wire.LaunchRequest
		want []string
	}{
		{wire.LaunchRequest{Machine: "web1"}, []string{"web1 stops serving", "stays frozen", "30m0s", "launch revert"}},
		{wire.LaunchRequest{Machine: "web1", StopSource: true, HoldTimeout: wire.Duration(time.Minute)}, []string{"powers itself off", "1m0s"}},
		{wire.LaunchRequest{Machine: "web1\x1b", Restpoint: "r1"}, []string{"web1\ufffd", "restpoint r1", "source is not touched"}},
	} {
		got := cutoverWords(&tt.q)
		for _, w := range tt.want {
			if !strings.Contains(got, w) {
				t.Errorf("%q lacks %q", got, w)
			}
		}
	}
	l := &wire.LaunchInfo{Kind: wire.LaunchCutover, State: wire.LaunchRunning, MachineName: "web1", Provider: "qemu", Source: wire.HoldOff}
	if s := revertWords(l); !strings.Contains(s, "is deleted") || !strings.Contains(s, "power it on") {
		t.Error(s)
	}
	if s := finalizeWords(l); !strings.Contains(s, "cannot be reverted") {
		t.Error(s)
	}
	if l.Kind = wire.LaunchTest; revertWords(l) != "" {
		t.Error("the end of a test is announced like that of a machine that serves")
	}
}
