package check_test

import (
	"bytes"
	"context"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"postern/check"
	"postern/mail"
	"postern/open"
	"postern/verdict"
)

// A wired server stands behind a fault of its wire.
type wired struct {
	open.SMTP
	wire func(net.Conn) net.Conn
}

func (w wired) ServeConn(ctx context.Context, c net.Conn) error {
	return w.SMTP.ServeConn(ctx, w.wire(c))
}

// losing loses what comes behind the first command of a group.
type losing struct {
	net.Conn
	message bool
}

func (l *losing) Read(p []byte) (int, error) {
	n, err := l.Conn.Read(p)
	if l.message {
		l.message = !bytes.HasSuffix(p[:n], []byte("\r\n.\r\n"))
	} else if i := bytes.IndexByte(p[:n], '\n'); i >= 0 {
		n = i + 1
	}
	return n, err
}

func (l *losing) Write(p []byte) (int, error) {
	l.message = bytes.HasPrefix(p, []byte("354"))
	return l.Conn.Write(p)
}

// doubling answers each command of a group twice.
type doubling struct {
	net.Conn
	group bool
}

func (d *doubling) Read(p []byte) (int, error) {
	n, err := d.Conn.Read(p)
	d.group = bytes.HasPrefix(p, []byte("MAIL")) && bytes.Count(p[:n], []byte("\n")) > 1
	return n, err
}

func (d *doubling) Write(p []byte) (int, error) {
	if !d.group || bytes.Contains(p, []byte("\n250-")) || bytes.HasPrefix(p, []byte("250-")) {
		return d.Conn.Write(p)
	}
	var twice []byte
	for line := range bytes.Lines(p) {
		twice = append(append(twice, line...), line...)
	}
	_, err := d.Conn.Write(twice)
	return len(p), err
}

// deafTo hangs up at a verb.
type deafTo struct {
	net.Conn
	verb string
}

func (d *deafTo) Read(p []byte) (int, error) {
	n, err := d.Conn.Read(p)
	if bytes.HasPrefix(p[:n], []byte(d.verb)) {
		_ = d.Conn.Close()
	}
	return n, err
}

// onlyTo answers everything but the RCPT of those whom it does not serve.
func onlyTo(own string) func(context.Context, open.Asked) open.Answer {
	return func(ctx context.Context, a open.Asked) open.Answer {
		if strings.HasSuffix(strings.ToLower(a.To.String()), own+">") {
			return postmasterOnly(ctx, a)
		}
		time.Sleep(time.Hour)
		return open.Answer{Reply: mail.NewReply(550, "5.7.1", "relaying denied")}
	}
}

// Servers that are odd and not open, and the same open to somebody: what is
// odd is found out and gone along with, in a time that somebody waits for.
func TestOddServers(t *testing.T) {
	localSender := func(ctx context.Context, a open.Asked) open.Answer {
		if a.From.Address().String() == "postmaster@ours.example" {
			return open.Answer{Reply: mail.NewReply(250, "2.1.5", "ok"), Next: a.To.Address()}
		}
		return postmasterOnly(ctx, a)
	}
	plain := func(c net.Conn) net.Conn { return c }
	for _, c := range []struct {
		name   string
		server open.SMTP
		wire   func(net.Conn) net.Conn
		want   verdict.Verdict
		atMost time.Duration
	}{
		{"loses what is pipelined", open.SMTP{Rule: postmasterOnly}, func(c net.Conn) net.Conn { return &losing{Conn: c} }, verdict.Closed, 2 * time.Minute},
		{"loses what is pipelined, and trusts a sender", open.SMTP{Rule: localSender}, func(c net.Conn) net.Conn { return &losing{Conn: c} }, verdict.Open, 2 * time.Minute},
		{"answers what is pipelined twice", open.SMTP{Rule: postmasterOnly}, func(c net.Conn) net.Conn { return &doubling{Conn: c} }, verdict.Closed, 2 * time.Minute},
		{"answers what is pipelined twice, and trusts a sender", open.SMTP{Rule: localSender}, func(c net.Conn) net.Conn { return &doubling{Conn: c} }, verdict.Open, 2 * time.Minute},
		{"hangs up at EHLO", open.SMTP{Rule: postmasterOnly}, func(c net.Conn) net.Conn { return &deafTo{c, "EHLO"} }, verdict.Closed, 2 * time.Minute},
		{"hangs up at EHLO, and trusts a sender", open.SMTP{Rule: localSender}, func(c net.Conn) net.Conn { return &deafTo{c, "EHLO"} }, verdict.Open, 2 * time.Minute},
		{"holds its banner for ten seconds", open.SMTP{Rule: postmasterOnly, Pause: 10 * time.Second}, plain, verdict.Closed, 100 * time.Second},
		{"never answers a stranger's RCPT", open.SMTP{Rule: onlyTo("@ours.example")}, plain, verdict.Inconclusive, 5 * time.Minute},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := &world{}
			c.server.Name, c.server.Sink, c.server.Limits = "mx.ours.example", w, limits()
			w.server = wired{c.server, c.wire}
			j, took := w.audit(t, check.Options{Wait: 20 * time.Second})
			t.Logf("%s: %s in %s after %d sessions (%s)", c.name, j.Verdict, took, w.dials, j.Why)
			if j.Verdict != c.want || took > c.atMost {
				t.Errorf("%s: %s in %s (%s), want %s in %s", c.name, j.Verdict, took, j.Why, c.want, c.atMost)
			}
		})
	}
}
