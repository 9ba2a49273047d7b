package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/openmigrate/openmigrate/internal/enrol"
	"github.com/openmigrate/openmigrate/internal/version"
	"github.com/openmigrate/openmigrate/wire"
)

// An identity that is used by two hosts is frozen by the master, and then the server that should be protected is not. So an agent looks, before it does anything else with
// its identity, whether it was copied with its disk:
//
//	mark of a launch ──► not ours ──► call home, and be silent    (or enrol anew, when told to)
//	another host     ──► not ours ──► say so, and end             (or go on, when told that it is the same server)
//
// Neither finds a copy that has no mark and the same hardware UUID: the generation counter is for that.

// ErrCopied: the identity in the state directory is another host's.
var ErrCopied = errors.New("this agent's identity belongs to another host")

const (
	hostFile   = "host.json" // the host that the identity was used on last
	copyFile   = "copy.json" // the launch that this directory's identity was enrolled after
	asideName  = "copied-"   // + launch: the state that was copied
	maxMark    = 1 << 20     // bytes
	homeFor    = 10 * time.Minute
	helpToCopy = "To protect this machine itself enrol it anew: openmigrate-agent run --adopt-copy --token T (make T with 'openmigrate tokens enroll'), " +
		"or with --state-dir of a new folder in place of --adopt-copy"
)

type hostRecord struct {
	Fingerprint string `json:"fingerprint"`
}

type copyRecord struct {
	Launch string `json:"launch"`
}

// readMark reads the mark of a launch; nil: there is none.
func readMark(path string) (*wire.CopyMark, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	m := new(wire.CopyMark)
	if err == nil && len(b) > maxMark {
		err = fmt.Errorf("it has %d bytes", len(b))
	}
	if err == nil {
		err = json.Unmarshal(b, m)
	}
	if err == nil && m.Launch == "" {
		err = errors.New("it names no launch")
	}
	if err != nil {
		return nil, fmt.Errorf("%w, as far as can be told: read %s: %w. Remove the file if this is the original", ErrCopied, path, err)
	}
	return m, nil
}

// original settles whether the identity in the state directory is this host's, before it is used. It does not return, but for ctx's end, in a copy that is to stay silent.
func (a *agent) original(ctx context.Context, inv *wire.Inventory) error {
	mark, err := readMark(a.opts.CopyMark)
	if err != nil {
		return err
	}
	id, err := a.dir.Identity()
	if err != nil {
		return err
	}
	var own copyRecord
	if _, err := a.dir.Read(copyFile, &own); err != nil {
		return err
	}
	var host hostRecord
	if _, err := a.dir.Read(hostFile, &host); err != nil {
		return err
	}
	elsewhere := id != nil && host.Fingerprint != "" && host.Fingerprint != inv.Fingerprint
	launched := mark != nil && own.Launch != mark.Launch
	switch {
	case a.opts.AdoptCopy && (launched || elsewhere):
		if a.opts.Token == "" {
			return errors.New("adopt copy: it needs a token of its own: --token (make one with 'openmigrate tokens enroll')")
		}
		if err := a.adopt(mark); err != nil || mark == nil {
			return err
		}
		if err := os.Remove(a.opts.CopyMark); err != nil { // it would be told by copyFile that it is settled; this is for people
			a.log.Warn("the mark of the copy could not be removed", "error", err)
		}
		return nil
	case launched && id == nil && a.opts.Token != "": // the mark stays: another directory may have a copied identity
		return a.adopt(mark)
	case launched:
		return a.silent(ctx, mark, inv.Hostname)
	case elsewhere && a.opts.Moved:
		a.moved = true
	case elsewhere:
		return fmt.Errorf("%w: it was used last on a host with the fingerprint %.12s, and this is %.12s. If this is the same server on new hardware: openmigrate-agent run --moved. %s",
			ErrCopied, host.Fingerprint, inv.Fingerprint, helpToCopy)
	}
	return nil
}

// adopt makes the state directory a new machine's. What was there is moved aside: it has keys of the original. mark may be nil.
func (a *agent) adopt(mark *wire.CopyMark) error {
	launch := "by-hand"
	if mark != nil {
		launch = mark.Launch
	}
	aside := a.dir.Path(asideName + filepath.Base(launch))
	if err := os.MkdirAll(aside, 0o700); err != nil {
		return fmt.Errorf("move the copied state aside: %w", err)
	}
	entries, err := os.ReadDir(a.dir.Path(""))
	if err != nil {
		return fmt.Errorf("move the copied state aside: %w", err)
	}
	for _, e := range entries {
		if e.Name() == "lock" || e.Name() == statusName || len(e.Name()) > len(asideName) && e.Name()[:len(asideName)] == asideName {
			continue
		}
		if err := os.Rename(a.dir.Path(e.Name()), filepath.Join(aside, e.Name())); err != nil {
			return fmt.Errorf("move the copied state aside: %w", err)
		}
	}
	a.log.Warn("this is a copy; it becomes a machine of its own", "state_of_the_original", aside)
	if mark == nil {
		return nil
	}
	// Written before the identity, so that the mark does not make the new one a copied one.
	return a.dir.Write(copyFile, &copyRecord{Launch: mark.Launch})
}

// silent calls home, if it may, and waits for ctx's end.
func (a *agent) silent(ctx context.Context, mark *wire.CopyMark, hostname string) error {
	words := fmt.Sprintf("this is a copy of machine %s, made by launch %s (%s) from restpoint %s; it replicates nothing", mark.Machine, mark.Launch, mark.Kind, mark.Restpoint)
	a.log.Error(words + ". " + helpToCopy)
	a.status.copied(words, helpToCopy)
	if mark.URL != "" && mark.Secret != "" {
		if err := a.callHome(ctx, mark, hostname); err != nil {
			a.log.Warn("the master was not told that this copy is up", "error", err)
		} else {
			a.log.Info("the master knows that this copy is up")
		}
	}
	<-ctx.Done()
	return context.Cause(ctx)
}

func (a *agent) callHome(ctx context.Context, mark *wire.CopyMark, hostname string) error {
	if len(mark.CA) == 0 {
		return errors.New("the mark names no CA to trust")
	}
	client, err := wire.NewClient(wire.ClientOptions{URL: mark.URL, CA: mark.CA, UserAgent: "openmigrate-copy/" + version.String()})
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, homeFor)
	defer cancel()
	for b := enrol.NewBackoff(time.Second, 15*time.Second); ; {
		err := client.CallHome(ctx, &wire.CallHome{Launch: mark.Launch, Secret: mark.Secret, Hostname: hostname, BootID: bootID()})
		if err == nil || !wire.Passing(err) {
			return err
		}
		if b.Wait(ctx) != nil {
			return err
		}
	}
}

// here notes that the identity is used on this host, once the master has heard and not refused that.
func (a *agent) here(fingerprint string) {
	a.moved = false
	var host hostRecord
	if _, err := a.dir.Read(hostFile, &host); err == nil && host.Fingerprint == fingerprint {
		return
	}
	if err := a.dir.Write(hostFile, &hostRecord{Fingerprint: fingerprint}); err != nil {
		a.log.Warn("it could not be noted on which host this is", "error", err)
	}
}
