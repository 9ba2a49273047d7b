package awsfake

import (
	"encoding/xml"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// node is an element of an answer in XML.
type node struct {
	name string
	text string
	kids []node
}

// el makes an element of a text, number, truth or time, or of elements.
func el(name string, values ...any) node {
	n := node{name: name}
	for _, v := range values {
		switch v := v.(type) {
		case node:
			n.kids = append(n.kids, v)
		case []node:
			n.kids = append(n.kids, v...)
		case time.Time:
			n.text = v.UTC().Format("2006-01-02T15:04:05.000Z")
		default:
			n.text = fmt.Sprint(v)
		}
	}
	return n
}

// some leaves elements out that have neither text nor children.
func some(nodes ...node) []node {
	var kept []node
	for _, n := range nodes {
		if n.text != "" || n.kids != nil {
			kept = append(kept, n)
		}
	}
	return kept
}

// set is a list, as EC2 writes them: each entry is an item.
func set[T any](name string, list []T, item func(T) []node) node {
	n := node{name: name}
	for _, x := range list {
		n.kids = append(n.kids, node{name: "item", kids: item(x)})
	}
	return n
}

func (n *node) write(b *strings.Builder, attr string) {
	fmt.Fprintf(b, "<%s%s>", n.name, attr)
	_ = xml.EscapeText(b, []byte(n.text)) // a Builder takes all
	for i := range n.kids {
		n.kids[i].write(b, "")
	}
	fmt.Fprintf(b, "</%s>", n.name)
}

const (
	ec2Namespace = "http://ec2.amazonaws.com/doc/2016-11-15/"
	stsNamespace = "https://sts.amazonaws.com/doc/2011-06-15/"
)

// answerXML wraps what an action returns as its service does: EC2 puts the request's id first, STS has a result and metadata.
func answerXML(service, action string, kids []node) *answer {
	root, space := node{name: action + "Response"}, ec2Namespace
	if service == "sts" {
		space = stsNamespace
		root.kids = []node{{name: action + "Result", kids: kids}, el("ResponseMetadata", el("RequestId", requestID()))}
	} else {
		root.kids = append([]node{el("requestId", requestID())}, kids...)
	}
	var b strings.Builder
	b.WriteString(xml.Header)
	root.write(&b, fmt.Sprintf(` xmlns="%s"`, space))
	return &answer{status: http.StatusOK, body: []byte(b.String()), header: map[string]string{"Content-Type": "text/xml;charset=UTF-8"}}
}

// errorXML is the form of "Error codes for the Amazon EC2 API", and that of STS.
func errorXML(service string, e *apiError) []byte {
	root, attr := node{}, ""
	if service == "sts" {
		attr = fmt.Sprintf(` xmlns="%s"`, stsNamespace)
		root = el("ErrorResponse", el("Error", el("Type", "Sender"), el("Code", e.code), el("Message", e.message)), el("RequestId", requestID()))
	} else {
		root = el("Response", el("Errors", el("Error", el("Code", e.code), el("Message", e.message))), el("RequestID", requestID()))
	}
	var b strings.Builder
	b.WriteString(xml.Header)
	root.write(&b, attr)
	return []byte(b.String())
}

// write sends an answer in the form of its service.
func write(w http.ResponseWriter, service string, a *answer) {
	for k, v := range a.header {
		w.Header().Set(k, v)
	}
	body := a.body
	if a.err != nil {
		if service == "ebs" {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("X-Amzn-Errortype", a.err.code)
			body = errorJSON(a.err)
		} else {
			w.Header().Set("Content-Type", "text/xml;charset=UTF-8")
			body = errorXML(service, a.err)
		}
	}
	w.Header().Set("X-Amzn-Requestid", requestID())
	w.WriteHeader(a.status)
	_, _ = w.Write(body) // a client that is gone is its own affair
}
