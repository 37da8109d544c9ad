package probe

import (
	"context"
	"net"
	"testing"

	"postern/transcript"
	"postern/verdict"
)

// A counted connection knows how often it was written to.
type counted struct {
	net.Conn
	writes int
}

func (c *counted) Write(p []byte) (int, error) {
	c.writes++
	return c.Conn.Write(p)
}

func TestAsk(t *testing.T) {
	for _, test := range []struct {
		name, hello, mail, rcpt string
		writes                  int
		reply                   string
		atMail                  bool
	}{
		{"pipelined", "250-mx.ours.example\n250 PIPELINING", "250 ok", "550 5.1.1 unknown", 1, "550 5.1.1 unknown", false},
		{"pipelined, sender refused", "250-mx.ours.example\n250 PIPELINING", "553 5.1.8 no such domain", "503 5.5.1 MAIL first", 1, "553 5.1.8 no such domain", true},
		{"stepwise", "250 mx.ours.example", "250 ok", "550 5.1.1 unknown", 3, "550 5.1.1 unknown", false},
		{"stepwise, sender refused", "250 mx.ours.example", "553 5.1.8 no such domain", "503 5.5.1 MAIL first", 2, "553 5.1.8 no such domain", true},
		{"hung up after the sender", "250-mx.ours.example\n250 PIPELINING", "250 ok", "hangup", 1, "", false},
		{"hung up on a refused sender", "250-mx.ours.example\n250 PIPELINING", "550 no", "hangup", 1, "550 no", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := &script{banner: "220 mx.ours.example", replies: map[string]string{"EHLO": test.hello, "MAIL": test.mail, "RCPT": test.rcpt}}
			client, server := net.Pipe()
			conn := &counted{Conn: client}
			go s.serve(server)
			v, err := SMTP{Helo: "tester.example", Dial: func(context.Context) (net.Conn, error) { return conn, nil }}.Open(t.Context(), &transcript.Transcript{})
			if err != nil {
				t.Fatal(err)
			}
			defer v.Close()
			conn.writes = 0
			asked, err := v.Ask(t.Context(), "a@far.example", []verdict.Asked{{Control: verdict.UnknownRecipient, Recipient: "nosuch@ours.example"}})
			if (err != nil) != (test.rcpt == "hangup") {
				t.Errorf("error %v", err)
			}
			if conn.writes != test.writes {
				t.Errorf("%d writes, want %d", conn.writes, test.writes)
			}
			got := verdict.Asked{}
			if len(asked) > 0 {
				got = asked[0]
			}
			if got.Reply.String() != test.reply && (test.reply != "" || len(asked) > 0) || got.AtMail != test.atMail {
				t.Errorf("%q, refused at MAIL: %t; want %q, %t", got.Reply, got.AtMail, test.reply, test.atMail)
			}
		})
	}
}
