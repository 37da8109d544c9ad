package catch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"postern/mail"
	"postern/smtp"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// running is a catcher on ports of loopback that the kernel chose.
type running struct {
	*Catcher
	t      *testing.T
	caught chan Message
	stop   func()
}

func run(t *testing.T, keep string) *running {
	t.Helper()
	any4 := netip.MustParseAddrPort("127.0.0.1:0")
	r := &running{t: t, caught: make(chan Message, 100)}
	r.Catcher = must(New(Options{SMTP: []netip.AddrPort{any4}, HTTP: any4, Keep: keep, Caught: func(m Message) { r.caught <- m }}))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	r.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		ended <- nil
	}
	t.Cleanup(r.stop)
	return r
}

func (r *running) client() *smtp.Client {
	r.t.Helper()
	conn, err := net.Dial("tcp", r.SMTP[0].String())
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = conn.Close() })
	c := must(smtp.NewClient(r.t.Context(), conn, smtp.ClientOptions{}))
	if err := c.Hello(r.t.Context(), "app.example"); err != nil {
		r.t.Fatal(err)
	}
	return c
}

func (r *running) send(from, to, text string) Message {
	r.t.Helper()
	e := mail.Envelope{From: must(mail.ParseReversePath(from)), To: []mail.Recipient{{Path: must(mail.ParseForwardPath(to))}}}
	results, reply, err := r.client().Send(r.t.Context(), e, strings.NewReader(text))
	if err != nil || !reply.Positive() {
		r.t.Fatalf("%v %v %v", results, reply, err)
	}
	return <-r.caught
}

// ask asks the page and returns status and answer.
func (r *running) ask(method, path string, change ...func(*http.Request)) (int, http.Header, string) {
	r.t.Helper()
	q := must(http.NewRequestWithContext(r.t.Context(), method, "http://"+r.HTTP.String()+path, nil))
	for _, f := range change {
		f(q)
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp := must(client.Do(q))
	defer resp.Body.Close()
	return resp.StatusCode, resp.Header, string(must(io.ReadAll(resp.Body)))
}

func TestCatchesAndShows(t *testing.T) {
	r := run(t, "")
	m := r.send("<shop@example.org>", "<anna@elsewhere.example>", "Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n\r\nhello\r\n")
	if m.ID != "00000001" || m.From != "shop@example.org" || m.Subject != "Grüße" || m.Size == 0 {
		t.Errorf("caught %+v", m)
	}
	second := r.send("<>", "<bob@elsewhere.example>", "Subject: notice\r\n\r\n")
	if second.From != "" {
		t.Errorf("the null path: %q", second.From)
	}
	for _, c := range []struct {
		path string
		want []string
	}{
		{"/api/messages", []string{"00000002", "00000001"}},
		{"/api/messages?to=ANNA", []string{"00000001"}},
		{"/api/messages?from=shop@", []string{"00000001"}},
		{"/api/messages?subject=gr%C3%BC", []string{"00000001"}},
		{"/api/messages?after=00000001", []string{"00000002"}},
		{"/api/messages?to=nobody", nil},
	} {
		var list []Message
		if code, _, text := r.ask("GET", c.path); code != 200 || json.Unmarshal([]byte(text), &list) != nil {
			t.Errorf("%s: %d %s", c.path, code, text)
		}
		var ids []string
		for _, m := range list {
			ids = append(ids, m.ID)
		}
		if fmt.Sprint(ids) != fmt.Sprint(c.want) {
			t.Errorf("%s: %v, want %v", c.path, ids, c.want)
		}
	}
	var shown Shown
	_, _, text := r.ask("GET", "/api/messages/00000001")
	if err := json.Unmarshal([]byte(text), &shown); err != nil || shown.Text != "hello\r\n" || len(shown.Header) != 2 || shown.Header[1] != (Field{"Subject", "Grüße"}) {
		t.Errorf("one: %v %+v", err, shown)
	}
	code, header, raw := r.ask("GET", "/api/messages/00000001/raw")
	if code != 200 || header.Get("Content-Type") != "message/rfc822" || !strings.HasSuffix(raw, "Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n\r\nhello\r\n") {
		t.Errorf("raw: %d %v %q", code, header, raw)
	}
	if code, _, text := r.ask("GET", "/api/messages/00000009"); code != 404 || !strings.Contains(text, "there is no such message") {
		t.Errorf("none: %d %s", code, text)
	}
	if code, _, text := r.ask("DELETE", "/api/messages/00000001"); code != 200 || text != "{\"deleted\":1}\n" {
		t.Errorf("delete one: %d %s", code, text)
	}
	if code, _, text := r.ask("DELETE", "/api/messages"); code != 200 || text != "{\"deleted\":1}\n" {
		t.Errorf("delete all: %d %s", code, text)
	}
	if _, _, text := r.ask("GET", "/api/messages"); text != "[]\n" {
		t.Errorf("after that: %s", text)
	}
}

// Applications are configured with a login; any is taken, in clear.
func TestAnyLogin(t *testing.T) {
	r := run(t, "")
	for _, login := range [][]string{
		{"AUTH PLAIN AGFubmEAc2VjcmV0", "235"},
		{"AUTH LOGIN", "334", "YW5uYQ==", "334", "c2VjcmV0", "235"},
	} {
		conn := must(net.Dial("tcp", r.SMTP[0].String()))
		raw := must(io.ReadAll(io.LimitReader(conn, 4))) // 220 and a space; the rest is read below
		if string(raw) != "220 " {
			t.Fatalf("banner %q", raw)
		}
		lines := newLines(conn)
		lines.next()
		lines.say(t, "EHLO app.example", "250")
		for i := 0; i < len(login); i += 2 {
			lines.say(t, login[i], login[i+1])
		}
		lines.say(t, "MAIL FROM:<a@b.example>", "250")
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestWait(t *testing.T) {
	r := run(t, "")
	type result struct {
		code int
		text string
	}
	got := make(chan result)
	go func() {
		code, _, text := r.ask("GET", "/api/messages/wait?to=anna@example.org&timeout=1m")
		got <- result{code, text}
	}()
	r.send("<a@b.example>", "<somebody@example.org>", "Subject: not this\r\n\r\n")
	r.send("<a@b.example>", "<anna@example.org>", "Subject: this\r\n\r\n")
	if g := <-got; g.code != 200 || !strings.Contains(g.text, `"subject":"this"`) {
		t.Errorf("wait: %+v", g)
	}
	for _, c := range []struct {
		query string
		code  int
		want  string
	}{
		{"to=anna&timeout=0s", 200, `"subject":"this"`}, // it is there already
		{"to=anna", 200, `"subject":"this"`},
		{"to=anna&after=00000002&timeout=1ms", 504, "no such message within 1ms"},
		{"timeout=2m", 400, "is no time up to 1m0s"},
		{"timeout=soon", 400, "write it as 5s"},
	} {
		code, _, text := r.ask("GET", "/api/messages/wait?"+c.query)
		if code != c.code || !strings.Contains(text, c.want) {
			t.Errorf("%s: %d %s; want %d %s", c.query, code, text, c.code, c.want)
		}
	}
}

// Waiting ends with its time, and with the catcher.
func TestWaitEnds(t *testing.T) {
	for _, c := range []struct {
		name  string
		stops time.Duration // when the catcher does
		want  time.Duration
	}{{"in its time", time.Hour, usualWait}, {"with the catcher", time.Second, time.Second}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), c.stops)
				defer cancel()
				r := httptest.NewRecorder()
				q := httptest.NewRequestWithContext(t.Context(), "GET", "http://localhost/api/messages/wait", nil)
				began := time.Now()
				(&Catcher{store: newStore()}).handler(ctx).ServeHTTP(r, q)
				if took := time.Since(began); r.Code != 504 || took != c.want {
					t.Errorf("%d after %v, want 504 after %v", r.Code, took, c.want)
				}
			})
		})
	}
}

// What a message brings is text, and a page of somebody else's reads nothing.
func TestPage(t *testing.T) {
	r := run(t, "")
	const evil = `"><script>alert(1)</script>`
	r.send("<a@b.example>", "<c@d.example>", "Subject: "+evil+"\r\nX-Evil: "+evil+"\r\nContent-Type: text/html\r\n\r\n<img src=x onerror=alert(1)>\r\n")
	for _, path := range []string{"/", "/messages/00000001"} {
		code, header, text := r.ask("GET", path)
		if code != 200 || header.Get("Content-Security-Policy") != policy || header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %d %v", path, code, header)
		}
		for _, live := range []string{"<script", "<img"} {
			if strings.Contains(text, live) {
				t.Errorf("%s: %s is live in\n%s", path, live, text)
			}
		}
		if !strings.Contains(text, "&lt;script&gt;alert(1)") {
			t.Errorf("%s does not show the subject:\n%s", path, text)
		}
	}
	if code, header, _ := r.ask("GET", "/style.css"); code != 200 || header.Get("Content-Type") != "text/css; charset=utf-8" {
		t.Errorf("style: %d %v", code, header)
	}
	for _, c := range []struct {
		name, method, path string
		change             func(*http.Request)
		code               int
	}{
		{"by its address", "GET", "/", func(*http.Request) {}, 200},
		{"as localhost", "GET", "/", func(q *http.Request) { q.Host = "localhost:8025" }, 200},
		{"as IPv6", "GET", "/", func(q *http.Request) { q.Host = "[::1]:8025" }, 200},
		{"a name that was made to lead here", "GET", "/api/messages", func(q *http.Request) { q.Host = "rebound.example" }, 421},
		{"an address of the network", "GET", "/api/messages", func(q *http.Request) { q.Host = "192.0.2.1:8025" }, 421},
		{"another site's page deletes", "DELETE", "/api/messages", func(q *http.Request) { q.Header.Set("Sec-Fetch-Site", "cross-site") }, 403},
		{"another site's form", "POST", "/clear", func(q *http.Request) { q.Header.Set("Origin", "https://evil.example") }, 403},
		{"our own form", "POST", "/clear", func(q *http.Request) { q.Header.Set("Origin", "http://"+q.Host) }, 303},
	} {
		t.Run(c.name, func(t *testing.T) {
			if code, _, text := r.ask(c.method, c.path, c.change); code != c.code {
				t.Errorf("%d %s, want %d", code, text, c.code)
			}
		})
	}
}

func TestLoopbackOnly(t *testing.T) {
	in := netip.MustParseAddrPort("127.0.0.1:0")
	for _, a := range []string{"0.0.0.0:0", "[::]:0", "192.0.2.1:25", "[::ffff:192.0.2.1]:25"} {
		out := netip.MustParseAddrPort(a)
		var far *NotLoopbackError
		if _, err := New(Options{SMTP: []netip.AddrPort{in, out}, HTTP: in}); !errors.As(err, &far) || far.Addr != out {
			t.Errorf("SMTP on %s: %v", a, err)
		}
		if _, err := New(Options{SMTP: []netip.AddrPort{in}, HTTP: out}); !errors.As(err, &far) {
			t.Errorf("the page on %s: %v", a, err)
		}
	}
}

func TestPortThatIsTaken(t *testing.T) {
	l := must(net.Listen("tcp", "127.0.0.1:0"))
	defer l.Close()
	taken, free := netip.MustParseAddrPort(l.Addr().String()), netip.MustParseAddrPort("127.0.0.1:0")
	if _, err := New(Options{SMTP: []netip.AddrPort{taken}, HTTP: free}); err == nil || !strings.Contains(err.Error(), "choose another port with --listen") {
		t.Errorf("SMTP: %v", err)
	}
	if _, err := New(Options{SMTP: []netip.AddrPort{free}, HTTP: taken}); err == nil || !strings.Contains(err.Error(), "choose another port with --page") {
		t.Errorf("page: %v", err)
	}
}

func TestKeep(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "mail")
	r := run(t, dir)
	r.send("<a@b.example>", "<c@d.example>", "Subject: first\r\n\r\none\r\n")
	r.send("<a@b.example>", "<c@d.example>", "Subject: second\r\n\r\ntwo\r\n")
	r.stop()
	if err := os.WriteFile(filepath.Join(dir, "notes.json"), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	again := run(t, dir)
	list := again.store.find(filter{})
	if len(list) != 2 || list[0].Subject != "second" || !strings.HasSuffix(string(list[1].raw), "one\r\n") {
		t.Fatalf("after a restart: %+v", list)
	}
	if m := again.send("<a@b.example>", "<c@d.example>", "Subject: third\r\n\r\n"); m.ID != "00000003" {
		t.Errorf("the next is %s", m.ID)
	}
	again.ask("DELETE", "/api/messages")
	names := must(filepath.Glob(dir + "/*"))
	if len(names) != 1 || filepath.Base(names[0]) != "notes.json" {
		t.Errorf("left in the folder: %v", names)
	}
}

func TestTheOldestGo(t *testing.T) {
	s := newStore()
	for range mostMessages + 3 {
		must(s.add("a@b.example", nil, []byte("x")))
	}
	if list := s.find(filter{}); len(list) != mostMessages || list[len(list)-1].ID != "00000004" {
		t.Errorf("%d kept, the oldest is %s", len(list), list[len(list)-1].ID)
	}
	large := make([]byte, mostBytes/2+1)
	must(s.add("", nil, large))
	last := must(s.add("", nil, large))
	if list := s.find(filter{}); len(list) != 1 || list[0].ID != last.ID || s.bytes != len(large) {
		t.Errorf("of two that are too large together %d are kept, %d octets", len(list), s.bytes)
	}
}

// lines speaks SMTP by hand.
type lines struct {
	conn net.Conn
	buf  []byte
}

func newLines(c net.Conn) *lines { return &lines{conn: c} }

// next reads a reply to its last line.
func (l *lines) next() string {
	for {
		for i, b := range l.buf {
			if b == '\n' {
				line := string(l.buf[:i])
				l.buf = l.buf[i+1:]
				if len(line) < 4 || line[3] != '-' {
					return line
				}
				break
			}
		}
		if strings.Contains(string(l.buf), "\n") {
			continue
		}
		b := make([]byte, 1024)
		n, err := l.conn.Read(b)
		if err != nil {
			return err.Error()
		}
		l.buf = append(l.buf, b[:n]...)
	}
}

func (l *lines) say(t *testing.T, line, want string) {
	t.Helper()
	if _, err := io.WriteString(l.conn, line+"\r\n"); err != nil {
		t.Fatal(err)
	}
	if got := l.next(); !strings.HasPrefix(got, want) {
		t.Fatalf("%s: %q, want %s", line, got, want)
	}
}
