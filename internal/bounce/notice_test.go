package bounce

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/mail"
	"net/textproto"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	pmail "postern/mail"
)

var update = flag.Bool("update", false, "write the golden files anew; read the diff")

func to(t testing.TB, s string) pmail.Recipient {
	t.Helper()
	a, err := pmail.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return pmail.Recipient{Path: pmail.ForwardTo(a)}
}

func from(t testing.TB, s string) pmail.ReversePath {
	t.Helper()
	a, err := pmail.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return pmail.ReverseTo(a)
}

var (
	arrived = time.Date(2026, 3, 2, 8, 15, 0, 0, time.UTC)
	tried   = arrived.Add(49*time.Hour + 5*time.Second)
)

func notice(t testing.TB, k Kind, list ...Recipient) Notice {
	return Notice{
		Kind: k, Host: "relay.example", ID: "n1.4f6a", Now: tried.Add(time.Second),
		To: from(t, "b@c.example"), Arrived: arrived, Recipients: list,
	}
}

const letter = "Received: from laptop by relay.example; Mon, 02 Mar 2026 08:15:00 +0000\r\n" +
	"From: Bea <b@c.example>\r\n" +
	"To: anna@d.example\r\n" +
	"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?= and\r\n a question\r\n" +
	"Message-ID: <one.two@c.example>\r\n" +
	"\r\nHello.\r\n"

// parsed is a notice as a program reads it.
type parsed struct {
	header mail.Header
	kinds  []string
	texts  []string
	fields []textproto.MIMEHeader // of the second part: one group for the message, then one each
}

func parse(text []byte) (parsed, error) {
	for i, line := range bytes.Split(text, []byte("\r\n")) {
		if len(line) > 998 || bytes.ContainsAny(line, "\r\n\x00") {
			return parsed{}, fmt.Errorf("line %d: %.100q", i+1, line)
		}
	}
	if !bytes.HasSuffix(text, []byte("\r\n")) {
		return parsed{}, errors.New("no line end at the end")
	}
	m, err := mail.ReadMessage(bytes.NewReader(text))
	if err != nil {
		return parsed{}, err
	}
	p := parsed{header: m.Header}
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/report" {
		return p, fmt.Errorf("%s: %w", kind, err)
	}
	r := multipart.NewReader(m.Body, params["boundary"])
	for {
		part, err := r.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return p, err
		}
		b, err := io.ReadAll(part)
		if err != nil {
			return p, err
		}
		p.kinds, p.texts = append(p.kinds, part.Header.Get("Content-Type")), append(p.texts, string(b))
	}
	if len(p.kinds) != 3 {
		return p, fmt.Errorf("%d parts: %v", len(p.kinds), p.kinds)
	}
	if p.kinds[1] != "message/"+params["report-type"] {
		return p, fmt.Errorf("the report is of type %s and the part %s", params["report-type"], p.kinds[1])
	}
	for group := range strings.SplitSeq(strings.TrimSuffix(p.texts[1], "\r\n"), "\r\n\r\n") {
		h, err := textproto.NewReader(bufio.NewReader(strings.NewReader(group + "\r\n\r\n"))).ReadMIMEHeader()
		if err != nil {
			return p, fmt.Errorf("fields %q: %w", group, err)
		}
		p.fields = append(p.fields, h)
	}
	return p, nil
}

func TestNotices(t *testing.T) {
	refused := Recipient{
		To: to(t, "anna@d.example"), RemoteMTA: "mx.d.example", LastAttempt: tried,
		Reply: pmail.Reply{Code: 550, Enhanced: pmail.EnhancedCode{Class: 5, Subject: 1, Detail: 1}, Lines: []string{"<anna@d.example>: Recipient address rejected:", "User unknown in virtual mailbox table"}},
	}
	refused.To.Params.ORcpt = "rfc822;anna+2Bold@d.example"
	full := refused
	full.To = to(t, "dora@d.example")
	full.Reply = pmail.NewReply(452, "4.2.2", "Over quota \x1b[31m\u202ered")
	silent := Recipient{To: to(t, "carl@e.example"), Note: "dial tcp 192.0.2.1:25: connect: connection refused", LastAttempt: tried}
	grey := Recipient{To: to(t, "anna@d.example"), RemoteMTA: "mx.d.example", LastAttempt: tried, RetryUntil: tried.Add(72 * time.Hour), Reply: pmail.NewReply(450, "4.2.0", "Greylisted, see http://d.example")}
	done := Recipient{To: to(t, "anna@d.example"), RemoteMTA: "mx.d.example", LastAttempt: tried, Reply: pmail.NewReply(250, "2.0.0", "queued as 1")}
	relayed := Recipient{To: to(t, "carl@e.example"), Action: ActionRelayed, RemoteMTA: "mx.e.example", LastAttempt: tried, Reply: pmail.NewReply(250, "", "ok")}
	foreign := Recipient{To: to(t, "änne@bücher.example"), RemoteMTA: "mx.d.example", LastAttempt: tried, Reply: pmail.NewReply(550, "5.1.1", "änne ist unbekannt")}
	utf8Letter := strings.Replace(letter, "From: Bea", "From: Bäa", 1)

	for _, c := range []struct {
		name     string
		notice   Notice
		original string
		env      string
		kinds    string
	}{
		{"failed", notice(t, Failed, refused, full, silent), letter, "", "message/delivery-status text/rfc822-headers"},
		{"delayed", notice(t, Delayed, grey), letter, "", "message/delivery-status text/rfc822-headers"},
		{"delivered", notice(t, Delivered, done, relayed), letter, "", "message/delivery-status text/rfc822-headers"},
		{
			"utf8",
			func() Notice {
				n := notice(t, Failed, foreign)
				n.UTF8, n.EnvID, n.To = true, "QQ+2B314", from(t, "bäa@c.example")
				return n
			}(),
			utf8Letter, " SMTPUTF8 8BITMIME", "message/global-delivery-status message/global-headers",
		},
		{
			"full",
			func() Notice {
				n := notice(t, Failed, refused)
				n.Ret = pmail.RetFull
				return n
			}(),
			strings.Replace(letter, "Hello", "Grüße", 1), " 8BITMIME", "message/delivery-status message/rfc822",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			var b bytes.Buffer
			env, err := c.notice.Write(&b, strings.NewReader(c.original))
			if err != nil {
				t.Fatal(err)
			}
			p, err := parse(b.Bytes())
			if err != nil {
				t.Fatalf("%v\n%s", err, b.String())
			}
			got := ""
			if env.Sender.UTF8 {
				got += " SMTPUTF8"
			}
			if env.Sender.Body != "" {
				got += " " + string(env.Sender.Body)
			}
			if got != c.env || !env.From.Null() || env.Sender.Size != int64(b.Len()) || env.To[0].Params.Notify != pmail.NotifyNever || env.To[0].Path.Address() != c.notice.To.Address() {
				t.Errorf("envelope %+v, want%s", env, c.env)
			}
			if env.Sender.Body == "" && !isASCII(b.Bytes()) {
				t.Error("eight bits that the envelope does not tell")
			}
			if kinds := strings.Join(p.kinds, " "); kinds != "text/plain; charset=utf-8 "+c.kinds {
				t.Errorf("parts %s", kinds)
			}
			if len(p.fields) != 1+len(c.notice.Recipients) {
				t.Errorf("%d groups of fields", len(p.fields))
			}
			file := filepath.Join("testdata", "notice", c.name+".eml")
			text := strings.ReplaceAll(b.String(), "\r\n", "\n")
			if *update {
				if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o600)); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if text != string(want) {
				t.Errorf("%s differs (go test ./internal/bounce -update, and read the diff):\n%s", file, text)
			}
		})
	}
}

func TestFieldsAreWhatTheEnvelopeSaid(t *testing.T) {
	r := Recipient{To: to(t, "anna@d.example"), Reply: pmail.NewReply(550, "", "no such user"), LastAttempt: tried}
	r.To.Params.ORcpt = "rfc822;a+2Bb+3Dc@d.example"
	late := Recipient{To: to(t, "carl@d.example"), Note: "lookup d.example: no such host"}
	slow := Recipient{To: to(t, "dora@d.example"), Reply: pmail.NewReply(450, "", "later")}
	n := notice(t, Failed, r, late, slow)
	n.EnvID = "id+20one"
	var b bytes.Buffer
	if _, err := n.Write(&b, nil); err != nil {
		t.Fatal(err)
	}
	p, err := parse(b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		group      int
		name, want string
	}{
		{0, "Reporting-MTA", "dns; relay.example"},
		{0, "Original-Envelope-Id", "id one"},
		{0, "Arrival-Date", "Mon, 02 Mar 2026 08:15:00 +0000"},
		{1, "Original-Recipient", "rfc822; a+b=c@d.example"},
		{1, "Final-Recipient", "rfc822; anna@d.example"},
		{1, "Action", "failed"},
		{1, "Status", "5.1.1"},
		{1, "Diagnostic-Code", "smtp; 550 no such user"},
		{1, "Last-Attempt-Date", "Wed, 04 Mar 2026 09:15:05 +0000"},
		{1, "Will-Retry-Until", ""},
		{1, "Remote-MTA", ""},
		{2, "Status", "5.1.2"},
		{2, "Diagnostic-Code", "x-postern; lookup d.example: no such host"},
		{3, "Status", "4.0.0"},
	} {
		if got := p.fields[c.group].Get(c.name); got != c.want {
			t.Errorf("%s of group %d: %q, want %q", c.name, c.group, got, c.want)
		}
	}
	if p.texts[2] != "" {
		t.Errorf("of nothing was returned %q", p.texts[2])
	}
}

// TestWhatIsReturned of a message: as a whole only if that was asked, it is no
// larger than the limit, and it is text.
func TestWhatIsReturned(t *testing.T) {
	big := letter + strings.Repeat("12345678\r\n", 7000)
	for _, c := range []struct {
		name, original string
		kind           Kind
		ret            pmail.Ret
		limit          int
		whole          bool
		third          string
	}{
		{"not asked", letter, Failed, "", 0, false, letter[:len(letter)-len("\r\nHello.\r\n")]},
		{"asked", letter, Failed, pmail.RetFull, 0, true, letter},
		{"headers asked", letter, Failed, pmail.RetHeaders, 0, false, letter[:len(letter)-len("\r\nHello.\r\n")]},
		{"no failure", letter, Delayed, pmail.RetFull, 0, false, letter[:len(letter)-len("\r\nHello.\r\n")]},
		{"too large", big, Failed, pmail.RetFull, 0, false, letter[:len(letter)-len("\r\nHello.\r\n")]},
		{"a larger limit", big, Failed, pmail.RetFull, len(big), true, big},
		{"one octet over it", big, Failed, pmail.RetFull, len(big) - 1, false, letter[:len(letter)-len("\r\nHello.\r\n")]},
		{"never", letter, Failed, pmail.RetFull, -1, false, letter[:len(letter)-len("\r\nHello.\r\n")]},
		{"a bare LF", "A: b\r\n\r\nx\ny\r\n", Failed, pmail.RetFull, 0, false, "A: b\r\n"},
		{"no line end", "A: b\r\n\r\nx", Failed, pmail.RetFull, 0, false, "A: b\r\n"},
		{"a long line", "A: b\r\n\r\n" + strings.Repeat("x", 999) + "\r\n", Failed, pmail.RetFull, 0, false, "A: b\r\n"},
		{"no header", "hello\r\nA: b\r\n", Failed, "", 0, false, ""},
		{"a bare CR and others", "A: b\rC\x00D: \x1be\r\n\r\n", Failed, "", 0, false, "A: b?C?D: ?e\r\n"},
		{"a long field", "A: " + strings.Repeat("x", 2000) + "\r\n\r\n", Failed, "", 0, false, "A: " + strings.Repeat("x", 2000) + "\r\n"},
		{"eight bits", "A: \xe4\xff\r\n\r\n", Failed, "", 0, false, "A: \xe4\xff\r\n"},
		{"header without end", strings.Repeat("A: 12345\r\n", 7000), Failed, "", 0, false, strings.Repeat("A: 12345\r\n", maxSection/10)},
	} {
		n := notice(t, c.kind, Recipient{To: to(t, "anna@d.example")})
		n.Ret, n.FullLimit = c.ret, c.limit
		var b bytes.Buffer
		if _, err := n.Write(&b, iotest.OneByteReader(strings.NewReader(c.original))); err != nil {
			t.Fatal(err)
		}
		p, err := parse(b.Bytes())
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if whole := p.kinds[2] == "message/rfc822"; whole != c.whole || p.texts[2] != c.third {
			t.Errorf("%s: %s\n%.300q (%d), want\n%.300q (%d)", c.name, p.kinds[2], p.texts[2], len(p.texts[2]), c.third, len(c.third))
		}
	}
}

// TestAnotherNoticesBoundary: a message may hold a notice, even the one that
// we are about to write.
func TestAnotherNoticesBoundary(t *testing.T) {
	n := notice(t, Failed, Recipient{To: to(t, "anna@d.example"), Reply: pmail.NewReply(550, "5.1.1", "no")})
	n.Ret = pmail.RetFull
	body := letter
	seen := map[string]bool{}
	for range 3 {
		var b bytes.Buffer
		if _, err := n.Write(&b, strings.NewReader(body)); err != nil {
			t.Fatal(err)
		}
		p, err := parse(b.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if p.texts[2] != body {
			t.Fatalf("returned\n%s", p.texts[2])
		}
		_, params, _ := mime.ParseMediaType(p.header.Get("Content-Type"))
		if seen[params["boundary"]] {
			t.Fatalf("the same boundary %s", params["boundary"])
		}
		seen[params["boundary"]] = true
		body = b.String()
	}
}

func TestNoFieldIsForged(t *testing.T) {
	const evil = "x\r\nBcc: v@evil.example\r\n\r\n--=_\r\n"
	r := Recipient{To: to(t, `"a b\"c"@d.example`), Reply: pmail.Reply{Code: 550, Lines: []string{evil, evil}}, Note: evil, RemoteMTA: evil}
	r.To.Params.ORcpt = "rfc822;x+0D+0AAction: delivered"
	n := notice(t, Failed, r)
	n.EnvID = "x+0D+0A+0D+0AAction:+20delivered"
	original := "Message-ID: <x@y> Bcc: <v@evil.example>\r\nSubject: =?utf-8?q?x=0D=0ABcc:_v@evil.example?=\r\n\r\n"
	var b bytes.Buffer
	if _, err := n.Write(&b, strings.NewReader(original)); err != nil {
		t.Fatal(err)
	}
	p, err := parse(b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if p.header.Get("Bcc") != "" || p.header.Get("References") != "" || len(p.header["Subject"]) != 1 {
		t.Errorf("header %v", p.header)
	}
	if len(p.fields) != 2 || len(p.fields[1]["Action"]) != 1 || p.fields[1].Get("Bcc") != "" || len(p.fields[0]["Action"]) != 0 {
		t.Errorf("fields %v", p.fields)
	}
	if strings.Contains(p.texts[0], "\r\nBcc") {
		t.Errorf("text\n%s", p.texts[0])
	}
}

func TestNoticesThatCannotBe(t *testing.T) {
	good := notice(t, Failed, Recipient{To: to(t, "anna@d.example")})
	for _, c := range []struct {
		name   string
		change func(*Notice)
	}{
		{"to the null path", func(n *Notice) { n.To = pmail.NullPath() }},
		{"to nobody", func(n *Notice) { n.To = pmail.ReversePath{} }},
		{"of no kind", func(n *Notice) { n.Kind = 0 }},
		{"about nobody", func(n *Notice) { n.Recipients = nil }},
		{"from no host", func(n *Notice) { n.Host = "" }},
		{"from a host with a field", func(n *Notice) { n.Host = "relay.example\r\nBcc: x" }},
		{"without an id", func(n *Notice) { n.ID = "" }},
		{"with an id that is too long", func(n *Notice) { n.ID = strings.Repeat("x", 101) }},
		{"with an id that ends a line", func(n *Notice) { n.ID = "x\n" }},
		{"with an id of another host", func(n *Notice) { n.ID = "x@y" }},
	} {
		n := good
		c.change(&n)
		var b bytes.Buffer
		if _, err := n.Write(&b, nil); err == nil || b.Len() > 0 {
			t.Errorf("%s: %v, %d octets", c.name, err, b.Len())
		}
	}
	var b bytes.Buffer
	disk := errors.New("disk")
	if _, err := good.Write(&b, iotest.ErrReader(disk)); !errors.Is(err, disk) || b.Len() > 0 {
		t.Errorf("a message that cannot be read: %v, %d octets", err, b.Len())
	}
	if _, err := good.Write(failing{disk}, nil); !errors.Is(err, disk) {
		t.Errorf("a writer that fails: %v", err)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func TestWhoWantsWhich(t *testing.T) {
	for _, c := range []struct {
		notify pmail.Notify
		want   []Kind
	}{
		{0, []Kind{Failed, Delayed}},
		{pmail.NotifyNever, nil},
		{pmail.NotifyFailure, []Kind{Failed}},
		{pmail.NotifyDelay, []Kind{Delayed}},
		{pmail.NotifySuccess, []Kind{Delivered}},
		{pmail.NotifySuccess | pmail.NotifyFailure, []Kind{Failed, Delivered}},
	} {
		var got []Kind
		for k := Kind(0); k <= Delivered; k++ {
			if Wants(c.notify, k) {
				got = append(got, k)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("NOTIFY %b: %v, want %v", c.notify, got, c.want)
		}
	}
}

// FuzzNotice builds a notice out of what strangers may write. The law: it can
// be read again, in lines that any server takes; it has three parts, and as
// many groups of fields as recipients and one.
func FuzzNotice(f *testing.F) {
	f.Add("no\r\n--=_", "mx\r\n", "dial", "rfc822;a+0D+0Ab", "e+0A", letter, uint8(1), true)
	f.Add("\xff\u202e\x00", "[::1]", "", "utf-8;\u00e4\\x{e5}", "", "Subject: "+strings.Repeat("=?utf-8?q?=C3=BC?= ", 40)+"\r\n\r\nx", uint8(6), false)
	f.Add(strings.Repeat("ü", 1000), "", strings.Repeat(" ", 3000), ";", "+", "A:\r\n \r\n\t\r\n\r\n\r\n", uint8(3), true)
	f.Fuzz(func(t *testing.T, words, host, note, orcpt, envid, original string, bits uint8, utf8 bool) {
		r := Recipient{To: to(t, "anna@d.example"), Reply: pmail.Reply{Code: 550, Lines: []string{words, note}}, RemoteMTA: host, LastAttempt: tried}
		r.To.Params.ORcpt = orcpt
		other := Recipient{To: to(t, "änne@d.example"), Note: note, RemoteMTA: host}
		n := notice(t, Kind(bits%3)+Failed, r, other)
		if bits&8 != 0 {
			n.Recipients = n.Recipients[:1]
		}
		if bits&16 != 0 {
			n.Ret = pmail.RetFull
		}
		n.UTF8, n.EnvID = utf8, envid
		var b bytes.Buffer
		env, err := n.Write(&b, strings.NewReader(original))
		if err != nil {
			t.Fatal(err)
		}
		p, err := parse(b.Bytes())
		if err != nil {
			t.Fatalf("%v\n%q", err, b.String())
		}
		if len(p.fields) != 1+len(n.Recipients) {
			t.Fatalf("%d groups of fields\n%q", len(p.fields), b.String())
		}
		for _, g := range p.fields[1:] {
			for _, name := range []string{"Final-Recipient", "Action", "Status"} {
				if len(g[name]) != 1 {
					t.Fatalf("%s: %q\n%q", name, g[name], b.String())
				}
			}
			for name := range g {
				if !strings.Contains("Final-Recipient Original-Recipient Action Status Remote-Mta Diagnostic-Code Last-Attempt-Date Will-Retry-Until", name) {
					t.Fatalf("%s: %q\n%q", name, g[name], b.String())
				}
			}
		}
		if len(p.header) > 12 || len(p.header["Subject"]) != 1 {
			t.Fatalf("header %v", p.header)
		}
		if env.Sender.Body == "" && !isASCII(b.Bytes()) {
			t.Fatalf("eight bits that the envelope does not tell\n%q", b.String())
		}
	})
}
