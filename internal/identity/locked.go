package identity

import (
	"net/netip"
	"slices"
	"strings"
	"time"
)

// A Locked is a count of failed logins that has reached its limit.
type Locked struct {
	Who      string    `json:"who,omitempty"`   // the identity; "" for all that a client tried
	From     string    `json:"from,omitempty"`  // the network or the client; "" for everywhere
	Failures int       `json:"failures"`        // since
	Since    time.Time `json:"since"`           // the first of them
	Next     time.Time `json:"next,omitzero"`   // when the next attempt is judged; zero: at once
	Until    time.Time `json:"until"`           // when they are forgotten
	Alarm    bool      `json:"alarm,omitempty"` // nobody waits, but unknown networks have fewer failures free
}

// mostLocked are listed, those with the most failures: strangers decide how many
// there are.
const mostLocked = 1000

// Locked returns which counts have reached their limit now. Names that no
// account has are shown in part: one may be a password that was typed into the
// wrong field.
func (g *Guesses) Locked(s *Store) []Locked {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	list := []Locked{} // in JSON no null
	g.each(func(k guessKey, c *counter) {
		limit := g.limitOf(k, now)
		if c.failures < limit.Failures || now.Sub(c.start) >= limit.In {
			return
		}
		l := Locked{Who: s.shown(k.name), Failures: c.failures, Since: c.start, Until: c.start.Add(limit.In), Alarm: k.kind == ofAccount || k.kind == ofAll}
		if k.where != (netip.Prefix{}) {
			l.From = k.where.String()
		}
		if c.next.After(now) {
			l.Next = c.next
		}
		list = append(list, l)
	})
	slices.SortFunc(list, func(x, y Locked) int { return y.Failures - x.Failures })
	list = list[:min(len(list), mostLocked)]
	slices.SortFunc(list, func(x, y Locked) int { return strings.Compare(x.Who+"\x00"+x.From, y.Who+"\x00"+y.From) })
	return list
}

// limitOf returns the limit by which a counter is full now.
func (g *Guesses) limitOf(k guessKey, now time.Time) Limit {
	switch k.kind {
	case ofNetwork:
		account := rule{key: guessKey{kind: ofAccount, name: k.name}, limit: g.limits.Account}
		if g.reached(try{name: k.name, exists: true}, account, now) || g.reached(try{name: k.name}, account, now) {
			return alarmedNetwork.limit
		}
		return g.limits.Network
	case ofKnown:
		return g.limits.Known
	case ofKnownAll:
		return g.limits.KnownAll
	case ofSite:
		return g.limits.Site
	case ofSiteLonger:
		return g.limits.SiteLonger
	case ofClient:
		return g.limits.Client
	case ofClientLonger:
		return g.limits.ClientLonger
	case ofAccount:
		return g.limits.Account
	case ofAll:
	}
	return g.limits.All
}
