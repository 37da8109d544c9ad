package collect_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/smtp"
	"time"

	"postern/collect"
	"postern/mail"
)

// A collector in this process: a relay that takes the probe's message brings
// it here.
func ExampleLocal() {
	domain, _ := mail.ParseDomain("probe.example")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	local, err := collect.NewLocal(collect.Config{Domain: domain, Listeners: []net.Listener{listener}})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- local.Run(ctx) }()

	fmt.Println("preflight:", local.Preflight(ctx))
	tokens, _ := local.Tokens(ctx, 1, time.Hour)
	to := local.Recipient(tokens[0]).String()

	// What an open relay does with it:
	relay := func(to string) error {
		c, err := smtp.Dial(listener.Addr().String())
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }()
		if err := errors.Join(c.Mail("s@probe.example"), c.Rcpt(to)); err != nil {
			return err
		}
		w, err := c.Data()
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "Subject: hello\r\n\r\nbody\r\n")
		return w.Close()
	}
	fmt.Println("stranger:", relay("somebody@probe.example"))
	fmt.Println("probe:", relay(to))

	list, _, _ := local.Arrivals(ctx, 0)
	fmt.Println("arrived:", list[0].Tokens[0] == tokens[0], list[0].Kind, "from", list[0].Peer.Addr())
	cancel()
	fmt.Println("end:", <-ended)
	// Output:
	// preflight: <nil>
	// stranger: 550 "5.7.1 this host takes only the probes of its own relay tests, and relays nothing"
	// probe: <nil>
	// arrived: true message from 127.0.0.1
	// end: <nil>
}
