package remedy

import (
	"strings"
	"testing"

	"postern/mail"
	"postern/plan"
	"postern/verdict"
)

// session is what a server says of itself, from its own words.
func session(banner string, hello ...string) verdict.Session {
	s := verdict.Session{Banner: mail.NewReply(220, "", banner), Extensions: map[string]string{}}
	if len(hello) > 0 {
		s.Hello = mail.Reply{Code: 250, Lines: hello}
		for _, line := range hello[1:] {
			keyword, parameters, _ := strings.Cut(line, " ")
			s.Extensions[strings.ToUpper(keyword)] = parameters
		}
	}
	return s
}

func refused(id string, r mail.Reply) verdict.FormResult {
	form, ok := plan.Find(id)
	if !ok {
		panic(id)
	}
	return verdict.FormResult{Exchange: verdict.Exchange{Form: form, Stage: verdict.AtRcpt, Outcome: verdict.Denied, Reply: r, Tries: 1}, State: verdict.Refused}
}

func judged(s verdict.Session, forms ...verdict.FormResult) verdict.Judgement {
	return verdict.Judgement{Evidence: verdict.Evidence{Session: s}, Forms: forms, Verdict: verdict.Closed}
}

// The words of the servers are those of Debian's packages and of the
// documents that fingerprints.tsv names.
func TestIdentify(t *testing.T) {
	postfixHello := []string{"mx.victim.example", "PIPELINING", "SIZE 10240000", "VRFY", "ETRN", "STARTTLS", "ENHANCEDSTATUSCODES", "8BITMIME", "DSN", "SMTPUTF8", "CHUNKING"}
	eximHello := []string{"mx.victim.example Hello tester.example [192.0.2.66]", "SIZE 52428800", "8BITMIME", "PIPELINING", "PIPECONNECT", "CHUNKING", "STARTTLS", "PRDR", "HELP"}
	for _, c := range []struct {
		name string
		j    verdict.Judgement
		want string
		sure bool
	}{
		{"Postfix, as installed", judged(session("mx.victim.example ESMTP Postfix (Debian/GNU)", postfixHello...), refused("plain", mail.NewReply(454, "4.7.1", "<b@far.example>: Relay access denied"))), "postfix", true},
		{"Postfix with another banner", judged(session("mx.victim.example ESMTP", postfixHello...), refused("plain", mail.NewReply(554, "5.7.1", "<b@far.example>: Relay access denied"))), "postfix", true},
		{"Postfix that says nothing but its banner", judged(session("mx.victim.example ESMTP Postfix")), "postfix", false},
		{"Postfix under Exim's name", judged(session("mx.victim.example ESMTP Exim 4.96 ready", postfixHello...), refused("plain", mail.NewReply(454, "4.7.1", "<b@far.example>: Relay access denied"))), "postfix", false},
		{"Exim", judged(session("mx.victim.example ESMTP Exim 4.96 Tue, 24 Nov 2026 01:00:00 +0000", eximHello...), refused("plain", mail.NewReply(550, "", "relay not permitted"))), "exim", true},
		{"Exim with another banner", judged(session("mx.victim.example ready", eximHello...), refused("plain", mail.NewReply(550, "", "relay not permitted"))), "exim", true},
		{"OpenSMTPD", judged(session("mx.victim.example ESMTP OpenSMTPD", "mx.victim.example Hello tester.example [192.0.2.66], pleased to meet you", "8BITMIME", "ENHANCEDSTATUSCODES", "SIZE 36700160", "DSN", "HELP"), refused("plain", mail.NewReply(550, "", "Invalid recipient"))), "opensmtpd", true},
		{"Sendmail", judged(session("mx.victim.example ESMTP Sendmail 8.17.1.9/8.17.1.9/Debian-2+deb12u2; Tue, 24 Nov 2026 01:00:00 GMT; (No UCE/UBE)", "mx.victim.example Hello tester.example [192.0.2.66], pleased to meet you", "ENHANCEDSTATUSCODES", "PIPELINING", "8BITMIME", "SIZE", "DSN", "ETRN", "DELIVERBY", "HELP"), refused("plain", mail.NewReply(550, "5.7.1", "<b@far.example>... Relaying denied"))), "sendmail", true},
		{"qmail", judged(session("mx.victim.example ESMTP", "mx.victim.example", "PIPELINING", "8BITMIME"), refused("plain", mail.NewReply(553, "", "sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)"))), "qmail", true},
		{"Courier", judged(session("mx.victim.example ESMTP", "mx.victim.example Ok.", "XVERP=Courier", "XEXDATA", "PIPELINING", "DSN"), refused("plain", mail.NewReply(513, "", "Relaying denied."))), "courier", true},
		{"Haraka", judged(session("mx.victim.example ESMTP Haraka/3.0.2 ready (5A1)", "mx.victim.example Hello tester.example [192.0.2.66], Haraka is at your service.", "PIPELINING", "8BITMIME"), refused("plain", mail.NewReply(550, "", "I cannot deliver mail for <b@far.example>"))), "haraka", true},
		{"Exchange", judged(session("mx.victim.example Microsoft ESMTP MAIL Service ready at Tue, 24 Nov 2026 01:00:00 +0000", "mx.victim.example Hello [192.0.2.66]", "SIZE 37748736", "X-ANONYMOUSTLS"), refused("plain", mail.NewReply(550, "5.7.54", "SMTP; Unable to relay recipient in non-accepted domain"))), "exchange", true},
		{"Microsoft 365", judged(session("AM1.mail.protection.outlook.com Microsoft ESMTP MAIL Service ready at Tue, 24 Nov 2026 01:00:00 +0000")), "microsoft365", true},
		{"IIS", judged(session("mx Microsoft ESMTP MAIL Service, Version: 6.0.3790.4675 ready at  Tue, 24 Nov 2026 01:00:00 +0000")), "iis", true},
		{"mailcow, which is Postfix inside", judged(session("mx.victim.example ESMTP Postcow", postfixHello...), refused("plain", mail.NewReply(454, "4.7.1", "<b@far.example>: Relay access denied"))), "mailcow", true},
		{"aiosmtpd", judged(session("mx.victim.example Python SMTP 1.4.4")), "homegrown", true},
		{"Mailpit", judged(session("mx.victim.example Mailpit ESMTP Service ready")), "sandbox", true},
		{"nothing known", judged(session("welcome"), refused("plain", mail.NewReply(550, "5.7.1", "no"))), "unknown", false},
		{"nothing at all", verdict.Judgement{}, "unknown", false},
	} {
		got := Identify(c.j)
		if got.Name != c.want || got.Sure != c.sure {
			t.Errorf("%s: got %s (sure %v, %s), want %s (sure %v)", c.name, got.Name, got.Sure, got.Why, c.want, c.sure)
		}
		if (got.Why == "") != (c.want == "unknown") {
			t.Errorf("%s: why is %q", c.name, got.Why)
		}
	}
}

// The reason quotes the server; what it says must not reach a terminal raw.
func TestReasonIsHarmless(t *testing.T) {
	s := Identify(judged(session("mx ESMTP Haraka"), refused("plain", mail.NewReply(454, "", "x")),
		refused("null", mail.NewReply(250, "2.0.0", "\x1b[2J"))))
	if strings.ContainsAny(s.Why, "\x1b\n") || !strings.Contains(s.Why, `"ESMTP Haraka"`) {
		t.Errorf("why is %q", s.Why)
	}
	if got := quoted("\x1b]0;\u202e" + strings.Repeat("x", 100)); strings.ContainsAny(got, "\x1b\u202e") || len(got) > 80 {
		t.Errorf("quoted gives %q", got)
	}
}
