package guard

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"postern/mail"
	"postern/policy"
)

// read takes the header section off the message, holds it to the rules, mends
// what a submission may lack, and returns the message as it is to be stored,
// with its Message-ID.
func (v *session) read(body io.Reader) (m io.Reader, name string, r mail.Reply) {
	header, rest, err := cutHeader(body, v.server.Limits.HeaderBytes, func() bool { return v.takesOff(flightHeader) })
	switch {
	case errors.Is(err, errHeaderLong):
		return nil, "", v.refuse(CauseHeader, mail.NewReply(550, "5.6.0", fmt.Sprintf("The header is longer than %d octets", v.server.Limits.HeaderBytes)))
	case errors.Is(err, errShort):
		return nil, "", v.refuse(CauseMemory, replyShort())
	case err != nil:
		return nil, "", mail.NewReply(451, "4.3.0", "The message did not come whole") // it does not count
	}
	f := fields(header)
	if len(f) > v.server.Limits.HeaderLines {
		return nil, "", v.refuse(CauseHeader, mail.NewReply(550, "5.6.0", fmt.Sprintf("The header has more than %d fields", v.server.Limits.HeaderLines)))
	}
	if n := count(f, "Received"); n >= v.server.Limits.Hops {
		return nil, "", v.refuse(CauseLoop, mail.NewReply(554, "5.4.6", fmt.Sprintf("Loop: %d hops; check where this address forwards to", n)))
	}
	if n := v.seenHere(f); n >= mostVisits {
		return nil, "", v.refuse(CauseLoop, mail.NewReply(554, "5.4.6", fmt.Sprintf("Loop: seen here %d times; check where this address forwards to", n)))
	}
	if alias := v.forwardedBefore(f); alias != "" {
		return nil, "", v.refuse(CauseLoop, mail.NewReply(554, "5.4.6", "Loop: this message has gone through "+alias+" before"))
	}
	if r := v.fitsHeader(f); !r.IsZero() {
		return nil, "", r
	}
	var mended []field
	if v.server.Role == policy.MX {
		mended = v.inbound(f)
	} else {
		mended, r = v.submitted(f)
	}
	if r.IsZero() && v.server.Role == policy.Trusted {
		r = v.submits(f)
	}
	if !r.IsZero() {
		return nil, "", r
	}
	var out bytes.Buffer
	out.WriteString(v.received(time.Now()))
	out.WriteString(v.deliveredTo())
	for _, each := range mended {
		out.Write(each.raw)
	}
	out.WriteString("\r\n")
	return io.MultiReader(&out, rest), nameOf(mended), mail.Reply{}
}

// submits lets the witness see by whom a trusted client's message came, and
// refuses it when trust was withdrawn since the transaction began.
func (v *session) submits(f []field) mail.Reply {
	top := ""
	if i := slices.IndexFunc(f, func(each field) bool { return each.is("Received") }); i >= 0 {
		top = cmp.Or(f[i].body(), "by nobody")
	}
	if s, ok := v.sighting(); ok {
		why, now := v.server.State.Witness.Submits(s, top)
		v.withdrawn(s, why, now)
	}
	if refusal := v.policy.Sender(v.client(), v.from); refusal != nil {
		return v.refuse(string(refusal.Cause), refusal.Reply())
	}
	return mail.Reply{}
}

// maxName is how long a Message-ID is that is remembered: a line of a message
// is no longer (RFC 5322 section 2.1.1).
const maxName = 998

// nameOf returns the msg-id of the first Message-ID field, in its angle
// brackets; "" if there is none, or what is there is no msg-id (RFC 5322
// section 3.6.4).
func nameOf(f []field) string {
	for _, each := range f {
		if !each.is("Message-ID") {
			continue
		}
		id, after, ok := strings.Cut(skipComments(each.body()), ">")
		left, right, at := strings.Cut(id, "@")
		if !ok || !at || len(id) >= maxName || len(left) < 2 || left[0] != '<' || right == "" || skipComments(after) != "" ||
			!utf8.ValidString(id) || strings.ContainsFunc(id[1:], func(r rune) bool { return r == '<' || r == ' ' || !unicode.IsPrint(r) }) {
			return ""
		}
		return id + ">"
	}
	return ""
}

// mostVisits is how often a message may come by: a list or an alias brings it
// back once or twice, what comes more often goes in circles.
const mostVisits = 4

// seenHere counts the trace fields that we wrote ourselves.
func (v *session) seenHere(f []field) (n int) {
	for _, each := range f {
		if each.is("Received") && strings.Contains(each.body(), "(Postern)") && strings.EqualFold(mail.ParseReceived(each.body()).By, v.server.Name) {
			n++
		}
	}
	return n
}

// inbound takes out what only we may write: a verdict in our name (RFC 8601
// section 5).
func (v *session) inbound(f []field) []field {
	var kept []field
	for _, each := range f {
		if each.is("Authentication-Results") && strings.EqualFold(strings.TrimSuffix(authservID(each.body()), "."), v.server.Name) {
			continue
		}
		kept = append(kept, each)
	}
	return kept
}

// authservID returns in whose name a verdict is given: a token or a quoted
// string, with comments around it (RFC 8601 section 2.2).
func authservID(body string) string {
	body = skipComments(body)
	if quoted, ok := strings.CutPrefix(body, `"`); ok {
		var id strings.Builder
		for i := 0; i < len(quoted) && quoted[i] != '"'; i++ {
			if quoted[i] == '\\' && i+1 < len(quoted) {
				i++
			}
			id.WriteByte(quoted[i])
		}
		return strings.TrimSpace(id.String())
	}
	if end := strings.IndexAny(body, " \t;("); end >= 0 {
		body = body[:end]
	}
	return body
}

// skipComments returns what follows white space and comments, which nest (RFC
// 5322 section 3.2.2).
func skipComments(s string) string {
	depth := 0
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '(':
			depth++
		case depth > 0 && c == ')':
			depth--
		case depth > 0 && c == '\\':
			i++
		case depth == 0 && c != ' ' && c != '\t':
			return s[i:]
		}
	}
	return ""
}

// single are the fields that a message has once at the most (RFC 5322 section 3.6).
var single = []string{"From", "Sender", "Reply-To", "To", "Cc", "Bcc", "Date", "Message-ID", "Subject", "In-Reply-To", "References"}

// submitted holds a message of our own people to RFC 6409 section 6.1 and
// mends it by section 8: the author must be theirs, Date, Message-ID and
// Sender are written where they are missing, and Bcc is taken out.
func (v *session) submitted(f []field) ([]field, mail.Reply) {
	for _, name := range single {
		if n := count(f, name); n > 1 {
			return nil, v.refuse(CauseHeader, mail.NewReply(550, "5.6.0", fmt.Sprintf("Header %s appears %d times; fix the sending program", name, n)))
		}
	}
	var authors int
	for _, each := range f {
		if !each.is("From") && !each.is("Sender") && !each.is("Resent-From") && !each.is("Resent-Sender") {
			continue
		}
		list, err := mail.ParseAddressList(each.body())
		if err != nil || len(list) == 0 {
			return nil, v.refuse(CauseHeader, unreadable(each.name(), err))
		}
		for _, a := range list {
			if refusal := v.policy.Author(v.client(), a); refusal != nil {
				return nil, v.refuse(string(refusal.Cause), refusal.Reply())
			}
		}
		if each.is("From") {
			authors = len(list)
		}
	}
	if authors == 0 && v.from.Null() {
		return nil, v.refuse(CauseHeader, mail.NewReply(550, "5.6.0", "Header From is missing; fix the sending program"))
	}
	return v.mend(f, authors), mail.Reply{}
}

// unreadable refuses a field of which nobody can say for sure whom it names.
func unreadable(name string, err error) mail.Reply {
	var syntax *mail.SyntaxError
	why := ""
	if errors.As(err, &syntax) {
		why = fmt.Sprintf(" (at character %d: %s)", syntax.At+1, syntax.What)
	}
	return mail.NewReply(550, "5.6.0", "Header "+name+" holds no address that we can read"+why+"; fix the sending program")
}

func (v *session) mend(f []field, authors int) []field {
	var mended []field
	add := func(name, body string) { mended = append(mended, field{raw: []byte(name + ": " + body + "\r\n")}) }
	if count(f, "Date") == 0 {
		add("Date", time.Now().Format(dateFormat))
	}
	if authors == 0 {
		add("From", v.from.String())
	}
	if count(f, "Sender") == 0 && authors > 1 && !v.from.Null() { // RFC 5322 section 3.6.2
		add("Sender", v.from.String())
	}
	if count(f, "Message-ID") == 0 {
		add("Message-ID", "<"+v.message+"@"+v.server.Name+">")
	}
	for _, each := range f {
		if !each.is("Bcc") && !each.is("Resent-Bcc") && !each.is("Return-Path") {
			mended = append(mended, each)
		}
	}
	return mended
}

// dateFormat is date-time of RFC 5322 section 3.3.
const dateFormat = "Mon, 2 Jan 2006 15:04:05 -0700"
