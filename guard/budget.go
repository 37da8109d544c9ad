package guard

import (
	"fmt"
	"net/netip"
	"time"

	"postern/mail"
	"postern/policy"
)

// budget takes a message from the sender's budget. Within it, both results
// are zero. Beyond, the message is held, for the sender to be told and the
// operator to look: it may be a stolen password, and it may be the newsletter.
// At twice the budget it is refused, so that the disk is not the limit.
func (v *session) budget() (hold string, refused mail.Reply) {
	who, rate, n, buckets := v.account()
	if who == "" {
		return "", mail.Reply{}
	}
	messages := buckets.Take(who, n, rate, time.Now())
	octets := v.server.State.bytes.Take(who, 0, v.server.Limits.PerUserBytes, time.Now())
	over, limit := messages, rate.String()
	if octets > messages && octets > 1 {
		over, limit = octets, v.server.Limits.PerUserBytes.String()+" octets"
	}
	switch {
	case over > 2:
		buckets.Return(who, n)
		return "", v.refuse(CauseBudget, mail.NewReply(452, "4.7.1", fmt.Sprintf("%s has reached twice its limit of %s; if that was not you, change your password", who, limit)))
	case over > 1:
		return fmt.Sprintf("%s has reached its limit of %s", who, limit), mail.Reply{}
	}
	return "", mail.Reply{}
}

// forwards takes what a stranger's recipient leads to outside from the limit of
// its alias, and refuses it for a while beyond. Nothing is held: the sender
// keeps the message and is told, the operator has nothing to decide, and other
// recipients of the message do not pay.
func (v *session) forwards(g policy.Grant) mail.Reply {
	n, all := int64(g.Leaves()), v.server.Limits.PerAlias
	if n == 0 || all.N <= 0 {
		return mail.Reply{}
	}
	name, now, counts := "alias "+g.Alias(), time.Now(), &v.server.State.forwarded
	// One network has a share of it alone, so that a stranger cannot keep an
	// alias from everybody else. A single message always fits.
	share := Rate{max(all.N/shareOfOne, n), all.Per}
	if counts.Allow(name+" from "+networkOf(v.addr), n, share, now) {
		if counts.Allow(name, n, Rate{max(all.N, n), all.Per}, now) {
			return mail.Reply{}
		}
		counts.Return(name+" from "+networkOf(v.addr), n)
	}
	return mail.NewReply(452, "4.7.1", "This address gets too much mail just now; try again later")
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
	if who, _, n, b := v.account(); who != "" {
		b.Return(who, n)
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
