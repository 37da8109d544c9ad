package plan

import (
	"net/netip"
	"strings"
)

// A Banner is how a collector greets. Through a proxy it is all that comes
// back, so it names the session, by a nonce that the session's arrivals carry
// too, and the address from which the collector sees its peer: the one at which
// whoever came through a proxy came out.
type Banner struct {
	Domain string     // the collector's
	Nonce  string     // of this session, begins with NonceMark
	Peer   netip.Addr // who connected
}

// NonceMark begins every nonce, so that it is found among other words.
const NonceMark = "n-"

// String returns what stands after the 220.
func (b Banner) String() string {
	s := b.Domain + " ESMTP Postern collector " + b.Nonce
	if b.Peer.IsValid() {
		s += " [" + b.Peer.Unmap().WithZone("").String() + "]"
	}
	return s
}

// ParseBanner reads the text of a banner, and reports whether it may be a
// collector's. Anybody can write one like it: only the collector knows its
// own nonces, and only an arrival proves anything.
func ParseBanner(text string) (Banner, bool) {
	words := strings.Fields(text)
	var b Banner
	for i, word := range words {
		if !strings.HasPrefix(word, NonceMark) || i == 0 {
			continue
		}
		b.Domain, b.Nonce = words[0], word
		if i+1 < len(words) {
			literal := strings.TrimSuffix(strings.TrimPrefix(words[i+1], "["), "]")
			if a, err := netip.ParseAddr(literal); err == nil {
				b.Peer = a.Unmap().WithZone("")
			}
		}
		return b, true
	}
	return Banner{}, false
}
