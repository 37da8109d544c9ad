package mail

import (
	"strings"
	"testing"
)

func TestParseReceived(t *testing.T) {
	for _, c := range []struct{ name, body, from, ip, by string }{
		{
			"Postfix", "from tester.example (unknown [192.0.2.66])\r\n\tby mx.victim.example (Postfix) with ESMTP id 4F2A1\r\n\tfor <t@far.example>; Tue, 24 Nov 2026 10:00:00 +0000 (UTC)",
			"tester.example", "192.0.2.66", "mx.victim.example",
		},
		{
			"Postfix over IPv6", "from tester.example (unknown [IPv6:2001:db8:1::66]) by mx.victim.example (Postfix) with ESMTPS id 1; Tue, 24 Nov 2026 10:00:00 +0000",
			"tester.example", "2001:db8:1::66", "mx.victim.example",
		},
		{
			"Exim", "from [192.0.2.66] (helo=tester.example)\n\tby mx.victim.example with esmtp (Exim 4.96)\n\t(envelope-from <x@y.example>)\n\tid 1tA; Tue, 24 Nov 2026 10:00:00 +0000",
			"[192.0.2.66]", "192.0.2.66", "mx.victim.example",
		},
		{
			"Exim with a literal as HELO", "from far.example ([198.51.100.9] helo=[10.0.0.1]) by mx.victim.example with esmtp; x",
			"far.example", "198.51.100.9", "mx.victim.example",
		},
		{
			"a HELO that looks like a local address", "from [127.0.0.1] (unknown [192.0.2.66]) by mx.victim.example with SMTP; x",
			"[127.0.0.1]", "192.0.2.66", "mx.victim.example",
		},
		{
			"Sendmail", "from tester.example (tester.example [192.0.2.66] (may be forged)) by mx.victim.example (8.17.1.9/8.17.1.9) with ESMTP id 5; Tue, 24 Nov 2026 10:00:00 GMT",
			"tester.example", "192.0.2.66", "mx.victim.example",
		},
		{
			"OpenSMTPD", "from tester.example (<unknown> [192.0.2.66]) by mx.victim.example (OpenSMTPD) with ESMTP id 9 for <t@far.example>; Tue, 24 Nov 2026 10:00:00 +0000 (UTC)",
			"tester.example", "192.0.2.66", "mx.victim.example",
		},
		{
			"qmail", "from unknown (HELO tester.example) (192.0.2.66) by mx.victim.example with SMTP; 24 Nov 2026 10:00:00 -0000",
			"unknown", "192.0.2.66", "mx.victim.example",
		},
		{"a queue runner", "(qmail 123 invoked by uid 0); 24 Nov 2026 10:00:00 -0000", "", "invalid IP", "uid"},
		{"nonsense", "zzz", "", "invalid IP", ""},
	} {
		r := ParseReceived(c.body)
		if r.From != c.from || r.IP.String() != c.ip || r.By != c.by {
			t.Errorf("%s: from %q ip %s by %q; want %q %s %q", c.name, r.From, r.IP, r.By, c.from, c.ip, c.by)
		}
	}
	if r := ParseReceived("from a (b [192.0.2.1]) by c with ESMTPS id q1; Tue, 24 Nov 2026 10:00:00 +0100"); r.At.Unix() != 1795510800 || r.With != "ESMTPS" || r.ID != "q1" {
		t.Errorf("clauses after by: %+v", r)
	}
}

func TestParseHeader(t *testing.T) {
	h := ParseHeader([]byte("Received: one\r\n\ttwo\r\nSubject : x\nX:\n\r\nBody: no field\r\n"))
	if len(h) != 3 || h.Get("received") != "one\ttwo" || h.Get("Subject") != "x" || len(h.All("x")) != 1 {
		t.Errorf("ParseHeader = %q", h)
	}
	if h := ParseHeader([]byte("From anna Mon Nov 30 10:00:00 2026\nA: b\n")); len(h) != 1 {
		t.Errorf("the separator line of a mailbox file is passed over, got %q", h)
	}
	if h := ParseHeader([]byte("Hello nobody\nA: b\n")); len(h) != 0 {
		t.Errorf("a first line that is no field ends the header, got %q", h)
	}
}

// Header sections come from strangers: whatever they hold, what is read of
// them has no line end in it, and an address is one or none.
func FuzzParseHeader(f *testing.F) {
	f.Add("Received: from a (b [192.0.2.1]) by c with ESMTP id d; Tue, 24 Nov 2026 10:00:00 +0000\r\nSubject: x\r\n\r\nbody")
	f.Add("Received: from [10.0.0.1] (helo=x) by y; z\nX: \n folded\n")
	f.Add("Received: from unknown (HELO t) (192.0.2.1) by m with SMTP; 24 Nov 2026 10:00:00 -0000")
	f.Fuzz(func(t *testing.T, text string) {
		for _, field := range ParseHeader([]byte(text)) {
			if strings.ContainsAny(field.Name+field.Body, "\n") || field.Name == "" {
				t.Fatalf("field %q: %q of %q", field.Name, field.Body, text)
			}
			r := ParseReceived(field.Body)
			if r.IP.Is4In6() || r.IP.Zone() != "" {
				t.Fatalf("%q gives the address %s", field.Body, r.IP)
			}
			if strings.ContainsAny(r.From+r.By+r.With+r.ID, " \t\r\n;()") {
				t.Fatalf("%q gives clauses that are no words: %+v", field.Body, r)
			}
		}
	})
}
