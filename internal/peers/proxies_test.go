package peers

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"postern/door"
	"postern/verdict"
)

// TestProxies holds the auditor to real proxies and forwarders. Each is first asked by hand what it
// is: at an open one a stranger's message arrives at the tester, at the others nothing does. Then
// the built program judges it from the tester's side, as its user would run it.
func TestProxies(t *testing.T) {
	Require(t)
	binary, err := writeProgram(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	rows := make([]passed, len(Passages))
	t.Run("cases", func(t *testing.T) {
		for i, p := range Passages {
			t.Run(p.Name(), func(t *testing.T) {
				t.Parallel()
				target := Start(t, p.Case)
				t.Run("by hand", func(t *testing.T) { p.byHand(t, target) })
				t.Run("check", func(t *testing.T) { p.check(t, target, binary, &rows[i]) })
				if *update {
					t.Run("nmap", func(t *testing.T) { rows[i].nmap = p.nmapSays(t, target) })
				}
			})
		}
	})
	// Also when a verdict is wrong: the page says what was measured.
	if *update {
		writeProxiesMatrix(t, rows)
	}
}

// byHand shows what the passage is.
func (p Passage) byHand(t *testing.T, target *Target) {
	t.Cleanup(released) // the check takes the same ports
	zone(t, target)
	arrived := greets(t, target, "25", "443", "587")
	if p.Door == door.Forward {
		p.knockThrough(t, target)
	} else if err := p.Ask.deliver(t, target, p.Port); (err == nil) != (p.Want == "open") {
		t.Errorf("%+v, for a stranger: %v", p.Ask, err)
	}
	if p.Want == "open" {
		select {
		case <-arrived:
		case <-time.After(30 * time.Second):
			t.Error("nothing arrived")
		}
		return
	}
	if p.Owner.How != "" {
		if err := p.Owner.deliver(t, target, p.Port); err != nil {
			t.Errorf("%+v, which it should serve: %v", p.Owner, err)
		}
		<-arrived
	}
	select {
	case got := <-arrived:
		t.Errorf("a stranger's message arrived: %s", got)
	default:
	}
}

// released returns when nobody holds a socket any more that was closed before: a child of another
// test has a copy of each from its fork until its exec, and the fork holds this lock as long.
func released() {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
}

// knockThrough speaks to the mail server behind a forwarded port.
func (p Passage) knockThrough(t *testing.T, target *Target) {
	t.Helper()
	if code, reply := knock(t, target, Knock{From: p.Knock.From, To: []string{"{local}"}}); code/100 != 2 {
		t.Errorf("mail for postmaster: %s", reply)
	}
	if code, reply := knock(t, target, p.Knock); (code/100 == 2) != (p.Want == "open") {
		t.Errorf("the stranger's message: %s", reply)
	}
}

// greets takes mail at ports of the tester's, and gives the recipients.
func greets(t *testing.T, target *Target, ports ...string) <-chan string {
	t.Helper()
	arrived := make(chan string, 16)
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	for _, port := range ports {
		l, err := target.Listen(t.Context(), ":"+port)
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			for {
				c, err := l.Accept()
				if errors.Is(err, net.ErrClosed) {
					return
				}
				if err == nil {
					stop := context.AfterFunc(t.Context(), func() { _ = c.Close() })
					wg.Go(func() { defer stop(); swallow(c, arrived) })
				}
			}
		})
		t.Cleanup(func() { _ = l.Close() })
	}
	return arrived
}

func (a Ask) to() netip.AddrPort {
	host := Tester4
	if a.Six {
		host = Tester6
	}
	return netip.MustParseAddrPort(net.JoinHostPort(host, a.Port))
}

// deliver asks to be led to the tester, and gives a message to whoever greets there.
func (a Ask) deliver(t *testing.T, target *Target, port string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c, err := target.Dial(ctx, "tcp", net.JoinHostPort(Target4, port))
	if err != nil {
		return err
	}
	defer c.Close()
	if a.TLS {
		c = tls.Client(c, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // nothing secret is said
	}
	if deadline, ok := ctx.Deadline(); ok {
		_ = c.SetDeadline(deadline)
	}
	in := bufio.NewReader(c)
	const mail = "EHLO stranger.far.example\r\nMAIL FROM:<stranger@far.example>\r\nRCPT TO:<" + sinkUser + "@" + Collector + ">\r\nDATA\r\nSubject: knock\r\n\r\nknock\r\n.\r\nQUIT\r\n"
	switch a.How {
	case "socks5":
		err = a.socks(c, in)
	case "connect":
		err = a.connect(c, in)
	case "post":
		// The mail server skips the lines of HTTP, and takes the body for commands.
		_, err = fmt.Fprintf(c, "POST http://%[1]s/ HTTP/1.1\r\nHost: %[1]s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", a.to(), len(mail), mail)
		if err == nil {
			_, _ = io.Copy(io.Discard, in)
		}
		return err
	default:
		return fmt.Errorf("%q: nobody asks so", a.How)
	}
	if err != nil {
		return err
	}
	if line, err := in.ReadString('\n'); err != nil || !strings.HasPrefix(line, "220 mx."+Collector) {
		return fmt.Errorf("greeted with %q: %w", line, errors.Join(err, errors.New("that is not the tester")))
	}
	if _, err := io.WriteString(c, mail); err != nil {
		return err
	}
	rest, err := io.ReadAll(in)
	if !bytes.Contains(rest, []byte("250 taken")) {
		return fmt.Errorf("the tester said %q: %w", rest, errors.Join(err, errors.New("the message is not taken")))
	}
	return nil
}

// socks is the greeting and the request of RFC 1928, and the login of RFC 1929.
func (a Ask) socks(c net.Conn, in *bufio.Reader) error {
	method := byte(0)
	if a.User != "" {
		method = 2
	}
	if _, err := c.Write([]byte{5, 1, method}); err != nil {
		return err
	}
	answer := make([]byte, 10)
	if _, err := io.ReadFull(in, answer[:2]); err != nil {
		return err
	}
	if answer[1] != method {
		return fmt.Errorf("method %#x", answer[1])
	}
	if a.User != "" {
		login := slices.Concat([]byte{1, byte(len(a.User))}, []byte(a.User), []byte{byte(len(Password))}, []byte(Password))
		if _, err := c.Write(login); err != nil {
			return err
		}
		if _, err := io.ReadFull(in, answer[:2]); err != nil || answer[1] != 0 {
			return fmt.Errorf("login: %#x: %w", answer[1], errors.Join(err, errors.New("refused")))
		}
	}
	kind, to := byte(1), a.to()
	if a.Six {
		kind = 4
	}
	request := slices.Concat([]byte{5, 1, 0, kind}, to.Addr().AsSlice(), binary.BigEndian.AppendUint16(nil, to.Port()))
	if _, err := c.Write(request); err != nil {
		return err
	}
	if _, err := io.ReadFull(in, answer); err != nil {
		return err
	}
	if answer[3] == 4 { // bound to an address that is longer
		if _, err := io.CopyN(io.Discard, in, 12); err != nil {
			return err
		}
	}
	if answer[1] != 0 {
		return fmt.Errorf("reply %#x", answer[1])
	}
	return nil
}

func (a Ask) connect(c net.Conn, in *bufio.Reader) error {
	login := ""
	if a.User != "" {
		login = "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(a.User+":"+Password)) + "\r\n"
	}
	if _, err := fmt.Fprintf(c, "CONNECT %[1]s HTTP/1.1\r\nHost: %[1]s\r\n%[2]s\r\n", a.to(), login); err != nil {
		return err
	}
	status, err := in.ReadString('\n')
	if err != nil {
		return err
	}
	if _, code, _ := strings.Cut(status, " "); !strings.HasPrefix(code, "2") {
		return fmt.Errorf("status %q", status)
	}
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return err
		}
		if strings.TrimSpace(line) == "" {
			return nil
		}
	}
}

// judged is what the tests read of a report.
type judged struct {
	Verdict string
	Kind    verdict.Kind
	Why     string
	Proof   *struct {
		Form, Egress string
		Lost         bool `json:"lost_client_address"`
	}
	Doors []judgedDoor
}

type judgedDoor struct {
	Door     string
	Port     int
	Verdict  string
	Software string
	Other    bool `json:"open_to_other_ports"`
	Forms    []struct{ Form, State string }
}

// ownZone are the flags of a collector with IPv4 alone, that names itself.
var ownZone = []string{"--collector-listen", Tester4 + ":25", "--zone", Collector, "--zone-listen", Tester4 + ":53"}

// bothFamilies names the collector by both of its addresses, as the zone of a real domain does.
func bothFamilies(t *testing.T, target *Target) {
	t.Helper()
	pc, err := target.ListenPacket(t.Context(), net.JoinHostPort(Tester4, "53"))
	if err != nil {
		t.Fatal(err)
	}
	zone := records(Collector+". 60 IN MX 10 mx."+Collector+".", "mx."+Collector+". 60 IN A "+Tester4, "mx."+Collector+". 60 IN AAAA "+Tester6)
	server := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		m.Authoritative = true
		for _, rr := range zone[strings.ToLower(q.Question[0].Name)] {
			if rr.Header().Rrtype == q.Question[0].Qtype {
				m.Answer = append(m.Answer, rr)
			}
		}
		_ = w.WriteMsg(m)
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.ActivateAndServe() }()
	t.Cleanup(func() { _ = pc.Close(); <-done })
}

// judge runs the check as a stranger at the tester's side.
func judge(t *testing.T, target *Target, program string, flags ...string) (judged, int, string) {
	t.Helper()
	args := append([]string{
		program, "check", target.Case.Address(), "--i-own", "--domain", Domain, "--collector", Collector, "--resolver", Tester4 + ":53",
		"--wait", "10s", "--pace", "50ms", "--timeout", "10s", "--json", "--one",
	}, flags...)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := target.tester.command(ctx, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	began := time.Now()
	err := cmd.Run()
	var report judged
	if bad := json.Unmarshal(stdout.Bytes(), &report); bad != nil {
		t.Fatalf("%s\n%v: %v\n%s%s", strings.Join(args[1:], " "), err, bad, stdout.String(), stderr.String())
	}
	t.Logf("%s in %.1f s: %s", report.Verdict, time.Since(began).Seconds(), report.Why)
	return report, cmd.ProcessState.ExitCode(), stdout.String()
}

// check compares what the auditor says with what the passage is.
func (p Passage) check(t *testing.T, target *Target, program string, r *passed) {
	flags := ownZone
	if p.Both {
		bothFamilies(t, target)
		flags = nil
	}
	began := time.Now()
	got, exit, text := judge(t, target, program, slices.Concat(flags, p.Flags)...)
	r.got, r.took = got, time.Since(began)
	wrong := func(what string, got, want any) {
		t.Helper()
		t.Errorf("%s (%s): %s is %v, want %v\n%s", p.Name(), p.What, what, got, want, text)
	}
	if got.Verdict != p.Want {
		wrong("verdict", got.Verdict+": "+got.Why, p.Want)
	}
	if !strings.Contains(got.Why, p.Why) {
		wrong("reason", got.Why, p.Why)
	}
	if want := map[string]int{"closed": 0, "open": 1, "accepts": 2, "inconclusive": 2, "not_tested": 3}[p.Want]; exit != want {
		wrong("exit code", exit, want)
	}
	at := slices.IndexFunc(got.Doors, func(d judgedDoor) bool { return strconv.Itoa(d.Port) == p.Port })
	if at < 0 {
		t.Fatalf("%s: no door at port %s\n%s", p.Name(), p.Port, text)
	}
	d := got.Doors[at]
	if p.Want == "closed" && d.Other != p.Elsewhere {
		wrong("open to other ports", d.Other, p.Elsewhere)
	}
	if p.Software != "" && d.Software != p.Software {
		wrong("software", d.Software, p.Software)
	}
	if p.Door != door.Forward && d.Door != p.Door.String() {
		wrong("door", d.Door, p.Door)
	}
	if p.Want != "open" {
		return
	}
	if got.Kind != p.Kind {
		wrong("kind", got.Kind, p.Kind)
	}
	if got.Proof == nil || got.Proof.Egress != p.Egress {
		wrong("egress", got.Proof, p.Egress)
	}
	if got.Proof != nil && got.Proof.Lost != p.Lost {
		wrong("lost client address", got.Proof.Lost, p.Lost)
	}
	proves := func(form string) bool {
		return slices.ContainsFunc(d.Forms, func(f struct{ Form, State string }) bool { return f.Form == form && f.State == "arrived" })
	}
	if !slices.ContainsFunc(strings.Fields(p.Hole), proves) {
		wrong("proof", got.Proof, p.Hole)
	}
}
