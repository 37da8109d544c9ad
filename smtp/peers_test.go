package smtp

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/internal/netop"
	"postern/internal/peers"
	"postern/mail"
)

var update = flag.Bool("update", false, "write docs/wire.md anew from what the servers say")

// A trick is a conversation that servers answer differently. The pieces are
// sent one after the other; each waits for what the server says to it.
type trick struct {
	name   string
	pieces []string
}

const (
	hi       = "EHLO tester.example\r\n"
	null     = "MAIL FROM:<>\r\n"
	known    = "RCPT TO:<postmaster@victim.example>\r\n"
	header   = "From: <postmaster@far.example>\r\nDate: Mon, 23 Nov 2026 10:00:00 +0000\r\nMessage-ID: <trick@far.example>\r\n\r\n"
	endOfAll = "\r\n.\r\n"
)

var tricks = []trick{
	{"`LF . LF` in a message", []string{hi, null, known, "DATA\r\n", header + "x\n.\n", "RSET\r\n", endOfAll}},
	{"`LF . CRLF` in a message", []string{hi, null, known, "DATA\r\n", header + "x\n.\r\n", "RSET\r\n", endOfAll}},
	{"`CRLF . LF` in a message", []string{hi, null, known, "DATA\r\n", header + "x\r\n.\n", "RSET\r\n", endOfAll}},
	{"`CR . CR` in a message", []string{hi, null, known, "DATA\r\n", header + "x\r.\r", "RSET\r\n", endOfAll}},
	{"`CRLF . CR` in a message", []string{hi, null, known, "DATA\r\n", header + "x\r\n.\r", "RSET\r\n", endOfAll}},
	{"`CR CRLF . CR CRLF` in a message", []string{hi, null, known, "DATA\r\n", header + "x\r\r\n.\r\r\n", "RSET\r\n", endOfAll}},
	{"a bare LF in a line of a message", []string{hi, null, known, "DATA\r\n", header + "x\ny" + endOfAll}},
	{"a bare CR in a line of a message", []string{hi, null, known, "DATA\r\n", header + "x\ry" + endOfAll}},
	{"a NUL in a message", []string{hi, null, known, "DATA\r\n", header + "x\x00y" + endOfAll}},
	{"a line of 2,000 octets in a message", []string{hi, null, known, "DATA\r\n", header + strings.Repeat("x", 2000) + endOfAll}},
	{"commands behind the end, in its segment", []string{hi, null, known, "DATA\r\n", header + "x" + endOfAll + "NOOP\r\nNOOP\r\n"}},
	{"commands that end in LF", []string{"EHLO tester.example\n", "NOOP\n"}},
	{"a bare CR in a command", []string{hi, "NOOP x\rRSET\r\n"}},
	{"a NUL in a command", []string{hi, "NOOP x\x00y\r\n"}},
	{"a command of 600 octets", []string{hi, "NOOP " + strings.Repeat("x", 593) + "\r\n"}},
	{"a command of 20,000 octets", []string{hi, "NOOP " + strings.Repeat("x", 19993) + "\r\n", "RSET\r\n"}},
	{"a group of commands", []string{hi, null + known + "RSET\r\nNOOP\r\n"}},
	{"a group before the banner and EHLO", []string{hi + null + known}},
	{"MAIL without EHLO", []string{"MAIL FROM:<>\r\n"}},
	{"EHLO without a name", []string{"EHLO\r\n"}},
	{"EHLO with two names", []string{"EHLO a b\r\n"}},
	{"DATA before an accepted RCPT", []string{hi, null, "DATA\r\n"}},
	{"DATA after refused recipients", []string{hi, null, "RCPT TO:<x@far.example>\r\n", "DATA\r\n"}},
	{"MAIL twice", []string{hi, null, "MAIL FROM:<>\r\n"}},
	{"RSET with a parameter", []string{hi, "RSET x\r\n"}},
	{"no brackets", []string{hi, "MAIL FROM:postmaster@victim.example\r\n"}},
	{"a space behind the colon", []string{hi, "MAIL FROM: <>\r\n"}},
	{"a source route", []string{hi, null, "RCPT TO:<@victim.example:postmaster@victim.example>\r\n"}},
	{"two at signs", []string{hi, null, "RCPT TO:<x@far.example@victim.example>\r\n"}},
	{"a parameter within quotes", []string{hi, null, "RCPT TO:<\"postmaster@far.example> ORCPT=x\"@victim.example>\r\n"}},
	{"an unknown parameter of MAIL", []string{hi, "MAIL FROM:<> XYZ=1\r\n"}},
	{"an unknown parameter of RCPT", []string{hi, null, "RCPT TO:<postmaster@victim.example> XYZ=1\r\n"}},
	{"a parameter given twice", []string{hi, "MAIL FROM:<> SIZE=1 SIZE=2\r\n"}},
	{"SIZE=1x", []string{hi, "MAIL FROM:<> SIZE=1x\r\n"}},
	{"a local part of 73 octets", []string{hi, "MAIL FROM:<" + strings.Repeat("a", 73) + "@victim.example>\r\n"}},
	{"two dots in a local part", []string{hi, "MAIL FROM:<a..b@victim.example>\r\n"}},
	{"hyphens in the third and fourth place", []string{hi, "MAIL FROM:<a@in--mail.victim.example>\r\n"}},
	{"an underscore in a name", []string{hi, "MAIL FROM:<a@host_1.victim.example>\r\n"}},
	{"a dot at the end of a name", []string{hi, "MAIL FROM:<a@victim.example.>\r\n"}},
	{"an address in UTF-8 without SMTPUTF8", []string{hi, "MAIL FROM:<ä@victim.example>\r\n"}},
	{"BDAT, and the message", []string{hi, null, known, "BDAT 3 LAST\r\nx\r\n"}},
	{"BDAT with a bare LF", []string{hi, null, known, "BDAT 4 LAST\r\nx\ny\n"}},
	{"BDAT without a transaction; its chunk is `RSET CRLF`", []string{hi, "BDAT 6\r\nRSET\r\n"}},
	{"BDAT without a size; then `RSET`", []string{hi, null, known, "BDAT\r\nRSET\r\n"}},
	{"BDAT of 2^64+6; then `RSET`", []string{hi, null, known, "BDAT 18446744073709551622\r\nRSET\r\n"}},
	{"BDAT behind a space; its chunk is `RSET CRLF`", []string{hi, null, known, " BDAT 6 LAST\r\nRSET\r\n"}},
	{"BDAT with a tab; its chunk is `RSET CRLF`", []string{hi, null, known, "BDAT\t6 LAST\r\nRSET\r\n"}},
	{"BDAT, then DATA", []string{hi, null, known, "BDAT 3\r\nx\r\n", "DATA\r\n"}},
	{"BDAT LAST twice", []string{hi, null, known, "BDAT 3 LAST\r\nx\r\n", "BDAT 3 LAST\r\nx\r\n"}},
	{"a request by an unknown method", []string{"PATCH / HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\nEHLO x\r\n\r\n"}},
	{"a hello of TLS", []string{"\x16\x03\x01\x00\x05\r\nEHLO x\r\n"}},
	{"an HTTP request", []string{"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 24\r\n\r\nEHLO x\r\nMAIL FROM:<>\r\n\r\n"}},
}

// TestPeers plays the tricks to us and to real servers and holds the table of
// docs/wire.md to what they say.
func TestPeers(t *testing.T) {
	peers.Require(t)
	columns := []string{"Postern", "Postfix 3.7", "Exim 4.96", "OpenSMTPD 6.8"}
	dials := []func() net.Conn{dialOurselves(t)}
	for _, name := range []string{"postfix", "exim", "opensmtpd"} {
		target := startPeer(t, name)
		dials = append(dials, func() net.Conn {
			c, err := target.Dial(t.Context(), "tcp", net.JoinHostPort(peers.Target4, "25"))
			if err != nil {
				t.Error(err)
			}
			return c
		})
	}
	cells := make([][]string, len(tricks))
	for i := range cells {
		cells[i] = make([]string, len(columns))
	}
	var all sync.WaitGroup
	for j, dial := range dials {
		for part := range 4 { // four conversations with each server at a time
			all.Go(func() {
				for i := part; i < len(tricks); i += 4 {
					if c := dial(); c != nil {
						cells[i][j] = converseWith(c, tricks[i].pieces)
					}
				}
			})
		}
	}
	all.Wait()
	compareTable(t, "../docs/wire.md", table(columns, cells))
}

func startPeer(t *testing.T, name string) *peers.Target {
	t.Helper()
	for _, c := range peers.Cases {
		if c.Server == name && c.Config == "closed" {
			return peers.Start(t, c)
		}
	}
	t.Fatalf("no case %s/closed", name)
	return nil
}

// A victim is a session that has the mailboxes which the real servers have.
type victim struct{ sink }

func (v *victim) Rcpt(_ context.Context, to mail.ForwardPath, _ mail.RecipientParams) mail.Reply {
	a := to.Address()
	if a.Domain().ASCII() != peers.Domain {
		return mail.NewReply(550, "5.7.1", "We do not relay")
	}
	if a.Local() != "postmaster" {
		return mail.NewReply(550, "5.1.1", "No such mailbox")
	}
	return replyOK
}

func dialOurselves(t *testing.T) func() net.Conn {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &Server{Name: peers.Host, Handler: HandlerFunc(func(context.Context, *Peer) (Session, mail.Reply) { return &victim{}, mail.Reply{} })}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return func() net.Conn {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Error(err)
		}
		return c
	}
}

// How long a real server is listened to: for its banner, for the first octet
// of an answer, and for more after one.
const (
	bannerWait = 20 * time.Second
	firstWait  = 3 * time.Second
	moreWait   = 500 * time.Millisecond
)

// converseWith returns the codes that answer each piece, "-" for silence and
// "x" where the server closes.
func converseWith(c net.Conn, pieces []string) string {
	defer c.Close()
	// A client that talks before the banner is a trick of its own.
	early := strings.HasPrefix(pieces[0], hi) && len(pieces[0]) > len(hi)
	if !early {
		if _, closed := listen(c, bannerWait); closed {
			return "x"
		}
	}
	var said []string
	for i, piece := range pieces {
		if _, err := io.WriteString(c, piece); err != nil {
			return strings.Join(said, ", ") + " x"
		}
		wait := firstWait
		if early {
			wait = bannerWait
		}
		got, closed := listen(c, wait)
		if !slices.Contains([]string{hi, null, known, "DATA\r\n"}, piece) || i == len(pieces)-1 || closed {
			said = append(said, strings.TrimSpace(got))
		}
		if closed {
			return strings.Join(said, ", ") + " x"
		}
	}
	return strings.Join(said, ", ")
}

// listen reads until the server is silent and returns the codes of its replies.
func listen(c net.Conn, first time.Duration) (codes string, closed bool) {
	var all bytes.Buffer
	b := make([]byte, 64<<10)
	for wait := first; ; wait = moreWait {
		c.SetReadDeadline(time.Now().Add(wait))
		n, err := c.Read(b)
		all.Write(b[:n])
		if err != nil {
			closed = !netop.IsTimeout(err)
			break
		}
	}
	codes = codesOf(all.String())
	if codes == "" && !closed {
		codes = "-"
	}
	return codes, closed
}

func table(columns []string, cells [][]string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "| what is sent | %s |\n|%s\n", strings.Join(columns, " | "), strings.Repeat(" --- |", len(columns)+1))
	for i, row := range cells {
		fmt.Fprintf(&b, "| %s | %s |\n", tricks[i].name, strings.Join(row, " | "))
	}
	return b.String()
}

// compareTable holds the part of a page between its marks to what was found.
func compareTable(t *testing.T, file, found string) {
	t.Helper()
	const begins, ends = "<!-- table of TestPeers -->\n", "<!-- end of table -->\n"
	page, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(page), begins)
	written, after, ok2 := strings.Cut(rest, ends)
	if !ok || !ok2 {
		t.Fatalf("%s lacks the marks %q and %q", file, begins, ends)
	}
	if *update {
		if err := os.WriteFile(file, []byte(before+begins+found+ends+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want := strings.Split(written, "\n")
	for i, line := range strings.Split(found, "\n") {
		if i >= len(want) || want[i] != line {
			t.Errorf("%s differs (go test -update writes it):\nfound %s", file, line)
		}
	}
}
