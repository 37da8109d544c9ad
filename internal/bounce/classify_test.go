package bounce

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"postern/mail"
)

// asReply reads one line as a client does.
func asReply(t testing.TB, s string) mail.Reply {
	t.Helper()
	digits, text, _ := strings.Cut(s, " ")
	code, err := strconv.Atoi(digits)
	if err != nil || len(digits) != 3 {
		t.Fatalf("%q is no reply", s)
	}
	e, rest, _ := mail.CutEnhancedCode(text)
	return mail.Reply{Code: code, Enhanced: e, Lines: []string{rest}}
}

// TestEachReplyIsTakenByItsOwnLine: the table is its own test. A line that no
// reply can reach, because an earlier one takes its example, fails.
func TestEachReplyIsTakenByItsOwnLine(t *testing.T) {
	table := rules()
	if len(table) < 120 {
		t.Errorf("%d lines", len(table))
	}
	seen := make(map[Class]int)
	for _, u := range table {
		var r mail.Reply
		note := ""
		if u.note {
			note = u.example
		} else {
			r = asReply(t, u.example)
		}
		class, line := classify(table, r, note)
		if class != u.class || line != u.line {
			t.Errorf("replies.tsv:%d: %q is taken by line %d as %v, want %v", u.line, u.example, line, class, u.class)
		}
		seen[class]++
	}
	for c := range classes {
		if seen[c] == 0 {
			t.Errorf("no line for %v", c)
		}
	}
}

// TestClassify is about what stands in no line: other wordings of the real
// world, and what must not mislead.
func TestClassify(t *testing.T) {
	for _, c := range []struct {
		reply, note string
		want        Class
	}{
		{"550 5.1.1 <spam@d.example>: Recipient address rejected: User unknown in local recipient table", "", BadAddress},
		{"550 5.1.1 <virus@blacklist.example>... User unknown", "", BadAddress},
		{"550 5.1.1 User Unknown", "", BadAddress},
		{"550 5.1.1 No such user - gsmtp", "", BadAddress},
		{"550 5.1.1 <x@d.example> recipient does not exist here", "", BadAddress},
		{"550 Mailbox <x@d.example> does not exist", "", BadAddress},
		{"554 5.7.1 <x@d.example>: Recipient address rejected: user x@d.example does not exist", "", BadAddress},
		{"452 4.2.2 <x@d.example> Quota exceeded", "", MailboxFull},
		{"552 5.2.2 This message is larger than the current system limit or the recipient's mailbox is full.", "", MailboxFull},
		{"554 5.2.2 mailbox full", "", MailboxFull},
		{"550 5.2.1 Mailbox disabled for this recipient", "", MailboxOff},
		{"552 5.3.4 Message size exceeds fixed maximum message size (10000000)", "", TooLarge},
		{"552 Message too large", "", TooLarge},
		{"554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using black.mail.abusix.zone", "", Reputation},
		{"554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using bl.mailspike.net", "", Reputation},
		{"550 5.7.1 Service unavailable, Client host [192.0.2.1] blocked using Spamhaus. To request removal from this list see https://www.spamhaus.org/query/ip/192.0.2.1 (AS16012611)", "", Reputation},
		{"421 4.7.0 [TSS07] All messages from 192.0.2.1 will be permanently deferred", "", Reputation},
		{"550 5.7.1 Your message was considered as SPAM", "", Policy},
		{"550 5.7.1 Email rejected per DMARC policy for c.example", "", Policy},
		{"550 SPF check failed", "", Policy},
		{"450 4.7.1 <x@d.example>: Recipient address rejected: Greylisting in effect, please come back later", "", Greylisted},
		{"451 4.7.1 Greylisted, try again after some time", "", Greylisted},
		{"421 Too many concurrent SMTP connections from this IP address; please try again later.", "", Rate},
		{"550 Domain frequency limited", "", Rate},
		{"450 4.7.1 Error: too many recipients from 192.0.2.1", "", Rate},
		{"554 5.4.6 Too many hops 26 (25 max)", "", Loop},
		{"530 5.7.0 Authentication Required. For more information go to https://support.google.com/mail/?p=WantAuthError", "", Auth},
		{"454 4.7.1 <x@d.example>: Relay access denied", "", BadDomain},
		{"503 5.5.1 Error: need MAIL command", "", Protocol},
		{"450 4.4.7 Message delayed", "", Network},
		{"550 no", "", Unknown},
		{"550 I do not like you", "", Unknown},
		{"250 2.0.0 ok: no such user was refused as spam", "", Unknown},
		{"", "", Unknown},
		{"", "something that nobody has seen", Unknown},
		{"", "dial tcp 192.0.2.1:25: i/o timeout", Network},
		{"", "lookup mx.d.example on 192.0.2.53:53: server misbehaving", Network},
		{"", "lookup d.example: no such host", BadDomain},
		{"451 4.3.0 Temporary lookup failure", "read reply: connection closed by peer", Network},
		{"550 5.1.1 no such user", "read reply: connection closed by peer", BadAddress},
		{"550 " + strings.Repeat("x", maxText) + " user unknown", "", Unknown},
	} {
		var r mail.Reply
		if c.reply != "" {
			r = asReply(t, c.reply)
		}
		if got, line := classify(rules(), r, c.note); got != c.want || Classify(r, c.note) != c.want {
			t.Errorf("%.120q, %q: %v by line %d, want %v", c.reply, c.note, got, line, c.want)
		}
	}
}

func TestTheTableIsReadStrictly(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"policy\t5xx\t-\tspam\t550 spam\tany", ""},
		{"policy\t5xx\t-\tspam\t550 spam", "f:2: 5 cells; a rule has 6: class, code, enhanced, text, example, source"},
		{"polices\t5xx\t-\tspam\t550 spam\tany", `f:2: unknown class "polices"; the classes stand in class.go`},
		{"policy\t5\t-\tspam\t550 spam\tany", `f:2: code "5"; write digits and x, as 5xx, or note`},
		{"policy\t5xx,\t-\tspam\t550 spam\tany", `f:2: code "5xx,"; write digits and x, as 5xx, or note`},
		{"policy\t5xx\t5.7\tspam\t550 spam\tany", `f:2: enhanced code "5.7"; write numbers and x, as x.1.1, or -`},
		{"policy\t5xx\t-\t(\t550 spam\tany", "f:2: text: error parsing regexp: missing closing ): `(`"},
		{"policy\t5xx\t-\tspam\t\tany", "f:2: a rule needs an example and a source"},
		{"policy\t5xx\t-\tSpam\\S\t550 spam\tany", `f:2: text "Spam\\S"; write it in lower case, as the reply is read`},
		{"policy\tnote\t-\t-\tx\tany", "f:2: a note has a text and no enhanced code"},
	} {
		_, err := parseRules("f", "# class\n"+c.line+"\n")
		if fmt.Sprint(err) != c.want && (err != nil || c.want != "") {
			t.Errorf("%q: %v, want %s", c.line, err, c.want)
		}
	}
}

func TestEachClassSpeaks(t *testing.T) {
	for c := range classes {
		for _, s := range []string{c.What(), c.Advice()} {
			if !strings.HasSuffix(s, ".") || strings.Count(s, ". ") > 0 || strings.ContainsAny(s, "\r\n") || len(s) > 130 {
				t.Errorf("%v: %q is not one short sentence", c, s)
			}
		}
		if c.String() == "" || (c.Side() == SideUnknown) != (c == Unknown) || c.Side().String() == "" {
			t.Errorf("%v: side %v", c, c.Side())
		}
	}
	if Class(200).String() != "unknown" {
		t.Errorf("%v", Class(200))
	}
}

func BenchmarkClassify(b *testing.B) {
	r := asReply(b, "550 I do not like you, and there is more that I could say of it: see https://d.example/why")
	for b.Loop() {
		Classify(r, "")
	}
}
