package lab

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"strings"
	"sync"
	"time"

	"postern/mail"
	"postern/open"
	"postern/smtp"
)

// A sink hands on what a specimen took: to the collector on loopback, whatever
// the recipient's domain, and to nobody else.
type sink struct {
	name      string
	from      netip.Addr // of the connection; zero: any of this machine's
	collector netip.AddrPort
	handed    func(open.Message, error)
	running   *sync.WaitGroup // the lab waits for what is on its way
}

// Take relays to the collector and bounces to it. Delivery goes on after the
// answer to the client, as in any server with a queue.
func (s *sink) Take(ctx context.Context, m open.Message) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	s.running.Go(func() {
		defer cancel()
		var errs []error
		if len(m.To) > 0 {
			errs = append(errs, s.send(ctx, m.From, m.To, m.Body))
		}
		if len(m.Bounce) > 0 && !m.From.Null() {
			errs = append(errs, s.send(ctx, mail.NullPath(), []mail.Address{m.From.Address()}, s.notice(m)))
		}
		s.handed(m, errors.Join(errs...))
	})
	return nil
}

func (s *sink) send(ctx context.Context, from mail.ReversePath, to []mail.Address, body []byte) error {
	conn, err := dial(ctx, s.from, s.collector)
	if errors.Is(err, errContained) {
		return err
	}
	if err != nil {
		return fmt.Errorf("no collector listens on %s: %w", s.collector, err)
	}
	defer conn.Close()
	c, err := smtp.NewClient(ctx, conn, smtp.ClientOptions{})
	if err != nil {
		return err
	}
	if err := c.Hello(ctx, s.name); err != nil {
		return err
	}
	e := mail.Envelope{From: from}
	for _, a := range to {
		e.To = append(e.To, mail.Recipient{Path: mail.ForwardTo(a)})
	}
	_, r, err := c.Send(ctx, e, strings.NewReader(string(body)))
	if err != nil {
		return err
	}
	if !r.Positive() {
		return fmt.Errorf("the collector refused: %s", r)
	}
	return c.Quit(ctx)
}

// notice is a delivery status notice as the decoy that bounces writes it
// (RFC 3464), with the returned message's header section.
func (s *sink) notice(m open.Message) []byte {
	const boundary = "lab-notice"
	header, _, _ := strings.Cut(string(m.Body), "\r\n\r\n")
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\r\n", args...) }
	line("From: <mailer-daemon@%s>", s.name)
	line("To: %s", m.From)
	line("Subject: Undelivered mail")
	line("Date: %s", time.Now().Format("Mon, 2 Jan 2006 15:04:05 -0700"))
	line("Auto-Submitted: auto-replied")
	line("MIME-Version: 1.0")
	line("Content-Type: multipart/report; report-type=delivery-status; boundary=%s", boundary)
	line("")
	line("--%s\r\n", boundary)
	line("There is no such mailbox here.")
	line("--%s\r\nContent-Type: message/delivery-status\r\n", boundary)
	line("Reporting-MTA: dns; %s\r\n", s.name)
	for _, a := range m.Bounce {
		line("Final-Recipient: rfc822; %s\r\nAction: failed\r\nStatus: 5.1.1\r\n", a)
	}
	line("--%s\r\nContent-Type: text/rfc822-headers\r\n", boundary)
	line("%s", header)
	line("--%s--", boundary)
	return []byte(b.String())
}

// certificate makes a self-signed certificate for specimens that offer TLS.
func certificate() *tls.Config {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err) // crypto/rand does not fail
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: Domain.String()}, DNSNames: []string{Domain.String()},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		panic(err) // nor does a template of our own
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: private}}}
}
