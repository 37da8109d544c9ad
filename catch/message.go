package catch

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"strings"
	"time"
	"unicode/utf8"

	"postern/mail"
)

// A Message is one that was caught. It does not change.
type Message struct {
	ID      string    `json:"id"`
	At      time.Time `json:"at"`
	From    string    `json:"from"` // of the envelope: the reverse-path, "" for the null one
	To      []string  `json:"to"`   // of the envelope: every recipient
	Subject string    `json:"subject"`
	Size    int       `json:"size"` // octets

	raw []byte
}

// A Shown message is one with all that can be read in it.
type Shown struct {
	Message
	Header      []Field      `json:"header"`
	Text        string       `json:"text,omitempty"`
	HTML        string       `json:"html,omitempty"`
	Attachments []Attachment `json:"attachments,omitempty"`
	Problems    []string     `json:"problems,omitempty"` // what is wrong with its form
}

// A Field is one header field, its encoded words (RFC 2047) decoded.
type Field struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// An Attachment is a part that is not shown; the whole is in the message.
type Attachment struct {
	Name string `json:"name,omitempty"`
	Type string `json:"type"`
	Size int    `json:"size"`
}

// Limits of what is looked at in one message; the message itself is kept as
// it came.
const (
	mostParts  = 200
	mostDepth  = 20
	mostFields = 500
)

// show reads a message.
func (m Message) show() Shown {
	s := Shown{Message: m}
	h := mail.ParseHeader(m.raw)
	for _, f := range h[:min(len(h), mostFields)] {
		s.Header = append(s.Header, Field{f.Name, word(f.Body)})
	}
	p := parts{shown: &s}
	p.read(h, bodyOf(m.raw), 0)
	return s
}

// bodyOf returns what follows the header section.
func bodyOf(raw []byte) []byte {
	for rest := raw; len(rest) > 0; {
		line, after, _ := bytes.Cut(rest, []byte("\n"))
		if len(bytes.TrimSuffix(line, []byte("\r"))) == 0 {
			return after
		}
		rest = after
	}
	return nil
}

var words = mime.WordDecoder{CharsetReader: func(charset string, in io.Reader) (io.Reader, error) {
	b, err := io.ReadAll(in)
	return strings.NewReader(text(b, charset)), err
}}

// word decodes encoded words; what is none stays, as valid UTF-8.
func word(s string) string {
	if d, err := words.DecodeHeader(s); err == nil {
		s = d
	}
	return strings.ToValidUTF8(s, "�")
}

// text returns b in UTF-8. Of other character sets the two that every old
// program has are known; of the rest, what is no UTF-8 is marked.
func text(b []byte, charset string) string {
	switch strings.ToLower(charset) {
	case "iso-8859-1", "latin1", "windows-1252":
		runes := make([]rune, len(b))
		for i, c := range b {
			runes[i] = rune(c)
			if 0x80 <= c && c < 0xa0 && !strings.EqualFold(charset, "iso-8859-1") {
				runes[i] = windows1252[c-0x80]
			}
		}
		return string(runes)
	}
	return strings.ToValidUTF8(string(b), "�")
}

// windows1252 is where it differs from ISO 8859-1: 0x80 to 0x9f.
var windows1252 = []rune("€\u0081‚ƒ„…†‡ˆ‰Š‹Œ\u008dŽ\u008f\u0090‘’“”•–—˜™š›œ\u009džŸ")

// parts reads the parts of one message into what is shown.
type parts struct {
	shown *Shown
	seen  int
}

func (p *parts) problem(what string) { p.shown.Problems = append(p.shown.Problems, what) }

// fields are those of a message or of a part of it.
type fields interface{ Get(name string) string }

func (p *parts) read(h fields, body []byte, depth int) {
	if p.seen++; p.seen > mostParts || depth > mostDepth {
		if p.seen == mostParts+1 || depth == mostDepth+1 {
			p.problem("there are more parts than are shown")
		}
		return
	}
	kind, params, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil {
		if h.Get("Content-Type") != "" {
			p.problem("a Content-Type cannot be read: " + word(h.Get("Content-Type")))
		}
		kind = "text/plain" // RFC 2045 section 5.2
	}
	if strings.HasPrefix(kind, "multipart/") && params["boundary"] != "" {
		p.multipart(body, params["boundary"], depth)
		return
	}
	decoded, err := decode(body, h.Get("Content-Transfer-Encoding"))
	if err != nil {
		p.problem("a part does not decode: " + word(err.Error()))
	}
	disposition, disposed, err := mime.ParseMediaType(h.Get("Content-Disposition"))
	if err != nil {
		disposition = ""
	}
	name := disposed["filename"]
	if name == "" {
		name = params["name"]
	}
	switch {
	case disposition == "attachment" || name != "" || kind != "text/plain" && kind != "text/html":
		p.shown.Attachments = append(p.shown.Attachments, Attachment{Name: word(name), Type: word(kind), Size: len(decoded)})
	case kind == "text/html":
		p.shown.HTML += text(decoded, params["charset"])
	default:
		p.shown.Text += text(decoded, params["charset"])
	}
}

func (p *parts) multipart(body []byte, boundary string, depth int) {
	r := multipart.NewReader(bytes.NewReader(body), boundary)
	for p.seen <= mostParts {
		part, err := r.NextRawPart()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			p.problem("a multipart ends early: " + word(err.Error()))
			return
		}
		inner, err := io.ReadAll(part)
		if err != nil {
			p.problem("a part ends early: " + word(err.Error()))
		}
		p.read(part.Header, inner, depth+1)
	}
}

// decode undoes a transfer encoding (RFC 2045 section 6). With an error comes
// what could be read.
func decode(body []byte, encoding string) ([]byte, error) {
	var r io.Reader
	switch strings.ToLower(strings.TrimSpace(encoding)) {
	case "base64":
		r = base64.NewDecoder(base64.StdEncoding, bytes.NewReader(body))
	case "quoted-printable":
		r = quotedprintable.NewReader(bytes.NewReader(body))
	default:
		return body, nil
	}
	return io.ReadAll(r)
}

// about says in one word what a message is searched by.
func about(m Message, from, to, subject string) bool {
	has := func(s, part string) bool { return strings.Contains(strings.ToLower(s), strings.ToLower(part)) }
	found := to == ""
	for _, t := range m.To {
		found = found || has(t, to)
	}
	return found && has(m.From, from) && has(m.Subject, subject)
}

// newMessage makes a message of what the engine took.
func newMessage(id string, at time.Time, from string, to []string, raw []byte) Message {
	subject := word(mail.ParseHeader(raw).Get("Subject"))
	if !utf8.ValidString(from) {
		from = strings.ToValidUTF8(from, "�")
	}
	return Message{ID: id, At: at.UTC(), From: from, To: to, Subject: subject, Size: len(raw), raw: raw}
}
