package smtp

import (
	"bufio"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
)

// A talker is a server that says what it is told, whatever is asked of it.
type talker struct {
	extensions string // lines of the reply to EHLO
	rcpt, data []string
	bdat       []string // to BDAT, before the chunk is read
	end        string   // to the end of a message
	lines      []string // what it took for commands
}

func (s *talker) serve(c net.Conn) {
	defer c.Close()
	in := bufio.NewReader(c)
	say := func(parts ...string) {
		for _, p := range parts {
			_, _ = io.WriteString(c, p)
		}
	}
	say("220 talker\r\n")
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		s.lines = append(s.lines, strings.TrimSpace(line))
		switch verb, _, _ := strings.Cut(strings.TrimSpace(line), " "); verb {
		case "EHLO", "LHLO":
			say("250-talker\r\n" + s.extensions + "250 HELP\r\n")
		case "RCPT":
			say(s.rcpt...)
		case "DATA":
			say(s.data...)
			for line != ".\r\n" {
				if line, err = in.ReadString('\n'); err != nil {
					return
				}
			}
			say(s.end)
		case "BDAT":
			say(s.bdat...)
			if len(s.bdat) > 0 {
				continue // it reads the chunk as commands
			}
			_, _ = io.CopyN(io.Discard, in, int64(len(earlyText)))
			say(s.end)
		case "MAIL":
			say("250 ok\r\n")
		default:
			say("500 5.5.1 unknown\r\n")
		}
	}
}

const earlyText = "Subject: x\r\n\r\nhello\r\n"

// What a server says before it has the message is no word about it, however it
// cuts its words; a refusal counts at once.
func TestRepliesThatComeTooEarly(t *testing.T) {
	const pipelining, chunking = "250-PIPELINING\r\n", "250-CHUNKING\r\n"
	for _, c := range []struct {
		name  string
		s     talker
		lmtp  bool
		fails error
		final int
	}{
		{name: "in time", s: talker{data: []string{"354 go\r\n"}, end: "250 taken\r\n"}, final: 250},
		{name: "in time, in a group", s: talker{extensions: pipelining, data: []string{"354 go\r\n"}, end: "250 taken\r\n"}, final: 250},
		{name: "in time, a chunk", s: talker{extensions: chunking, end: "250 taken\r\n"}, final: 250},
		{name: "in time, over LMTP", lmtp: true, s: talker{data: []string{"354 go\r\n"}, end: "250 taken\r\n"}, final: 250},
		{name: "with 354", s: talker{data: []string{"354 go\r\n250 taken\r\n"}, end: "554 no\r\n"}, fails: ErrEarly},
		{name: "behind 354", s: talker{data: []string{"354 go\r\n", "250 taken\r\n"}, end: "554 no\r\n"}, fails: ErrEarly},
		{name: "behind 354, in a group", s: talker{extensions: pipelining, data: []string{"354 go\r\n", "250 taken\r\n"}, end: "554 no\r\n"}, fails: ErrEarly},
		{name: "behind 354, over LMTP", lmtp: true, s: talker{data: []string{"354 go\r\n", "250 taken\r\n"}, end: "554 no\r\n"}, fails: ErrEarly},
		{name: "the half of a reply", s: talker{data: []string{"354 go\r\n250-ta", "ken\r\n250 x\r\n"}, end: "554 no\r\n"}, fails: ErrEarly},
		{name: "no reply at all", s: talker{data: []string{"354 go\r\n", "hello\r\n"}, end: "554 no\r\n"}, fails: ErrEarly},
		{name: "before a chunk", s: talker{extensions: chunking, rcpt: []string{"250 ok\r\n", "250 taken\r\n"}, end: "554 no\r\n"}, fails: ErrEarly},
		{name: "with RCPT, before DATA", s: talker{rcpt: []string{"250 ok\r\n250 taken\r\n"}, end: "554 no\r\n"}, fails: &ReplyError{}},
		{name: "a refusal behind 354", s: talker{data: []string{"354 go\r\n", "552 5.3.4 too large\r\n"}, end: "250 ok\r\n"}, final: 552},
		{name: "a refusal behind 354, over LMTP", lmtp: true, s: talker{data: []string{"354 go\r\n", "451 4.3.0 later\r\n"}, end: "250 ok\r\n"}, final: 451},
		{name: "BDAT is not known", s: talker{extensions: chunking, bdat: []string{"502 5.5.2 what?\r\n"}}, fails: ErrNoChunks},
		{name: "BDAT is not known, in one word", s: talker{extensions: chunking, bdat: []string{"500\r\n"}}, fails: ErrNoChunks},
		{name: "BDAT is out of sequence", s: talker{extensions: pipelining + chunking, bdat: []string{"503 bad sequence\r\n"}}, fails: ErrNoChunks},
		{name: "BDAT is not known, over LMTP", lmtp: true, s: talker{extensions: chunking, bdat: []string{"504 no\r\n"}}, fails: ErrNoChunks},
		{name: "the message is refused with 500", s: talker{extensions: chunking, end: "500 5.6.0 line too long\r\n"}, final: 500},
		{name: "the message is refused with 554", s: talker{extensions: chunking, end: "554 5.7.1 spam\r\n"}, final: 554},
	} {
		synctest.Test(t, func(t *testing.T) {
			if c.s.rcpt == nil {
				c.s.rcpt = []string{"250 ok\r\n"}
			}
			ours, theirs := net.Pipe()
			ended := make(chan struct{})
			go func() { defer close(ended); c.s.serve(theirs) }()
			defer func() { ours.Close(); <-ended }()
			client, err := NewClient(t.Context(), ours, ClientOptions{LMTP: c.lmtp})
			if err == nil {
				err = client.Hello(t.Context(), "c.example")
			}
			if err != nil {
				t.Fatal(err)
			}
			_, final, err := client.Send(t.Context(), envelope(t, "c@d.example"), strings.NewReader(earlyText))
			var reply *ReplyError
			matches := errors.Is(err, c.fails) || errors.As(c.fails, &reply) && errors.As(err, &reply)
			if (err == nil) != (c.fails == nil) || !matches || err == nil && final.Code != c.final {
				t.Errorf("%s: %v, %v; want %d, %v\nthe server heard %q", c.name, final, err, c.final, c.fails, c.s.lines)
			}
		})
	}
}

// An extension that is offered and not to be used is not used.
func TestClientWithoutAnExtension(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := talker{extensions: "250-CHUNKING\r\n", rcpt: []string{"250 ok\r\n"}, data: []string{"354 go\r\n"}, end: "250 taken\r\n"}
		ours, theirs := net.Pipe()
		ended := make(chan struct{})
		go func() { defer close(ended); s.serve(theirs) }()
		defer func() { ours.Close(); <-ended }()
		client, err := NewClient(t.Context(), ours, ClientOptions{Without: []string{"chunking"}})
		if err == nil {
			err = client.Hello(t.Context(), "c.example")
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, final, err := client.Send(t.Context(), envelope(t, "c@d.example"), strings.NewReader(earlyText)); err != nil || final.Code != 250 {
			t.Errorf("%v, %v", final, err)
		}
		if !strings.Contains(strings.Join(s.lines, "|"), "|DATA") {
			t.Errorf("the server heard %q", s.lines)
		}
	})
}
