package smtp

import (
	"bytes"
	"errors"
	"strings"
)

// What is no command may be the beginning of something in which the commands
// that follow stand: a chunk, the body of a request in another protocol, TLS.
// A session that goes on behind it takes them for the client's.

var (
	errForeign = errors.New("the client speaks another protocol")
	errControl = errors.New("control character in a command")
)

// hasControl reports a control character in a command: NUL, what a handshake of
// TLS begins with, a tab.
func hasControl(line []byte) bool {
	return bytes.ContainsFunc(line, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// announcesChunk reports whether a client may have meant BDAT with a line, so
// that what follows it is a chunk.
func announcesChunk(line []byte) bool {
	const verb = "BDAT"
	word := bytes.TrimLeftFunc(line, func(r rune) bool { return !isLetter(r) })
	return len(word) >= len(verb) && strings.EqualFold(string(word[:len(verb)]), verb)
}

// isRequest reports the first line of a request in HTTP and what looks like it
// (RTSP, SIP, ICAP): it ends in the name of the protocol and its version.
func isRequest(line string) bool {
	line = strings.TrimRight(line, " ")
	name, version, ok := strings.Cut(line[strings.LastIndexByte(line, ' ')+1:], "/")
	return ok && name != "" && strings.TrimFunc(name, isLetter) == "" && strings.Contains(version, ".") && strings.Trim(version, "0123456789.") == ""
}

// isMethod reports a method of HTTP.
func isMethod(verb string) bool {
	switch strings.ToUpper(verb) {
	case "GET", "POST", "PUT", "HEAD", "OPTIONS", "CONNECT", "DELETE", "PATCH", "TRACE":
		return true
	}
	return false
}

// isForeign reports a verb that no client of SMTP has: a field of a header, or
// what begins with no letter.
func isForeign(verb string) bool {
	return verb != "" && (!isLetter(rune(verb[0])) || strings.Contains(verb, ":"))
}

func isLetter(r rune) bool { return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' }
