package mail

import (
	"strconv"
	"strings"
)

// An EnhancedCode is an enhanced status code (RFC 3463). The zero value is none.
type EnhancedCode struct{ Class, Subject, Detail uint16 }

// String returns class.subject.detail, or "" of the zero value.
func (e EnhancedCode) String() string {
	if e == (EnhancedCode{}) {
		return ""
	}
	return strconv.Itoa(int(e.Class)) + "." + strconv.Itoa(int(e.Subject)) + "." + strconv.Itoa(int(e.Detail))
}

// CutEnhancedCode reads an enhanced status code at the start of a reply's text
// and returns what follows it and its space. Class must be 2, 4 or 5, subject
// and detail have up to three digits (RFC 3463 section 2).
func CutEnhancedCode(s string) (EnhancedCode, string, bool) {
	word, rest, _ := strings.Cut(s, " ")
	parts := strings.Split(word, ".")
	if len(parts) != 3 {
		return EnhancedCode{}, s, false
	}
	var n [3]uint16
	for i, p := range parts {
		if p == "" || len(p) > 3 || strings.Trim(p, "0123456789") != "" {
			return EnhancedCode{}, s, false
		}
		v, _ := strconv.ParseUint(p, 10, 16)
		n[i] = uint16(v)
	}
	if n[0] != 2 && n[0] != 4 && n[0] != 5 {
		return EnhancedCode{}, s, false
	}
	return EnhancedCode{n[0], n[1], n[2]}, rest, true
}

// A Reply is what a server answers to one command (RFC 5321 section 4.2). The
// zero Reply means that none was given.
type Reply struct {
	Code     int          // 200 to 599
	Enhanced EnhancedCode // none in replies to EHLO and in banners (RFC 2034 section 4)
	Lines    []string     // the text, without code, enhanced code and line ends
}

// NewReply makes a reply of one line; enhanced is written as "5.7.1", or "" for none.
func NewReply(code int, enhanced, text string) Reply {
	e, _, _ := CutEnhancedCode(enhanced)
	return Reply{Code: code, Enhanced: e, Lines: []string{text}}
}

// IsZero reports whether there is no reply.
func (r Reply) IsZero() bool { return r.Code == 0 }

// AboutCommand reports a refusal that is no word about a message or a mailbox:
// a command or parameter that the server does not know, or that came out of its
// sequence (RFC 5321 section 4.2.2), unless the enhanced code says otherwise
// (RFC 3463 section 3.6).
func (r Reply) AboutCommand() bool {
	switch r.Code {
	case 500, 502, 503, 504:
		return r.Enhanced == (EnhancedCode{}) || r.Enhanced.Subject == 5
	}
	return false
}

// Positive reports a code of class 2.
func (r Reply) Positive() bool { return r.Code/100 == 2 }

// Intermediate reports a code of class 3: the server waits for more.
func (r Reply) Intermediate() bool { return r.Code/100 == 3 }

// Transient reports a code of class 4.
func (r Reply) Transient() bool { return r.Code/100 == 4 }

// Permanent reports a code of class 5.
func (r Reply) Permanent() bool { return r.Code/100 == 5 }

// Text returns the lines of the reply joined by spaces.
func (r Reply) Text() string { return strings.Join(r.Lines, " ") }

// String returns the reply on one line: code, enhanced code, text.
func (r Reply) String() string {
	if r.IsZero() {
		return ""
	}
	s := strconv.Itoa(r.Code)
	if e := r.Enhanced.String(); e != "" {
		s += " " + e
	}
	if t := r.Text(); t != "" {
		s += " " + t
	}
	return s
}

// AppendWire appends the reply as it goes over the wire. The enhanced code
// stands on each line (RFC 2034 section 4). Control characters in the text
// become "?", so that no text can end the line or forge another reply.
func (r Reply) AppendWire(b []byte) []byte {
	lines := r.Lines
	if len(lines) == 0 {
		lines = []string{""}
	}
	enhanced := r.Enhanced.String()
	for i, line := range lines {
		b = strconv.AppendInt(b, int64(r.Code), 10)
		if i < len(lines)-1 {
			b = append(b, '-')
		} else {
			b = append(b, ' ')
		}
		if enhanced != "" {
			b = append(b, enhanced...)
			b = append(b, ' ')
		}
		for j := 0; j < len(line); j++ {
			if line[j] < ' ' || line[j] == 0x7f {
				b = append(b, '?')
			} else {
				b = append(b, line[j])
			}
		}
		b = append(b, '\r', '\n')
	}
	return b
}
