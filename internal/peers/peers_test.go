package peers

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// sinkUser is the local part that the knocks send to; what arrives for it came through the target.
const sinkUser = "arrival"

// TestMain lets as many worlds run as Start allows: they wait for one another's timers, not for a
// processor, and the default is one test a processor.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", strconv.Itoa(cap(atOnce))); err != nil {
		panic(err)
	}
	m.Run()
}

// TestRootsUnpack shows that Debian's archive still has what the cases run, and fills the cache.
func TestRootsUnpack(t *testing.T) {
	Require(t)
	for name, program := range map[string]string{
		"postfix": "usr/lib/postfix/sbin/smtpd", "exim": "usr/sbin/exim4", "opensmtpd": "usr/sbin/smtpd",
		"sendmail": "usr/libexec/sendmail/sendmail", "tools": "usr/bin/nmap",
		"clients": "usr/bin/swaks", "nghttpx": "usr/sbin/nghttpx", "proxies": "usr/sbin/danted",
	} {
		root, err := Root(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(root, program)); err != nil {
			t.Errorf("%s: %v; remove %s and run the test again", name, err, root)
		}
	}
}

// TestCasesAreWhatTheySay knocks at each case by hand: at an open one the stranger's message
// arrives at the tester, at the others its recipient is refused. So a verdict of the auditor is
// compared with what the server does, not with what we think of its configuration.
func TestCasesAreWhatTheySay(t *testing.T) {
	Require(t)
	for _, c := range Cases {
		t.Run(c.Name(), func(t *testing.T) {
			t.Parallel()
			target := Start(t, c)
			zone(t, target)
			arrived := sink(t, target)
			// What every server must do: take mail for its own postmaster.
			control := Knock{Preamble: c.Knock.Preamble, From: c.Knock.From, To: []string{"{local}"}}
			if c.Knock.Preamble != "" { // only such a port reads it
				control.Port = c.Knock.Port
			}
			if code, reply := patience(t, target, control); (code/100 == 2) == c.Shuns {
				t.Errorf("mail for postmaster: %s", reply)
			}
			code, reply := patience(t, target, c.Knock)
			switch c.Want {
			case "open":
				if code/100 != 2 {
					t.Fatalf("refused the stranger: %s", reply)
				}
				select {
				case got := <-arrived:
					if !strings.Contains(got, sinkUser) {
						t.Errorf("arrived for %s", got)
					}
				case <-time.After(60 * time.Second):
					t.Errorf("took the stranger's message with %q, and nothing arrived", reply)
				}
			default:
				if (code/100 == 2) != c.Takes {
					t.Errorf("answered the stranger's message with %q", reply)
				}
			}
		})
	}
}

// patience knocks again as long as a server that defers what is new to it says 4xx.
func patience(t *testing.T, target *Target, k Knock) (code int, reply string) {
	t.Helper()
	for end := time.Now().Add(3 * greylistDelay); ; time.Sleep(greylistDelay / 4) {
		code, reply = knock(t, target, k)
		if code/100 != 4 || !target.Case.Defers || time.Now().After(end) {
			return code, reply
		}
	}
}

// knock holds the conversation and returns the first reply that refused, or the one to the body.
func knock(t *testing.T, target *Target, k Knock) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	port := k.Port
	if port == "" {
		port = "25"
	}
	c, err := target.Dial(ctx, "tcp", net.JoinHostPort(target.Case.Address(), port))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if deadline, ok := ctx.Deadline(); ok {
		_ = c.SetDeadline(deadline)
	}
	in := bufio.NewReader(c)
	say := func(line string) (code int, reply string) {
		t.Helper()
		if _, err := io.WriteString(c, line); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		for {
			text, err := in.ReadString('\n')
			if err != nil {
				t.Fatalf("after %q: %v, with %q", line, err, reply+text)
			}
			reply += text
			if len(text) > 3 && text[3] == '-' {
				continue
			}
			if _, err := fmt.Sscanf(text, "%3d", &code); err != nil {
				t.Fatalf("after %q: %q", line, reply)
			}
			return code, strings.TrimSpace(reply)
		}
	}
	helo := k.Helo
	if helo == "" {
		helo = "stranger.far.example"
	}
	lines := []string{k.Preamble, "EHLO " + helo + "\r\n"}
	for _, before := range k.Before {
		lines = append(lines, before+"\r\n", "EHLO "+helo+"\r\n")
	}
	lines = append(lines, "MAIL FROM:<"+k.From+">\r\n")
	fill := strings.NewReplacer("{local}", "postmaster@"+Domain, "{foreign}", sinkUser+"@"+Collector,
		"{backup}", sinkUser+"@backup."+Collector, "{user}", sinkUser)
	for _, to := range k.To {
		lines = append(lines, "RCPT TO:<"+fill.Replace(to)+">\r\n")
	}
	lines = append(lines, "DATA\r\n", "From: <"+k.From+">\r\nSubject: knock\r\nMessage-ID: <knock@far.example>\r\nDate: Mon, 23 Nov 2026 10:00:00 +0000\r\n\r\nknock\r\n.\r\n")
	for _, line := range lines {
		if code, reply := say(line); code >= 400 || line == lines[len(lines)-1] {
			return code, reply
		}
	}
	return 0, ""
}

// zone answers for the collector's domain on the tester's side. Every name in it is a host with
// the tester's address, six and what is below it only that of IPv6; backup has the target as its
// second exchanger.
func zone(t *testing.T, target *Target) {
	t.Helper()
	pc, err := target.ListenPacket(t.Context(), net.JoinHostPort(Tester4, "53"))
	if err != nil {
		t.Fatal(err)
	}
	server := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		m.Authoritative = true
		name := strings.ToLower(q.Question[0].Name)
		if !dns.IsSubDomain(Collector+".", name) {
			m.Rcode = dns.RcodeRefused
		}
		records := []string{}
		switch q.Question[0].Qtype {
		case dns.TypeMX:
			host := "mx." + Collector + "."
			if strings.HasPrefix(name, "six.") {
				host = name
			}
			records = append(records, name+" 60 IN MX 10 "+host)
			if strings.HasPrefix(name, "backup.") {
				records = append(records, name+" 60 IN MX 20 "+Host+".")
			}
		case dns.TypeA:
			if !strings.HasPrefix(name, "six.") {
				records = append(records, name+" 60 IN A "+Tester4)
			}
		case dns.TypeAAAA:
			if strings.HasPrefix(name, "six.") {
				records = append(records, name+" 60 IN AAAA "+Tester6)
			}
		}
		for _, text := range records {
			if rr, err := dns.NewRR(text); err == nil && m.Rcode == dns.RcodeSuccess {
				m.Answer = append(m.Answer, rr)
			}
		}
		_ = w.WriteMsg(m)
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.ActivateAndServe() }()
	t.Cleanup(func() { _ = pc.Close(); <-done })
}

// sink takes every message on the tester's side and gives its recipient.
func sink(t *testing.T, target *Target) <-chan string {
	t.Helper()
	l, err := target.Listen(t.Context(), net.JoinHostPort(Tester4, "25"))
	if err != nil {
		t.Fatal(err)
	}
	arrived := make(chan string, 16)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				go swallow(c, arrived)
			}
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return arrived
}

func swallow(c net.Conn, arrived chan<- string) {
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	reply := func(text string) { _, _ = io.WriteString(c, text+"\r\n") }
	reply("220 mx." + Collector)
	body, to := false, ""
	for lines := bufio.NewScanner(c); lines.Scan(); {
		line := lines.Text()
		verb, _, _ := strings.Cut(strings.ToUpper(line), " ")
		switch {
		case body && line == ".":
			body = false
			reply("250 taken")
			arrived <- to
		case body:
		case strings.HasPrefix(verb, "RCPT"):
			to = line
			reply("250 to whom")
		case verb == "DATA":
			body = true
			reply("354 go on")
		case verb == "QUIT":
			reply("221 bye")
			return
		default:
			reply("250 " + verb)
		}
	}
}
