package bounce

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"mime"
	"regexp"
	"strconv"
	"strings"
	"time"

	"postern/mail"
)

// A Kind says what a notice tells.
type Kind uint8

// The kinds. The zero Kind is none.
const (
	Failed    Kind = iota + 1 // given up
	Delayed                   // not yet delivered, still being tried
	Delivered                 // delivered, or handed on to who will not tell
)

// Wants reports whether a sender who gave this NOTIFY is to be told. Without
// the parameter that is a failure (RFC 3461 section 4.1) and, as is our habit,
// a delay: the RFC leaves that to us, and a sender who knows can call instead.
func Wants(n mail.Notify, k Kind) bool {
	if n == 0 {
		n = mail.NotifyFailure | mail.NotifyDelay
	}
	if n&mail.NotifyNever != 0 {
		return false
	}
	switch k {
	case Failed:
		return n&mail.NotifyFailure != 0
	case Delayed:
		return n&mail.NotifyDelay != 0
	case Delivered:
		return n&mail.NotifySuccess != 0
	}
	return false
}

// An Action is what became of a recipient (RFC 3464 section 2.3.3). The zero
// Action is the one that the kind of the notice says.
type Action string

// The actions of the RFC.
const (
	ActionFailed    Action = "failed"
	ActionDelayed   Action = "delayed"
	ActionDelivered Action = "delivered"
	ActionRelayed   Action = "relayed"  // to a server that confirms nothing
	ActionExpanded  Action = "expanded" // by a list or an alias
)

// A Recipient is what a notice tells of one of them.
type Recipient struct {
	To          mail.Recipient    // from the envelope, with its ORCPT
	Action      Action            // zero: that of the kind
	Status      mail.EnhancedCode // zero: that of the reply, else of its class
	Reply       mail.Reply        // the peer's words; zero: there were none
	Note        string            // what we noted where there is no reply
	RemoteMTA   string            // the peer's name; "": there was none
	LastAttempt time.Time         // zero: none
	RetryUntil  time.Time         // of a delay; zero: not known
}

// A Notice is a delivery status notification (RFC 3464) to the sender of one
// message about some of its recipients.
type Notice struct {
	Kind       Kind
	Host       string           // our name
	ID         string           // of the notice, unique on this host: letters, digits, ".", "_", "-"
	Now        time.Time        // when it is made
	To         mail.ReversePath // of the message; a null path gets no notice
	EnvID      string           // ENVID of the message, still xtext
	Arrived    time.Time        // when we took the message
	UTF8       bool             // the message came with SMTPUTF8
	Ret        mail.Ret         // what MAIL asked to be returned
	FullLimit  int              // octets of a message that RET=FULL returns; 0: DefaultFullLimit, negative: none
	Recipients []Recipient
}

// DefaultFullLimit is how large a message may be to be returned as a whole.
// The sender has it; to send megabytes back to a mailbox that may be forged
// helps only who forged it.
const DefaultFullLimit = 64 << 10

// Write writes the notice as a message with CRLF line ends, and returns the
// envelope that it goes with: from the null path, with what its octets need.
// The original is read for its header section, 64 KiB at most, or as a whole;
// nil returns nothing of it. Nothing is written before all was read.
func (n Notice) Write(w io.Writer, original io.Reader) (mail.Envelope, error) {
	host, err := mail.ParseDomain(n.Host)
	switch {
	case err != nil:
		return mail.Envelope{}, fmt.Errorf("notice %s: the name of this host: %w", n.ID, err)
	case len(n.ID) > 100 || !validID.MatchString(n.ID):
		return mail.Envelope{}, fmt.Errorf("notice %q: an id has letters, digits, \".\", \"_\" and \"-\", at most 100", n.ID)
	case n.To.IsZero() || n.To.Null():
		return mail.Envelope{}, fmt.Errorf("notice %s: %w", n.ID, ErrNobody)
	case n.Kind < Failed || n.Kind > Delivered || len(n.Recipients) == 0:
		return mail.Envelope{}, fmt.Errorf("notice %s: no kind or no recipient", n.ID)
	}
	var o returned
	if original != nil {
		if o, err = n.read(original); err != nil {
			return mail.Envelope{}, fmt.Errorf("notice %s: read the message: %w", n.ID, err)
		}
	}
	parts := []part{n.words(o.header), n.fields(), n.third(o)}

	to := n.To.Address()
	env := mail.Envelope{From: mail.NullPath(), To: []mail.Recipient{{
		Path: mail.ForwardTo(to),
		// Nobody would be told: the path back is the null path.
		Params: mail.RecipientParams{Notify: mail.NotifyNever},
	}}}
	env.Sender.UTF8 = to.NeedsUTF8()
	for _, p := range parts {
		env.Sender.UTF8 = env.Sender.UTF8 || p.global
		if p.encoding == "8bit" {
			env.Sender.Body = mail.Body8BitMIME
		}
	}
	if env.Sender.UTF8 {
		env.Sender.Body = mail.Body8BitMIME // RFC 6531 section 3.1
	}
	text := n.message(host, o.header, parts)
	env.Sender.Size = int64(len(text))
	if _, err := w.Write(text); err != nil {
		return mail.Envelope{}, fmt.Errorf("notice %s: %w", n.ID, err)
	}
	return env, nil
}

// ErrNobody: a message from the null path is a notice itself, and nobody is
// told of its fate (RFC 5321 section 4.5.5).
var ErrNobody = errors.New("the message came from the null path; nobody is to be told")

var (
	validID        = regexp.MustCompile(`^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$`)
	validMessageID = regexp.MustCompile(`^<[!#-'*+/-9=?A-Z^-~-]+(\.[!#-'*+/-9=?A-Z^-~-]+)*@[A-Za-z0-9.-]+>$`)
)

// A part of the multipart/report; its text has CRLF line ends and is encoded.
type part struct {
	kind     string // Content-Type
	encoding string
	text     []byte
	global   bool // it can pass with SMTPUTF8 only
}

// message puts the parts together. No part can hold the boundary, whatever
// the octets in it are: it is made after them.
func (n Notice) message(host mail.Domain, header mail.Header, parts []part) []byte {
	boundary := n.boundary(parts)
	var b bytes.Buffer
	field := func(name, body string) { b.WriteString(name + ": " + body + "\r\n") }
	field("From", "Mail Delivery System <postmaster@"+host.ASCII()+">")
	field("To", "<"+n.To.Address().String()+">")
	field("Subject", n.subject(header))
	field("Date", n.Now.Format(time.RFC1123Z))
	field("Message-ID", "<"+n.ID+"@"+idRight(host)+">")
	if id := strings.TrimSpace(header.Get("Message-ID")); len(id) <= 250 && validMessageID.MatchString(id) {
		field("In-Reply-To", id)
		field("References", id)
	}
	field("Auto-Submitted", "auto-replied") // RFC 3834 section 5
	field("MIME-Version", "1.0")
	report := "delivery-status"
	if strings.HasPrefix(parts[1].kind, "message/global-") {
		report = "global-delivery-status" // RFC 6533 section 6
	}
	field("Content-Type", "multipart/report; report-type="+report+";\r\n boundary=\""+boundary+"\"")
	for _, p := range parts {
		b.WriteString("\r\n--" + boundary + "\r\n")
		field("Content-Type", p.kind)
		field("Content-Transfer-Encoding", p.encoding)
		b.WriteString("\r\n")
		b.Write(p.text)
	}
	b.WriteString("\r\n--" + boundary + "--\r\n")
	return b.Bytes()
}

func (n Notice) boundary(parts []part) string {
	sum := sha256.Sum256([]byte(n.ID + "@" + n.Host))
	for i := 0; ; i++ {
		// "=_" stands in no quoted-printable text (RFC 2045 section 6.7).
		s := "=_" + hex.EncodeToString(sum[:12]) + "." + strconv.Itoa(i)
		found := false
		for _, p := range parts {
			found = found || bytes.Contains(p.text, []byte(s))
		}
		if !found {
			return s
		}
	}
}

// idRight is the right side of a Message-ID; a literal in brackets is not
// taken everywhere.
func idRight(d mail.Domain) string {
	return strings.NewReplacer("[", "", "]", "", ":", "-").Replace(d.ASCII())
}

// subject says what happened, and to which message.
func (n Notice) subject(header mail.Header) string {
	s := map[Kind]string{Failed: "Not delivered: ", Delayed: "Still trying: ", Delivered: "Delivered: "}[n.Kind]
	about := original(header)
	if about == "" {
		about = "message to " + n.Recipients[0].To.Path.Address().String()
	}
	encoded := mime.QEncoding.Encode("utf-8", s+about)
	return strings.ReplaceAll(encoded, "?= =?", "?=\r\n =?")
}

// original is the subject of the message, as a person reads it.
func original(header mail.Header) string {
	s := header.Get("Subject")
	s = s[:min(len(s), 1000)]
	if decoded, err := new(mime.WordDecoder).DecodeHeader(s); err == nil {
		s = decoded
	}
	// What looks like an encoded word by now was a text that looks like one.
	s = strings.ReplaceAll(strings.Join(strings.Fields(s), " "), "=?", "= ?")
	return shorten(visible(s, true), 100)
}
