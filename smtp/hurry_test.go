package smtp

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"postern/mail"
)

// manySinks is a server that has a sink for each of its clients.
func manySinks() *Server {
	return &Server{Name: "mx.example", Handler: HandlerFunc(func(context.Context, *Peer) (Session, mail.Reply) { return &sink{}, mail.Reply{} })}
}

// leaves hangs up and waits for the server to see it.
func (d *dialogue) leaves() {
	d.t.Helper()
	d.conn.Close()
	if err := <-d.done; err == nil {
		d.t.Error("a client that hung up has quit")
	}
}

const hello = "EHLO c.example\r\n"

// A session that brings no message ends, whatever it says meanwhile.
func TestBarrenSession(t *testing.T) {
	const message = "MAIL FROM:<>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nx\r\n.\r\n"
	for _, c := range []struct {
		name  string
		every string // what it says
		pause time.Duration
		most  int // how often it can say so; 0: for ever
	}{
		{"it asks for nothing, slowly", "NOOP\r\n", 4 * time.Minute, 7},
		{"it asks for nothing, fast", "NOOP\r\n", 0, 100},
		{"it greets", hello, time.Second, 100},
		{"it resets", "RSET\r\n", time.Second, 100},
		{"it asks for help", "HELP\r\n", time.Second, 100},
		{"it asks for people", "VRFY anna\r\n", time.Second, 100},
		{"it begins again and again", "MAIL FROM:<>\r\nRSET\r\n", time.Second, 99}, // the limit of messages
		{"it brings messages, and rests between them", message + "NOOP\r\nRSET\r\n", 4 * time.Minute, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				srv := serverFor(&sink{})
				srv.Limits.Messages = 99
				if c.most == 0 {
					srv.Limits.Messages = -1
				}
				d := converse(t, t.Context(), srv)
				d.expect("220")
				d.say(hello)
				d.expect("250")
				replies := strings.Count(c.every, "\r\n") - strings.Count(c.every, "DATA\r\n") // the text of a message has none
				said := 0
				for ; said < 300; said++ {
					time.Sleep(c.pause)
					d.pour(c.every)
					closed := false
					for range replies {
						line, err := d.r.ReadString('\n')
						for err == nil && line[3] == '-' {
							line, err = d.r.ReadString('\n')
						}
						if closed = err != nil || strings.HasPrefix(line, "421"); closed {
							break
						}
					}
					if closed {
						break
					}
				}
				if c.most == 0 && said < 300 || c.most > 0 && (said > c.most || said < c.most-2) {
					t.Errorf("it could say so %d times, want %d", said, c.most)
				}
				d.leaves()
			})
		})
	}
}

// In a crowd strangers must be quick, whenever they came, and whom the server
// knows keeps its time and finds a place.
func TestCrowd(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var friend bool
		srv := manySinks()
		srv.Limits.Connections = 10
		srv.Known = func(netip.Addr) bool { return friend }
		come := func(as bool, code string) *dialogue {
			friend = as
			d := converse(t, t.Context(), srv)
			d.expect(code)
			return d
		}
		early := come(false, "220")
		time.Sleep(time.Minute) // it may wait for five
		regular := come(true, "220")
		middle := come(false, "220")
		middle.pour(hello + "MAIL FROM:<>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nhello")
		for _, code := range []string{"250", "250", "250", "354"} {
			middle.expect(code)
		}
		var crowd []*dialogue
		for range 6 {
			crowd = append(crowd, come(false, "220"))
		}
		refused := come(false, "421") // the tenth place is not for strangers
		if _, err := refused.ends(); err == nil {
			t.Error("a stranger got the last place")
		}
		friendly := come(true, "220")
		began := time.Now()
		if _, err := early.ends(); !errors.Is(err, ErrTimeout) || time.Since(began) > lookAgain {
			t.Errorf("a stranger that was there before the crowd went after %v: %v", time.Since(began), err)
		}
		if _, err := middle.ends(); !errors.Is(err, ErrTimeout) || time.Since(began) > lookAgain {
			t.Errorf("a stranger in the middle of its message went after %v: %v", time.Since(began), err)
		}
		time.Sleep(3 * lookAgain)
		for _, d := range []*dialogue{regular, friendly} {
			d.say("NOOP\r\n")
			d.expect("250")
		}
		for _, d := range append(crowd, regular, friendly) {
			d.leaves()
		}
	})
}

// A server that another one replaces ends no session in the middle of anything.
func TestRetire(t *testing.T) {
	bubble(t, func(t *testing.T) {
		srv := manySinks()
		idle, busy, always := converse(t, t.Context(), srv), converse(t, t.Context(), srv), converse(t, t.Context(), srv)
		for _, d := range []*dialogue{idle, busy, always} {
			d.expect("220")
			d.say(hello)
			d.expect("250")
		}
		busy.say("MAIL FROM:<>\r\n")
		busy.expect("250")
		synctest.Wait()
		srv.Retire()
		began := time.Now()
		idle.say("NOOP\r\n")
		idle.expect("250")
		idle.expect("421")
		if _, err := idle.ends(); !errors.Is(err, ErrServerClosed) || time.Since(began) > 2*lookAgain {
			t.Errorf("one that is idle: %v after %v", err, time.Since(began))
		}
		time.Sleep(4 * time.Minute)
		busy.pour("RCPT TO:<c@d.example>\r\nDATA\r\nx\r\n.\r\n")
		for _, code := range []string{"250", "354", "250", "421"} {
			busy.expect(code)
		}
		for end := time.Now().Add(time.Hour); time.Now().Before(end); time.Sleep(time.Second) {
			if _, err := always.conn.Write([]byte("NOOP\r\n")); err != nil {
				break
			}
			if line, _ := always.r.ReadString('\n'); !strings.HasPrefix(line, "250") {
				break
			}
		}
		if took := time.Since(began); took > retireFor+time.Minute {
			t.Errorf("one that always speaks went on for %v", took)
		}
		for _, d := range []*dialogue{busy, always} {
			d.leaves()
		}
	})
}

// Run ends when the last session of a retired server has ended, and not before.
func TestRetiredRun(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := manySinks()
	ended := make(chan error, 1)
	go func() { ended <- srv.Run(t.Context(), l) }()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b := make([]byte, 512)
	if _, err := c.Read(b); err != nil {
		t.Fatal(err)
	}
	srv.Retire()
	l.Close()
	if _, err := c.Write([]byte("NOOP\r\n")); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(b); err != nil || !strings.HasPrefix(string(b[:n]), "250") {
		t.Errorf("%q, %v", b[:n], err)
	}
	select {
	case err := <-ended:
		t.Errorf("Run = %v while a session goes on", err)
	default:
	}
	c.Close()
	if err := <-ended; err != nil {
		t.Errorf("Run = %v", err)
	}
}
