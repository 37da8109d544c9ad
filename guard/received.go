package guard

import (
	"crypto/tls"
	"slices"
	"strings"
	"time"

	"postern/mail"
	"postern/policy"
)

// received writes our trace field (RFC 5321 section 4.4). Of strangers it
// says the name that they gave and the address that they came from; of our own
// people it says neither: where they sit is nobody's affair, and the log has it.
func (v *session) received(now time.Time) string {
	var parts []string
	if v.server.Role == policy.MX {
		parts = append(parts, "from "+heloText(v.peer.Helo)+" ("+mail.LiteralDomain(v.addr).String()+")")
	}
	if t := tlsText(v.peer.TLS); t != "" && v.server.Role == policy.MX {
		parts = append(parts, "("+t+")")
	}
	parts = append(parts, "by "+v.server.Name+" (Postern)", "with "+v.protocol()+" id "+v.message)
	if len(v.to) == 1 && v.server.Role == policy.MX { // more would tell one of the other
		parts = append(parts, "for "+v.to[0].Grant.To().String())
	}
	return "Received: " + strings.Join(parts, "\r\n\t") + ";\r\n\t" + now.Format(dateFormat) + "\r\n"
}

// deliveredTo marks what an alias forwards to foreign addresses with the alias,
// so that it is known when it comes back (RFC 9228). With more recipients it
// would tell one of the other; then the number of hops ends a loop.
func (v *session) deliveredTo() string {
	if len(v.to) != 1 || v.to[0].Grant.Leaves() == 0 {
		return ""
	}
	return "Delivered-To: " + v.to[0].Grant.Alias() + "\r\n"
}

// forwardedBefore returns an alias of the recipients that leads to foreign
// addresses and has forwarded this message before, or "".
func (v *session) forwardedBefore(f []field) string {
	for _, a := range v.to {
		if a.Grant.Leaves() > 0 && slices.ContainsFunc(f, func(each field) bool {
			return each.is("Delivered-To") && strings.EqualFold(strings.Trim(each.body(), "<> \t"), a.Grant.Alias())
		}) {
			return a.Grant.Alias()
		}
	}
	return ""
}

// heloText returns the client's name where it is one, else says that it is none:
// what a stranger writes must not look like a part of the field.
func heloText(helo string) string {
	if d, err := mail.ParseDomain(helo); err == nil {
		return d.ASCII()
	}
	return "unknown"
}

// protocol is the "with" value (RFC 3848, RFC 6531 section 4.3).
func (v *session) protocol() string {
	if !v.peer.ESMTP {
		return "SMTP"
	}
	p := "ESMTP"
	if v.params.UTF8 {
		p = "UTF8SMTP"
	}
	if v.peer.TLS != nil {
		p += "S"
	}
	if v.peer.Identity != "" {
		p += "A"
	}
	return p
}

func tlsText(s *tls.ConnectionState) string {
	if s == nil {
		return ""
	}
	return tls.VersionName(s.Version) + " " + tls.CipherSuiteName(s.CipherSuite)
}
