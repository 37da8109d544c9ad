package connect

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"postern/forward"
)

// A Version of HTTP.
type Version uint8

// The versions. HTTP2 is spoken with prior knowledge, or on a TLS connection
// whose handshake has chosen it; see Handshake.
const (
	HTTP11 Version = iota
	HTTP10
	HTTP2
)

func (v Version) String() string {
	switch v {
	case HTTP11:
		return "HTTP/1.1"
	case HTTP10:
		return "HTTP/1.0"
	case HTTP2:
		return "HTTP/2"
	}
	return "unknown version of HTTP"
}

// An Auth is a credential for a proxy (RFC 7617, RFC 6750). The zero Auth is
// none.
type Auth struct {
	User, Password string // Basic
	Token          string // Bearer
}

// IsZero reports whether a is none.
func (a Auth) IsZero() bool { return a == Auth{} }

// String hides what it holds.
func (a Auth) String() string {
	switch {
	case a.IsZero():
		return "none"
	case a.Token != "":
		return "Bearer (hidden)"
	}
	return "Basic (hidden)"
}

// GoString hides what it holds.
func (a Auth) GoString() string { return a.String() }

func (a Auth) header() string {
	if a.Token != "" {
		return "Bearer " + a.Token
	}
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(a.User+":"+a.Password))
}

// A Request asks a proxy for a way to To.
type Request struct {
	To      forward.Address
	Version Version
	Auth    Auth
	Header  http.Header // fields of the caller's own, such as User-Agent
}

// What an exchange can come to beside a refusal; test with errors.Is. That it
// did not come in time is forward.ErrTimeout, that the server hung up
// forward.ErrClosed.
var (
	ErrNotHTTP = errors.New("not an HTTP answer")
	ErrTooLong = errors.New("the head is longer than the limit")
	ErrAuth    = errors.New("the proxy wants another credential") // 407
	ErrRequest = errors.New("this cannot be said in HTTP")
)

// A StatusError is an answer that was not a yes. For 407 it is ErrAuth too.
type StatusError struct {
	Status int
	Reason string
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("proxy answered %d %.80q", e.Status, e.Reason)
}

// Is makes 407 an ErrAuth.
func (e *StatusError) Is(target error) bool {
	return target == ErrAuth && e.Status == http.StatusProxyAuthRequired
}

func (r Request) check() error {
	switch {
	case r.To.IsZero() || r.To.Port() == 0:
		return fmt.Errorf("%w: no destination", ErrRequest)
	case r.Version > HTTP2:
		return fmt.Errorf("%w: %s", ErrRequest, r.Version)
	case strings.Contains(r.Auth.User, ":"):
		return fmt.Errorf("%w: a user with a colon", ErrRequest) // RFC 7617 section 2
	case r.Auth.Token != "" && (r.Auth.User != "" || r.Auth.Password != ""):
		return fmt.Errorf("%w: a token and a user", ErrRequest)
	case !isValue(r.Auth.Token):
		return fmt.Errorf("%w: a token with control characters", ErrRequest)
	}
	for name, values := range r.Header {
		if !isToken(name) {
			return fmt.Errorf("%w: field name %.40q", ErrRequest, name)
		}
		for _, v := range values {
			if !isValue(v) {
				return fmt.Errorf("%w: value of field %s", ErrRequest, name)
			}
		}
	}
	return nil
}

// isToken reports whether s is a token of RFC 9110 section 5.6.2.
func isToken(s string) bool {
	for _, c := range []byte(s) {
		if (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return false
		}
	}
	return s != ""
}

// isValue reports whether s can stand in a field without ending it.
func isValue(s string) bool {
	for _, c := range []byte(s) {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// A head is a request's head in parts, so that the credential can stay out of
// a transcript.
type head struct{ before, secret, after string }

func (r Request) connectHead() head {
	return r.head("CONNECT "+r.To.String(), r.To.String(), "")
}

// postHead asks the proxy to close: Squid and Apache keep the connection for the next request, and
// whoever waits for its end waits for theirs.
func (r Request) postHead(method string, size int) head {
	return r.head(method+" http://"+r.To.String()+"/", r.To.String(), "Content-Type: text/plain\r\nContent-Length: "+strconv.Itoa(size)+"\r\nConnection: close\r\n")
}

func (r Request) head(line, host, more string) head {
	var b strings.Builder
	b.WriteString(line + " " + r.Version.String() + "\r\nHost: " + host + "\r\n" + more)
	_ = r.Header.Write(&b) // a Builder never fails
	h := head{before: b.String(), after: "\r\n"}
	if !r.Auth.IsZero() {
		h.before += "Proxy-Authorization: "
		h.secret, h.after = r.Auth.header(), "\r\n\r\n"
	}
	return h
}
