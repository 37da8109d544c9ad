package guard

import (
	"fmt"
	"net/netip"
	"time"

	"postern/mail"
	"postern/policy"
)

// A charge is what one message costs one account.
type charge struct {
	who     string
	rate    Rate
	n       int64
	buckets *Buckets
	strict  bool // what goes beyond is refused, not held
}

// budget takes a message from the budgets that pay for it. Within them, both
// results are zero. Beyond, the message is held, for the sender to be told and
// the operator to look: it may be a stolen password, and it may be the
// newsletter. At twice a budget it is refused, so that the disk is not the
// limit.
func (v *session) budget() (hold string, refused mail.Reply) {
	charges := v.charges()
	for i, c := range charges {
		over, limit := v.take(c)
		switch {
		case over > 2, over > 1 && c.strict:
			for _, taken := range charges[:i+1] {
				taken.buckets.Return(taken.who, taken.n)
			}
			return "", v.overBudget(c, limit)
		case over > 1 && hold == "":
			hold = fmt.Sprintf("%s has reached its limit of %s", c.who, limit)
		}
	}
	return hold, mail.Reply{}
}

// take takes a charge and returns how full the account is then, and by which
// limit: that of messages, or that of octets.
func (v *session) take(c charge) (over float64, limit string) {
	now := time.Now()
	over, limit = c.buckets.Take(c.who, c.n, c.rate, now), c.rate.String()
	if v.server.Role == policy.MX {
		return over, limit
	}
	most := v.server.Limits.PerUserBytes
	if octets := v.server.State.bytes.Take(c.who, 0, most, now); octets > over && octets > 1 {
		return octets, most.String() + " octets"
	}
	return over, limit
}

func (v *session) overBudget(c charge, limit string) mail.Reply {
	if v.server.Role == policy.MX {
		return v.refuse(CauseBudget, mail.NewReply(452, "4.7.1", "This address gets too much mail just now; try again later"))
	}
	return v.refuse(CauseBudget, mail.NewReply(452, "4.7.1", fmt.Sprintf("%s has reached twice its limit of %s; if that was not you, change your password", c.who, limit)))
}

// charges returns who pays for the message: the account that sends it, or each
// alias that forwards a stranger's message to foreign addresses.
func (v *session) charges() []charge {
	if who, rate, n, buckets := v.account(); who != "" {
		return []charge{{who, rate, n, buckets, false}}
	}
	var list []charge
	for _, a := range v.to {
		n := int64(a.Grant.Leaves())
		if n == 0 {
			continue
		}
		name, all := "alias "+a.Grant.Alias(), v.server.Limits.PerAlias
		// One network has a share of it alone, so that a stranger cannot keep an
		// alias from everybody else. A single message always fits.
		share := Rate{max(all.N/shareOfOne, n), all.Per}
		if all.N <= 0 {
			share = all
		}
		list = append(list, charge{name + " from " + networkOf(v.addr), share, n, &v.server.State.forwarded, true},
			charge{name, all, n, &v.server.State.forwarded, false})
	}
	return list
}

// shareOfOne is the part of an alias's limit that one network may take: a
// quarter.
const shareOfOne = 4

// networkOf is what one stranger may easily hold: a /24, or the /48 that a
// provider gives to one customer (RFC 6177).
func networkOf(a netip.Addr) string {
	bits := 24
	if a.Is6() {
		bits = 48
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return a.String()
	}
	return p.String()
}

// withhold asks who watches over all that an identity or trusted client sends.
func (v *session) withhold(l *policy.Letter) (why string) {
	who, _, _, _ := v.account()
	if who == "" || v.server.Hold == nil {
		return ""
	}
	return v.server.Hold(who, l)
}

// account says whose budget pays, at which rate, and how much one message
// costs: a login pays for messages, a trusted client for recipients.
func (v *session) account() (who string, r Rate, n int64, b *Buckets) {
	limits := &v.server.Limits
	switch v.server.Role {
	case policy.Submission, policy.Submissions:
		return v.peer.Identity, v.rate(v.peer.Identity, limits.PerUser), 1, &v.server.State.messages
	case policy.Trusted:
		who = v.trusted()
		return who, v.rate(who, limits.PerClient), int64(len(v.to)), &v.server.State.recipients
	case policy.MX:
	}
	return "", Rate{}, 0, nil
}

// One person writes no more than this: a message to so many, or so many in a
// minute, is one of many, and mail that somebody waits for goes before it. A
// newsletter goes as fast as before while nobody else sends.
const manyRecipients = 20

var singly = Rate{20, time.Minute}

// bulk reports whether the message is one of many.
func (v *session) bulk() bool {
	who, pace := v.peer.Identity, &v.server.State.pace
	switch v.server.Role {
	case policy.Trusted:
		who = "trusted " + v.trusted()
	case policy.MX:
		who, pace = prefixOf(v.addr), &v.server.State.strangers
	case policy.Submission, policy.Submissions:
	}
	return !pace.Allow(who, 1, singly, time.Now()) || len(v.to) >= manyRecipients
}

func (v *session) rate(who string, otherwise Rate) Rate {
	if v.server.Rate != nil {
		if own, ok := v.server.Rate(who); ok {
			return own
		}
	}
	return otherwise
}

// unspend gives back what a message that was not stored has cost.
func (v *session) unspend() {
	for _, c := range v.charges() {
		c.buckets.Return(c.who, c.n)
	}
}

// spendBytes counts what was stored, and says when that was the octet too many.
func (v *session) spendBytes(size int64) (over string) {
	who, _, _, _ := v.account()
	limit := v.server.Limits.PerUserBytes
	if who == "" || limit.N <= 0 {
		return ""
	}
	after := v.server.State.bytes.Take(who, size, limit, time.Now())
	if before := after - float64(size)/float64(limit.N); before <= 1 && after > 1 {
		return fmt.Sprintf("%s has reached its limit of %s octets; what follows is held", who, limit)
	}
	return ""
}
