package connect

import (
	"bytes"
	"net/http"
	"strconv"
	"strings"

	"postern/forward"
)

const (
	maxAnswerHead = 16 << 10 // octets of the head of an answer
	maxInterim    = 8        // answers of class 1 before the final one
	maxSeen       = 256
)

// A Result is a proxy's answer.
type Result struct {
	Status int
	Reason string
	Header http.Header
	Text   []byte // of a refusal: what came of its body, at most 1 KiB
}

const maxText = 1 << 10

// An answerReader makes an answer of octets that come in any cut. What follows
// the head stays in rest.
type answerReader struct {
	rest    []byte
	interim int
}

// next returns the answer if it is whole. Line ends of LF alone are taken:
// nothing hangs on them here.
func (a *answerReader) next() (res Result, done bool, err error) {
	for {
		if !mayBeHTTP(a.rest) {
			return Result{}, false, &forward.WireError{Kind: ErrNotHTTP, Seen: a.seen()}
		}
		text, rest, ok := cutHead(a.rest)
		if !ok {
			if len(a.rest) > maxAnswerHead {
				return Result{}, false, &forward.WireError{Kind: ErrTooLong, Seen: a.seen()}
			}
			return Result{}, false, nil
		}
		res, ok = parseAnswer(string(text))
		if !ok || len(text) > maxAnswerHead {
			return Result{}, false, &forward.WireError{Kind: ErrNotHTTP, Seen: a.seen()}
		}
		a.rest = rest
		if res.Status/100 != 1 {
			return res, true, nil
		}
		if a.interim++; a.interim > maxInterim {
			return Result{}, false, &forward.WireError{Kind: ErrTooLong, Seen: a.seen()}
		}
	}
}

// whole reports whether the answer has come with its body, as far as it says
// how long that is (RFC 9112 section 6.3).
func (a answerReader) whole() bool {
	res, done, err := a.next()
	if !done || err != nil {
		return false
	}
	if strings.EqualFold(res.Header.Get("Transfer-Encoding"), "chunked") {
		return bytes.HasSuffix(a.rest, []byte("0\r\n\r\n"))
	}
	n, err := strconv.Atoi(res.Header.Get("Content-Length"))
	return err == nil && len(a.rest) >= n || res.Status == http.StatusNoContent
}

func (a *answerReader) seen() []byte { return bytes.Clone(a.rest[:min(len(a.rest), maxSeen)]) }

// mayBeHTTP reports whether b can become an answer of HTTP/1: a server of
// another protocol may never end a line, so nobody waits for one.
func mayBeHTTP(b []byte) bool {
	const prefix = "HTTP/1."
	n := min(len(b), len(prefix))
	return strings.EqualFold(string(b[:n]), prefix[:n]) // not as RFC 9112 section 2.3 has it, and some say it so
}

// cutHead parts b behind its first blank line.
func cutHead(b []byte) (text, rest []byte, ok bool) {
	for at := 0; ; {
		i := bytes.IndexByte(b[at:], '\n')
		if i < 0 {
			return nil, b, false
		}
		line := bytes.TrimSuffix(b[at:at+i], []byte("\r"))
		at += i + 1
		if len(line) == 0 {
			return b[:at], b[at:], true
		}
	}
}

// parseAnswer reads a whole head. A field that is none is left out: the answer
// is looked at and never passed on.
func parseAnswer(text string) (Result, bool) {
	lines := strings.Split(strings.ReplaceAll(text, "\r\n", "\n"), "\n")
	version, after, _ := strings.Cut(lines[0], " ")
	code, reason, _ := strings.Cut(after, " ")
	status, err := strconv.Atoi(code)
	if err != nil || len(code) != 3 || status < 100 || len(version) != len("HTTP/1.x") {
		return Result{}, false
	}
	r := Result{Status: status, Reason: reason, Header: http.Header{}}
	for _, line := range lines[1:] {
		name, value, ok := strings.Cut(line, ":")
		if ok && isToken(name) && isValue(value) {
			r.Header.Add(name, strings.Trim(value, " \t"))
		}
	}
	return r, true
}
