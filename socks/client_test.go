package socks

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"postern/forward"
	"postern/transcript"
)

func to(t testing.TB, s string) forward.Address {
	t.Helper()
	a, err := forward.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// A script is a server of fixed words: what it reads, then what it says.
type script struct{ hear, say string }

// serve plays the steps on c and returns what it heard that was not foreseen.
// Each answer goes out in two writes, cut at cut.
func serve(c net.Conn, steps []script, cut int) string {
	for _, s := range steps {
		b := make([]byte, len(s.hear))
		if n, err := io.ReadFull(c, b); err != nil || string(b) != s.hear {
			c.Close()
			return string(b[:n])
		}
		at := min(cut, len(s.say))
		for _, part := range []string{s.say[:at], s.say[at:]} {
			if part == "" {
				continue
			}
			if _, err := io.WriteString(c, part); err != nil {
				return ""
			}
		}
	}
	return ""
}

const banner = "220 mx.far.example ESMTP\r\n"

var conversations = []struct {
	name  string
	ask   Request
	to    string
	steps []script
	reply string // bound address; "" where an error is wanted
	want  error
	code  Code
}{
	{"5, IPv4", Request{Version: 5, Command: Connect}, "192.0.2.1:25", []script{
		{"\x05\x01\x00", "\x05\x00"},
		{"\x05\x01\x00\x01\xc0\x00\x02\x01\x00\x19", "\x05\x00\x00\x01\x7f\x00\x00\x09\x04\x38" + banner},
	}, "127.0.0.9:1080", nil, Succeeded},
	{"5, name, bound to IPv6", Request{Version: 5, Command: Connect}, "mx.far.example:25", []script{
		{"\x05\x01\x00", "\x05\x00"},
		{"\x05\x01\x00\x03\x0emx.far.example\x00\x19", "\x05\x00\x00\x04\x20\x01\x0d\xb8" + strings.Repeat("\x00", 11) + "\x01\x00\x19" + banner},
	}, "[2001:db8::1]:25", nil, Succeeded},
	{"5, IPv6, bound to a name", Request{Version: 5, Command: Connect}, "[2001:db8::1]:25", []script{
		{"\x05\x01\x00", "\x05\x00"},
		{"\x05\x01\x00\x04\x20\x01\x0d\xb8" + strings.Repeat("\x00", 11) + "\x01\x00\x19", "\x05\x00\x00\x03\x05proxy\x00\x01" + banner},
	}, "proxy:1", nil, Succeeded},
	{"5, bound to a name that is none", Request{Version: 5, Command: Connect}, "192.0.2.1:25", []script{
		{"\x05\x01\x00", "\x05\x00"},
		{"\x05\x01\x00\x01\xc0\x00\x02\x01\x00\x19", "\x05\x00\x00\x03\x00\x00\x00" + banner},
	}, "none", nil, Succeeded},
	{"5, login", Request{Version: 5, Command: Connect, User: "u", Password: "pw"}, "192.0.2.1:25", []script{
		{"\x05\x02\x00\x02", "\x05\x02"},
		{"\x01\x01u\x02pw", "\x01\x00"},
		{"\x05\x01\x00\x01\xc0\x00\x02\x01\x00\x19", "\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00" + banner},
	}, "0.0.0.0:0", nil, Succeeded},
	{"5, login refused", Request{Version: 5, Command: Connect, User: "u", Password: "pw"}, "192.0.2.1:25", []script{
		{"\x05\x02\x00\x02", "\x05\x02"},
		{"\x01\x01u\x02pw", "\x01\x01"},
	}, "", ErrAuth, GeneralFailure},
	{"5, login wanted", Request{Version: 5, Command: Connect, Methods: []Method{NoAuth, GSSAPI, UserPassword, 0x80}}, "192.0.2.1:25", []script{
		{"\x05\x04\x00\x01\x02\x80", "\x05\x02"},
	}, "", ErrLoginWanted, GeneralFailure},
	{"5, no method", Request{Version: 5, Command: Connect}, "192.0.2.1:25", []script{{"\x05\x01\x00", "\x05\xff"}}, "", ErrNoMethod, GeneralFailure},
	{"5, a method that nobody offered", Request{Version: 5, Command: Connect, User: "u"}, "192.0.2.1:25", []script{{"\x05\x02\x00\x02", "\x05\x80"}}, "", ErrBadMethod, GeneralFailure},
	{"5, not allowed", Request{Version: 5, Command: Connect}, "192.0.2.1:25", []script{
		{"\x05\x01\x00", "\x05\x00"},
		{"\x05\x01\x00\x01\xc0\x00\x02\x01\x00\x19", "\x05\x02\x00\x01\x00\x00\x00\x00\x00\x00"},
	}, "", nil, NotAllowed},
	{"4", Request{Version: 4, Command: Connect, User: "id"}, "192.0.2.1:25", []script{
		{"\x04\x01\x00\x19\xc0\x00\x02\x01id\x00", "\x00\x5a\x04\x38\x7f\x00\x00\x09" + banner},
	}, "127.0.0.9:1080", nil, Granted4},
	{"4a", Request{Version: 4, Command: Connect}, "mx.far.example:25", []script{
		{"\x04\x01\x00\x19\x00\x00\x00\x01\x00mx.far.example\x00", "\x00\x5a\x00\x00\x00\x00\x00\x00" + banner},
	}, "0.0.0.0:0", nil, Granted4},
	{"4, rejected", Request{Version: 4, Command: Connect}, "192.0.2.1:25", []script{
		{"\x04\x01\x00\x19\xc0\x00\x02\x01\x00", "\x00\x5b\x00\x00\x00\x00\x00\x00"},
	}, "", nil, Rejected4},
	{"5, bound to no address", Request{Version: 5, Command: Connect}, "192.0.2.1:25", []script{
		{"\x05\x01\x00", "\x05\x00"},
		{"\x05\x01\x00\x01\xc0\x00\x02\x01\x00\x19", "\x05\x00\x00\x00\x00\x00\x00\x00\x00\x00" + banner},
	}, "0.0.0.0:0", nil, Succeeded},
	{"a mail server", Request{Version: 5, Command: Connect}, "192.0.2.1:25", []script{{"\x05\x01\x00", "500 5.5.2 what\r\n"}}, "", ErrNotSOCKS, GeneralFailure},
	{"a web server", Request{Version: 4, Command: Connect}, "192.0.2.1:25", []script{{"\x04\x01\x00\x19\xc0\x00\x02\x01\x00", "HTTP/1.1 400 Bad Request\r\n\r\n"}}, "", ErrNotSOCKS, GeneralFailure},
	{"hangs up", Request{Version: 5, Command: Connect}, "192.0.2.1:25", []script{{"\x05\x01\x00", ""}, {"x", ""}}, "", forward.ErrTimeout, GeneralFailure},
}

// Whatever the cut of the stream, the reply is the same and what follows it is
// still there, to its last octet.
func TestPlayInEveryCut(t *testing.T) {
	for _, c := range conversations {
		longest := 0
		for _, s := range c.steps {
			longest = max(longest, len(s.say))
		}
		for cut := range longest + 1 {
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				defer near.Close()
				heard := make(chan string, 1)
				go func() { heard <- serve(far, c.steps, cut) }()
				defer func() {
					far.Close()
					if wrong := <-heard; wrong != "" {
						t.Errorf("%s: the server heard %q", c.name, wrong)
					}
				}()
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				ask := c.ask
				ask.To = to(t, c.to)
				reply, err := ask.Play(ctx, near, nil)
				var refused *ReplyError
				switch {
				case c.reply != "" && err != nil, c.reply == "" && err == nil, c.want != nil && !errors.Is(err, c.want):
					t.Fatalf("%s, cut at %d: %+v, %v", c.name, cut, reply, err)
				case c.reply == "" && c.want == nil && (!errors.As(err, &refused) || refused.Code != c.code):
					t.Fatalf("%s, cut at %d: %v, want code %s", c.name, cut, err, c.code)
				case reply.Code != c.code || c.reply != "" && reply.Bound.String() != c.reply:
					t.Fatalf("%s, cut at %d: %+v", c.name, cut, reply)
				}
				if c.reply == "" {
					return
				}
				rest := make([]byte, len(banner))
				if _, err := io.ReadFull(near, rest); err != nil || string(rest) != banner {
					t.Fatalf("%s, cut at %d: the banner came as %q, %v", c.name, cut, rest, err)
				}
			})
		}
	}
}

// The error shows what the server said instead, the transcript both sides of it.
func TestNotSOCKSShowsWhatCame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer near.Close()
		go func() { _ = serve(far, []script{{"\x05\x01\x00", "HTTP/1.1 400 Bad Request\r\n"}}, 99) }()
		var rec transcript.Transcript
		_, err := Request{Version: 5, Command: Connect, To: to(t, "192.0.2.1:25")}.Play(t.Context(), near, &rec)
		var wrong *forward.WireError
		if !errors.As(err, &wrong) || string(wrong.Seen) != "HTTP/1.1 400 Bad Request\r\n" || wrong.Doing != "SOCKS5 CONNECT" {
			t.Errorf("%v", err)
		}
		const want = " -> \\x05\\x01\\x00\\c\n<-  HT\\c\n<-  TP/1.1 400 Bad Request\n*** SOCKS5 CONNECT: not a SOCKS answer (seen \"HTTP/1.1 400 Bad Request\\\\r\\\\n\")\n"
		if rec.String() != want {
			t.Errorf("transcript:\n%swant:\n%s", rec.String(), want)
		}
	})
}

func TestNoCredentialIsRecorded(t *testing.T) {
	for _, ask := range []Request{
		{Version: 5, Command: Connect, User: "the-user", Password: "the-password"},
		{Version: 4, Command: Connect, User: "the-user"},
	} {
		synctest.Test(t, func(t *testing.T) {
			near, far := net.Pipe()
			go func() {
				for _, say := range []string{"\x05\x02", "\x01\x01"} {
					if _, err := far.Read(make([]byte, 512)); err != nil {
						return
					}
					_, _ = io.WriteString(far, say)
				}
			}()
			defer far.Close()
			var rec transcript.Transcript
			ask.To = to(t, "192.0.2.1:25")
			_, err := ask.Play(t.Context(), near, &rec)
			if err == nil || strings.Contains(err.Error()+rec.String(), "the-") || !strings.Contains(rec.String(), "(hidden)") {
				t.Errorf("%v\n%s", err, rec.String())
			}
		})
	}
}

// A silent server costs what the context says, at every step, and the error
// gives its cause; the connection is left without a deadline.
func TestPlayEndsWithItsContext(t *testing.T) {
	patience := errors.New("the patience of the test")
	for steps := range 3 {
		synctest.Test(t, func(t *testing.T) {
			near, far := net.Pipe()
			defer near.Close()
			done := make(chan struct{})
			go func() {
				defer close(done)
				_ = serve(far, conversations[4].steps[:steps], 99)
				_, _ = io.Copy(io.Discard, far)
			}()
			start := time.Now()
			ctx, cancel := context.WithTimeoutCause(t.Context(), 7*time.Second, patience)
			defer cancel()
			ask := conversations[4].ask
			ask.To = to(t, conversations[4].to)
			_, err := ask.Play(ctx, near, nil)
			if !errors.Is(err, forward.ErrTimeout) || !errors.Is(err, patience) || time.Since(start) != 7*time.Second {
				t.Errorf("after %d steps: %v in %v", steps, err, time.Since(start))
			}
			if _, err := near.Write([]byte("x")); err != nil {
				t.Errorf("the deadline stayed: %v", err)
			}
			near.Close()
			<-done
		})
	}
}

func TestWhatCannotBeSaid(t *testing.T) {
	good := to(t, "192.0.2.1:25")
	for _, r := range []Request{
		{},
		{Version: 6, Command: Connect, To: good},
		{Version: 5, To: good},
		{Version: 5, Command: Connect},
		{Version: 4, Command: UDPAssociate, To: good},
		{Version: 4, Command: Connect, To: to(t, "[2001:db8::1]:25")},
		{Version: 4, Command: Connect, To: to(t, "0.0.0.7:25")},
		{Version: 4, Command: Connect, To: good, User: "a\x00b"},
		{Version: 4, Command: Connect, To: good, Password: "p"},
		{Version: 5, Command: Connect, To: good, Password: "p"},
		{Version: 5, Command: Connect, To: good, User: strings.Repeat("u", 256)},
		{Version: 5, Command: Connect, To: good, Methods: []Method{NoMethod}},
		{Version: 5, Command: Connect, To: good, Methods: slices.Repeat([]Method{NoAuth}, 256)},
	} {
		if _, err := r.Play(t.Context(), nil, nil); !errors.Is(err, ErrRequest) {
			t.Errorf("%+v: %v", r, err)
		}
	}
}

// BIND answers twice.
func TestSecondReply(t *testing.T) {
	near, far := net.Pipe()
	defer near.Close()
	go func() {
		_ = serve(far, []script{
			{"\x05\x01\x00", "\x05\x00"},
			{"\x05\x02\x00\x01\xc0\x00\x02\x01\x00\x19", "\x05\x00\x00\x01\xc6\x33\x64\x01\x00\x50\x05\x00\x00\x01\xc0\x00\x02\x01\x00\x19" + banner},
		}, 99)
	}()
	r := Request{Version: 5, Command: Bind, To: to(t, "192.0.2.1:25")}
	first, err := r.Play(t.Context(), near, nil)
	if err != nil || first.Bound.String() != "198.51.100.1:80" {
		t.Fatalf("%+v, %v", first, err)
	}
	second, err := r.ReadReply(t.Context(), near, nil)
	if err != nil || second.Bound.String() != "192.0.2.1:25" {
		t.Fatalf("%+v, %v", second, err)
	}
	b := make([]byte, len(banner))
	if _, err := io.ReadFull(near, b); err != nil || string(b) != banner {
		t.Errorf("%q, %v", b, err)
	}
}

// FuzzAnswer gives the client any octets in any cut: it ends, holds its
// bounds, and what follows a reply is still there.
func FuzzAnswer(f *testing.F) {
	for _, c := range conversations {
		all := ""
		for _, s := range c.steps {
			all += s.say
		}
		f.Add(c.ask.Version == 4, c.ask.User != "", []byte(all), uint8(3))
	}
	f.Fuzz(func(t *testing.T, four, login bool, in []byte, step uint8) {
		r := Request{Version: 5, Command: Connect, To: to(t, "192.0.2.1:25")}
		if four {
			r.Version = 4
		} else if login {
			r.User, r.Password = "u", "p"
		}
		conn := &stream{in: in, step: int(step)}
		reply, err := r.Play(t.Context(), conn, nil)
		if conn.read > 1+1+2+2+4+1+255+2+maxSeen {
			t.Errorf("read %d octets", conn.read)
		}
		if err != nil {
			return
		}
		if !reply.Code.Granted() {
			t.Errorf("no error for %s", reply.Code)
		}
		size := map[bool]int{true: 8, false: 2 + 4 + 6}[four]
		if login && !four && in[1] == 2 {
			size += 2
		}
		if !four {
			at := size - 7 // where the address type stands
			switch in[at] {
			case typeIPv6:
				size += 12
			case typeName:
				size += 1 + int(in[at+1]) - 4
			}
		}
		if conn.read != size {
			t.Errorf("read %d of %q, the reply ends at %d", conn.read, in, size)
		}
	})
}

// A stream is a connection that holds what will be read.
type stream struct {
	net.Conn
	in   []byte
	step int
	read int
}

func (s *stream) Read(p []byte) (int, error) {
	if len(s.in) == 0 {
		return 0, io.EOF
	}
	n := min(len(p), len(s.in), s.step+1)
	copy(p, s.in[:n])
	s.in, s.read = s.in[n:], s.read+n
	return n, nil
}

func (s *stream) Write(p []byte) (int, error)     { return len(p), nil }
func (s *stream) SetDeadline(time.Time) error     { return nil }
func (s *stream) SetReadDeadline(time.Time) error { return nil }
