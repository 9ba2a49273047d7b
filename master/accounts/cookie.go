package accounts

import (
	"net/http"
	"time"
)

// Names of cookies. With __Host- a browser takes one only over TLS, for this host alone and all of its paths, so neither another host of the
// domain nor a page without TLS can put one in its place (RFC 6265bis, section 4.1.3.2).
const (
	SessionCookieName = "__Host-openmigrate"
	DeviceCookieName  = "__Host-openmigrate-device"
	LoginCookieName   = "__Host-openmigrate-login" // binds a login through OpenID Connect to a browser
)

// deviceLife is how long a browser is remembered as one that logged in.
const deviceLife = 180 * 24 * time.Hour

// cookie is what all of them have in common: scripts cannot read them, and they are sent to this host alone, over TLS, by its own pages.
func cookie(name, value string, age time.Duration) *http.Cookie {
	return &http.Cookie{Name: name, Value: value, Path: "/", MaxAge: int(age / time.Second), HttpOnly: true, Secure: true, SameSite: http.SameSiteStrictMode}
}

// Cookies are the cookies of a login.
func (l *Login) Cookies() []*http.Cookie {
	list := []*http.Cookie{cookie(SessionCookieName, l.Cookie, l.Session.Expires.Sub(l.Session.Created))}
	if l.Device != "" {
		list = append(list, cookie(DeviceCookieName, l.Device, deviceLife))
	}
	return list
}

// Logout is the cookie that takes a session's away.
func Logout() *http.Cookie {
	c := cookie(SessionCookieName, "", 0)
	c.MaxAge = -1
	return c
}

// LoginCookie binds a login through another site to a browser. The other site sends the browser back, which browsers take for a visit from there: a
// cookie with SameSite=Strict would stay away, so this one is Lax. It is worth nothing without the answer that it belongs to.
func LoginCookie(text string, life time.Duration) *http.Cookie {
	c := cookie(LoginCookieName, text, life)
	c.SameSite = http.SameSiteLaxMode
	return c
}

// LoginOver is the cookie that takes a LoginCookie away.
func LoginOver() *http.Cookie {
	c := LoginCookie("", 0)
	c.MaxAge = -1
	return c
}

// CookieText is the text of a request's cookie; empty: there is none, or there are several, of which one is somebody else's.
func CookieText(r *http.Request, name string) string {
	list := r.CookiesNamed(name)
	if len(list) != 1 {
		return ""
	}
	return list[0].Value
}
