package accounts

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"

	"github.com/openmigrate/openmigrate/internal/opaque"
	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/wire"
)

// Attempt is somebody who says that he is a user.
type Attempt struct {
	Name, Password string
	Address        string // host:port that he comes from
	Agent          string // what his browser calls itself
	Device         string // text of his device cookie; may be empty
}

// Login is an attempt that succeeded. Cookie and Device hold secrets: see SessionCookie and DeviceCookie.
type Login struct {
	Session Session
	User    User
	Cookie  string
	Device  string // empty: the one that he has is good
}

// Login checks a password and begins a session. CodeUnauthorized: there is no such user, or that is not his password; both
// take the same time. CodeBusy: too many have failed, see TooMany. CodeForbidden: the user is disabled.
func (s *Service) Login(ctx context.Context, a Attempt) (*Login, error) {
	name := strings.ToLower(a.Name)
	if !userName.MatchString(name) || len(a.Password) > 4*maxPassword {
		name, a.Password = "", "" // nobody's: it is tried, so that it takes as long
	}
	row, err := s.byName(ctx, name)
	if err != nil {
		return nil, err
	}
	device := s.deviceOf(row, a.Device)
	hash, err := s.tryPassword(ctx, row, name, a.Password, a.Address, device)
	if err != nil {
		return nil, err
	}
	if row.Disabled {
		return nil, forbidden("the user %s is disabled", row.Name)
	}
	l := &Login{}
	err = s.db.Update(ctx, func(tx store.Writer) error {
		now, err := user(tx, row.ID)
		if wire.HasCode(err, wire.CodeNotFound) || err == nil && (now.Disabled || now.Hash != row.Hash) {
			return wrongPassword()
		}
		if err != nil {
			return err
		}
		now.Hash, now.LastLogin = hash, s.clock.Now()
		if err := tableUsers.Put(tx, now.ID, now); err != nil {
			return err
		}
		l.User = *now.shown()
		session, text, err := s.addSession(tx, now.ID, a.Address, a.Agent, "password")
		if err != nil {
			return err
		}
		l.Session, l.Cookie = *session, text
		return nil
	})
	if err != nil {
		return nil, err
	}
	if device == "" {
		l.Device = s.newDevice(row.ID)
	}
	return l, nil
}

func wrongPassword() error {
	return wire.NewProblem(401, wire.CodeUnauthorized, "no user has this name and this password").
		WithNext("an admin can give you a link with which you set a new password")
}

// tryPassword checks a password within the limits. It returns the hash that the user is to have from now on.
func (s *Service) tryPassword(ctx context.Context, row *userRow, account, password, address, device string) (hash string, err error) {
	giveBack, err := s.limits.try(account, address, device, s.clock.Now())
	if err != nil {
		return "", err
	}
	password = normalPassword(password)
	ok, made, err := s.hasher.check(ctx, row.Hash, password, s.hash, device != "")
	if err != nil {
		giveBack() // nothing was tried
		return "", err
	}
	if !ok {
		return "", wrongPassword()
	}
	giveBack()
	if made == s.hash {
		return row.Hash, nil
	}
	return s.hasher.make(ctx, password, s.hash)
}

// knows checks that somebody knows a user's password, and returns its hash.
func (s *Service) knows(ctx context.Context, id, password, address string) (hash string, err error) {
	if len(password) > 4*maxPassword {
		return "", wrongPassword()
	}
	var row *userRow
	if err := s.db.View(ctx, func(tx store.Reader) (err error) { row, err = user(tx, id); return err }); err != nil {
		return "", err
	}
	if _, err := s.tryPassword(ctx, row, row.Name, password, address, ""); err != nil {
		return "", err
	}
	return row.Hash, nil
}

// byName finds a user; there is an empty one for a name that nobody has.
func (s *Service) byName(ctx context.Context, name string) (*userRow, error) {
	row := &userRow{}
	err := s.db.View(ctx, func(tx store.Reader) error {
		id, err := tableNames.Get(tx, name)
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		row, err = tableUsers.Get(tx, *id)
		return err
	})
	return row, err
}

// A device cookie says that its browser logged in as a user before: omd_USER_NONCE_MAC. It gives no rights, only an allowance of tries
// that others cannot use up (https://owasp.org/www-community/Slow_Down_Online_Guessing_Attacks_with_Device_Cookies).
const devicePrefix = "omd_"

func (s *Service) newDevice(id string) string {
	rest := strings.TrimPrefix(id, "user-") + "_" + opaque.Hex(8)
	return devicePrefix + rest + "_" + s.deviceMAC(rest)
}

func (s *Service) deviceMAC(rest string) string {
	m := hmac.New(sha256.New, s.device)
	m.Write([]byte(rest))
	return hex.EncodeToString(m.Sum(nil))
}

// deviceOf is the name of a device that is a user's; empty: it is not.
func (s *Service) deviceOf(row *userRow, text string) string {
	rest, ok := strings.CutPrefix(text, devicePrefix)
	i := strings.LastIndexByte(rest, '_')
	if !ok || i < 0 || len(text) > 200 || row.ID == "" || !hmac.Equal([]byte(rest[i+1:]), []byte(s.deviceMAC(rest[:i]))) {
		return ""
	}
	if of, _, _ := strings.Cut(rest, "_"); "user-"+of != row.ID {
		return ""
	}
	return rest[:i]
}
