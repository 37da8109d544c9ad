package peers

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"postern/serve"
)

// inboundConfig is a relay on the tester's side, as the MX of the collector's domain: with the
// limits that it has when nobody sets any.
const inboundConfig = `hostname = "mx.relaytest.example"

listener "mx" {
  port = 25
  addresses = ["192.0.2.66", "2001:db8:1::66"]
}

domain "relaytest.example" {
  recipients = ["anna", "r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9"]
  deliver = "hold"
}

domain "six.relaytest.example" {
  recipients = ["anna"]
  deliver = "hold"
}

route "default" { via = "hold" }
`

// A letterbox is a relay of ours that runs on the tester's side.
type letterbox struct {
	state    string
	accepted chan string // log lines of messages that it took
}

// receive starts it, and returns when it listens; it ends with the test.
func receive(t *testing.T, target *Target) *letterbox {
	t.Helper()
	dir := t.TempDir()
	binary, err := writeProgram(dir)
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "postern.hcl")
	if err := writeFile(config, inboundConfig); err != nil {
		t.Fatal(err)
	}
	b := &letterbox{state: filepath.Join(dir, "s"), accepted: make(chan string, 64)}
	cmd := target.Tester(binary, "serve", "--config", config, "--state", b.state)
	log, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	ready, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for lines := bufio.NewScanner(log); lines.Scan(); {
			_, _ = target.log.Write(append(lines.Bytes(), '\n'))
			if strings.Contains(lines.Text(), "event=accepted") {
				b.accepted <- lines.Text()
			}
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-done
		_ = cmd.Wait()
	})
	said := bufio.NewScanner(ready)
	for said.Scan() {
		if strings.Contains(said.Text(), "ready after") {
			return b
		}
	}
	t.Fatal("our relay did not start; what it said stands in the log")
	return nil
}

// taken waits until the relay has accepted a message whose log line holds the mark.
func (b *letterbox) taken(t *testing.T, mark string) serve.QueuedMessage {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		select {
		case line := <-b.accepted:
			if strings.Contains(line, mark) {
				return only(t, queueOf(t, b.state), "from "+mark, func(m serve.QueuedMessage) bool { return strings.Contains(m.From, mark) })
			}
		case <-ctx.Done():
			t.Fatalf("no message from %s arrived", mark)
		}
	}
}

// body is the message as the queue keeps it.
func (b *letterbox) body(t *testing.T, id string) string {
	t.Helper()
	var text bytes.Buffer
	if err := serve.Dial(b.state).Get(t.Context(), "/queue/"+id+"/body", &text); err != nil {
		t.Fatal(err)
	}
	return text.String()
}

// A parcel is what is handed to the sending server.
type parcel struct {
	name       string
	mark       string // the local part of its sender
	mail, rcpt string // parameters
	needs      string // the extension that the sending server must offer
	to         []string
	text       string // behind the header
	with       string // how it must have come
	six        bool
}

var parcels = []parcel{
	{name: "a line of text", mark: "line", to: []string{"anna@relaytest.example"}, text: "one line\r\n", with: "ESMTPS"},
	{name: "8-bit text", mark: "eight", mail: " BODY=8BITMIME", needs: "8BITMIME", to: []string{"anna@relaytest.example"}, text: "Grüße aus Köln\r\n", with: "ESMTPS"},
	{name: "an address in UTF-8", mark: "jürgen", mail: " SMTPUTF8 BODY=8BITMIME", needs: "SMTPUTF8", to: []string{"anna@relaytest.example"}, text: "Grüße\r\n", with: "UTF8SMTPS"},
	{name: "five megabytes", mark: "large", to: []string{"anna@relaytest.example"}, text: strings.Repeat(strings.Repeat("x", 76)+"\r\n", 5<<20/78), with: "ESMTPS"},
	{name: "dots and empty lines", mark: "dots", to: []string{"anna@relaytest.example"}, text: ".\r\n..\r\n\r\n.x\r\n\r\n", with: "ESMTPS"},
	{name: "ten recipients", mark: "ten", to: ten(), text: "one for all\r\n", with: "ESMTPS"},
	// RFC 3461 section 4: who is offered no DSN leaves the parameters out.
	{name: "a notice is wished for", mark: "notice", mail: " RET=HDRS ENVID=x1", rcpt: " NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;anna@relaytest.example", needs: "DSN", to: []string{"anna@relaytest.example"}, text: "text\r\n", with: "ESMTPS"},
	{name: "over IPv6", mark: "six", to: []string{"anna@six.relaytest.example"}, text: "text\r\n", with: "ESMTPS", six: true},
}

func ten() []string {
	var list []string
	for i := range 10 {
		list = append(list, fmt.Sprintf("r%d@relaytest.example", i))
	}
	return list
}

// TestMailServersDeliverToOurRelay lets Postfix and Exim, which find our relay by the MX in DNS,
// hand it what somebody sends.
func TestMailServersDeliverToOurRelay(t *testing.T) {
	Require(t)
	for _, sender := range []struct{ server, config string }{{"postfix", "mynetworks"}, {"exim", "relay-nets"}} {
		t.Run(sender.server, func(t *testing.T) {
			t.Parallel()
			i := slices.IndexFunc(Cases, func(c Case) bool { return c.Server == sender.server && c.Config == sender.config })
			target := Start(t, Cases[i])
			zone(t, target)
			box := receive(t, target)
			offersNoDSN(t, target)
			for _, p := range parcels {
				t.Run(p.name, func(t *testing.T) { p.travels(t, target, box) })
			}
		})
	}
}

// offersNoDSN looks at what our relay says to a stranger's EHLO.
func offersNoDSN(t *testing.T, target *Target) {
	t.Helper()
	for _, address := range []string{Tester4, Tester6} {
		s := speak(t, target, address)
		offered := s.say("EHLO stranger.far.example\r\n", 250)
		if strings.Contains(offered, "DSN") || strings.Contains(offered, "AUTH") || !strings.Contains(offered, "STARTTLS") || !strings.Contains(offered, "SMTPUTF8") {
			t.Errorf("%s offers %q", address, offered)
		}
		s.say("QUIT\r\n", 221)
	}
}

func (p parcel) travels(t *testing.T, target *Target, box *letterbox) {
	t.Helper()
	s := speak(t, target, target.Case.Address())
	offered := s.say("EHLO stranger.far.example\r\n", 250)
	if p.needs != "" && !strings.Contains(offered, p.needs) {
		t.Skipf("%s does not offer %s", target.Case.Server, p.needs)
	}
	from := p.mark + "@far.example"
	s.say("MAIL FROM:<"+from+">"+p.mail+"\r\n", 250)
	for _, to := range p.to {
		s.say("RCPT TO:<"+to+">"+p.rcpt+"\r\n", 250)
	}
	s.say("DATA\r\n", 354)
	header := "From: <" + from + ">\r\nTo: <" + p.to[0] + ">\r\nSubject: parcel\r\nDate: Mon, 23 Nov 2026 10:00:00 +0000\r\nMessage-ID: <" + fmt.Sprint(len(p.mark)) + "@far.example>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
	s.say(header+strings.ReplaceAll("\r\n"+p.text, "\r\n.", "\r\n..")[2:]+".\r\n", 250)
	s.say("QUIT\r\n", 221)

	m := box.taken(t, p.mark)
	peer := Target4
	if p.six {
		peer = Target6
	}
	if m.From != "<"+from+">" || m.Peer != peer || m.Helo != Host || m.Listener != "mx" || m.Identity != "" || !strings.HasPrefix(m.TLS, "TLS 1.3") {
		t.Errorf("queued as %+v", m)
	}
	var to []string
	for _, each := range m.To {
		to = append(to, strings.Trim(each.Grant.To, "<>"))
		if domain := p.to[0][strings.Index(p.to[0], "@")+1:]; each.Grant.Reason != "inbound" || each.Grant.Who != domain {
			t.Errorf("granted: %+v", each.Grant)
		}
	}
	slices.Sort(to) // a server may sort them
	if !slices.Equal(to, p.to) {
		t.Errorf("recipients %v, want %v", to, p.to)
	}
	p.whole(t, box.body(t, m.ID), m)
}

// whole compares the message with what was sent, and our trace field with what was done.
func (p parcel) whole(t *testing.T, text string, m serve.QueuedMessage) {
	t.Helper()
	if int64(len(text)) != m.Size {
		t.Errorf("size %d, of %d octets", m.Size, len(text))
	}
	if _, body, _ := strings.Cut(text, "\r\n\r\n"); body != p.text {
		t.Errorf("the body has %d octets, want %d: %.80q", len(body), len(p.text), body)
	}
	literal := "[" + m.Peer + "]"
	if p.six {
		literal = "[IPv6:" + m.Peer + "]"
	}
	want := "Received: from " + Host + " (" + literal + ")\r\n\t(" + m.TLS + ")\r\n\tby mx.relaytest.example (Postern)\r\n\twith " + p.with + " id " + m.ID
	if len(p.to) == 1 {
		want += "\r\n\tfor <" + p.to[0] + ">"
	}
	if !strings.Contains(text, want+";\r\n\t") {
		t.Errorf("got  %.400q\nwant %q", text, want)
	}
}

// A speech is a raw conversation on port 25.
type speech struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
}

// speak connects and reads the banner.
func speak(t *testing.T, target *Target, address string) *speech {
	t.Helper()
	c, err := target.Dial(t.Context(), "tcp", net.JoinHostPort(address, "25"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	s := &speech{t: t, conn: c, in: bufio.NewReader(c)}
	s.say("", 220)
	return s
}

// say sends text, wants the code, and returns the reply.
func (s *speech) say(text string, code int) string {
	s.t.Helper()
	if _, err := io.WriteString(s.conn, text); err != nil {
		s.t.Fatal(err)
	}
	var reply string
	for {
		line, err := s.in.ReadString('\n')
		reply += line
		if err != nil {
			s.t.Fatalf("after %.60q: %v, with %q", text, err, reply)
		}
		if len(line) > 3 && line[3] == ' ' {
			break
		}
	}
	if !strings.HasPrefix(reply, fmt.Sprint(code)) {
		s.t.Fatalf("after %.60q: %q, want %d", text, reply, code)
	}
	return reply
}
