package guard

import (
	"time"

	"postern/mail"
	"postern/policy"
)

// networkShare is how many times the limits of one address a whole network may
// use, see networkOf.
const networkShare = 4

// slower tells a stranger to come later once it, or its network, has had what
// the limits allow of one kind; n is what it asks for.
func (v *session) slower(counts *Buckets, n int64, r Rate) (mail.Reply, bool) {
	if v.server.Role != policy.MX || !v.addr.IsValid() {
		return mail.Reply{}, false
	}
	now, many := time.Now(), Rate{r.N * networkShare, r.Per}
	one := r
	if v.server.Shared != nil && v.server.Shared(v.addr) {
		one = many // a gateway of ours, behind which all of them may be
	}
	if counts.Allow(prefixOf(v.addr), n, one, now) {
		if counts.Allow("network "+networkOf(v.addr), n, many, now) {
			return mail.Reply{}, false
		}
		counts.Return(prefixOf(v.addr), n)
	}
	return v.refuse(CauseRate, mail.NewReply(451, "4.7.1", "Too much from your address for now; try again later")), true
}

// uncount takes back what slower has counted.
func (v *session) uncount(counts *Buckets, n int64) {
	if v.server.Role == policy.MX && v.addr.IsValid() {
		counts.Return(prefixOf(v.addr), n)
		counts.Return("network "+networkOf(v.addr), n)
	}
}

// brought counts a message that came, and its octets: what only began costs
// neither an address nor its neighbours anything.
func (v *session) brought(octets int64) {
	if v.server.Role != policy.MX || !v.addr.IsValid() {
		return
	}
	state, limits := v.server.State, &v.server.Limits
	for _, c := range []struct {
		counts *Buckets
		n      int64
		rate   Rate
	}{{&state.strangeMessages, 1, limits.Strangers}, {&state.strangeBytes, octets, limits.StrangerBytes}} {
		c.counts.Take(prefixOf(v.addr), c.n, c.rate, time.Now())
		c.counts.Take("network "+networkOf(v.addr), c.n, Rate{c.rate.N * networkShare, c.rate.Per}, time.Now())
	}
}
