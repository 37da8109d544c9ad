package smtp

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"

	"postern/mail"
)

// sink is a session that takes everything and remembers it.
type sink struct {
	log   []string
	mails []taken
	from  mail.ReversePath
	to    []mail.ForwardPath
	ended []error
}

type taken struct {
	from mail.ReversePath
	to   []mail.ForwardPath
	body string
	err  error
}

func (s *sink) Hello(context.Context, string, bool) mail.Reply { return mail.Reply{} }
func (s *sink) Mail(_ context.Context, from mail.ReversePath, _ mail.SenderParams) mail.Reply {
	s.from = from
	return mail.Reply{}
}

func (s *sink) Rcpt(_ context.Context, to mail.ForwardPath, _ mail.RecipientParams) mail.Reply {
	if strings.HasPrefix(to.Address().Local(), "no") {
		return mail.NewReply(550, "5.1.1", "no such mailbox")
	}
	s.to = append(s.to, to)
	return replyOK
}

func (s *sink) Data(_ context.Context, body io.Reader) mail.Reply {
	b, err := io.ReadAll(body)
	s.mails = append(s.mails, taken{s.from, s.to, string(b), err})
	return replyOK
}
func (s *sink) Reset()          { s.from, s.to = mail.ReversePath{}, nil }
func (s *sink) Close(err error) { s.ended = append(s.ended, err) }

// talk sends input as one stream in pieces of step octets to a server and
// returns all that it answers.
func talk(t testing.TB, srv *Server, step int, input string) (string, error) {
	t.Helper()
	client, server := net.Pipe()
	done := make(chan error, 1)
	go func() { done <- srv.ServeConn(t.Context(), server) }()
	go func() {
		for rest := input; rest != ""; {
			n := min(step, len(rest))
			if _, err := client.Write([]byte(rest[:n])); err != nil {
				break
			}
			rest = rest[n:]
		}
		if !strings.Contains(input, "QUIT\r\n") {
			client.Close()
		}
	}()
	var b strings.Builder
	r := bufio.NewReader(client)
	_, _ = io.Copy(&b, r)
	client.Close()
	return b.String(), <-done
}

func codes(replies string) string {
	var list []string
	for line := range strings.Lines(replies) {
		if len(line) > 3 && line[3] != '-' {
			list = append(list, line[:3])
		}
	}
	return strings.Join(list, " ")
}

func TestSmoke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sink{}
		srv := &Server{Name: "mx.example", Handler: HandlerFunc(func(context.Context, *Peer) (Session, mail.Reply) { return s, mail.Reply{} })}
		out, err := talk(t, srv, 7, "EHLO c\r\nMAIL FROM:<a@b.example> SIZE=10\r\nRCPT TO:<c@d.example>\r\nDATA\r\nhello\r\n..dot\r\n.\r\nMAIL FROM:<>\r\nRCPT TO:<c@d.example>\r\nBDAT 7\r\nhello\r\nBDAT 3 LAST\r\n.\r\nQUIT\r\n")
		fmt.Println(out, err, errors.Is(err, ErrClosed))
		fmt.Printf("%+v\n", s.mails)
	})
}
