package guard

import (
	"encoding/base64"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// sighting says who speaks; false when it is no trusted client.
func (v *session) sighting() (Sighting, bool) {
	s := Sighting{Client: v.trusted(), Addr: v.addr, Helo: v.peer.Helo, At: time.Now()}
	if s.Client == "" {
		return s, false
	}
	for _, n := range v.server.networks(s.Client) {
		s.Shared = s.Shared || n.Contains(v.addr) && !n.IsSingleIP()
	}
	return s, true
}

// networks returns the addresses of a trusted client.
func (s *SMTP) networks(client string) (list []netip.Prefix) {
	for _, t := range s.Policy().Source().Trusted {
		if t.Name == client {
			for _, n := range t.Networks {
				list = append(list, n.Prefix)
			}
		}
	}
	return list
}

// saw tells the witness of a sign, and who watches of trust that it withdraws.
func (v *session) saw(sign Sign, value string) {
	if s, ok := v.sighting(); ok {
		why, now := v.server.State.Witness.Sees(s, sign, value)
		v.withdrawn(s, why, now)
	}
}

func (v *session) withdrawn(s Sighting, why string, now bool) {
	if now {
		v.note(Event{Kind: Withdrawn, Why: why, Identity: s.Client})
	}
}

// greets tells the witness by which name a trusted client greets.
func (v *session) greets(name string) {
	if voice := voiceOf(name); voice != "" {
		v.saw(ManyNames, voice)
	}
	around := v.server.Policy().Source().Around
	if v.addr.IsLoopback() || slices.Contains(around.Own, v.addr) {
		return // a program of this machine, whose name it is
	}
	a := literal(name)
	s, _ := v.sighting()
	switch {
	case strings.EqualFold(strings.TrimSuffix(name, "."), v.server.Name) || a.IsValid() && slices.Contains(around.Own, a):
		v.saw(OurName, "")
	case !a.IsValid() || a == v.addr || a.Is4() != v.addr.Is4() || !public(a):
	case slices.ContainsFunc(v.server.networks(s.Client), func(n netip.Prefix) bool { return n.Contains(a) }): // another of its addresses
	default:
		v.saw(TheirAddress, a.String())
	}
}

// public reports an address that a translator does not hide.
func public(a netip.Addr) bool {
	return a.IsGlobalUnicast() && !a.IsPrivate() && !carrierGrade.Contains(a)
}

var carrierGrade = netip.MustParsePrefix("100.64.0.0/10") // RFC 6598

// triesUser is the user in the argument of AUTH, as far as it is said there.
func triesUser(arg string) string {
	mechanism, initial, _ := strings.Cut(arg, " ")
	text, err := base64.StdEncoding.DecodeString(initial)
	if err != nil {
		return ""
	}
	return userSaid(strings.ToUpper(mechanism), text)
}

// userSaid is the user in what a client of a mechanism says first (RFC 4616,
// RFC 5802 section 7); of LOGIN that is all of it.
func userSaid(mechanism string, first []byte) string {
	text := string(first)
	switch {
	case mechanism == "PLAIN":
		if parts := strings.Split(text, "\x00"); len(parts) == 3 {
			return parts[1]
		}
	case strings.HasPrefix(mechanism, "SCRAM-"):
		_, user, _ := strings.Cut(text, ",n=")
		user, _, _ = strings.Cut(user, ",")
		return user
	}
	return text
}
