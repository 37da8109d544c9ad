package mail

import (
	"net/netip"
	"regexp"
	"strings"
	"time"
)

// A Received is one trace field (RFC 5321 section 4.4), as far as it could be
// read: software takes every liberty with it, so each part may be missing.
type Received struct {
	From string     // the name that the client gave in EHLO
	IP   netip.Addr // the client's address as the server saw it
	By   string     // the server that added the field
	With string     // protocol: SMTP, ESMTPS, ...
	ID   string     // queue id
	At   time.Time  // zero when it could not be read
}

// Clauses such as "by" stand between spaces; the comments in which the
// client's address stands come before them.
var (
	receivedBy   = regexp.MustCompile(`(?i)(?:^|\s)by\s+([^\s;()]+)`)
	receivedFrom = regexp.MustCompile(`(?i)^\s*from\s+([^\s;()]+)`)
	receivedWith = regexp.MustCompile(`(?i)(?:^|\s)with\s+([^\s;()]+)`)
	receivedID   = regexp.MustCompile(`(?i)(?:^|\s)id\s+([^\s;()]+)`)
	bracketed    = regexp.MustCompile(`\[(?:(?i)IPv6:)?([0-9A-Fa-f:.%]+[0-9A-Za-z]*)\]`)
	eximHelo     = regexp.MustCompile(`(?i)helo=[^\s)]*`) // Exim puts the client's word beside the address
	bareAddress  = regexp.MustCompile(`[0-9A-Fa-f]*[.:][0-9A-Fa-f:.]+`)
)

// ParseReceived reads the body of a Received field. The client's address is
// the one that the server itself wrote: the last bracketed literal of the
// "from" clause. The name that the client chose in EHLO comes first there and
// may itself look like an address, so a literal in that place counts only
// when the server wrote no other. qmail writes the address bare in the
// comment, as (HELO name) (192.0.2.1).
func ParseReceived(body string) Received {
	body = strings.Join(strings.Fields(body), " ")
	var r Received
	rest := body
	if i := strings.LastIndexByte(body, ';'); i >= 0 {
		rest = body[:i]
		r.At = parseDate(strings.TrimSpace(body[i+1:]))
	}
	from := rest
	if m := receivedBy.FindStringSubmatchIndex(rest); m != nil {
		r.By = rest[m[2]:m[3]]
		from = rest[:m[0]]
		after := rest[m[0]:]
		r.With = firstGroup(receivedWith, after)
		r.ID = firstGroup(receivedID, after)
	}
	r.From = firstGroup(receivedFrom, from)
	r.IP = clientAddress(from, r.From)
	return r
}

func clientAddress(from, helo string) netip.Addr {
	var found netip.Addr
	after := eximHelo.ReplaceAllString(from, "")
	if i := strings.Index(after, helo); i >= 0 && helo != "" {
		after = after[i+len(helo):]
	}
	for _, m := range bracketed.FindAllStringSubmatch(after, -1) {
		if a, err := netip.ParseAddr(m[1]); err == nil {
			found = a
		}
	}
	if !found.IsValid() {
		for _, word := range bareAddress.FindAllString(after, -1) {
			if a, err := netip.ParseAddr(word); err == nil {
				found = a
			}
		}
	}
	if m := bracketed.FindStringSubmatch(helo); !found.IsValid() && m != nil {
		if a, err := netip.ParseAddr(m[1]); err == nil {
			found = a
		}
	}
	return found.WithZone("").Unmap()
}

func firstGroup(re *regexp.Regexp, s string) string {
	if m := re.FindStringSubmatch(s); m != nil {
		return m[1]
	}
	return ""
}

// parseDate reads a date-time of RFC 5322 section 3.3, with or without the
// day of the week, the seconds and a comment that names the zone.
func parseDate(s string) time.Time {
	if i := strings.IndexByte(s, '('); i >= 0 {
		s = s[:i]
	}
	s = strings.TrimSpace(s)
	for _, layout := range []string{
		"Mon, 2 Jan 2006 15:04:05 -0700", "2 Jan 2006 15:04:05 -0700", "Mon, 2 Jan 2006 15:04:05 MST",
		"2 Jan 2006 15:04:05 MST", "Mon, 2 Jan 2006 15:04 -0700",
	} {
		if t, err := time.Parse(layout, s); err == nil {
			return t
		}
	}
	return time.Time{}
}
