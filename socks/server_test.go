package socks

import (
	"bytes"
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
)

// A host is a handler of the tests: it admits as it is told, and what it
// connects to says a banner and repeats what it hears.
type host struct {
	method  Method
	user    string
	code    Code
	to      forward.Address
	peer    Peer
	n       forward.Count
	err     error
	ended   int
	offered []Method
}

func (h *host) Method(_ context.Context, _ *Peer, offered []Method) Method {
	h.offered = offered
	return h.method
}

func (h *host) Login(_ context.Context, _ *Peer, user, password string) bool {
	return user == h.user && password == "secret"
}

func (h *host) Connect(_ context.Context, p *Peer, to forward.Address) (net.Conn, Code) {
	h.to = to
	if h.code != Succeeded {
		return nil, h.code
	}
	near, far := net.Pipe()
	go func() {
		defer far.Close()
		if _, err := io.WriteString(far, banner); err != nil {
			return
		}
		_, _ = io.Copy(far, far)
	}()
	return near, Succeeded
}

func (h *host) Ended(p *Peer, to forward.Address, n forward.Count, err error) {
	h.peer, h.n, h.err = *p, n, err
	h.ended++
}

var handshakes = []struct {
	name string
	host host
	only int
	say  string
	hear string // before the banner
	to   string // "": nowhere
	want error
}{
	{"5", host{}, 0, "\x05\x01\x00\x05\x01\x00\x01\xc0\x00\x02\x01\x00\x19", "\x05\x00\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00", "192.0.2.1:25", nil},
	{"5, name", host{}, 0, "\x05\x02\x00\x02\x05\x01\x00\x03\x0aMX.Example\x00\x19", "\x05\x00\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00", "mx.example:25", nil},
	{"5, IPv4 inside IPv6", host{}, 0, "\x05\x01\x00\x05\x01\x00\x04" + strings.Repeat("\x00", 10) + "\xff\xff\x7f\x00\x00\x01\x00\x19", "\x05\x00\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00", "127.0.0.1:25", nil},
	{"5, literal as a name", host{}, 0, "\x05\x01\x00\x05\x01\x00\x03\x09127.0.0.1\x00\x19", "\x05\x00\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00", "127.0.0.1:25", nil},
	{"5, login", host{method: UserPassword, user: "u"}, 5, "\x05\x02\x00\x02\x01\x01u\x06secret\x05\x01\x00\x01\xc0\x00\x02\x01\x00\x19", "\x05\x02\x01\x00\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00", "192.0.2.1:25", nil},
	{"4", host{}, 0, "\x04\x01\x00\x19\xc0\x00\x02\x01id\x00", "\x00\x5a\x00\x00\x00\x00\x00\x00", "192.0.2.1:25", nil},
	{"4a", host{}, 4, "\x04\x01\x00\x19\x00\x00\x00\x01id\x00mx.example\x00", "\x00\x5a\x00\x00\x00\x00\x00\x00", "mx.example:25", nil},

	{"wrong password", host{method: UserPassword, user: "u"}, 0, "\x05\x01\x02\x01\x01u\x05wrong", "\x05\x02\x01\x01", "", ErrRefused},
	{"a login that is none", host{method: UserPassword, user: "u"}, 0, "\x05\x01\x02\x05\x01u\x05wrong", "\x05\x02", "", ErrNotAsked},
	{"no method", host{method: UserPassword}, 0, "\x05\x02\x00\x01", "\x05\xff", "", ErrRefused},
	{"offers none", host{}, 0, "\x05\x00", "\x05\xff", "", ErrRefused},
	{"a method that is not spoken", host{method: GSSAPI}, 0, "\x05\x01\x01", "\x05\xff", "", ErrRefused},
	{"not allowed", host{code: NotAllowed}, 0, "\x05\x01\x00\x05\x01\x00\x01\xc0\x00\x02\x01\x00\x19", "\x05\x00\x05\x02\x00\x01\x00\x00\x00\x00\x00\x00", "192.0.2.1:25", ErrRefused},
	{"not allowed, 4", host{code: NotAllowed}, 0, "\x04\x01\x00\x19\xc0\x00\x02\x01\x00", "\x00\x5b\x00\x00\x00\x00\x00\x00", "192.0.2.1:25", ErrRefused},
	{"4 where a login is wanted", host{method: UserPassword}, 0, "\x04\x01\x00\x19\xc0\x00\x02\x01u\x00", "\x00\x5b\x00\x00\x00\x00\x00\x00", "", ErrRefused},
	{"4 where 5 is spoken", host{}, 5, "\x04", "", "", ErrNotAsked},
	{"5 where 4 is spoken", host{}, 4, "\x05", "", "", ErrNotAsked},
	{"BIND", host{}, 0, "\x05\x01\x00\x05\x02\x00\x01\xc0\x00\x02\x01\x00\x19", "\x05\x00\x05\x07\x00\x01\x00\x00\x00\x00\x00\x00", "", ErrRefused},
	{"BIND, 4", host{}, 0, "\x04\x02\x00\x19\xc0\x00\x02\x01\x00", "\x00\x5b\x00\x00\x00\x00\x00\x00", "", ErrRefused},
	{"an odd address type", host{}, 0, "\x05\x01\x00\x05\x01\x00\x02", "\x05\x00\x05\x08\x00\x01\x00\x00\x00\x00\x00\x00", "", ErrNotAsked},
	{"a name that hides an address", host{}, 0, "\x05\x01\x00\x05\x01\x00\x03\x05127.1\x00\x19", "\x05\x00\x05\x01\x00\x01\x00\x00\x00\x00\x00\x00", "", forward.ErrAddress},
	{"a name that is none, 4a", host{}, 0, "\x04\x01\x00\x19\x00\x00\x00\x01\x00a b\x00", "\x00\x5b\x00\x00\x00\x00\x00\x00", "", forward.ErrAddress},
	{"a user id without an end", host{}, 0, "\x04\x01\x00\x19\xc0\x00\x02\x01" + strings.Repeat("u", 256), "\x00\x5b\x00\x00\x00\x00\x00\x00", "", ErrNotAsked},
	{"HTTP", host{}, 0, "C", "", "", ErrNotAsked},
	{"5 in the middle of 5", host{}, 0, "\x05\x01\x00\x04\x01\x00\x01", "\x05\x00", "", ErrNotAsked},
	{"hangs up", host{}, 0, "\x05\x03\x00", "", "", forward.ErrClosed},
}

// Whatever the cut of what the client says, the server hears the same and
// takes not one octet of what belongs into the tunnel.
func TestHandshakesInEveryCut(t *testing.T) {
	for _, c := range handshakes {
		for cut := range len(c.say) + 1 {
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				h := c.host
				done := make(chan error, 1)
				go func() {
					done <- (&Server{Handler: &h, Only: c.only}).ServeConn(t.Context(), far)
				}()
				said := make(chan struct{})
				go func() { // all of it at once, with what follows behind it
					defer close(said)
					rest := ""
					if c.want == nil {
						rest = "QUIT\r\n"
					}
					for _, part := range []string{c.say[:cut], c.say[cut:] + rest} {
						if _, err := io.WriteString(near, part); err != nil {
							return
						}
					}
					if c.want != nil {
						_ = near.SetReadDeadline(time.Now().Add(time.Second)) // for the one that hangs up
					}
				}()
				want := c.hear
				if c.want == nil {
					want += banner + "QUIT\r\n"
				}
				got := make([]byte, len(want))
				if n, err := io.ReadFull(near, got); err != nil || string(got) != want {
					t.Fatalf("%s, cut at %d: heard %q (%v), want %q", c.name, cut, got[:n], err, want)
				}
				<-said
				near.Close()
				err := <-done
				if c.want == nil && err != nil && !errors.Is(err, forward.ErrHalf) || c.want != nil && !errors.Is(err, c.want) {
					t.Fatalf("%s, cut at %d: %v, want %v", c.name, cut, err, c.want)
				}
				if to := h.to.String(); to != c.to && (c.to != "" || to != "none") || h.ended != 1 {
					t.Fatalf("%s, cut at %d: to %s, ended %d times", c.name, cut, to, h.ended)
				}
				if c.want == nil && (h.n.Up != 6 || h.n.Down != int64(len(banner)+6) || h.peer.Method != c.host.method) {
					t.Fatalf("%s, cut at %d: %+v of %+v", c.name, cut, h.n, h.peer)
				}
			})
		}
	}
}

// A client that says the handshake too slowly is closed, to the nanosecond.
func TestSlowHandshake(t *testing.T) {
	for _, said := range []string{"", "\x05", "\x05\x01\x00", "\x05\x01\x00\x05\x01\x00\x03\xff", "\x04\x01\x00\x19\xc0\x00\x02\x01abc"} {
		synctest.Test(t, func(t *testing.T) {
			near, far := net.Pipe()
			h := &host{}
			start := time.Now()
			go func() { _, _ = io.Copy(io.Discard, near) }()
			go func() { _, _ = io.WriteString(near, said) }()
			err := (&Server{Handler: h}).ServeConn(t.Context(), far)
			if !errors.Is(err, forward.ErrTimeout) || !strings.Contains(err.Error(), "waited 30s for the SOCKS request") || time.Since(start) != 30*time.Second {
				t.Errorf("%q: %v after %v", said, err, time.Since(start))
			}
			near.Close()
		})
	}
}

// Our client and our server agree on what was asked, whatever it is.
func FuzzRequest(f *testing.F) {
	f.Add(false, "mx.example", uint16(25), "u", "p", []byte("\x00\x02"))
	f.Add(true, "mx.example", uint16(25), "u", "", []byte{})
	f.Add(true, "192.0.2.1", uint16(25), "", "", []byte{})
	f.Add(false, "2001:db8::1", uint16(65535), "", "", []byte{0, 1, 0x80})
	f.Fuzz(func(t *testing.T, four bool, name string, port uint16, user, password string, methods []byte) {
		a, err := forward.Named(name, port)
		if err != nil {
			return
		}
		r := Request{Version: 5, Command: Connect, To: a, User: user, Password: password}
		if four {
			r.Version = 4
		}
		for _, m := range methods {
			r.Methods = append(r.Methods, Method(m))
		}
		if r.check() != nil {
			return
		}
		const behind = "220 mx\r\n"
		if four {
			head, tail := r.request4()
			in := bytes.NewReader(slices.Concat(head[1:], []byte(user), tail, []byte(behind)))
			command, to, id, err := readRequest4(in)
			if err != nil || command != Connect || to != a || id != user || in.Len() != len(behind) {
				t.Errorf("%+v reads as %s %s of %q, %v, %d left", r, command, to, id, err, in.Len())
			}
			return
		}
		in := bytes.NewReader(slices.Concat(r.greeting()[1:], r.login(), r.request5(), []byte(behind)))
		offered, err := readMethods(in)
		if err != nil || !slices.Equal(offered, r.offered()) {
			t.Errorf("%+v offers %v, %v", r, offered, err)
		}
		u, p, err := readLogin(in)
		if err != nil || u != user || p != password {
			t.Errorf("%+v logs in as %q %q, %v", r, u, p, err)
		}
		command, to, code, err := readRequest5(in)
		if err != nil || code != Succeeded || command != Connect || to != a || in.Len() != len(behind) {
			t.Errorf("%+v reads as %s %s, %v, %d left", r, command, to, err, in.Len())
		}
	})
}

// FuzzHandshake says any octets to the server: it ends, within its bounds, and
// it never connects where no whole request was read.
func FuzzHandshake(f *testing.F) {
	for _, c := range handshakes {
		f.Add([]byte(c.say+"QUIT\r\n"), uint8(c.host.method))
	}
	f.Fuzz(func(t *testing.T, in []byte, method uint8) {
		c := &stream{in: in, step: 3}
		h := &host{method: Method(method), user: "u", code: NotAllowed}
		v := &visit{server: &Server{Handler: h}, conn: c}
		err := v.request(t.Context())
		if c.read > 1+1+255+1+256+256+4+1+255+2 {
			t.Errorf("read %d octets", c.read)
		}
		if (err == nil) != !v.to.IsZero() && err == nil {
			t.Errorf("%q leads nowhere and is no error", in)
		}
		if err != nil && !v.to.IsZero() {
			t.Errorf("%q: %v, and leads to %s", in, err, v.to)
		}
	})
}
