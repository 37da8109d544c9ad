package lab

import (
	"context"
	"net/netip"
	"strings"
	"time"

	"postern/mail"
	"postern/open"
)

// The lab's world: every specimen serves Domain, some relay for RelayDomain,
// and all clients are strangers, although they come from loopback; an address
// is trusted only where a rule says so of a claimed one.
var (
	Domain      = mustDomain("lab.example")
	RelayDomain = mustDomain("relayed.example")
	Collector   = mustDomain("collector.example")
)

func mustDomain(s string) mail.Domain {
	d, err := mail.ParseDomain(s)
	if err != nil {
		panic(err)
	}
	return d
}

var (
	accepted    = mail.NewReply(250, "2.1.5", "ok")
	denied      = mail.NewReply(550, "5.7.1", "relaying denied")
	unknownUser = mail.NewReply(550, "5.1.1", "no such mailbox")
)

// closed is the rule of a server that is as it should be: its own mailboxes
// and nothing else.
func closed(_ context.Context, a open.Asked) open.Answer {
	to := a.To.Address()
	switch {
	case a.To.Route() != "":
		return open.Answer{Reply: mail.NewReply(501, "5.1.3", "no source routes here")}
	case to.Domain().IsZero(), to.Domain().Equal(Domain) && isMailbox(to.Local()):
		return open.Answer{Reply: accepted, Fate: open.Keep}
	case to.Domain().Equal(Domain):
		return open.Answer{Reply: unknownUser}
	}
	return open.Answer{Reply: denied}
}

func isMailbox(local string) bool {
	base, _, _ := strings.Cut(strings.ToLower(local), "+")
	return base == "postmaster" || base == "anna"
}

// when is closed but for what passes: those recipients are relayed as they are.
func when(passes func(open.Asked) bool) open.Rule {
	return func(ctx context.Context, a open.Asked) open.Answer {
		own := closed(ctx, a)
		if own.Reply.Positive() || a.To.Address().Domain().Equal(Domain) || !passes(a) {
			return own
		}
		return open.Answer{Reply: accepted, Next: a.To.Address()}
	}
}

func anybody(open.Asked) bool { return true }

func localSender(a open.Asked) bool { return a.From.Address().Domain().Within(Domain) }

func fromInfo(a open.Asked) bool {
	return strings.EqualFold(a.From.Address().String(), "info@"+Domain.String())
}

func fromProvider(a open.Asked) bool { return a.From.Address().Domain().String() == "gmail.com" }

func nullSender(a open.Asked) bool { return a.From.Null() }

func claimedLocal(a open.Asked) bool {
	return a.Client.Claimed && (a.Client.Addr.IsLoopback() || a.Client.Addr.IsPrivate())
}

func loggedIn(a open.Asked) bool { return a.Client.Identity != "" }

func overIPv6(a open.Asked) bool { return a.Client.Addr.Is6() && !a.Client.Addr.Is4In6() }

func localHelo(a open.Asked) bool {
	d, err := mail.ParseDomain(a.Client.Helo)
	return err == nil && d.Within(Domain)
}

func encrypted(a open.Asked) bool { return a.Client.TLS }

func notFirst(a open.Asked) bool { return a.Index > 0 }

// percentHack rewrites a%b@ours to a@b after it has judged the domain, as
// RFC 1123 section 5.2.16 describes and nobody should do.
func percentHack(own mail.Domain) open.Rule {
	return func(ctx context.Context, a open.Asked) open.Answer {
		if to := a.To.Address(); to.Domain().Equal(own) {
			if next, ok := unpercent(to.Local()); ok {
				return open.Answer{Reply: accepted, Next: next}
			}
		}
		return closed(ctx, a)
	}
}

func unpercent(local string) (mail.Address, bool) {
	i := strings.LastIndexByte(local, '%')
	if i < 0 {
		return mail.Address{}, false
	}
	a, err := mail.ParseAddress(local[:i] + "@" + local[i+1:])
	return a, err == nil
}

// unquote takes a quoted at sign for the real one.
func unquote(ctx context.Context, a open.Asked) open.Answer {
	if to := a.To.Address(); to.Domain().Equal(Domain) {
		if next, err := mail.ParseAddress(to.Local()); err == nil {
			return open.Answer{Reply: accepted, Next: next}
		}
	}
	return closed(ctx, a)
}

// A mxLookup returns the addresses of the hosts that a domain's MX records
// name, best first.
type mxLookup func(ctx context.Context, domain string) []netip.Addr

// backupMX relays for every domain that names the server as a further MX.
func backupMX(lookup mxLookup) open.Rule {
	return func(ctx context.Context, a open.Asked) open.Answer {
		answer := closed(ctx, a)
		to := a.To.Address()
		if answer.Reply.Positive() || to.Domain().IsZero() || to.Domain().Equal(Domain) {
			return answer
		}
		// All of the lab is on loopback, so being the second MX tells the server
		// from the collector, which is the only one of its own domain.
		if mx := lookup(ctx, to.Domain().ASCII()); len(mx) > 1 && mx[len(mx)-1].IsLoopback() {
			return open.Answer{Reply: accepted, Next: to}
		}
		return answer
	}
}

// bounceLater takes everything that ends in its own domain and returns what
// it has no mailbox for.
func bounceLater(ctx context.Context, a open.Asked) open.Answer {
	answer := closed(ctx, a)
	if !answer.Reply.Positive() && a.To.Address().Domain().Equal(Domain) {
		return open.Answer{Reply: accepted, Fate: open.Bounce}
	}
	return answer
}

// bounceAll takes everything and returns it.
func bounceAll(context.Context, open.Asked) open.Answer {
	return open.Answer{Reply: accepted, Fate: open.Bounce}
}

// withoutPostmaster is closed but for the mailbox that RFC 5321 section 4.5.1
// demands.
func withoutPostmaster(ctx context.Context, a open.Asked) open.Answer {
	if base, _, _ := strings.Cut(strings.ToLower(a.To.Address().Local()), "+"); base == "postmaster" || a.To.Address().Domain().IsZero() {
		return open.Answer{Reply: unknownUser}
	}
	return closed(ctx, a)
}

// discard takes everything and sends nothing anywhere.
func discard(context.Context, open.Asked) open.Answer {
	return open.Answer{Reply: accepted, Fate: open.Keep}
}

// catchAll takes everything in its own domain.
func catchAll(ctx context.Context, a open.Asked) open.Answer {
	if a.To.Address().Domain().Equal(Domain) {
		return open.Answer{Reply: accepted, Fate: open.Keep}
	}
	return closed(ctx, a)
}

// says answers what rule accepts with another reply.
func says(rule open.Rule, accepted mail.Reply) open.Rule {
	return func(ctx context.Context, a open.Asked) open.Answer {
		answer := rule(ctx, a)
		if answer.Reply.Positive() {
			answer.Reply = accepted
		}
		return answer
	}
}

// denies answers what rule refuses with another reply.
func denies(rule open.Rule, refusal mail.Reply) open.Rule {
	return func(ctx context.Context, a open.Asked) open.Answer {
		answer := rule(ctx, a)
		if !answer.Reply.Positive() && answer.Reply.Enhanced != unknownUser.Enhanced {
			answer.Reply = refusal
		}
		return answer
	}
}

func growing(step, most time.Duration) func(int) time.Duration {
	return func(refused int) time.Duration { return min(time.Duration(refused)*step, most) }
}
