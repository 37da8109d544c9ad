package collect

import (
	"net/netip"
	"strings"

	"postern/mail"
)

// dots are what RFC 3490 section 3.1 has an IDNA reader take for a dot.
var dots = strings.NewReplacer("\u3002", ".", "\uff0e", ".", "\uff61", ".")

// domainOf returns the domain to which a relay meant to send, of a recipient
// as it came: relays leave their marks on it, so this is no parser of RFC 5321
// paths but of what remains of them. Whether the recipient is taken depends on
// its token alone; the domain only tells mail for us from mail for somebody
// else that was led here, which proves nothing.
func domainOf(recipient string) mail.Domain {
	s := dots.Replace(inBrackets(recipient))
	domain := ""
	if i := strings.LastIndexByte(s, '@'); i >= 0 {
		domain = s[i+1:]
	} else if i := strings.LastIndexByte(s, '%'); i >= 0 {
		domain = s[i+1:]
	} else if i := strings.LastIndexByte(s, '!'); i >= 0 {
		// RFC 976: host!user, where the last host is the one that has the user
		domain = s[:i]
		domain = domain[strings.LastIndexByte(domain, '!')+1:]
	}
	domain = strings.Trim(domain, " \t\"'.>")
	if strings.HasPrefix(domain, "[") && !strings.HasSuffix(domain, "]") {
		domain += "]"
	}
	d, err := mail.ParseDomain(domain)
	if err != nil {
		return mail.Domain{}
	}
	return d
}

// inBrackets returns what stands between the brackets of a path, or the first
// word when there are none: ESMTP parameters follow.
func inBrackets(s string) string {
	s = strings.TrimSpace(s)
	if strings.HasPrefix(s, "<") {
		if i := strings.LastIndexByte(s, '>'); i > 0 {
			return s[1:i]
		}
		s = s[1:]
	}
	word, _, _ := strings.Cut(s, " ")
	return word
}

// ours says which domains a collector takes mail for.
type ours struct {
	domain, zone mail.Domain
	addresses    []netip.Addr
}

// has reports whether d is ours: the domain, the zone, a name below them, or
// the literal of an address of ours; local is that of the connection.
func (o ours) has(d mail.Domain, local netip.Addr) bool {
	if a, ok := d.Literal(); ok {
		for _, mine := range append([]netip.Addr{local}, o.addresses...) {
			if mine.IsValid() && mine.Unmap() == a.Unmap() {
				return true
			}
		}
		return false
	}
	return d.Within(o.domain) || d.Within(o.zone)
}
