package deliver

import (
	"cmp"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"postern/internal/queue"
	"postern/mail"
)

// A client's wish is not the message's need: a server without an extension gets
// what does without it, and is spared the rest.
func TestWhatAMessageNeeds(t *testing.T) {
	const ascii, header, body = "Subject: x\r\n\r\nhello\r\n", "Subject: \u00fc\r\n\r\nhello\r\n", "Subject: x\r\n\r\nh\u00e4llo\r\n"
	utf8 := mail.SenderParams{UTF8: true}
	eight := mail.SenderParams{Body: mail.Body8BitMIME}
	both := mail.SenderParams{UTF8: true, Body: mail.Body8BitMIME}
	for _, c := range []struct {
		name     string
		text     string
		params   mail.SenderParams
		from, to string
		without  []string
		want     string // what the server got, or what was said
	}{
		{"SMTPUTF8, all ASCII", ascii, utf8, "", "", []string{"SMTPUTF8"}, "<anna@ours.example> <b@far.example>"},
		{"SMTPUTF8, text of eight bits", body, both, "", "", []string{"SMTPUTF8"}, "<anna@ours.example> <b@far.example>"},
		{"SMTPUTF8, a header in UTF-8", header, utf8, "", "", []string{"SMTPUTF8"}, "failed 5.6.3 SMTPUTF8"},
		{"SMTPUTF8, a header in UTF-8 that ends the message", "Subject: \u00fc\r\n", utf8, "", "", []string{"SMTPUTF8"}, "failed 5.6.3 SMTPUTF8"},
		{"SMTPUTF8, a header in UTF-8 and a server that can", header, both, "", "", nil, "<anna@ours.example> <b@far.example>"},
		{"8BITMIME, all ASCII", ascii, eight, "", "", []string{"8BITMIME"}, "<anna@ours.example> <b@far.example>"},
		{"8BITMIME, text of eight bits", body, eight, "", "", []string{"8BITMIME"}, "failed 5.6.3 8BITMIME"},
		{"8BITMIME, a header of eight bits", header, eight, "", "", []string{"8BITMIME"}, "failed 5.6.3 8BITMIME"},
		{"both, all ASCII, a server with neither", ascii, both, "", "", []string{"8BITMIME", "SMTPUTF8"}, "<anna@ours.example> <b@far.example>"},
		{"U-labels", ascii, utf8, "<anna@b\u00fccher.example>", "<b@b\u00fccher.example>", []string{"SMTPUTF8"}, "<anna@xn--bcher-kva.example> <b@xn--bcher-kva.example>"},
		{"U-labels and a server that can", ascii, utf8, "", "<b@b\u00fccher.example>", nil, "<anna@ours.example> <b@b\u00fccher.example>"},
		{"a local part in UTF-8", ascii, utf8, "", "<b\u00e4r@far.example>", []string{"SMTPUTF8"}, "failed 5.6.3 SMTPUTF8"},
		{"the null reverse-path", ascii, utf8, "<>", "", []string{"SMTPUTF8"}, "<> <b@far.example>"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, nil, func(w *world) {
				w.mx("far.example", "10 mx.far.example")
				w.mx("xn--bcher-kva.example", "10 mx.far.example")
				n := w.host("mx.far.example", &node{without: c.without}, "198.51.100.1:25")
				w.text = c.text
				from, to := cmp.Or(c.from, "<anna@ours.example>"), cmp.Or(c.to, "<b@far.example>")
				w.sendWith(func(l *queue.Letter) { silently(l); l.Params = c.params }, from, to)
				after(10 * time.Second)
				got := strings.Join(n.messages(), "; ")
				if got == "" {
					_, got, _ = strings.Cut(strings.Join(w.events(), "; "), " ")
				}
				if !strings.HasPrefix(got, c.want) {
					t.Errorf("got %q, want %q", got, c.want)
				}
			})
		})
	}
}

// A host that offers chunks and cannot take them gets the message once more by
// DATA, and others for a while at once so.
func TestChunksThatAreOfferedAndNotTaken(t *testing.T) {
	for _, refusal := range []string{"500 5.5.1 what?", "502 5.5.2 Command not implemented", "503 bad sequence", "504 no"} {
		t.Run(refusal, func(t *testing.T) {
			bubble(t, nil, func(w *world) {
				w.mx("far.example", "10 mx.far.example")
				w.host("mx.far.example", &node{}, "198.51.100.1:25")
				var verbs []string
				w.fronts = map[string]func(net.Conn){"198.51.100.1:25": says(func(line string) string {
					verb, _, _ := strings.Cut(line, " ")
					w.mu.Lock()
					defer w.mu.Unlock()
					switch verb {
					case "banner":
						return "220 firewall"
					case "EHLO":
						return "250-mx\r\n250 CHUNKING"
					case "BDAT", "DATA":
						verbs = append(verbs, verb)
					case "QUIT":
						return "221 bye"
					case ".":
						return "250 2.0.0 taken"
					}
					switch verb {
					case "BDAT":
						return refusal
					case "DATA":
						return "354 go on"
					}
					return "250 ok"
				})}
				for _, c := range []struct {
					wait time.Duration
					want string
				}{{0, "BDAT DATA"}, {30 * time.Minute, "DATA"}, {time.Hour, "BDAT DATA"}} {
					after(c.wait)
					verbs = nil
					w.sendWith(silently, "<anna@ours.example>", "<b@far.example>")
					after(10 * time.Second)
					if got, said := strings.Join(verbs, " "), w.events(); got != c.want || len(said) != 1 || !strings.HasPrefix(said[0], "b@far.example delivered") {
						t.Errorf("after %s: %s, %q; want %s and delivered", c.wait, got, said, c.want)
					}
				}
			})
		})
	}
}

// A server that does not know a command, or finds it out of place, has said
// nothing of the message.
func TestRepliesThatAreAboutCommands(t *testing.T) {
	for _, c := range []struct {
		reply mail.Reply
		state string
	}{
		{mail.NewReply(503, "", "bad sequence of commands"), "waiting"},
		{mail.NewReply(502, "5.5.1", "not implemented"), "waiting"},
		{mail.NewReply(500, "", "what?"), "waiting"},
		{mail.NewReply(503, "5.7.1", "log in first"), "failed"},
		{mail.NewReply(501, "5.1.3", "bad address"), "failed"},
		{mail.NewReply(550, "5.5.1", "no"), "failed"},
	} {
		for _, at := range []string{"MAIL", "RCPT", "the end"} {
			t.Run(fmt.Sprint(at, " ", c.reply), func(t *testing.T) {
				bubble(t, nil, func(w *world) {
					w.mx("far.example", "10 mx.far.example")
					n := &node{}
					switch at {
					case "MAIL":
						n.mail = c.reply
					case "RCPT":
						n.rcpt = func(string) mail.Reply { return c.reply }
					default:
						n.data = func() mail.Reply { return c.reply }
						n.without = []string{"CHUNKING"}
					}
					w.host("mx.far.example", n, "198.51.100.1:25")
					w.sendWith(silently, "<anna@ours.example>", "<b@far.example>")
					after(10 * time.Second)
					want := c.state
					if at == "the end" {
						want = "failed" // what is said behind the message is about it
					}
					if diff := gocmp.Diff([]string{"b@far.example " + want + " " + c.reply.String()}, w.events()); diff != "" {
						t.Error(diff)
					}
				})
			})
		}
	}
}
