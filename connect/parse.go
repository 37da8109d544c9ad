package connect

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"postern/forward"
)

// An asked is a request as it was read.
type asked struct {
	Request
	method string
	path   string // of an absolute URI
	length int64  // of the body
}

// errBad is the kind of what is answered with 400.
var errBad = errors.New("bad request")

func bad(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errBad, fmt.Sprintf(format, args...))
}

// maxFields bounds the fields of a request.
const maxFields = 100

// parseRequest reads a whole head, strictly: what two readers could take for
// two different things is refused. Lines end in CRLF, no field is folded, no
// space stands before a colon, what decides where the request ends or leads
// stands once (RFC 9112 sections 2.2, 3.2, 5 and 6.3).
func parseRequest(text []byte) (asked, error) {
	head, ok := bytes.CutSuffix(text, []byte("\r\n\r\n"))
	if !ok {
		return asked{}, bad("the head has no end")
	}
	lines := strings.Split(string(head), "\r\n")
	for _, l := range lines {
		if !isValue(l) {
			return asked{}, bad("a control character, or a line end of CR or LF alone")
		}
	}
	if len(lines) > maxFields+1 {
		return asked{}, bad("more than %d fields", maxFields)
	}
	parts := strings.Split(lines[0], " ")
	if len(parts) != 3 || !isToken(parts[0]) {
		return asked{}, bad("request line %.80q", withoutUser(lines[0]))
	}
	a := asked{method: parts[0]}
	switch parts[2] {
	case "HTTP/1.0":
		a.Version = HTTP10
	case "HTTP/1.1":
		a.Version = HTTP11
	default:
		return asked{}, bad("version %.20q", parts[2])
	}
	for i, l := range lines[1:] {
		name, value, ok := strings.Cut(l, ":")
		if !ok || !isToken(name) { // a folded line begins with a space, and may hold a credential
			return asked{}, bad("field %d has no name", i+1)
		}
		if a.Header == nil {
			a.Header = http.Header{}
		}
		a.Header.Add(name, strings.Trim(value, " \t"))
	}
	if err := a.framing(); err != nil {
		return asked{}, err
	}
	if err := a.credential(); err != nil {
		return asked{}, err
	}
	if err := a.target(parts[1]); err != nil {
		return asked{}, err
	}
	if len(a.Header) == 0 {
		a.Header = nil
	}
	return a, nil
}

// take removes a field that may stand once.
func (a *asked) take(name string) (value string, there bool, err error) {
	values := a.Header.Values(name)
	if len(values) > 1 {
		return "", false, bad("more than one %s", name)
	}
	if len(values) == 0 {
		return "", false, nil
	}
	a.Header.Del(name)
	return values[0], true, nil
}

// framing finds where the request ends. Nothing but a length is understood:
// a body in chunks behind a careless proxy is how requests are smuggled.
func (a *asked) framing() error {
	if _, ok := a.Header["Transfer-Encoding"]; ok {
		return bad("Transfer-Encoding")
	}
	length, there, err := a.take("Content-Length")
	if err != nil {
		return err
	}
	if there {
		if strings.Trim(length, "0123456789") != "" || length == "" {
			return bad("Content-Length %.20q", length)
		}
		if a.length, err = strconv.ParseInt(length, 10, 64); err != nil {
			return bad("Content-Length %.20q", length)
		}
	}
	_, there, err = a.take("Host") // the target says where it leads; Host is not believed
	if err == nil && !there && a.Version == HTTP11 {
		err = bad("no Host")
	}
	return err
}

func (a *asked) credential() error {
	value, there, err := a.take("Proxy-Authorization")
	if err != nil || !there {
		return err
	}
	scheme, rest, _ := strings.Cut(value, " ")
	switch rest = strings.Trim(rest, " "); strings.ToLower(scheme) {
	case "basic":
		pair, err := base64.StdEncoding.DecodeString(rest)
		user, password, ok := strings.Cut(string(pair), ":")
		if err != nil || !ok {
			return bad("Proxy-Authorization")
		}
		a.Auth = Auth{User: user, Password: password}
	case "bearer":
		a.Auth = Auth{Token: rest}
	}
	return nil
}

func (a *asked) target(text string) error {
	if a.method == http.MethodConnect {
		if a.length != 0 {
			return bad("CONNECT with a body") // RFC 9110 section 9.3.6
		}
		return a.leads(text)
	}
	const scheme = "http://"
	if len(text) < len(scheme) || !strings.EqualFold(text[:len(scheme)], scheme) {
		return bad("target %.80q; this is a proxy", withoutUser(text))
	}
	at := len(scheme) + strings.IndexAny(text[len(scheme):]+"/", "/?#")
	authority, path := text[len(scheme):at], text[at:]
	if strings.Contains(path, "#") {
		return bad("target %.80q", withoutUser(text))
	}
	if a.path = path; !strings.HasPrefix(path, "/") {
		a.path = "/" + path
	}
	if _, err := forward.ParseAddress(authority); err != nil {
		authority += ":80"
	}
	return a.leads(authority)
}

// leads reads where the request leads. No address has a user before it, whose
// password would stand in the error.
func (a *asked) leads(authority string) (err error) {
	if strings.Contains(authority, "@") {
		return bad("target with a user")
	}
	if a.To, err = forward.ParseAddress(authority); err != nil {
		return bad("target %v", err)
	}
	return nil
}

// withoutUser returns what can be shown of a target that is none.
func withoutUser(s string) string {
	if i := strings.LastIndexByte(s, '@'); i >= 0 {
		return "..." + s[i:]
	}
	return s
}

// onward is the head that goes on to the server of an absolute URI.
func (a *asked) onward() []byte {
	header := a.Header.Clone()
	// What was meant for us ends here (RFC 9110 section 7.6.1).
	for _, list := range header.Values("Connection") {
		for name := range strings.SplitSeq(list, ",") {
			header.Del(strings.TrimSpace(name))
		}
	}
	for name := range header {
		switch {
		case strings.HasPrefix(name, "Proxy-"), name == "Connection", name == "Keep-Alive", name == "Te", name == "Trailer", name == "Upgrade", name == "Expect":
			header.Del(name)
		}
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.0\r\nHost: %s\r\nContent-Length: %d\r\n", a.method, a.path, a.To, a.length)
	_ = header.Write(&b) // a Buffer never fails
	b.WriteString("\r\n")
	return b.Bytes()
}
