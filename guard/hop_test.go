package guard

import (
	"fmt"
	"strings"
	"testing"

	"postern/policy"
)

// What the next hop of a mailbox cannot take is refused, at RCPT where that can
// be known; a wish of the client's that the message does not need is none.
func TestWhatTheNextHopTakes(t *testing.T) {
	all := Offer{UTF8: true, EightBit: true}
	const known = "<known@asked.example.org>"
	for _, c := range []struct {
		name             string
		offers           *Offer
		mail, rcpt, text string
		want             string
	}{
		{"all of it", &all, "<> SMTPUTF8 BODY=8BITMIME", "<known\u00fc@asked.example.org>", "Subject: \u00fc\n\n\u00e4\n", "250"},
		{"a hop that was not heard", nil, "<> SMTPUTF8 BODY=8BITMIME", "<known\u00fc@asked.example.org>", "Subject: \u00fc\n\n\u00e4\n", "250"},
		{"a recipient in UTF-8", &Offer{EightBit: true}, "<> SMTPUTF8", "<known\u00fc@asked.example.org>", "", "RCPT 553 5.6.7"},
		{"a sender in UTF-8", &Offer{EightBit: true}, "<\u00e4@far.example> SMTPUTF8", known, "", "RCPT 553 5.6.7"},
		{"a sender with a U-label", &Offer{EightBit: true}, "<a@b\u00fccher.example> SMTPUTF8", known, "Subject: x\n\n", "250"},
		{"SMTPUTF8, all ASCII", &Offer{EightBit: true}, "<> SMTPUTF8", known, "Subject: x\n\nhello\n", "250"},
		{"SMTPUTF8, text of eight bits", &Offer{EightBit: true}, "<> SMTPUTF8 BODY=8BITMIME", known, "Subject: x\n\n\u00e4\n", "250"},
		{"a header in UTF-8", &Offer{EightBit: true}, "<> SMTPUTF8", known, "Subject: \u00fc\n\n", "554 5.6.9"},
		{"8BITMIME, seven bits", &Offer{UTF8: true}, "<> BODY=8BITMIME", known, "Subject: x\n\nhello\n", "250"},
		{"8BITMIME, eight bits", &Offer{UTF8: true}, "<> BODY=8BITMIME", known, "Subject: x\n\nh\u00e4llo\n", "554 5.6.3"},
		{"a size that is declared", &Offer{Size: 10_000}, "<> SIZE=10001", known, "", "RCPT 552 5.3.4"},
		{"a size that is not", &Offer{Size: 10_000}, "<>", known, "Subject: x\n\n" + strings.Repeat(strings.Repeat("x", 98)+"\n", 100), "552 5.3.4"},
		{"a size that fits", &Offer{Size: 20_000}, "<> SIZE=10000", known, "Subject: x\n\n" + strings.Repeat(strings.Repeat("x", 98)+"\n", 100), "250"},
		{"a mailbox that nobody is asked of", &Offer{}, "<> SMTPUTF8 BODY=8BITMIME SIZE=100000", "<anna@example.org>", "Subject: \u00fc\n\n\u00e4\n", "250"},
	} {
		for _, how := range []string{"DATA", "BDAT"} {
			t.Run(how+", "+c.name, func(t *testing.T) {
				b := newBench(policy.MX)
				b.Limits.Pause = 0
				b.Mailboxes = mailboxes{offers: c.offers}
				text := strings.ReplaceAll(c.text, "\n", "\r\n")
				message := []string{"DATA", text + "."}
				if how == "BDAT" {
					message = []string{fmt.Sprintf("BDAT %d LAST\r\n%s", len(text)+2, text)}
				}
				replies := b.talk(t, stranger, append([]string{"EHLO c.example", "MAIL FROM:" + c.mail, "RCPT TO:" + c.rcpt}, message...)...)
				got := replies[len(replies)-1]
				if !strings.HasPrefix(replies[3], "250") {
					got = "RCPT " + replies[3]
				}
				if !strings.HasPrefix(got, c.want) || (len(b.tray.bodies) == 1) != (c.want == "250") {
					t.Errorf("got %q, want %q; %d stored\n%q", got, c.want, len(b.tray.bodies), replies)
				}
			})
		}
	}
}

func TestOffersOfTwoHops(t *testing.T) {
	for _, c := range []struct{ a, b, want Offer }{
		{anything, Offer{UTF8: true, Size: 5}, Offer{UTF8: true, Size: 5}},
		{Offer{EightBit: true, Size: 7}, Offer{UTF8: true, EightBit: true, Size: 5}, Offer{EightBit: true, Size: 5}},
		{anything, anything, anything},
	} {
		if c.a.both(c.b) != c.want || c.b.both(c.a) != c.want {
			t.Errorf("%+v and %+v: %+v, want %+v", c.a, c.b, c.a.both(c.b), c.want)
		}
	}
}
