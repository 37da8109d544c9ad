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

// brought counts octets that came.
func (v *session) brought(n int64) {
	if v.server.Role != policy.MX || !v.addr.IsValid() || v.server.Limits.StrangerBytes.N <= 0 {
		return
	}
	now, r := time.Now(), v.server.Limits.StrangerBytes
	v.server.State.strangeBytes.Take(prefixOf(v.addr), n, r, now)
	v.server.State.strangeBytes.Take("network "+networkOf(v.addr), n, Rate{r.N * networkShare, r.Per}, now)
}
