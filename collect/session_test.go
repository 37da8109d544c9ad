package collect

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"postern/plan"
	"postern/verdict"
)

func TestRecipients(t *testing.T) {
	l := newTestLocal(t, testConfig())
	live := string(mintOne(t, l))
	expired := string(plan.Mint(l.keys.token, [5]byte{7}, time.Now().Add(-time.Hour)))
	foreign := string(plan.Mint([]byte("another collector"), [5]byte{7}, time.Now().Add(time.Hour)))
	flipped := live[:12] + "a" + live[13:]
	if flipped == live {
		flipped = live[:12] + "b" + live[13:]
	}
	taken, refused := "250 2.1.5", "550 5.7.1"
	for _, c := range []struct{ name, to, want string }{
		{"plain", "<{t}@probe.example>", taken},
		{"upper case", "<" + strings.ToUpper(live) + "@PROBE.EXAMPLE>", taken},
		{"with an extension", "<{t}+ext@probe.example>", taken},
		{"quoted", `<"{t}"@probe.example>`, taken},
		{"the probe's sender", "<s-{t}@probe.example>", taken},
		{"a name of a test", "<{t}@b-cb00710a.zone.example>", taken},
		{"a subdomain", "<{t}@mx.probe.example>", taken},
		{"source route", "<@relay.example:{t}@probe.example>", taken},
		{"percent, our address", "<{t}%probe.example@[192.0.2.66]>", taken},
		{"our address", "<{t}@[192.0.2.66]>", taken},
		{"our address, IPv6", "<{t}@[IPv6:2001:db8:0:0::66]>", taken},
		{"trailing dot", "<{t}@probe.example.>", taken},
		{"two trailing dots", "<{t}@probe.example..>", taken},
		{"no brackets", "{t}@probe.example", taken},
		{"no brackets, parameters", "{t}@probe.example NOTIFY=NEVER", taken},
		{"space before the bracket", "<{t}@probe.example >", taken},
		{"percent without at sign", "<{t}%probe.example>", taken},
		{"bang path", "<relay.example!probe.example!{t}>", taken},
		{"ideographic dot", "<{t}@probe\u3002example>", taken},
		{"two at signs, ours last", "<{t}@relay.example@probe.example>", taken},
		{"SRS", "<SRS0=aaaa=bb=probe.example={t}@probe.example>", taken},

		{"no token", "<postmaster@probe.example>", refused},
		{"bare postmaster", "<postmaster>", refused},
		{"another domain", "<{t}@far.example>", refused},
		{"a domain that ends as ours", "<{t}@notprobe.example>", refused},
		{"ours, then another", "<{t}%probe.example@far.example>", refused},
		{"another's address", "<{t}@[192.0.2.67]>", refused},
		{"two at signs, ours first", "<{t}@probe.example@far.example>", refused},
		{"no domain", "<{t}>", refused},
		{"another collector's token", "<" + foreign + "@probe.example>", refused},
		{"one letter changed", "<" + flipped + "@probe.example>", refused},
		{"expired", "<" + expired + "@probe.example>", refused},
		{"junk", "<\xff\xfe@@>", refused},
	} {
		r := dial(t, l)
		banner(t, r)
		to := strings.ReplaceAll(c.to, "{t}", live)
		got := say(t, r, "EHLO relay.example", "MAIL FROM:<a@relay.example>", "RCPT TO:"+to)
		if !strings.HasPrefix(got.String(), c.want) {
			t.Errorf("%s: RCPT TO:%s\n got  %s\n want %s", c.name, to, got, c.want)
		}
	}
	none(t, l) // a recipient alone is no arrival
}

func TestArrivalIsRecorded(t *testing.T) {
	l := newTestLocal(t, testConfig())
	token, other := mintOne(t, l), mintOne(t, l)
	message := fmt.Sprintf("Received: from tester ([192.0.2.1]) by relay.example; Tue, 24 Nov 2026 10:00:00 +0000\nSubject: x %s\nX-Postern-Check: %s\n\nbody\n..dots\n", other, token)
	reply := hand(t, l, "<s@probe.example>", "<"+string(token)+"@probe.example>", message)
	if reply.Code != 250 {
		t.Fatalf("the end of the message: %s", reply)
	}
	list := latest(t, l, 0)
	if len(list) != 1 {
		t.Fatalf("%d arrivals, want 1", len(list))
	}
	a := list[0]
	sum := sha256.Sum256([]byte("body\r\n.dots\r\n\r\n"))
	want := verdict.Arrival{
		Tokens: []plan.Token{token, other}, Kind: verdict.Message, Peer: peerAddr, Helo: "relay.example",
		ReversePath: "<s@probe.example>", ForwardPath: "<" + string(token) + "@probe.example>", Seen: verdict.SeenByPeer,
		BodyHash: hex.EncodeToString(sum[:]), At: a.At, Nonce: a.Nonce, Header: a.Header, Size: a.Size,
	}
	if !slices.Equal(a.Tokens, want.Tokens) {
		t.Errorf("tokens %q, want the recipient's first: %q", a.Tokens, want.Tokens)
	}
	if wantHeader, _, _ := strings.Cut(strings.ReplaceAll(message, "\n", "\r\n"), "\r\n\r\n"); a.Header != wantHeader+"\r\n" {
		t.Errorf("header %q, want all of it and no more: %q", a.Header, wantHeader)
	}
	a.Tokens, want.Tokens = nil, nil
	if fmt.Sprint(a) != fmt.Sprint(want) {
		t.Errorf("arrival\n got  %+v\n want %+v", a, want)
	}
	if a.Nonce == "" || time.Since(a.At) > time.Minute {
		t.Errorf("nonce %q, time %v", a.Nonce, a.At)
	}
	if hops := a.Hops(); len(hops) != 1 || hops[0].IP != netip.MustParseAddr("192.0.2.1") {
		t.Errorf("hops %+v, want where the relay saw the tester come from", hops)
	}
}

func TestKinds(t *testing.T) {
	l := newTestLocal(t, testConfig())
	token, inside := mintOne(t, l), mintOne(t, l)
	to := "<" + string(token) + "@probe.example>"
	own := "Subject: Postern relay check " + string(token) + "\nMessage-ID: <" + string(token) + "@probe.example>\nX-Postern-Check: " + string(token) + "\nAuto-Submitted: auto-generated\n\nx\n"
	for _, c := range []struct {
		name, from, to, message string
		want                    verdict.ArrivalKind
		tokens                  int
	}{
		{"the probe's own message", "<s@probe.example>", to, own, verdict.Message, 1},
		{"the probe's own, sent with the null path", "<>", to, own, verdict.Message, 1},
		{"the same without its own field", "<>", to, strings.Replace(own, "X-Postern-Check", "X-Gone", 1), verdict.Message, 1},
		{"a rewritten message with nothing left but its recipient", "<s@probe.example>", to, "Subject: cut\n\nx\n", verdict.Message, 1},
		{"a notice by RFC 3464", "<>", to, "Content-Type: multipart/report; report-type=delivery-status\nMessage-ID: <1@mx.example>\n\nMessage-ID: <" + string(inside) + "@probe.example>\n", verdict.Bounce, 2},
		{"a notice by RFC 3464 that it is late", "<>", to, "Content-Type: multipart/report; report-type=delivery-status\n\nFinal-Recipient: rfc822; a@b.example\nAction: delayed\nStatus: 4.4.1\n", verdict.Delay, 1},
		{"a notice by RFC 3464 that it was handed on", "<>", to, "Content-Type: multipart/report; report-type=delivery-status\n\nFinal-Recipient: rfc822; a@b.example\nAction:  Relayed\n", verdict.Delay, 1},
		{"a notice by RFC 3464 that it failed for one and is late for another", "<>", to, "Content-Type: multipart/report; report-type=delivery-status\n\nAction: failed\n\nAction: delayed\n", verdict.Bounce, 1},
		{"a notice in plain text, as qmail's", "<>", to, "Subject: failure notice\n\nHi. I'm afraid\n<" + string(inside) + "@probe.example>:\n", verdict.Bounce, 2},
		{"a notice with a sender", "<mailer-daemon@mx.example>", to, "Content-Type: Multipart/Report; x=y\n\n" + string(inside), verdict.Bounce, 2},
		{"an answer by machine", "<a@mx.example>", to, "Auto-Submitted: Auto-Replied\nSubject: Re: Postern relay check\n\nI am away\n", verdict.Bounce, 1},
		{"anything to the probe's sender", "<a@mx.example>", "<s-" + string(token) + "@probe.example>", own, verdict.Bounce, 1},
		{"a folded header", "<>", to, "Content-Type:\n multipart/report\n\nx\n", verdict.Bounce, 1},
	} {
		before := l.store.last()
		if r := hand(t, l, c.from, c.to, c.message); r.Code != 250 {
			t.Errorf("%s: %s", c.name, r)
			continue
		}
		list := latest(t, l, before)
		if a := list[len(list)-1]; a.Kind != c.want || len(a.Tokens) != c.tokens || a.Tokens[0] != token {
			t.Errorf("%s: %s with tokens %q, want %s with %d, the recipient's first", c.name, a.Kind, a.Tokens, c.want, c.tokens)
		}
	}
}

func TestBoundsOfAMessage(t *testing.T) {
	l := newTestLocal(t, testConfig())
	token, late := mintOne(t, l), mintOne(t, l)
	to := "<" + string(token) + "@probe.example>"
	long := "X-Long: " + strings.Repeat("x", 100_000) + "\n\nbody " + strings.Repeat("y\n", 200_000) + string(late) + "\n"
	if r := hand(t, l, "<a@b.example>", to, long); r.Code != 250 {
		t.Fatal(r)
	}
	a := latest(t, l, 0)[0]
	if len(a.Header) != maxHeader {
		t.Errorf("%d octets of header are kept, want %d", len(a.Header), maxHeader)
	}
	if len(a.Tokens) != 1 {
		t.Errorf("tokens %q, want the one: the other stands beyond the first %d octets", a.Tokens, maxScan)
	}
	if want := int64(len(long) + strings.Count(long, "\n") + 2); a.Size != want {
		t.Errorf("size %d, want %d", a.Size, want)
	}
}

func TestATokenArrivesSoOftenAndNoMore(t *testing.T) {
	c := testConfig()
	c.Keep.PerToken = 2
	l := newTestLocal(t, c)
	to := "<" + string(mintOne(t, l)) + "@probe.example>"
	var codes []int
	for range 3 {
		codes = append(codes, hand(t, l, "<a@b.example>", to, "A: b\n\nc\n").Code)
	}
	if !slices.Equal(codes, []int{250, 250, 550}) {
		t.Errorf("replies %v, want the third refused", codes)
	}
}

func TestEachRecipientArrives(t *testing.T) {
	l := newTestLocal(t, testConfig())
	a, b := mintOne(t, l), mintOne(t, l)
	r := dial(t, l)
	banner(t, r)
	say(t, r, "EHLO x.example", "MAIL FROM:<>", "RCPT TO:<"+string(a)+"@probe.example>", "RCPT TO:<"+string(b)+"@probe.example>", "DATA")
	say(t, r, "Subject: two\r\n\r\n.")
	list := latest(t, l, 0)
	if len(list) != 2 || list[0].Tokens[0] != a || list[1].Tokens[0] != b {
		t.Errorf("arrivals %+v, want one of each recipient", list)
	}
}

func TestTLSIsRecorded(t *testing.T) {
	l := newTestLocal(t, testConfig())
	r := dial(t, l)
	banner(t, r)
	say(t, r, "EHLO x.example", "STARTTLS")
	if err := r.StartTLS(t.Context(), &tls.Config{InsecureSkipVerify: true}); err != nil {
		t.Fatal(err)
	}
	say(t, r, "EHLO y.example", "MAIL FROM:<>", "RCPT TO:<"+string(mintOne(t, l))+"@probe.example>", "DATA", "A: b\r\n\r\n.")
	if a := latest(t, l, 0)[0]; !strings.HasPrefix(a.TLS, "TLS 1.3 TLS_") || a.Helo != "y.example" {
		t.Errorf("TLS %q, helo %q", a.TLS, a.Helo)
	}
}

func TestBareLineFeedsAreSeen(t *testing.T) {
	l := newTestLocal(t, testConfig())
	r := dial(t, l)
	banner(t, r)
	say(t, r, "EHLO x.example", "MAIL FROM:<>", "RCPT TO:<"+string(mintOne(t, l))+"@probe.example>", "DATA")
	if reply := say(t, r, "Subject: a\n\nx\n.\ny\r\n."); reply.Code != 250 {
		t.Fatalf("a message with bare LF: %s", reply)
	}
	if a := latest(t, l, 0)[0]; a.Header != "Subject: a\r\n" {
		t.Errorf("header %q", a.Header)
	}
}

func TestStrangersLeaveNothing(t *testing.T) {
	l := newTestLocal(t, testConfig())
	r := dial(t, l)
	banner(t, r)
	for range 30 { // as an old proxy that posts a page
		if reply := say(t, r, "Content-Length: 12"); reply.Code != 500 && reply.Code != 502 {
			t.Fatalf("junk is answered %s", reply)
		}
	}
	if reply := say(t, r, "EHLO x.example", "MAIL FROM:<a@b.example>", "RCPT TO:<c@far.example>"); reply.Code != 550 {
		t.Errorf("a stranger's recipient after junk: %s", reply)
	}
	if reply := say(t, r, "DATA"); reply.Positive() || reply.Intermediate() {
		t.Errorf("DATA without a recipient: %s", reply)
	}
	none(t, l)
}

// names is a Resolver of PTR records that takes its time.
type names struct {
	Resolver
	delay time.Duration
	asked int
}

func (n *names) Names(ctx context.Context, _ netip.Addr) ([]string, error) {
	n.asked++
	select {
	case <-time.After(n.delay):
		return []string{"smtp.provider.example"}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func TestThePeersNameDelaysNobody(t *testing.T) {
	for _, c := range []struct {
		delay, arrives time.Duration
		want           string
	}{
		{0, 0, "smtp.provider.example"},
		{2 * time.Second, 2 * time.Second, "smtp.provider.example"},
		{time.Minute, ptrPatience, ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			config := testConfig()
			n := &names{delay: c.delay}
			config.Resolver = n
			l := newTestLocal(t, config)
			start := time.Now()
			if r := hand(t, l, "<a@b.example>", "<"+string(mintOne(t, l))+"@probe.example>", "A: b\n\nc\n"); r.Code != 250 {
				t.Fatal(r)
			}
			if d := time.Since(start); d != 0 {
				t.Errorf("a name that takes %v held the reply up for %v", c.delay, d)
			}
			a := latest(t, l, 0)[0]
			if a.PTR != c.want || time.Since(start) != c.arrives {
				t.Errorf("a name that takes %v: arrival after %v with PTR %q, want %v and %q", c.delay, time.Since(start), a.PTR, c.arrives, c.want)
			}
			if hand(t, l, "<a@b.example>", "<stranger@probe.example>", ""); n.asked != 1 {
				t.Errorf("the DNS was asked %d times; a stranger makes us ask", n.asked)
			}
			l.pending.Wait()
		})
	}
}
