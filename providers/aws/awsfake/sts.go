package awsfake

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Role is what others can become.
type Role struct {
	Name       string
	ExternalID string // that AssumeRole must name; none is asked for when empty
}

// ARN is the role's name in calls.
func (r *Role) ARN() string { return "arn:aws:iam::" + Account + ":role/" + r.Name }

// session is a set of temporary credentials.
type session struct {
	secret, token, principal string
	expires                  time.Time
}

var stsActions = map[string]action{
	"AssumeRole":        {"RoleArn RoleSessionName ExternalId DurationSeconds Policy", (*Server).assumeRole},
	"GetCallerIdentity": {"", (*Server).callerIdentity},
}

var sessionName = regexp.MustCompile(`^[\w+=,.@-]{2,64}$`)

// assumeRole: STS/AssumeRole. A role that is not there, and an external id that is wrong, get one and the same answer.
func (s *Server) assumeRole(c *call) ([]node, error) {
	if err := c.in.need("RoleArn", "RoleSessionName"); err != nil {
		return nil, err
	}
	if !sessionName.MatchString(c.in["RoleSessionName"]) {
		return nil, fail("ValidationError", "1 validation error detected: Value at 'roleSessionName' failed to satisfy constraint: Member must satisfy regular expression pattern: [\\w+=,.@-]*")
	}
	seconds, err := c.in.int("DurationSeconds")
	if err != nil {
		return nil, err
	}
	if seconds == 0 {
		seconds = 3600
	}
	if seconds < 900 || seconds > 43200 {
		return nil, fail("ValidationError", "DurationSeconds: from 900 to 43200")
	}
	for i := range s.opts.Roles {
		r := &s.opts.Roles[i]
		if r.ARN() != c.in["RoleArn"] || r.ExternalID != "" && r.ExternalID != c.in["ExternalId"] {
			continue
		}
		s.serial++
		key := "ASIA" + strings.ToUpper(fmt.Sprintf("%016d", s.serial))
		t := session{secret: s.id("secret"), token: s.id("token"), expires: s.now().Add(time.Duration(seconds) * time.Second).Truncate(time.Second),
			principal: fmt.Sprintf("arn:aws:sts::%s:assumed-role/%s/%s", Account, r.Name, c.in["RoleSessionName"])}
		s.sessions[key] = t
		return []node{
			el("Credentials", el("AccessKeyId", key), el("SecretAccessKey", t.secret), el("SessionToken", t.token), el("Expiration", t.expires.Format(time.RFC3339))),
			el("AssumedRoleUser", el("AssumedRoleId", "AROAOPENMIGRATE"+strconv.Itoa(s.serial)+":"+c.in["RoleSessionName"]), el("Arn", t.principal)),
			el("PackedPolicySize", 0),
		}, nil
	}
	return nil, &apiError{403, "AccessDenied", fmt.Sprintf("User: %s is not authorized to perform: sts:AssumeRole on resource: %s", c.who.principal, c.in["RoleArn"]), ""}
}

// callerIdentity: STS/GetCallerIdentity.
func (s *Server) callerIdentity(c *call) ([]node, error) {
	return []node{el("Arn", c.who.principal), el("UserId", "AIDAOPENMIGRATE"), el("Account", Account)}, nil
}
