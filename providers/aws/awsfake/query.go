package awsfake

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// call is one request of a Query action.
type call struct {
	who    caller
	action string
	in     params
}

// params are what a Query request carries: lists are numbered, Filter.1.Value.2 (EC2/Query-Requests).
type params map[string]string

func (p params) list(name string) []string {
	var out []string
	for i := 1; ; i++ {
		v, ok := p[name+"."+strconv.Itoa(i)]
		if !ok {
			return out
		}
		out = append(out, v)
	}
}

// structs are the numbered structures below a name, in order. Numbers may have gaps: clients that count from 0 exist.
func (p params) structs(name string) []params {
	by := map[int]params{}
	for k, v := range p {
		if rest, ok := strings.CutPrefix(k, name+"."); ok {
			number, field, _ := strings.Cut(rest, ".")
			if i, err := strconv.Atoi(number); err == nil {
				if by[i] == nil {
					by[i] = params{}
				}
				by[i][field] = v
			}
		}
	}
	var order []int
	for i := range by {
		order = append(order, i)
	}
	slices.Sort(order)
	var out []params
	for _, i := range order {
		out = append(out, by[i])
	}
	return out
}

func (p params) int(name string) (int, error) {
	if p[name] == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(p[name])
	if err != nil || n < 0 {
		return 0, fail("InvalidParameterValue", fmt.Sprintf("Value (%s) for parameter %s is invalid.", p[name], name))
	}
	return n, nil
}

func (p params) bool(name string) bool { return p[name] == "true" }

// need are parameters that an action cannot do without.
func (p params) need(names ...string) error {
	for _, n := range names {
		if p[n] == "" {
			return fail("MissingParameter", "The request must contain the parameter "+n)
		}
	}
	return nil
}

// action is an entry of the table of what there is.
type action struct {
	params string // that it knows, separated by blanks; # stands for a number
	run    func(*Server, *call) ([]node, error)
}

// common are parameters of every action: EC2/CommonParameters.
const common = "Action Version DryRun"

var number = regexp.MustCompile(`\.\d+(\.|$)`)

// known reports whether an action has a parameter of that name.
func (a *action) known(name string) bool {
	for {
		next := number.ReplaceAllString(name, ".#$1")
		if next == name {
			break
		}
		name = next
	}
	return slices.Contains(strings.Fields(common+" "+a.params), name)
}

// query answers a Query request.
func (s *Server) query(w http.ResponseWriter, r *http.Request, who caller, body []byte) {
	form, err := url.ParseQuery(string(body))
	if err != nil || r.Method != http.MethodPost {
		write(w, who.service, failed(fail("InvalidRequest", "want a form, posted")))
		return
	}
	in := params{}
	for k, v := range form {
		in[k] = v[0]
	}
	c := &call{who: who, action: in["Action"], in: in}
	table, version := ec2Actions, "2016-11-15"
	if who.service == "sts" {
		table, version = stsActions, "2011-06-15"
	}
	a, ok := table[c.action]
	if !ok || in["Version"] != version {
		write(w, who.service, failed(fail("InvalidAction", fmt.Sprintf("The action %s is not valid for this web service (version %s).", c.action, in["Version"]))))
		return
	}
	s.serve(w, who, c.action, func() (*answer, error) {
		for k := range in {
			if !a.known(k) {
				return nil, fail("UnknownParameter", fmt.Sprintf("The parameter %s is not recognized", k))
			}
		}
		if in.bool("DryRun") { // EC2/CommonParameters: the answer of a caller who may do it
			return nil, &apiError{http.StatusPreconditionFailed, "DryRunOperation", "Request would have succeeded, but DryRun flag is set.", ""}
		}
		kids, err := a.run(s, c)
		if err != nil {
			return nil, err
		}
		return answerXML(who.service, c.action, kids), nil
	})
}

// serve does what comes before and after the work of every action: it counts it, asks faults, permissions and limits, and loses the answer when told to.
func (s *Server) serve(w http.ResponseWriter, who caller, action string, work func() (*answer, error)) {
	name := who.service + ":" + action
	s.mu.Lock()
	s.counts[name]++
	s.settle()
	f := s.hit(name)
	err := s.admit(who, name, f)
	a := (*answer)(nil)
	if err == nil {
		a, err = work()
	}
	lose := f != nil && f.Lose && err == nil
	if lose {
		s.lost++
	} else if f != nil && f.Lose {
		f.seen-- // there was no work whose answer could be lost: the next call is meant
	}
	s.mu.Unlock()
	if err != nil {
		a = failed(err)
	}
	if lose {
		if h, ok := w.(http.Hijacker); ok {
			if conn, _, err := h.Hijack(); err == nil {
				_ = conn.Close()
				return
			}
		}
		a = failed(&apiError{http.StatusInternalServerError, "InternalError", "An internal error has occurred", ""})
	}
	write(w, who.service, a)
}

// page cuts a list: MaxResults and NextToken, EC2/Query-Requests "Pagination". The token says where to go on; AWS's is opaque, and so is this for clients.
func page[T any](in params, list []T, least, most int) ([]T, []node, error) {
	n, err := in.int("MaxResults")
	if err != nil {
		return nil, nil, err
	}
	from := 0
	if t := in["NextToken"]; t != "" {
		at, ok := strings.CutPrefix(t, "page-")
		if from, err = strconv.Atoi(at); !ok || err != nil || from < 0 || from > len(list) {
			return nil, nil, fail("InvalidNextToken", "The token '"+t+"' is invalid.")
		}
	}
	if n == 0 {
		return list[from:], nil, nil
	}
	if n < least || n > most {
		return nil, nil, fail("InvalidParameterValue", fmt.Sprintf("Value ( %d ) for parameter maxResults is invalid. Expecting a value between %d and %d.", n, least, most))
	}
	if from+n >= len(list) {
		return list[from:], nil, nil
	}
	return list[from : from+n], []node{el("nextToken", fmt.Sprintf("page-%d", from+n))}, nil
}
