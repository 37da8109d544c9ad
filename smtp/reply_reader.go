package smtp

import (
	"bytes"
	"strings"

	"postern/mail"
)

// What a server may say at most. RFC 5321 section 4.5.3.1.5 allows 512 octets
// a line; many send more in EHLO and in refusals with explanations.
const (
	maxReplyLine = 4 << 10
	maxReply     = 64 << 10
)

// A replyReader puts a reply together from whatever cuts it arrives in.
type replyReader struct {
	lines []string
	size  int
}

// line takes one line with its end and returns the reply when it is the last.
// ok is false when the line is no reply at all.
func (p *replyReader) line(line []byte) (r mail.Reply, done, ok bool) {
	text := strings.TrimRight(string(line), "\r\n")
	if len(text) < 3 || text[0] < '2' || text[0] > '5' || !isDigit(text[1]) || !isDigit(text[2]) {
		return mail.Reply{}, false, false
	}
	last := len(text) == 3 || text[3] == ' '
	if !last && text[3] != '-' {
		return mail.Reply{}, false, false
	}
	p.size += len(line)
	p.lines = append(p.lines, text)
	if !last {
		return mail.Reply{}, false, true
	}
	// The last line's code is the one that counts: servers that change the
	// code within a reply exist, and others read them so.
	r.Code = int(text[0]-'0')*100 + int(text[1]-'0')*10 + int(text[2]-'0')
	for _, l := range p.lines {
		e, rest, found := mail.CutEnhancedCode(strings.TrimLeft(l[min(4, len(l)):], " "))
		if found && int(e.Class) == r.Code/100 {
			r.Enhanced = e
			r.Lines = append(r.Lines, rest)
			continue
		}
		r.Lines = append(r.Lines, l[min(4, len(l)):])
	}
	*p = replyReader{}
	return r, true, true
}

func isDigit(b byte) bool { return '0' <= b && b <= '9' }

// cutLine returns the first line of b with its end, and whether there is one.
func cutLine(b []byte) ([]byte, bool) {
	i := bytes.IndexByte(b, '\n')
	if i < 0 {
		return nil, false
	}
	return b[:i+1], true
}
