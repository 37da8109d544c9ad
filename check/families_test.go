package check_test

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"postern/check"
	"postern/mail"
	"postern/open"
	"postern/plan"
	"postern/verdict"
)

// both has addresses of both families: mail for a domain of one family alone
// leaves by that one, all other by IPv4.
type both struct {
	w   *world
	six bool // it has IPv6 at all
}

func (b both) Take(ctx context.Context, m open.Message) error {
	own := m
	own.To = slices.DeleteFunc(slices.Clone(m.To), func(a mail.Address) bool { return a.Domain().String() == "v6.probe.example" })
	for _, to := range m.To {
		if to.Domain().String() != "v6.probe.example" || !b.six {
			continue
		}
		b.w.mu.Lock()
		b.w.arrivals = append(b.w.arrivals, verdict.Arrival{
			Tokens: plan.FindTokens(to.String(), 1), Kind: verdict.Message, Header: string(m.Body),
			Peer: netip.MustParseAddrPort("[2001:db8::10]:40000"), Seen: verdict.SeenByPeer,
		})
		b.w.mu.Unlock()
	}
	return b.w.Take(ctx, own)
}

// Of a server with both families the report names both addresses, though it
// prefers one for a collector that has both.
func TestBothFamiliesOfTheEgress(t *testing.T) {
	for _, c := range []struct {
		name string
		zone bool
		six  bool
		want string
	}{
		{"both", true, true, "203.0.113.10 2001:db8::10"},
		{"the server has IPv4 alone", true, false, "203.0.113.10"},
		{"we have no zone", false, true, "203.0.113.10"},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := &world{}
			w.server = open.SMTP{Name: "mx.ours.example", Sink: both{w, c.six}, Limits: limits()}
			o := check.Options{Wait: time.Minute}
			if c.zone {
				o.OneFamily = func(six bool) mail.Domain {
					return domain(t, map[bool]string{true: "v6", false: "v4"}[six]+".probe.example")
				}
			}
			j, _ := w.audit(t, o)
			if j.Verdict != verdict.Open || j.Proof.Form.ID != "plain" {
				t.Fatalf("%s: %s (%s)", c.name, j.Verdict, j.Why)
			}
			var got []string
			for _, a := range j.Proof.AllListed {
				got = append(got, a.String())
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("%s: %q, want %q", c.name, got, c.want)
			}
			if said := strings.Contains(strings.Join(j.Proof.Notes, "; "), "2001:db8::10: put on blocklists too"); said != (len(got) > 1) {
				t.Errorf("%s: %q", c.name, j.Proof.Notes)
			}
		})
	}
}
