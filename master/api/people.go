package api

import (
	"context"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/openmigrate/openmigrate/master/accounts"
	"github.com/openmigrate/openmigrate/master/audit"
	"github.com/openmigrate/openmigrate/wire"
)

func (s *server) registerPeople(api huma.API) {
	add(s, api, op{id: "login", method: "POST", path: wire.PathLogin, tag: "access", summary: "Sign in with a password",
		text: "The answer sets the session's cookie."}, s.login)
	add(s, api, op{id: "get-login", method: "GET", path: wire.PathLogin, tag: "access", summary: "Which ways in there are"}, s.getLogin)
	add(s, api, op{id: "logout", method: "POST", path: wire.PathLogout, tag: "access", summary: "Sign out: end the session whose cookie is sent"}, s.logout)
	add(s, api, op{id: "get-link", method: "POST", path: wire.PathLink, tag: "access", summary: "What a one-time link is good for", text: "It is not used up by asking."}, s.getLink)
	add(s, api, op{id: "use-link", method: "POST", path: wire.PathLinkUse, tag: "access", summary: "Set a password with a one-time link, and sign in",
		text: "The link that the master prints while there are no users makes the first admin."}, s.useLink)
	add(s, api, op{id: "change-password", method: "PUT", path: wire.PathPassword, tag: "access", summary: "Change one's own password",
		text: "All other sessions of the user end."}, s.changePassword)
	add(s, api, op{id: "list-own-sessions", method: "GET", path: wire.PathOwnSessions, tag: "access", summary: "List the browsers in which one is signed in"}, s.listOwnSessions)
	add(s, api, op{id: "end-own-session", method: "DELETE", path: wire.PathOwnSession, tag: "access", summary: "Sign out in one of them"}, s.endOwnSession)

	add(s, api, op{id: "list-users", method: "GET", path: wire.PathUsers, tag: "users", summary: "List users"}, s.listUsers)
	add(s, api, op{id: "create-user", method: "POST", path: wire.PathUsers, tag: "users", summary: "Make a user",
		text: "The answer has a one-time link with which a password is set.", status: http.StatusCreated, creates: true}, s.createUser)
	add(s, api, op{id: "get-user", method: "GET", path: wire.PathUser, tag: "users", summary: "Show a user"}, s.getUser)
	add(s, api, op{id: "change-user", method: "PATCH", path: wire.PathUser, tag: "users", summary: "Change a user's roles, or disable him"}, s.changeUser)
	add(s, api, op{id: "remove-user", method: "DELETE", path: wire.PathUser, tag: "users", summary: "Remove a user", text: "His tokens and sessions end."}, s.removeUser)
	add(s, api, op{id: "create-link", method: "POST", path: wire.PathUserLink, tag: "users", summary: "Make a one-time link with which a user sets a new password",
		text: "It is in the answer and nowhere else, and makes older ones worthless.", status: http.StatusCreated, creates: true}, s.createLink)
	add(s, api, op{id: "end-user-sessions", method: "DELETE", path: wire.PathUserSessions, tag: "users", summary: "Sign a user out everywhere"}, s.endUserSessions)
}

// signedIn is the answer to somebody who signed in.
type signedIn struct {
	SetCookie []string `header:"Set-Cookie"`
	Body      accounts.User
}

type loginIn struct {
	Agent  string `header:"User-Agent" maxLength:"1024"`
	Device string `cookie:"__Host-openmigrate-device" maxLength:"256"`
	Body   wire.LoginRequest
}

type loginWaysOut struct{ Body wire.LoginWays }

func (s *server) getLogin(context.Context, *struct{}) (*loginWaysOut, error) {
	return &loginWaysOut{wire.LoginWays{OIDC: s.OIDC}}, nil
}

func (s *server) login(ctx context.Context, in *loginIn) (*signedIn, error) {
	return s.signIn(ctx, accounts.Attempt{Name: in.Body.Name, Password: in.Body.Password, Address: originOf(ctx).from, Agent: in.Agent, Device: in.Device})
}

func (s *server) signIn(ctx context.Context, a accounts.Attempt) (*signedIn, error) {
	l, err := s.Accounts.Login(ctx, a)
	if err != nil {
		s.Log.Warn("nobody signed in", "name", cutText(a.Name, 64), "from", a.Address, "error", err)
		return nil, tooMany(err)
	}
	out := &signedIn{Body: l.User}
	for _, c := range l.Cookies() {
		out.SetCookie = append(out.SetCookie, c.String())
	}
	s.recordAs(ctx, audit.Who{Kind: accounts.KindUser, ID: l.User.ID, Name: l.User.Name}, "session", l.Session.ID, nil, map[string]any{"user": l.User.Name})
	return out, nil
}

// slowDown says when to try again.
type slowDown struct {
	*wire.Problem
	header http.Header
}

// GetHeaders implements huma.HeadersError.
func (e *slowDown) GetHeaders() http.Header { return e.header }

func (e *slowDown) Unwrap() error { return e.Problem }

func tooMany(err error) error {
	wait, ok := accounts.TooMany(err)
	var p *wire.Problem
	if !ok || !asProblem(err, &p) {
		return err
	}
	return &slowDown{p, http.Header{"Retry-After": {strconv.FormatFloat(math.Ceil(wait.Seconds()), 'f', 0, 64)}}}
}

type cookiesOut struct {
	SetCookie []string `header:"Set-Cookie"`
}

func (s *server) logout(ctx context.Context, _ *struct{}) (*cookiesOut, error) {
	p := person(ctx)
	if p.Kind != accounts.KindUser {
		return nil, wire.NewProblem(http.StatusConflict, wire.CodeConflict, "a token is no session").WithNext("remove the token instead")
	}
	if err := s.Accounts.EndSession(ctx, p.User, p.ID); err != nil {
		return nil, err
	}
	return &cookiesOut{[]string{accounts.Logout().String()}}, nil
}

type linkIn struct{ Body wire.LinkText }

type linkOut struct{ Body wire.LinkInfo }

func (s *server) getLink(ctx context.Context, in *linkIn) (*linkOut, error) {
	if err := s.admitGuess(ctx); err != nil {
		return nil, err
	}
	l, name, err := s.Accounts.Link(ctx, in.Body.Link)
	if err != nil {
		return nil, err
	}
	return &linkOut{wire.LinkInfo{Kind: l.Kind, User: name, Expires: l.Expires}}, nil
}

type useLinkIn struct {
	Agent  string `header:"User-Agent" maxLength:"1024"`
	Device string `cookie:"__Host-openmigrate-device" maxLength:"256"`
	Body   wire.LinkUse
}

func (s *server) useLink(ctx context.Context, in *useLinkIn) (*signedIn, error) {
	if err := s.admitGuess(ctx); err != nil {
		return nil, err
	}
	u, err := s.Accounts.UseLink(ctx, in.Body.Link, in.Body.Name, in.Body.Password)
	if err != nil {
		return nil, err
	}
	s.recordAs(ctx, audit.Who{Kind: accounts.KindUser, ID: u.ID, Name: u.Name}, "user", u.ID, nil, map[string]any{"password": "set"})
	return s.signIn(ctx, accounts.Attempt{Name: u.Name, Password: in.Body.Password, Address: originOf(ctx).from, Agent: in.Agent, Device: in.Device})
}

// admitGuess limits those who have shown nothing yet.
func (s *server) admitGuess(ctx context.Context) error {
	wait, ok := s.enrolling.allow(originOf(ctx).from, time.Now())
	if ok {
		return nil
	}
	return &slowDown{wire.NewProblem(http.StatusTooManyRequests, wire.CodeBusy, "too many tries come from this address").WithNext("try again in a minute"),
		http.Header{"Retry-After": {strconv.FormatFloat(math.Ceil(wait.Seconds()), 'f', 0, 64)}}}
}

type changePasswordIn struct{ Body wire.PasswordChange }

func (s *server) changePassword(ctx context.Context, in *changePasswordIn) (*struct{}, error) {
	p := person(ctx)
	if p.Kind != accounts.KindUser {
		return nil, wire.NewProblem(http.StatusForbidden, wire.CodeForbidden, "a token changes no password").WithNext("sign in")
	}
	if _, err := s.Accounts.ChangePassword(ctx, p.Principal, in.Body.Old, in.Body.New, originOf(ctx).from); err != nil {
		return nil, tooMany(err)
	}
	s.changed(ctx, "user", p.User, p.Name, nil, map[string]any{"password": "changed"})
	return nil, nil
}

func (s *server) listOwnSessions(ctx context.Context, in *PageParams) (*pageOut[accounts.Session], error) {
	var list []accounts.Session
	if p := person(ctx); p.User != "" {
		var err error
		if list, err = s.Accounts.Sessions(ctx, p.User); err != nil {
			return nil, err
		}
	}
	return listed(list, in, "-created", func(x *accounts.Session) sortKey { return sortKey{Number: x.Created.UnixNano(), ID: x.ID} })
}

type ownSessionIn struct {
	Session string `path:"session" maxLength:"256"`
}

func (s *server) endOwnSession(ctx context.Context, in *ownSessionIn) (*struct{}, error) {
	p := person(ctx)
	if err := s.Accounts.EndSession(ctx, p.User, in.Session); err != nil {
		return nil, err
	}
	s.changed(ctx, "session", in.Session, p.Name, map[string]any{"user": p.Name}, nil)
	return nil, nil
}

// UserRef names a user.
type UserRef struct {
	User string `path:"user" maxLength:"256" doc:"Its id."`
}

type userOut struct {
	ETag string `header:"ETag"`
	Body accounts.User
}

func answerUser(u *accounts.User) *userOut {
	return &userOut{ETag: etag(strconv.FormatUint(u.Revision, 10)), Body: *u}
}

type listUsersIn struct {
	PageParams
	Search string `query:"search" maxLength:"256" doc:"Text that the name or the mail address holds."`
}

func (s *server) listUsers(ctx context.Context, in *listUsersIn) (*pageOut[accounts.User], error) {
	list, err := s.Accounts.Users(ctx, "", math.MaxInt)
	if err != nil {
		return nil, err
	}
	out := list[:0]
	part := strings.ToLower(in.Search)
	for i := range list {
		if strings.Contains(list[i].Name, part) || strings.Contains(strings.ToLower(list[i].Email), part) {
			out = append(out, list[i])
		}
	}
	return listed(out, &in.PageParams, "name", func(u *accounts.User) sortKey { return sortKey{Text: u.Name, ID: u.ID} })
}

type createUserIn struct {
	Idempotent
	Body wire.UserRequest
}

type newUserOut struct{ Body wire.NewUser }

func (s *server) createUser(ctx context.Context, in *createUserIn) (*newUserOut, error) {
	u, err := s.Accounts.CreateUser(ctx, in.Body.Name, in.Body.Email, in.Body.Roles)
	if err != nil {
		return nil, err
	}
	s.changed(ctx, "user", u.ID, u.Name, nil, u)
	link, err := s.newLink(ctx, u)
	if err != nil {
		return nil, err
	}
	return &newUserOut{wire.NewUser{ID: u.ID, Name: u.Name, Link: *link}}, nil
}

func (s *server) newLink(ctx context.Context, u *accounts.User) (*wire.Link, error) {
	text, l, err := s.Accounts.NewLink(ctx, u.ID)
	if err != nil {
		return nil, err
	}
	return &wire.Link{URL: s.URL + accounts.WelcomePath + "#" + text, Link: text, Expires: l.Expires}, nil
}

func (s *server) getUser(ctx context.Context, in *UserRef) (*userOut, error) {
	u, err := s.Accounts.User(ctx, in.User)
	if err != nil {
		return nil, err
	}
	return answerUser(u), nil
}

// ChangedUser names a user that something is done to.
type ChangedUser struct {
	UserRef
	Match
}

type changeUserIn struct {
	ChangedUser
	Body wire.UserChange
}

func (s *server) changeUser(ctx context.Context, in *changeUserIn) (*userOut, error) {
	was, err := s.Accounts.User(ctx, in.User)
	if err != nil {
		return nil, err
	}
	revision, err := in.number(was.Revision, true)
	if err != nil {
		return nil, err
	}
	u, err := s.Accounts.ChangeUser(ctx, was.ID, revision, accounts.UserChange{Email: in.Body.Email, Roles: in.Body.Roles, Disabled: in.Body.Disabled})
	if err != nil {
		return nil, staleETag(err)
	}
	s.changed(ctx, "user", u.ID, u.Name, was, u)
	return answerUser(u), nil
}

func (s *server) removeUser(ctx context.Context, in *ChangedUser) (*struct{}, error) {
	was, err := s.Accounts.User(ctx, in.User)
	if err != nil {
		return nil, err
	}
	revision, err := in.number(was.Revision, false)
	if err != nil {
		return nil, err
	}
	if err := s.Accounts.RemoveUser(ctx, was.ID, revision); err != nil {
		return nil, staleETag(err)
	}
	s.changed(ctx, "user", was.ID, was.Name, was, nil)
	return nil, nil
}

type createLinkIn struct {
	UserRef
	Idempotent
}

type newLinkOut struct{ Body wire.Link }

func (s *server) createLink(ctx context.Context, in *createLinkIn) (*newLinkOut, error) {
	u, err := s.Accounts.User(ctx, in.User)
	if err != nil {
		return nil, err
	}
	link, err := s.newLink(ctx, u)
	if err != nil {
		return nil, err
	}
	s.changed(ctx, "user", u.ID, u.Name, nil, map[string]any{"link": "made"})
	return &newLinkOut{*link}, nil
}

func (s *server) endUserSessions(ctx context.Context, in *UserRef) (*struct{}, error) {
	u, err := s.Accounts.User(ctx, in.User)
	if err != nil {
		return nil, err
	}
	if err := s.Accounts.EndSessions(ctx, u.ID); err != nil {
		return nil, err
	}
	s.changed(ctx, "user", u.ID, u.Name, nil, map[string]any{"sessions": "ended"})
	return nil, nil
}
