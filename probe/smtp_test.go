package probe

import (
	"bufio"
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"postern/mail"
	"postern/plan"
	"postern/transcript"
	"postern/verdict"
)

// A script is a server that says to each command what its table says, and
// keeps what it was sent.
type script struct {
	banner  string
	replies map[string]string // by verb; "." is the end of the message, "" all others
	got     []string
}

func (s *script) serve(c net.Conn) {
	defer c.Close()
	say := func(text string) bool {
		if text == "hangup" {
			return false
		}
		_, err := c.Write([]byte(strings.ReplaceAll(text, "\n", "\r\n") + "\r\n"))
		return err == nil
	}
	r := bufio.NewReader(c)
	if s.banner != "" && !say(s.banner) {
		return
	}
	data := false
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		if data {
			if line != "." {
				continue
			}
			data = false
			s.got = append(s.got, "(message)")
			if !say(s.reply(".")) {
				return
			}
			continue
		}
		s.got = append(s.got, line)
		verb, _, _ := strings.Cut(line, " ")
		answer := s.reply(verb)
		if !say(answer) {
			return
		}
		data = verb == "DATA" && strings.HasPrefix(answer, "354")
	}
}

func (s *script) reply(verb string) string {
	if r, ok := s.replies[verb]; ok {
		return r
	}
	return map[string]string{
		"EHLO": "250-mx.ours.example\n250 8BITMIME", "HELO": "250 mx.ours.example", "MAIL": "250 2.1.0 ok", "RCPT": "550 5.7.1 no",
		"DATA": "354 go on", ".": "250 2.0.0 queued", "RSET": "250 2.0.0 ok", "QUIT": "221 bye", "": "500 what",
	}[verb]
}

func play(t *testing.T, id string, s *script) verdict.Exchange {
	t.Helper()
	f, ok := plan.Find(id)
	if !ok {
		t.Fatalf("no form %q", id)
	}
	probe := SMTP{
		Addr: netip.MustParseAddrPort("203.0.113.10:25"), Helo: "tester.example", Timeout: time.Minute,
		Dial: func(context.Context) (net.Conn, error) {
			client, server := net.Pipe()
			go s.serve(server)
			return client, nil
		},
	}
	local, err := mail.ParseAddress("postmaster@ours.example")
	if err != nil {
		t.Fatal(err)
	}
	to, err := mail.ParseAddress("t@probe.example")
	if err != nil {
		t.Fatal(err)
	}
	e, missing := f.Expand(plan.Facts{Addr: probe.Addr.Addr(), Host: local.Domain(), Domain: local.Domain(), Local: local}, "t", to)
	if len(missing) > 0 {
		t.Fatalf("%s: missing %q", id, missing)
	}
	x, err := probe.PlayAlone(t.Context(), Play{Form: f, Envelope: e, Token: "t", Local: local, Message: Message{Token: "t", From: to, Recipient: to}})
	if err != nil {
		x.Why = err.Error()
	}
	return x
}

// What each move says on the wire, and what is made of the answer.
func TestMoves(t *testing.T) {
	const ehlo, mailFrom, rcpt = "EHLO tester.example", "MAIL FROM:<s-t@probe.example>", "RCPT TO:<t@probe.example>"
	relays := map[string]string{"RCPT": "250 2.1.5 ok"}
	with := func(verb, answer string, others ...string) map[string]string {
		m := map[string]string{verb: answer}
		for i := 0; i+1 < len(others); i += 2 {
			m[others[i]] = others[i+1]
		}
		return m
	}
	for _, c := range []struct {
		form    string
		name    string
		banner  string
		replies map[string]string
		said    []string
		want    verdict.Outcome
		stage   verdict.Stage
	}{
		{"plain", "closed", "220 mx", nil, []string{ehlo, mailFrom, rcpt, "RSET", "QUIT"}, verdict.Denied, verdict.AtRcpt},
		{"sender-info", "open to it", "220 mx", relays, []string{ehlo, "MAIL FROM:<info@ours.example>", rcpt, "DATA", "(message)", "QUIT"}, verdict.Taken, verdict.AtMessage},
		{"sender-gmail.com", "open to it, and no notice wanted", "220 mx", with("RCPT", "250 2.1.5 ok", "EHLO", "250-mx\n250 DSN"), []string{ehlo, "MAIL FROM:<s-t@gmail.com>", "RCPT TO:<t@probe.example> NOTIFY=NEVER", "DATA", "(message)", "QUIT"}, verdict.Taken, verdict.AtMessage},
		{"sender-gmail.com", "closed, nothing is sent", "220 mx", with("EHLO", "250-mx\n250 DSN"), []string{ehlo, "MAIL FROM:<s-t@gmail.com>", "RCPT TO:<t@probe.example> NOTIFY=NEVER", "RSET", "QUIT"}, verdict.Denied, verdict.AtRcpt},
		{"plain", "open", "220 mx", relays, []string{ehlo, mailFrom, rcpt, "DATA", "(message)", "QUIT"}, verdict.Taken, verdict.AtMessage},
		{"plain", "refuses the message", "220 mx", with(".", "554 5.7.1 no", "RCPT", "250 ok"), []string{ehlo, mailFrom, rcpt, "DATA", "(message)", "QUIT"}, verdict.Denied, verdict.AtMessage},
		{"plain", "refuses DATA", "220 mx", with("DATA", "503 5.5.1 no", "RCPT", "250 ok"), []string{ehlo, mailFrom, rcpt, "DATA", "RSET", "QUIT"}, verdict.Denied, verdict.AtData},
		{"plain", "puts off", "220 mx", with("RCPT", "450 4.2.0 later"), []string{ehlo, mailFrom, rcpt, "RSET", "QUIT"}, verdict.Deferred, verdict.AtRcpt},
		{"plain", "refuses the sender", "220 mx", with("MAIL", "553 5.1.8 no"), []string{ehlo, mailFrom, "RSET", "QUIT"}, verdict.Denied, verdict.AtMail},
		{"plain", "hangs up on RCPT", "220 mx", with("RCPT", "hangup"), []string{ehlo, mailFrom, rcpt}, verdict.Dropped, verdict.AtRcpt},
		{"plain", "hangs up on the message", "220 mx", with(".", "hangup", "RCPT", "250 ok"), []string{ehlo, mailFrom, rcpt, "DATA", "(message)"}, verdict.Dropped, verdict.AtMessage},
		{"plain", "ends the session at RCPT", "220 mx", with("RCPT", "421 4.7.0 enough"), []string{ehlo, mailFrom, rcpt, "QUIT"}, verdict.Deferred, verdict.AtRcpt},
		{"plain", "does not know EHLO", "220 mx", with("EHLO", "502 no"), []string{ehlo, "HELO tester.example", mailFrom, rcpt, "RSET", "QUIT"}, verdict.Denied, verdict.AtRcpt},
		{"plain", `says "530" in its 250`, "220 mx", with("RCPT", "250 2.1.5 ok id=a1530b"), []string{ehlo, mailFrom, rcpt, "DATA", "(message)", "QUIT"}, verdict.Taken, verdict.AtMessage},
		{"plain", "turns away", "421 mx too many", nil, []string{"QUIT"}, verdict.NotRun, verdict.AtConnect},
		{"null", "closed", "220 mx", nil, []string{ehlo, "MAIL FROM:<>", rcpt, "RSET", "QUIT"}, verdict.Denied, verdict.AtRcpt},
		{"auth-param", "closed", "220 mx", nil, []string{ehlo, mailFrom + " AUTH=postmaster@ours.example", rcpt, "RSET", "QUIT"}, verdict.Denied, verdict.AtRcpt},
		{"helo-localhost", "closed", "220 mx", nil, []string{"EHLO localhost", mailFrom, rcpt, "RSET", "QUIT"}, verdict.Denied, verdict.AtRcpt},
		{"plain", "an answer too many, to a PROXY header before us", "220 mx\n500 5.5.2 what", nil, []string{ehlo, mailFrom, rcpt, "RSET", "QUIT"}, verdict.Denied, verdict.AtRcpt},
		{"helo-only", "closed", "220 mx", nil, []string{"HELO tester.example", mailFrom, rcpt, "RSET", "QUIT"}, verdict.Denied, verdict.AtRcpt},
		{"no-helo", "wants a greeting", "220 mx", with("MAIL", "503 5.5.1 hello first"), []string{mailFrom, "RSET", "QUIT"}, verdict.Denied, verdict.AtMail},
		{"xclient", "does not offer it", "220 mx", nil, []string{ehlo, "QUIT"}, verdict.NotOffered, verdict.AtMove},
		{"xclient", "refuses it", "220 mx", with("EHLO", "250-mx\n250 XCLIENT ADDR", "XCLIENT", "550 5.7.0 no"), []string{ehlo, "XCLIENT NAME=localhost ADDR=127.0.0.1", "QUIT"}, verdict.Denied, verdict.AtMove},
		{"xclient", "believes it", "220 mx", with("EHLO", "250-mx\n250 XCLIENT ADDR", "XCLIENT", "220 mx", "RCPT", "250 ok"), []string{ehlo, "XCLIENT NAME=localhost ADDR=127.0.0.1", ehlo, mailFrom, rcpt, "DATA", "(message)", "QUIT"}, verdict.Taken, verdict.AtMessage},
		{"starttls", "does not offer it", "220 mx", nil, []string{ehlo, "QUIT"}, verdict.NotOffered, verdict.AtMove},
		{"starttls", "refuses it", "220 mx", with("EHLO", "250-mx\n250 STARTTLS", "STARTTLS", "454 4.7.0 not now"), []string{ehlo, "STARTTLS", "QUIT"}, verdict.Deferred, verdict.AtMove},
		{"bdat", "does not offer it", "220 mx", nil, []string{ehlo, "QUIT"}, verdict.NotOffered, verdict.AtMove},
		{"second-recipient", "checks both", "220 mx", nil, []string{ehlo, mailFrom, "RCPT TO:<postmaster@ours.example>", rcpt, "RSET", "QUIT"}, verdict.Denied, verdict.AtRcpt},
		{"after-rset", "closed", "220 mx", nil, []string{ehlo, "MAIL FROM:<postmaster@ours.example>", "RCPT TO:<postmaster@ours.example>", "RSET", mailFrom, rcpt, "RSET", "QUIT"}, verdict.Denied, verdict.AtRcpt},
		{"after-refusal", "closed", "220 mx", with("DATA", "503 5.5.1 no recipients"), []string{ehlo, mailFrom, rcpt, "DATA", "RSET", "QUIT"}, verdict.Denied, verdict.AtData},
		{"auth-random", "offers none", "220 mx", nil, []string{ehlo, "QUIT"}, verdict.NotOffered, verdict.AtMove},
		{"auth-empty", "refuses", "220 mx", with("EHLO", "250-mx\n250 AUTH PLAIN", "AUTH", "535 5.7.8 no"), []string{ehlo, "AUTH PLAIN AAA=", "QUIT"}, verdict.Denied, verdict.AtMove},
		{"auth-empty", "asks for LOGIN", "220 mx", with("EHLO", "250-mx\n250 AUTH=LOGIN", "AUTH", "334 VXNlcm5hbWU6", "", "334 UGFzc3dvcmQ6"), []string{ehlo, "AUTH LOGIN", "", "", "QUIT"}, verdict.Denied, verdict.AtMove},
	} {
		t.Run(c.form+" "+c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &script{banner: c.banner, replies: c.replies}
				x := play(t, c.form, s)
				synctest.Wait()
				if x.Outcome != c.want || x.Stage != c.stage {
					t.Errorf("%s at %s (%s, %s), want %s at %s", x.Outcome, x.Stage, x.Reply, x.Why, c.want, c.stage)
				}
				if !slices.Equal(s.got, c.said) {
					t.Errorf("said %q\nwant %q", s.got, c.said)
				}
			})
		})
	}
}

func TestEveryMoveOfTheTableIsKnown(t *testing.T) {
	used := map[string]bool{}
	for _, f := range plan.Forms() {
		used[f.Move.Name] = true
		if !Known(f.Move.Name) {
			t.Errorf("form %s: no move %q in this package", f.ID, f.Move.Name)
		}
	}
	for name := range moves {
		if !used[name] {
			t.Errorf("no form plays the move %q", name)
		}
	}
}

func TestProxyHeaders(t *testing.T) {
	src, dst := netip.MustParseAddrPort("127.0.0.1:4444"), netip.MustParseAddrPort("203.0.113.10:25")
	if got := string(proxyV1(src, dst)); got != "PROXY TCP4 127.0.0.1 203.0.113.10 4444 25\r\n" {
		t.Errorf("v1: %q", got)
	}
	if got := string(proxyV1(netip.MustParseAddrPort("[::1]:4444"), dst)); got != "PROXY TCP6 ::1 ::1 4444 25\r\n" {
		t.Errorf("v1 of two families: %q", got)
	}
	want := proxyV2Signature + "\x21\x11\x00\x0c\x7f\x00\x00\x01\xcb\x00\x71\x0a\x11\x5c\x00\x19"
	if got := string(proxyV2(src, dst)); got != want {
		t.Errorf("v2: %q, want %q", got, want)
	}
}

// The message is small, and no line of it can end it or be stuffed.
func TestMessage(t *testing.T) {
	a, err := mail.ParseAddress("s-t@probe.example")
	if err != nil {
		t.Fatal(err)
	}
	m := Message{Token: "pt-token", From: a, Target: "203.0.113.10", Form: "plain", Note: "tests by ops@example.org"}.String()
	if len(m) > 4096 {
		t.Errorf("%d octets", len(m))
	}
	for _, line := range strings.SplitAfter(strings.TrimSuffix(m, "\r\n"), "\r\n") {
		if strings.HasPrefix(line, ".") || strings.Trim(line, "\r\n") != strings.TrimSuffix(line, "\r\n") {
			t.Errorf("line %q", line)
		}
	}
	h := mail.ParseHeader([]byte(m))
	for _, name := range []string{"Message-ID", "Subject", "X-Postern-Check"} {
		if !strings.Contains(h.Get(name), "pt-token") {
			t.Errorf("%s: %q holds no token", name, h.Get(name))
		}
	}
	if h.Get("Auto-Submitted") != "auto-generated" {
		t.Error("a probe must say that it is one (RFC 3834)")
	}
}

// A reply cut into single octets, or a silent server, is no answer of another kind.
func TestDripAndSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		go func() {
			for _, b := range []byte("220-first\r\n220 second\r\n") {
				_, _ = server.Write([]byte{b})
				time.Sleep(time.Second)
			}
		}()
		s := SMTP{Dial: func(context.Context) (net.Conn, error) { return client, nil }, Timeout: 30 * time.Second}
		v, err := s.open(t.Context(), &transcript.Transcript{}, greeting{})
		if err != nil || v.Session.Banner.Text() != "first second" {
			t.Errorf("banner in drops: %v, %v", v.Session.Banner, err)
		}
		_ = server.Close()

		silent, other := net.Pipe()
		defer other.Close()
		s.Dial = func(context.Context) (net.Conn, error) { return silent, nil }
		start := time.Now()
		if _, err := s.open(t.Context(), nil, greeting{}); err == nil || time.Since(start) < 30*time.Second {
			t.Errorf("silence: %v after %s, want an error after 30 s", err, time.Since(start))
		}
	})
}
