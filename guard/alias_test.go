package guard

import (
	"strings"
	"testing"
	"time"

	"postern/internal/problem"
	"postern/mail"
	"postern/policy"
)

// forwarders is a house with an alias that leads to foreign addresses.
var forwarders = func() *policy.Policy {
	address := func(s string) mail.Address { return must(mail.ParseAddress(s)) }
	p, err := policy.Compile(policy.Source{
		Hash: "test", Hostname: must(mail.ParseDomain("mx.example.org")),
		Listeners: []policy.Listener{{Name: "mx", Role: policy.MX}, {Name: "submission", Role: policy.Submission}},
		Domains: []policy.Domain{{Name: must(mail.ParseDomain("example.org")), Mailboxes: []string{"anna"}, Subaddress: "+", Aliases: []policy.Alias{
			{Name: "team", To: []mail.Address{address("anna@example.org"), address("x@far.example"), address("y@elsewhere.example")}, Sender: mail.ReverseTo(address("anna@example.org"))},
			{Name: "inside", To: []mail.Address{address("anna@example.org")}},
		}}},
		Users: []policy.User{{Name: "anna", MaySendAs: senders("anna@example.org")}},
	})
	if fatal, _ := problem.Split(err); fatal != nil {
		panic(fatal)
	}
	return p
}()

func forwarding(role policy.Role) *bench {
	b := newBench(role)
	b.Policy = func() *policy.Policy { return forwarders }
	return b
}

// send sends one message of a stranger and returns the answer to it.
func (b *bench) send(t *testing.T, client, to, message string) string {
	t.Helper()
	lines := []string{"EHLO c.example", "MAIL FROM:<a@far.example>"}
	for each := range strings.FieldsSeq(to) {
		lines = append(lines, "RCPT TO:<"+each+"@example.org>")
	}
	replies := b.talk(t, client, append(lines, "DATA", strings.ReplaceAll(message, "\n", "\r\n")+"\r\n.")...)
	return replies[len(replies)-1]
}

// What strangers send through an alias to foreign addresses is counted by
// those addresses, whatever detail or case they write, and refused for a while
// beyond the limit; other recipients of the message do not pay. One network has
// a quarter of it.
func TestAliasesToForeignAddressesAreMetered(t *testing.T) {
	const later = "452 4.7.1 This address gets too much mail just now; try again later"
	b := forwarding(policy.MX)
	b.Limits.PerAlias = Rate{8, time.Hour} // four messages, for each goes to two foreign addresses
	for i, c := range []struct{ network, to, reply string }{
		{"198.51.100.7", "team", "250 2.1.5"},
		{"198.51.100.9", "team", later},
		{"198.51.100.9", "TEAM+x", later},
		{"198.51.100.9", "inside", "250 2.1.5"},
		{"203.0.113.7", "Team+y", "250 2.1.5"},
		{"192.0.2.7", "team", "250 2.1.5"},
		{"2001:db8::7", "team", "250 2.1.5"},
		{"2001:db8:0:ffff::7", "team", later},
		{"2001:db8:1::7", "team", later}, // the fifth, from whatever network
		{"2001:db8:2::7", "anna", "250 2.1.5"},
	} {
		got := b.talk(t, c.network, "EHLO c.example", "MAIL FROM:<a@far.example>", "RCPT TO:<"+c.to+"@example.org>")
		if last := got[len(got)-1]; !strings.HasPrefix(last, c.reply) {
			t.Errorf("%d, %s from %s: %q, want %q", i, c.to, c.network, last, c.reply)
		}
	}
	got := b.talk(t, "2001:db8:3::7", "EHLO c.example", "MAIL FROM:<a@far.example>", "RCPT TO:<anna@example.org>", "RCPT TO:<team@example.org>", "DATA", "Subject: s\r\n\r\nx\r\n.")
	if len(got) != 7 || !strings.HasPrefix(got[3], "250") || !strings.HasPrefix(got[4], later) || !strings.HasPrefix(got[6], "250 2.0.0 Stored") {
		t.Errorf("a message to two: %q", got)
	}
	for _, l := range b.tray.letters {
		if l.Hold != "" {
			t.Errorf("held: %s", l.Hold)
		}
	}
	wide := forwarding(policy.MX)
	wide.Limits.PerAlias = Rate{1, time.Hour} // less than one message
	if got := wide.send(t, stranger, "team", "Subject: s\n\nx"); !strings.HasPrefix(got, "250 2.0.0 Stored") {
		t.Errorf("a single message to more than the limit: %q", got)
	}
	own := forwarding(policy.Submission)
	own.Limits.PerAlias = Rate{1, time.Hour}
	own.tls = certificate()
	replies := own.talk(t, "198.51.100.7", append(login[:4:4], "MAIL FROM:<anna@example.org>", "RCPT TO:<team@example.org>", "DATA", "From: <anna@example.org>\r\n\r\nx\r\n.")...)
	if last := replies[len(replies)-1]; !strings.HasPrefix(last, "250 2.0.0 Stored") || strings.Contains(last, "held") {
		t.Errorf("our own people pay by their own limits: %q", last)
	}
}

func TestWhatAnAliasHasForwardedIsKnownWhenItComesBack(t *testing.T) {
	for _, c := range []struct{ name, to, header, want, mark string }{
		{"the first time", "team", "Subject: s\n", "250", "Delivered-To: team@example.org\r\n"},
		{"with a detail", "Team+x", "Subject: s\n", "250", "Delivered-To: team@example.org\r\n"},
		{"it comes back", "team", "Delivered-To: team@example.org\nSubject: s\n", "554 5.4.6 Loop: this message has gone through team@example.org before", ""},
		{"in capitals and brackets", "team+y", "delivered-to:  <TEAM@Example.Org>\nSubject: s\n", "554 5.4.6", ""},
		{"through another alias", "team", "Delivered-To: other@elsewhere.example\nSubject: s\n", "250", "Delivered-To: team@example.org\r\n"},
		{"one that stays inside has no mark", "inside", "Delivered-To: inside@example.org\nSubject: s\n", "250", ""},
		{"two recipients are not told of each other", "anna team", "Subject: s\n", "250", ""},
		{"and it comes back to two", "anna team", "Delivered-To: team@example.org\nSubject: s\n", "554 5.4.6", ""},
	} {
		b := forwarding(policy.MX)
		if got := b.send(t, stranger, c.to, c.header+"\nx"); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
		if len(b.tray.bodies) == 0 {
			continue
		}
		_, after, _ := strings.Cut(b.tray.bodies[0], "\r\nDelivered-To: ")
		if got := strings.HasPrefix("Delivered-To: "+after, c.mark) && (c.mark != "" || strings.Count(b.tray.bodies[0], "elivered-To: ") == strings.Count(c.header, "elivered-To: ")); !got {
			t.Errorf("%s: stored %q, want the mark %q", c.name, b.tray.bodies[0], c.mark)
		}
	}
}
