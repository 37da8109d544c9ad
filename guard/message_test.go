package guard

import (
	"fmt"
	"strings"
	"testing"

	"postern/policy"
)

func (b *bench) deliver(t *testing.T, client string, message string) string {
	t.Helper()
	return b.deliverBy(t, "DATA", client, message)
}

// deliverBy sends a message by DATA or BDAT and returns the last reply.
func (b *bench) deliverBy(t *testing.T, how, client, message string) string {
	t.Helper()
	message = strings.ReplaceAll(message, "\n", "\r\n")
	lines := []string{"EHLO c.example"}
	sender := "<a@far.example>"
	switch b.Role {
	case policy.Submission, policy.Submissions:
		b.tls = certificate()
		lines, sender = append(lines, login[1:]...), "<anna@example.org>"
	case policy.Trusted:
		sender = "<scanner@example.org>"
	case policy.MX:
	}
	lines = append(lines, "MAIL FROM:"+sender, "RCPT TO:<anna@example.org>")
	if how == "BDAT" {
		lines = append(lines, fmt.Sprintf("BDAT %d LAST\r\n%s", len(message)+2, message))
	} else {
		lines = append(lines, "DATA", message+"\r\n.")
	}
	replies := b.talk(t, client, lines...)
	return replies[len(replies)-1]
}

func TestMessages(t *testing.T) {
	hops := strings.Repeat("Received: by x\n", 100)
	for _, c := range []struct {
		name, role, message string
		want                string   // how the reply begins
		has, hasNot         []string // in what is stored
	}{
		{
			"as a mail program writes it", "submission", "From: Anna <anna@example.org>\nTo: b@far.example\nBcc: secret@far.example\nDate: Mon, 1 Jan 2026 10:00:00 +0000\nMessage-ID: <x@y>\nSubject: s\n\ntext", "250",
			[]string{"Received: by mx.example.org (Postern)\r\n\twith ESMTPSA id ID1;", "Message-ID: <x@y>", "\r\n\r\ntext"},
			[]string{"Bcc", "secret", stranger, "c.example"},
		},
		{"without date and id", "submission", "From: anna@example.org\nSubject: s\n\ntext", "250", []string{"\r\nDate: ", "\r\nMessage-ID: <ID1@mx.example.org>\r\n"}, nil},
		{"without author", "submission", "Subject: s\n\ntext", "250", []string{"From: <anna@example.org>\r\n"}, nil},
		{"of two authors", "submission", "From: anna@example.org, sales@example.org\n\ntext", "250", []string{"Sender: <anna@example.org>\r\n"}, nil},
		{"in somebody else's name", "submission", "From: ben@example.org\n\ntext", `550 5.7.1 The From line "ben@example.org" does not belong to anna`, nil, nil},
		{"in two names, one of somebody else", "submission", "From: anna@example.org, ben@example.org\n\ntext", "550 5.7.1", nil, nil},
		{"with a sender of somebody else", "submission", "From: anna@example.org\nSender: ben@example.org\n\ntext", "550 5.7.1", nil, nil},
		{"resent by somebody else", "submission", "From: anna@example.org\nResent-From: ben@example.org\n\ntext", "550 5.7.1", nil, nil},
		{"with a verdict of their own", "submission", "Authentication-Results: other.example; spf=pass\nReturn-Path: <ben@example.org>\n\ntext", "250", []string{"Authentication-Results: other.example"}, []string{"Return-Path"}},
		{"of a group with somebody else in it", "submission", "From: us: anna@example.org, ben@example.org;\n\ntext", "550 5.7.1", nil, nil},
		{"of a group of nobody", "submission", "From: us:;\n\ntext", "550 5.6.0 Header From holds no address", nil, nil},
		{"with a From before the colon of which there is a space", "submission", "From : ben@example.org\n\ntext", "550 5.7.1", nil, nil},
		{"resent in a name of her own", "submission", "From: anna@example.org\nResent-From: sales@example.org\nResent-Bcc: x@far.example\n\ntext", "250", []string{"Resent-From: sales@example.org"}, []string{"Resent-Bcc"}},
		{"with two From", "submission", "From: anna@example.org\nFrom: anna@example.org\n\ntext", "550 5.6.0 Header From appears 2 times", nil, nil},
		{"with a From that is none", "submission", "From: hello\n\ntext", "550 5.6.0 Header From holds no address", nil, nil},
		{"hidden behind a name", "submission", "From: \"anna@example.org\" <ben@example.org>\n\ntext", "550 5.7.1", nil, nil},
		{"without any header", "submission", "hello", "250", []string{"From: <anna@example.org>", "\r\n\r\nhello\r\n"}, nil},
		{"with a folded field", "submission", "From: Anna\n <anna@example.org>\nSubject: a\n b\n\ntext", "250", []string{"From: Anna\r\n <anna@example.org>\r\n", "Subject: a\r\n b\r\n"}, nil},

		{
			"from a stranger", "mx", "From: anybody@far.example\nBcc: x@far.example\n\ntext", "250",
			[]string{"Received: from c.example ([198.51.100.7])\r\n\tby mx.example.org (Postern)\r\n\twith ESMTP id ID1\r\n\tfor <anna@example.org>;", "From: anybody@far.example\r\nBcc: x@far.example\r\n"},
			[]string{"Message-ID", "Date:"},
		},
		{"with a verdict in our name", "mx", "Authentication-Results: mx.example.org; spf=pass\nAuthentication-Results: other.example; spf=pass\n\ntext", "250", []string{"other.example"}, []string{"Authentication-Results: mx.example.org"}},
		{
			"with verdicts that hide that they are in our name", "mx",
			"Authentication-Results: MX.example.org\n\t1; spf=pass\nAuthentication-Results: (a (b\\) c)) mx.example.org; spf=pass\nAuthentication-Results: \"mx.example.\\org\"; spf=pass\nAuthentication-Results: mx.example.org(x); spf=pass\nAuthentication-Results:\n mx.example.org.; spf=pass\nAuthentication-Results : mx.example.org; spf=pass\nAuthentication-Results: amx.example.org; spf=none\n\ntext", "250",
			[]string{"Authentication-Results: amx.example.org; spf=none"},
			[]string{"spf=pass"},
		},
		{"with a header and no body", "mx", "Subject: s", "250", []string{"Subject: s\r\n\r\n"}, nil},
		{"with a line in its header that is none", "submission", "Subject: s\nhello there\nFrom: ben@example.org\n\ntext", "250", []string{"From: <anna@example.org>", "Subject: s\r\n\r\nhello there\r\nFrom: ben@example.org\r\n"}, nil},
		{"in circles", "mx", hops + "\ntext", "554 5.4.6 Loop: 100 hops", nil, nil},
		{"in circles through us", "mx", strings.Repeat("Received: from c.example\n\tby mx.example.org (Postern)\n\twith ESMTP id X; now\n", 4) + "\ntext", "554 5.4.6 Loop: seen here 4 times", nil, nil},
		{"by us thrice, as a list may bring it", "mx", strings.Repeat("Received: by mx.example.org (Postern) with ESMTP id X; now\n", 3) + strings.Repeat("Received: by other.example (Postern)\n", 9) + "\ntext", "250", nil, nil},
		{"with 99 hops", "mx", hops[15:] + "\ntext", "250", nil, nil},
		{"with a long header", "mx", strings.Repeat("X: "+strings.Repeat("y", 900)+"\n", 300) + "\ntext", "550 5.6.0 The header is longer than 262144 octets", nil, nil},
		{"with many fields", "mx", strings.Repeat("X: y\n", 1001) + "\ntext", "550 5.6.0 The header has more than 1000 fields", nil, nil},

		{"with an author in windows-1252", "submission", "From: =?windows-1252?Q?B=FCro?= < anna@example.org >\nSubject: s\n\ntext", "250", []string{"From: =?windows-1252?Q?B=FCro?= < anna@example.org >\r\n"}, nil},
		{"resent by an author in iso-2022-jp", "submission", "From: anna@example.org\nResent-From: =?iso-2022-jp?B?GyRCO0NFRBsoQg==?= <anna@example.org>\n\ntext", "250", nil, nil},
		{"in somebody else's name, in windows-1252", "submission", "From: =?windows-1252?Q?B=FCro?= <ben@example.org>\n\ntext", "550 5.7.1", nil, nil},
		{"in two names, one behind an encoded word", "submission", "From: anna@example.org, =?gb2312?B?1cXI/Q==?= <ben@example.org>\n\ntext", "550 5.7.1", nil, nil},
		{"with an address as name", "submission", "From: anna@example.org <ben@example.org>\n\ntext", "550 5.6.0 Header From holds no address that we can read (at character 18: a comma is missing between two addresses)", nil, nil},
		{"from a device with an author in latin-1", "trusted", "From: B\xfcro <scanner@example.org>\n\ntext", "250", nil, nil},

		{"from a device", "trusted", "Subject: scan\n\ntext", "250", []string{"From: <scanner@example.org>", "Received: by mx.example.org"}, []string{"10.1.2.40"}},
		{"from a device in anna's name", "trusted", "From: anna@example.org\n\ntext", "550 5.7.1", nil, nil},
	} {
		t.Run(c.role+", "+c.name, func(t *testing.T) {
			role, _ := policy.ParseRole(c.role)
			b := newBench(role)
			client := stranger
			if role == policy.Trusted {
				client = "10.1.2.40"
			}
			b.Limits.Pause = 0
			got := b.deliver(t, client, c.message)
			if !strings.HasPrefix(got, c.want) {
				t.Fatalf("got %q, want %q", got, c.want)
			}
			if stored := len(b.tray.bodies); (stored == 1) != strings.HasPrefix(c.want, "250") {
				t.Fatalf("%d stored", stored)
			}
			for _, text := range c.has {
				if !strings.Contains(b.tray.bodies[0], text) {
					t.Errorf("%q is not in\n%s", text, b.tray.bodies[0])
				}
			}
			for _, text := range c.hasNot {
				if strings.Contains(b.tray.bodies[0], text) {
					t.Errorf("%q is in\n%s", text, b.tray.bodies[0])
				}
			}
		})
	}
}

// A message that begins with what a mailbox file or an editor has at that
// place keeps its fields; one that is all text keeps all of its text.
func TestWhatStandsBeforeTheHeader(t *testing.T) {
	const mark, line = "\xef\xbb\xbf", "From anna Mon Nov 30 10:00:00 2026\n"
	for _, c := range []struct {
		name, before, fields string
		kept                 bool
	}{
		{"nothing", "", "Subject: s\n", false},
		{"a separator line", line, "Subject: s\n", false},
		{"one that was quoted", ">" + line, "Subject: s\n", false},
		{"one of other programs", "From - Mon, 30 Nov 2026 10:00:00 +0000\n", "Subject: s\n", false},
		{"a byte order mark", mark, "Subject: s\n", false},
		{"both", mark + line, "Subject: s\n", false},
		{"both, the other way", line + mark, "Subject: s\n", false},
		{"text that begins so", "From here on I write\n", "", true},
		{"a mark and text", mark + "hello\n", "", true},
		{"a long line", "From " + strings.Repeat("x", 990) + "\n", "Subject: s\n", false},
	} {
		for _, role := range []string{"submission", "mx", "trusted"} {
			for _, how := range []string{"DATA", "BDAT"} {
				t.Run(role+", "+how+", "+c.name, func(t *testing.T) {
					r, _ := policy.ParseRole(role)
					b := newBench(r)
					b.Limits.Pause = 0
					client := stranger
					if r == policy.Trusted {
						client = "10.1.2.40"
					}
					got := b.deliverBy(t, how, client, c.before+c.fields+"\ntext\n")
					if !strings.HasPrefix(got, "250") || len(b.tray.bodies) != 1 {
						t.Fatalf("%s, %d stored", got, len(b.tray.bodies))
					}
					header, text, _ := strings.Cut(b.tray.bodies[0], "\r\n\r\n")
					before := strings.ReplaceAll(c.before, "\n", "\r\n")
					if (c.fields != "") != strings.Contains(header, "\r\nSubject: s") || strings.Contains(text, before) != (c.kept || before == "") || strings.Contains(header, mark) {
						t.Errorf("stored\n%q", b.tray.bodies[0])
					}
				})
			}
		}
	}
}

// The trace field says of strangers what they said, where it is a name, and
// of two recipients tells neither about the other.
func TestReceived(t *testing.T) {
	for _, c := range []struct {
		name, hello, more string
		want, not         string
	}{
		{"a name", "EHLO c.example", "", "from c.example ([198.51.100.7])", ""},
		{"an address", "EHLO [198.51.100.7]", "", "from [198.51.100.7] ([198.51.100.7])", ""},
		{"HELO", "HELO c.example", "", "with SMTP id ID1", ""},
		{"a comment", "EHLO x(by", "", "from unknown ([198.51.100.7])", "x(by"},
		{"a field", "EHLO c.example;by=mx", "", "from unknown ([198.51.100.7])", ";by=mx"},
		{"an underscore and a colon", "EHLO a_b:c", "", "from unknown ([198.51.100.7])", "a_b:c"},
		{"one recipient", "EHLO c.example", "", "for <anna@example.org>", ""},
		{"two recipients", "EHLO c.example", "RCPT TO:<postmaster@example.org>", "with ESMTP id ID1;", "for <"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(policy.MX)
			b.Limits.Pause = 0
			lines := []string{c.hello, "MAIL FROM:<>", "RCPT TO:<anna@example.org>"}
			if c.more != "" {
				lines = append(lines, c.more)
			}
			replies := b.talk(t, stranger, append(lines, "DATA", "Subject: s\r\n\r\ntext\r\n.")...)
			if len(b.tray.bodies) != 1 {
				t.Fatalf("nothing was stored: %q", replies)
			}
			got := b.tray.bodies[0]
			if !strings.Contains(got, c.want) || c.not != "" && strings.Contains(got, c.not) {
				t.Errorf("got %q\nwant %q and no %q", got, c.want, c.not)
			}
		})
	}
}

// The name by which a message is found is the one that is stored with it.
func TestName(t *testing.T) {
	long := strings.Repeat("x", 500)
	for _, c := range []struct {
		name, role, header string
		want               string
	}{
		{"of the sender", "submission", "Message-ID: <x.1@pc.example>", "<x.1@pc.example>"},
		{"of ours", "submission", "Subject: s", "<ID1@mx.example.org>"},
		{"of a stranger", "mx", "Message-ID: <x.1@pc.example>", "<x.1@pc.example>"},
		{"of a stranger who has none", "mx", "Subject: s", ""},
		{"the first of two", "mx", "message-id: <1@pc.example>\nMessage-ID: <2@pc.example>", "<1@pc.example>"},
		{"folded", "mx", "Message-ID:\n <1@pc.example>", "<1@pc.example>"},
		{"with comments", "mx", "Message-ID: (a <0@b>) <1@pc.example> (c)", "<1@pc.example>"},
		{"with a domain literal", "mx", "Message-ID: <1@[192.0.2.1]>", "<1@[192.0.2.1]>"},
		{"of Unicode", "mx", "Message-ID: <ü@bücher.example>", "<ü@bücher.example>"},
		{"without brackets", "mx", "Message-ID: 1@pc.example", ""},
		{"without an end", "mx", "Message-ID: <1@pc.example", ""},
		{"without an at", "mx", "Message-ID: <1>", ""},
		{"without a left side", "mx", "Message-ID: <@pc.example>", ""},
		{"without a right side", "mx", "Message-ID: <1@>", ""},
		{"with more behind it", "mx", "Message-ID: <1@pc.example> <2@pc.example>", ""},
		{"with a space", "mx", "Message-ID: <1 2@pc.example>", ""},
		{"with a bracket", "mx", "Message-ID: <<1@pc.example>", ""},
		{"with a control", "mx", "Message-ID: <\x1b[2J@pc.example>", ""},
		{"with a control of eight bits", "mx", "Message-ID: <\u009b2J@pc.example>", ""},
		{"that turns the text around", "mx", "Message-ID: <\u202e1@pc.example>", ""},
		{"of no text", "mx", "Message-ID: <\xff@pc.example>", ""},
		{"empty", "mx", "Message-ID:", ""},
		{"as long as a line may be", "mx", "Message-ID:\n <" + long + "@" + long[:494] + ">", "<" + long + "@" + long[:494] + ">"},
	} {
		t.Run(c.role+", "+c.name, func(t *testing.T) {
			role, _ := policy.ParseRole(c.role)
			b := newBench(role)
			b.Limits.Pause = 0
			b.deliver(t, stranger, c.header+"\n\ntext")
			if len(b.tray.letters) != 1 {
				t.Fatalf("%d stored", len(b.tray.letters))
			}
			if got := b.tray.letters[0].Name; got != c.want {
				t.Errorf("%q: got %q, want %q", c.header, got, c.want)
			}
		})
	}
	for size, want := range map[int]bool{998: true, 999: false} {
		id := "<" + strings.Repeat("x", size-4) + "@y>"
		if got := nameOf(fields([]byte("Message-ID: " + id + "\r\n"))); (got == id) != want || !want && got != "" {
			t.Errorf("of %d octets: got one of %d", size, len(got))
		}
	}
}
