package plan

import "strings"

// A Realm says whose domain a recipient ends in, as a server reads it that
// splits an address at its last at sign outside of quotes (RFC 5321 section
// 4.1.2) and no further. Other servers unwrap what stands before it: that is
// the trick of most forms.
type Realm string

// The realms.
const (
	Home    Realm = "home"    // a name or an address of the server, or no domain at all
	Partner Realm = "partner" // a domain that the server relays for
	Foreign Realm = "foreign" // everybody else's
)

var realms = map[string]Realm{
	"dom": Home, "host": Home, "ip": Home, "rd": Partner,
	"td": Foreign, "tdupper": Foreign, "tdwide": Foreign, "mxd": Foreign, "cip": Foreign,
}

// Realm returns the realm in which the form's recipient ends. A domain belongs
// to who holds its end: user@far.example.ours.example is ours.
func (f Form) Realm() Realm {
	realm := Home // without a domain the server's own is meant (RFC 5321 section 2.3.5)
	for _, p := range f.Recipient.domain() {
		switch {
		case p.name:
			realm = realms[p.text]
		case strings.Trim(p.text, ".") == "":
		case strings.EqualFold(p.text, "localhost"):
			realm = Home
		default:
			realm = Foreign
		}
	}
	return realm
}

// domain returns the parts behind the last at sign outside of quotes, as far
// as they can be a domain.
func (t Template) domain() []part {
	var found []part
	quoted, inside := false, false
	for _, p := range t.parts {
		if p.name {
			if inside {
				found = append(found, p)
			}
			continue
		}
		for i := 0; i < len(p.text); i++ {
			switch c := p.text[i]; {
			case c == '\\':
				i++ // the next octet stands for itself
				if i < len(p.text) && p.text[i] == '@' && !quoted {
					found, inside = nil, true // outside of quotes that is no rule of RFC 5321, so the at sign counts
				}
			case c == '"':
				quoted = !quoted
			case c == '@' && !quoted:
				found, inside = nil, true
			case !inside, quoted, c == ' ', c == '\t':
			case c == '.' || c == '-' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9':
				found = append(found, part{text: string(c)})
			default:
				inside = false // a comment, a bracket: what follows is no domain until the next at sign
			}
		}
	}
	return joined(found)
}

// joined puts neighbouring literals together.
func joined(parts []part) []part {
	var list []part
	for _, p := range parts {
		if n := len(list); n > 0 && !p.name && !list[n-1].name {
			list[n-1].text += p.text
			continue
		}
		list = append(list, p)
	}
	return list
}
