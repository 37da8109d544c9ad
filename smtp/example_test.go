package smtp_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"

	"postern/mail"
	"postern/smtp"
	"postern/transcript"
)

// A mailbox is a session that takes mail for one address.
type mailbox struct{ owner mail.Address }

func (m mailbox) Hello(context.Context, string, bool) mail.Reply { return mail.Reply{} }

func (m mailbox) Mail(context.Context, mail.ReversePath, mail.SenderParams) mail.Reply {
	return mail.Reply{} // any sender
}

func (m mailbox) Rcpt(_ context.Context, to mail.ForwardPath, _ mail.RecipientParams) mail.Reply {
	if !to.Address().Equal(m.owner) {
		return mail.NewReply(550, "5.7.1", "We do not relay")
	}
	return mail.NewReply(250, "2.1.5", "OK")
}

func (m mailbox) Data(_ context.Context, body io.Reader) mail.Reply {
	text, err := io.ReadAll(body)
	if err != nil {
		return mail.Reply{} // cut off: there is nobody to answer
	}
	fmt.Printf("arrived: %q\n", text)
	return mail.NewReply(250, "2.0.0", "Kept")
}

func (m mailbox) Reset()      {}
func (m mailbox) Close(error) {}

// A server for one mailbox, and a client that delivers to it and to another
// one. Any net.Conn will do for both; this one is a pipe in memory.
func Example() {
	ctx := context.Background()
	owner, _ := mail.ParseAddress("anna@example.org")
	server := &smtp.Server{
		Name: "mx.example.org",
		Handler: smtp.HandlerFunc(func(context.Context, *smtp.Peer) (smtp.Session, mail.Reply) {
			return mailbox{owner}, mail.Reply{}
		}),
	}
	here, there := net.Pipe()
	go func() { _ = server.ServeConn(ctx, there) }()

	client, err := smtp.NewClient(ctx, here, smtp.ClientOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := client.Hello(ctx, "client.example.net"); err != nil {
		fmt.Println(err)
		return
	}
	stranger, _ := mail.ParseAddress("ben@far.example")
	envelope := mail.Envelope{
		From: mail.NullPath(),
		To:   []mail.Recipient{{Path: mail.ForwardTo(owner)}, {Path: mail.ForwardTo(stranger)}},
	}
	results, reply, err := client.Send(ctx, envelope, strings.NewReader("Subject: hello\r\n\r\n.\r\n"))
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, r := range results {
		fmt.Println(r.To, r.Reply)
	}
	fmt.Println(reply)
	_ = client.Quit(ctx)
	// Output:
	// arrived: "Subject: hello\r\n\r\n.\r\n"
	// <anna@example.org> 250 2.1.5 OK
	// <ben@far.example> 550 5.7.1 We do not relay
	// 250 2.0.0 Kept
}

// The auditor's face sends any octets and records all of them.
func ExampleRaw() {
	ctx := context.Background()
	server := &smtp.Server{
		Name: "mx.example.org",
		Handler: smtp.HandlerFunc(func(context.Context, *smtp.Peer) (smtp.Session, mail.Reply) {
			return mailbox{}, mail.Reply{}
		}),
	}
	here, there := net.Pipe()
	go func() { _ = server.ServeConn(ctx, there) }()

	record := &transcript.Transcript{}
	raw := smtp.NewRaw(here, record)
	if _, err := raw.Reply(ctx); err != nil {
		fmt.Println(err)
		return
	}
	for _, line := range []string{"HELO x", "MAIL FROM:<\x7f>"} {
		if _, err := raw.Command(ctx, line); err != nil {
			fmt.Println(err)
			return
		}
	}
	fmt.Print(record)
	// Output:
	// <-  220 mx.example.org ESMTP Postern
	//  -> HELO x
	// <-  250 mx.example.org
	//  -> MAIL FROM:<\x7f>
	// <-  500 5.5.2 Control character in the command; closing
}
