package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	_ "net/http/pprof" // for PPROF=address, when a target was missed
	"os"

	gosmtp "github.com/emersion/go-smtp"

	"postern/mail"
	"postern/smtp"
)

// serve runs one of the Go servers until ctx ends.
func serve(ctx context.Context, which, address string) error {
	if at := os.Getenv("PPROF"); at != "" {
		go func() { _ = http.ListenAndServe(at, nil) }() //nolint:gosec // a bench on loopback
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	switch which {
	case "postern":
		server := &smtp.Server{
			Name: "sink.example", Handler: discard{},
			Limits: smtp.Limits{Connections: -1, PerClient: -1, PerNetwork: -1, Messages: -1, Recipients: 1000},
		}
		return server.Run(ctx, l)
	case "go-smtp":
		server := gosmtp.NewServer(gosmtp.BackendFunc(func(*gosmtp.Conn) (gosmtp.Session, error) { return goDiscard{}, nil }))
		server.Domain = "sink.example"
		server.ErrorLog = log.New(io.Discard, "", 0) // clients that go without QUIT
		return server.Serve(l)
	}
	return fmt.Errorf("unknown server %q", which)
}

var ok = mail.NewReply(250, "2.0.0", "OK")

type discard struct{}

func (discard) Connect(context.Context, *smtp.Peer) (smtp.Session, mail.Reply) {
	return discard{}, mail.Reply{}
}
func (discard) Hello(context.Context, string, bool) mail.Reply { return mail.Reply{} }
func (discard) Mail(context.Context, mail.ReversePath, mail.SenderParams) mail.Reply {
	return mail.Reply{}
}

func (discard) Rcpt(context.Context, mail.ForwardPath, mail.RecipientParams) mail.Reply { return ok }

func (discard) Data(_ context.Context, body io.Reader) mail.Reply {
	if _, err := io.Copy(io.Discard, body); err != nil {
		return mail.Reply{}
	}
	return ok
}
func (discard) Reset()      {}
func (discard) Close(error) {}

type goDiscard struct{}

func (goDiscard) Mail(string, *gosmtp.MailOptions) error { return nil }
func (goDiscard) Rcpt(string, *gosmtp.RcptOptions) error { return nil }
func (goDiscard) Data(r io.Reader) error                 { _, err := io.Copy(io.Discard, r); return err }
func (goDiscard) Reset()                                 {}
func (goDiscard) Logout() error                          { return nil }
