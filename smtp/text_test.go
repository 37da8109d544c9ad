package smtp

import (
	"bytes"
	"strconv"
	"strings"
	"testing"
)

// TestEndsOfMessages sends what other servers have taken for the end of a
// message (CVE-2023-51764, -51765, -51766 and the forms of smtpsmug), followed
// by a command. Only CRLF.CRLF is one; all else refuses and closes.
func TestEndsOfMessages(t *testing.T) {
	const smuggled = "MAIL FROM:<x@y.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nsmuggled\r\n.\r\nQUIT\r\n"
	for _, end := range []string{
		"\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r.\r\n", "\r\n.\r", "\r\n.\r\r\n", "\r\r\n.\r\r\n", "\r\r\n.\r\n",
		"\n\n.\n\n", "\n.\n\r", "\r\n.\n\r\n", "\n\r.\r\n", "\n.\r", "\r.\n", "\x00\r\n.\r", "\r\n\x00.\r\n", "\r\n.\x00\r\n", "\r\n.\x00\n",
		"\r\n.\r\x00\n", "\r\x00\n.\r\x00\n", "\n\x00.\n", "\r\n..\r\n", "\r\n. \r\n", "\r\n.\t\r\n", "\r\n .\r\n", "\v.\r\n", "\f.\f", "\x85.\x85", "\u2028.\u2028",
	} {
		for _, how := range []string{"DATA", "BDAT"} {
			for _, lines := range []LineEnds{StrictLines, NormaliseLines} {
				s := &sink{}
				srv := serverFor(s)
				srv.Lines = lines
				text := "hello" + end + smuggled
				input := begin + "DATA\r\n" + text
				if how == "BDAT" {
					chunk := "hello" + end
					input = begin + "BDAT " + strconv.Itoa(len(chunk)) + " LAST\r\n" + chunk + "QUIT\r\n"
				}
				out, _ := play(srv, 0, input)
				n := len(s.whole())
				odd := strings.ContainsAny(strings.ReplaceAll(end, "\r\n", ""), "\r\n")
				want := 1
				real := how == "DATA" && strings.Contains(end, "\r\n.\r\n") // behind a bare CR, but it is one
				switch {
				case (odd || strings.Contains(end, "\x00")) && lines == StrictLines:
					want = 0
				case real:
					want = 2
				}
				if n != want {
					t.Errorf("%s with %q under policy %d: %d messages, want %d\n%s", how, end, lines, n, want, out)
				}
				for _, m := range s.whole() {
					if how == "DATA" && !real && !strings.Contains(m, "smuggled") {
						t.Errorf("%s with %q under policy %d ended the message: %q", how, end, lines, m)
					}
				}
				if want == 0 && !strings.Contains(out, "550 5.6.0 Line") {
					t.Errorf("%s with %q: no refusal\n%s", how, end, out)
				}
			}
		}
	}
}

func TestCarelessLinesAreWhatOthersFallFor(t *testing.T) {
	s := &sink{}
	srv := serverFor(s)
	srv.Lines = CarelessLines
	out, _ := play(srv, 0, begin+"DATA\r\nhello\n.\nMAIL FROM:<x@y.example>\nRCPT TO:<c@d.example>\nDATA\nsmuggled\n.\nQUIT\n")
	if len(s.whole()) != 2 || codesOf(out) != "220 250 250 250 354 250 250 250 354 250 221" {
		t.Errorf("%q\n%s", s.whole(), out)
	}
}

func TestNormalise(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"a\nb\r\n", "a\r\nb\r\n"},
		{"a\rb\r\n", "a b\r\n"},
		{"a\r\r\nb\r\n", "a \r\nb\r\n"},
		{"a\n\rb\r\n", "a\r\n b\r\n"},
		{"a\n.b\n..c\r\n..d\r\n", "a\r\n.b\r\n..c\r\n.d\r\n"},
	} {
		s := &sink{}
		srv := serverFor(s)
		srv.Lines = NormaliseLines
		for _, step := range []int{0, 1, 2} {
			s.mails = nil
			_, _ = play(srv, step, begin+"DATA\r\n"+c.in+".\r\nQUIT\r\n")
			if got := s.whole(); len(got) != 1 || got[0] != c.want {
				t.Errorf("%q, %d at a time: %q, want %q", c.in, step, got, c.want)
			}
		}
	}
}

// TestAFailedMessageIsReadToItsEnd: its rest must not become commands.
func TestAFailedMessageIsReadToItsEnd(t *testing.T) {
	long := strings.Repeat("x", 999) + "\r\n"
	for _, c := range []struct {
		name, text string
		limits     Limits
		lazy       bool
		codes      string
	}{
		{"a line of 998", long[1:], Limits{}, false, "354 250 250 221"},
		{"a line of 999", long + "RSET\r\n", Limits{}, false, "354 550 250 221"},
		{"a line of 100000", strings.Repeat(long[:999], 100) + "\r\nRSET\r\n", Limits{}, false, "354 550 250 221"},
		{"too large", "RSET\r\nRSET\r\n", Limits{MessageSize: 10}, false, "354 552 250 221"},
		{"as large as allowed", "RSET\r\nRSET\r\n", Limits{MessageSize: 12}, false, "354 250 250 221"},
		{"not read by the session", "RSET\r\nRSET\r\n", Limits{}, true, "354 250 250 221"},
		{"not read by the session, and too large", "RSET\r\nRSET\r\n", Limits{MessageSize: 10}, true, "354 552 250 221"},
		{"not read by the session, with a bare LF", "a\nRSET\r\n", Limits{}, true, "354 550"},
		{"a bare LF, and the end", "a\nRSET\r\n.x\r\nQUIT\r\n", Limits{}, false, "354 550"},
	} {
		for _, step := range []int{0, 1, 13} {
			s := &sink{lazy: c.lazy}
			srv := serverFor(s)
			srv.Limits = c.limits
			out, _ := play(srv, step, begin+"DATA\r\n"+c.text+".\r\nNOOP\r\nQUIT\r\n")
			if got := strings.TrimPrefix(codesOf(out), "220 250 250 250 "); got != c.codes {
				t.Errorf("%s, %d at a time: %s, want %s", c.name, step, got, c.codes)
			}
		}
	}
}

// TestTruncated cuts a session with DATA, and one with BDAT, after each octet:
// until the last one, no message is whole and none is answered with 250.
func TestTruncated(t *testing.T) {
	for _, message := range []string{"DATA\r\nhello\r\n.\r\n", "BDAT 4\r\nab\r\nBDAT 5 LAST\r\ncde\r\n"} {
		full := begin + message
		for n := range len(full) {
			s := &sink{}
			out, err := play(serverFor(s), 0, full[:n])
			if len(s.whole()) != 0 || err == nil || strings.Contains(out, "queued") {
				t.Fatalf("%q was taken: %q", full[:n], s.whole())
			}
			for _, m := range s.mails {
				if m.err == nil {
					t.Fatalf("%q: the session saw a clean end", full[:n])
				}
			}
		}
		s := &sink{}
		if _, _ = play(serverFor(s), 0, full); len(s.whole()) != 1 {
			t.Fatalf("%q was not taken", full)
		}
	}
}

// FuzzText scans one text in two different cuts: the meaning must be the same.
func FuzzText(f *testing.F) {
	f.Add([]byte("a\r\n..b\r\n.\r\n"), uint8(1), uint8(0), true)
	f.Add([]byte("a\rb\nc\r\r\n.\n"), uint8(2), uint8(1), true)
	f.Add([]byte("\n.\nx"), uint8(3), uint8(2), false)
	f.Fuzz(func(t *testing.T, in []byte, step, policy uint8, dots bool) {
		lines := LineEnds(policy % 3)
		a, fa := scanAll(in, len(in), lines, dots)
		b, fb := scanAll(in, 1+int(step%17), lines, dots)
		// Of a message that failed, how much was handed on before is chance.
		if fa != fb || fa != bare && fa != long && !bytes.Equal(a, b) {
			t.Fatalf("%q, policy %d: whole %q %d, in pieces of %d %q %d", in, lines, a, fa, 1+step%17, b, fb)
		}
		if lines != CarelessLines && bytes.ContainsAny(bytes.ReplaceAll(a, []byte("\r\n"), nil), "\r\n") {
			t.Fatalf("%q under policy %d let %q pass", in, lines, a)
		}
	})
}

// scanAll feeds in in pieces as a connection would.
func scanAll(in []byte, step int, lines LineEnds, dots bool) ([]byte, finding) {
	t := text{lines: lines, dots: dots, maxLine: 40}
	var out []byte
	for have := 0; ; {
		used, p, f := t.scan(in[:have])
		out = append(out, p...)
		in, have = in[used:], have-used
		switch f {
		case short:
			if have == len(in) {
				return out, short
			}
			have = min(have+step, len(in))
		case ended, bare, long:
			return out, f
		case clean:
		}
	}
}

// BenchmarkText is the scan alone: lines of 76 octets, a dot now and then.
func BenchmarkText(b *testing.B) {
	line := strings.Repeat("x", 74) + "\r\n"
	in := []byte(strings.Repeat(strings.Repeat(line, 20)+".."+line, 20))[:largeBuffer]
	in = in[:bytes.LastIndexByte(in, '\n')+1]
	b.SetBytes(int64(len(in)))
	for b.Loop() {
		t := text{dots: true, maxLine: 998}
		for p := in; len(p) > 0; {
			used, _, f := t.scan(p)
			if f != clean {
				b.Fatal(f)
			}
			p = p[used:]
		}
	}
}
