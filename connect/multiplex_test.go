package connect

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"postern/forward"
)

// A station is a handler whose way is made by the test; it counts.
type station struct {
	way func(ctx context.Context, r Request) (net.Conn, *Refusal)

	mu    sync.Mutex
	led   map[*Peer]Request
	ended []visited
}

type visited struct {
	peer Peer
	r    Request
	n    forward.Count
	err  error
}

func (s *station) Connect(ctx context.Context, p *Peer, r Request) (net.Conn, *Refusal) {
	s.mu.Lock()
	if s.led == nil {
		s.led = map[*Peer]Request{}
	}
	s.led[p] = r
	s.mu.Unlock()
	return s.way(ctx, r)
}

func (s *station) Ended(p *Peer, r Request, n forward.Count, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.led, p)
	s.ended = append(s.ended, visited{*p, r, n, err})
}

// only returns the one end that the handler was told.
func (s *station) only(t *testing.T) visited {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.ended) != 1 || len(s.led) != 0 {
		t.Fatalf("%d ends, %d requests have none: %+v", len(s.ended), len(s.led), s.ended)
	}
	return s.ended[0]
}

// echo is a destination that repeats what it hears, and ends with its client.
func echo(context.Context, Request) (net.Conn, *Refusal) {
	in, out := io.Pipe()
	return loop{in: in, out: out}, nil
}

// A loop is a destination in memory: what is written is read.
type loop struct {
	net.Conn
	in  *io.PipeReader
	out *io.PipeWriter
}

func (l loop) Read(p []byte) (int, error)  { return l.in.Read(p) }
func (l loop) Write(p []byte) (int, error) { return l.out.Write(p) }
func (l loop) CloseWrite() error           { return l.out.Close() }
func (l loop) Close() error                { return errors.Join(l.in.Close(), l.out.Close()) }

// tcp is a connection over loopback, which has halves.
func tcp(t testing.TB) (near, far *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	near, ok1 := a.(*net.TCPConn)
	far, ok2 := b.(*net.TCPConn)
	if !ok1 || !ok2 {
		t.Fatal("no TCP connections")
	}
	return near, far
}

// served serves one end of conn, and returns what ServeConn does.
func served(ctx context.Context, s *Server, conn net.Conn) (done chan error) {
	done = make(chan error, 1)
	go func() { done <- s.ServeConn(ctx, conn) }()
	return done
}

// library is the client of the standard library on conn.
func library(conn net.Conn) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Transport{Protocols: protocols, DialContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil }}
}

func ask2(method, target string, header http.Header, body io.ReadCloser) *http.Request {
	r := &http.Request{Method: method, URL: &url.URL{Scheme: "http", Host: target, Path: "/"}, Host: target, Header: header, Body: body}
	if method == http.MethodConnect {
		r.URL.Path = ""
	}
	if r.Header == nil {
		r.Header = http.Header{}
	}
	if body != nil {
		r.ContentLength = -1
	}
	return r
}

// What is refused, as the library's client hears it, and the handler.
func TestRefusalsOverHTTP2(t *testing.T) {
	refusing := func(r Refusal) func(context.Context, Request) (net.Conn, *Refusal) {
		return func(context.Context, Request) (net.Conn, *Refusal) { return nil, &r }
	}
	basic := http.Header{"Proxy-Authorization": {Auth{User: "u", Password: "secret"}.header()}}
	for _, c := range []struct {
		name, method, to string
		header           http.Header
		way              func(context.Context, Request) (net.Conn, *Refusal)
		status           int
		text             string
		handled          string // where the handler was asked for a way to
	}{
		{"forbidden", "CONNECT", "mx.example:25", nil, refusing(Refusal{403, "not you"}), 403, "not you\r\n", "mx.example:25"},
		{"login wanted", "CONNECT", "MX.Example.:25", basic, refusing(Refusal{407, "log in"}), 407, "log in\r\n", "mx.example:25"},
		{"in time", "CONNECT", "[2001:db8::1]:25", nil, refusing(*RefusalOf(context.DeadlineExceeded)), 504, "the destination did not answer in time\r\n", "[2001:db8::1]:25"},
		{"no route", "CONNECT", "192.0.2.1:25", nil, refusing(*RefusalOf(errors.New("no route"))), 502, "no connection to the destination\r\n", "192.0.2.1:25"},
		{"neither", "CONNECT", "192.0.2.1:25", nil, func(context.Context, Request) (net.Conn, *Refusal) { return nil, nil }, 502, "no connection\r\n", "192.0.2.1:25"},
		{"a text of two lines", "CONNECT", "192.0.2.1:25", nil, refusing(Refusal{403, "a\r\nX: y"}), 403, "Forbidden\r\n", "192.0.2.1:25"},
		{"no port", "CONNECT", "mx.example", nil, echo, 400, "bad request\r\n", ""},
		{"odd writing", "CONNECT", "127.1:25", nil, echo, 400, "bad request\r\n", ""},
		{"a credential that is none", "CONNECT", "mx.example:25", http.Header{"Proxy-Authorization": {"Basic !secret"}}, echo, 400, "bad request\r\n", ""},
		{"two credentials", "CONNECT", "mx.example:25", http.Header{"Proxy-Authorization": {"Basic dTpw", "Basic dTpw"}}, echo, 400, "bad request\r\n", ""},
		{"too many fields", "CONNECT", "mx.example:25", http.Header{"X": slices.Repeat([]string{"y"}, 101)}, echo, 400, "bad request\r\n", ""},
		{"POST", "POST", "mx.example:25", nil, echo, 405, "CONNECT only\r\n", ""},
		{"OPTIONS", "OPTIONS", "mx.example:25", nil, echo, 405, "CONNECT only\r\n", ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			near, far := net.Pipe()
			h := &station{way: c.way}
			done := served(t.Context(), &Server{Handler: h, Realm: "ours", Absolute: true}, far)
			client := library(near)
			res, err := client.RoundTrip(ask2(c.method, c.to, c.header, nil).WithContext(t.Context()))
			if err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			text, err := io.ReadAll(res.Body)
			if res.StatusCode != c.status || string(text) != c.text || err != nil || res.Header.Get("Content-Type") != textType || res.Header.Get("Date") != "" {
				t.Errorf("%s: %d %v %q, %v", c.name, res.StatusCode, res.Header, text, err)
			}
			if got := res.Header.Get("Proxy-Authenticate"); (c.status == 407) != (got == `Basic realm="ours", charset="UTF-8"`) {
				t.Errorf("%s: challenge %q", c.name, got)
			}
			client.CloseIdleConnections()
			if err := <-done; err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			v := h.only(t)
			wrong := ErrRefused
			if c.status == 400 {
				wrong = errBad
			}
			if !errors.Is(v.err, wrong) || v.peer.Method != c.method || v.r.Version != HTTP2 || strings.Contains(v.err.Error(), "secret") {
				t.Errorf("%s: %+v", c.name, v)
			}
			if to := v.r.To; to.IsZero() != (c.handled == "") || c.handled != "" && to.String() != c.handled {
				t.Errorf("%s: to %s", c.name, to)
			}
			if _, ok := v.r.Header["Proxy-Authorization"]; ok || c.header != nil && c.status == 407 && v.r.Auth != (Auth{User: "u", Password: "secret"}) {
				t.Errorf("%s: credential %#v, fields %v", c.name, v.r.Auth, slices.Collect(maps.Keys(v.r.Header)))
			}
		})
	}
}

// A mebibyte each way at the same time, in the clear and over TLS, by our
// client and by the library's; each end is passed on alone.
func TestTunnelsOverHTTP2(t *testing.T) {
	server, pool := certificate(t)
	server.NextProtos = []string{"h2", "http/1.1"}
	up, down := bytes.Repeat([]byte("up, "), 1<<18), bytes.Repeat([]byte("down"), 1<<18)
	for _, secure := range []bool{false, true} {
		for _, ours := range []bool{true, false} {
			t.Run(fmt.Sprintf("TLS %t, our client %t", secure, ours), func(t *testing.T) {
				near, far := tcp(t)
				inner, destination := tcp(t)
				h := &station{way: func(context.Context, Request) (net.Conn, *Refusal) { return inner, nil }}
				var conn, end net.Conn = near, far
				if secure {
					end = tls.Server(far, server)
				}
				done := served(t.Context(), &Server{Handler: h}, end)
				if secure {
					var version Version
					var err error
					if conn, version, err = Handshake(t.Context(), near, &tls.Config{RootCAs: pool, ServerName: "proxy.example"}); err != nil || version != HTTP2 {
						t.Fatal(version, err)
					}
				}
				heard := make(chan [sha256.Size]byte, 1)
				go func() {
					said := make(chan struct{})
					go func() { defer close(said); _, _ = destination.Write(down) }()
					all, _ := io.ReadAll(destination) // to the end of the client's half
					<-said
					_, _ = io.WriteString(destination, "221 bye\r\n") // the other half still lives
					_ = destination.Close()
					heard <- sha256.Sum256(all)
				}()
				var in io.Reader
				var closing func()
				if ours {
					tunnel, _, err := Request{To: to(t, "mx.example:25"), Version: HTTP2}.Connect(t.Context(), conn, nil)
					if err != nil {
						t.Fatal(err)
					}
					go func() {
						_, _ = tunnel.Write(up)
						if half, ok := tunnel.(interface{ CloseWrite() error }); ok {
							_ = half.CloseWrite()
						}
					}()
					in, closing = tunnel, func() { tunnel.Close() }
				} else {
					transport := library(conn)
					res, err := transport.RoundTrip(ask2("CONNECT", "mx.example:25", nil, io.NopCloser(bytes.NewReader(up))).WithContext(t.Context()))
					if err != nil || res.StatusCode != 200 || len(res.Header) != 0 {
						t.Fatal(res, err)
					}
					in, closing = res.Body, transport.CloseIdleConnections
				}
				all, err := io.ReadAll(in)
				if want := string(down) + "221 bye\r\n"; err != nil || string(all) != want {
					t.Errorf("%d octets of %d came down, %v", len(all), len(want), err)
				}
				if sum := <-heard; sum != sha256.Sum256(up) {
					t.Error("other octets came up")
				}
				closing()
				if err := <-done; err != nil {
					t.Error(err)
				}
				if v := h.only(t); v.err != nil || v.n.Up != int64(len(up)) || v.n.Down != int64(len(all)) || v.peer.Remote.String() != near.LocalAddr().String() {
					t.Errorf("%+v", v)
				}
			})
		}
	}
}

// A hundred tunnels in one connection do not mix their octets, though every
// third is torn down by its client on the way.
func TestManyTunnelsInOneConnection(t *testing.T) {
	near, far := tcp(t)
	h := &station{way: echo}
	done := served(t.Context(), &Server{Handler: h, Limits: forward.Limits{PerClient: -1}}, far)
	client, err := library(near).NewClientConn(t.Context(), "http", "mx.example:25")
	if err != nil {
		t.Fatal(err)
	}
	var asking sync.WaitGroup
	for i := range maxStreams {
		asking.Go(func() {
			text := strings.Repeat(fmt.Sprintf("%03d ", i), 32<<10)
			res, err := client.RoundTrip(ask2("CONNECT", "mx.example:25", nil, io.NopCloser(strings.NewReader(text))).WithContext(t.Context()))
			if err != nil || res.StatusCode != 200 {
				t.Errorf("tunnel %d: %v, %v", i, res, err)
				return
			}
			defer res.Body.Close()
			if i%3 == 0 {
				_, _ = io.CopyN(io.Discard, res.Body, int64(i)<<8)
				return
			}
			if all, err := io.ReadAll(res.Body); err != nil || string(all) != text {
				t.Errorf("tunnel %d: %d octets of %d, %v", i, len(all), len(text), err)
			}
		})
	}
	asking.Wait()
	_ = client.Close()
	if err := <-done; err != nil || h.count() != maxStreams || len(h.led) != 0 {
		t.Errorf("%v, %d ends, %d requests have none", err, h.count(), len(h.led))
	}
}

// A destination that ends first still hears what the client has to say, for
// Limits.Half; then the client is told a proper end.
func TestDestinationEndsFirst(t *testing.T) {
	for _, c := range []struct {
		name   string
		client bool // ends its half
		err    error
		took   time.Duration
	}{{"the client too", true, nil, time.Second}, {"the client goes on", false, forward.ErrHalf, 5 * time.Second}} {
		synctest.Test(t, func(t *testing.T) {
			near, far := net.Pipe()
			heard := make(chan string, 1)
			h := &station{way: func(context.Context, Request) (net.Conn, *Refusal) { return newHalves(heard), nil }}
			done := served(t.Context(), &Server{Handler: h}, far)
			client := library(near)
			body, say := io.Pipe()
			start := time.Now()
			res, err := client.RoundTrip(ask2("CONNECT", "mx.example:25", nil, body).WithContext(t.Context()))
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				time.Sleep(time.Second)
				_, _ = io.WriteString(say, "still here")
				if c.client {
					_ = say.Close()
				}
			}()
			all, err := io.ReadAll(res.Body)
			if err != nil || string(all) != "221 bye\r\n" || time.Since(start) != c.took {
				t.Errorf("%s: %q, %v after %v", c.name, all, err, time.Since(start))
			}
			_ = say.Close()
			if got := <-heard; got != "still here" {
				t.Errorf("%s: the destination heard %q", c.name, got)
			}
			client.CloseIdleConnections()
			if err := <-done; err != nil {
				t.Error(err)
			}
			if v := h.only(t); !errors.Is(v.err, c.err) {
				t.Errorf("%s: %v", c.name, v.err)
			}
		})
	}
}

// halves is a destination that says bye, ends its half, and goes on to hear.
type halves struct {
	net.Conn
	said  io.Reader
	mu    sync.Mutex
	all   strings.Builder
	heard chan string
	once  sync.Once
}

func newHalves(heard chan string) *halves {
	return &halves{said: strings.NewReader("221 bye\r\n"), heard: heard}
}

func (h *halves) Read(p []byte) (int, error) { return h.said.Read(p) }

func (h *halves) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.all.Write(p)
}
func (h *halves) CloseWrite() error { return nil }
func (h *halves) Close() error {
	h.once.Do(func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.heard <- h.all.String()
	})
	return nil
}

// How a tunnel is cut: the client's stream is reset, the connection lives and
// carries the next one.
func TestStreamsAreCutAlone(t *testing.T) {
	for _, c := range []struct {
		name string
		cut  func(destination net.Conn, in io.ReadCloser, say *io.PipeWriter)
		took time.Duration
		err  error
	}{
		{"a destination that fails", func(d net.Conn, _ io.ReadCloser, _ *io.PipeWriter) { d.Close() }, 0, io.ErrClosedPipe},
		{"silence", func(net.Conn, io.ReadCloser, *io.PipeWriter) {}, 10 * time.Minute, forward.ErrIdle},
		{"a client that does not read", func(d net.Conn, _ io.ReadCloser, _ *io.PipeWriter) {
			go func() { _, _ = d.Write(make([]byte, 16<<20)) }() // more than every window
		}, 10 * time.Minute, forward.ErrIdle},
		{"a client that resets", func(_ net.Conn, in io.ReadCloser, _ *io.PipeWriter) { in.Close() }, 0, nil},
		{"a client that ends its half, and then resets", func(_ net.Conn, in io.ReadCloser, say *io.PipeWriter) {
			_ = say.Close()
			synctest.Wait()
			in.Close()
		}, 0, forward.ErrClosed},
	} {
		synctest.Test(t, func(t *testing.T) {
			near, far := net.Pipe()
			inner, destination := net.Pipe()
			var ways int
			h := &station{way: func(ctx context.Context, r Request) (net.Conn, *Refusal) {
				if ways++; ways > 1 {
					return echo(ctx, r)
				}
				if c.name == "a destination that fails" {
					return failing{inner}, nil
				}
				return halfOpen{inner}, nil
			}}
			done := served(t.Context(), &Server{Handler: h}, far)
			client := library(near)
			body, say := io.Pipe()
			res, err := client.RoundTrip(ask2("CONNECT", "mx.example:25", nil, body).WithContext(t.Context()))
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			c.cut(destination, res.Body, say)
			for h.count() == 0 {
				time.Sleep(time.Second)
			}
			if took := time.Since(start).Truncate(time.Minute); took != c.took {
				t.Errorf("%s: cut after %v", c.name, time.Since(start))
			}
			if _, err := io.Copy(io.Discard, res.Body); err == nil {
				t.Errorf("%s: the client was told a proper end", c.name)
			}
			v := h.only(t)
			if v.err == nil || c.err != nil && !errors.Is(v.err, c.err) {
				t.Errorf("%s: %v", c.name, v.err)
			}
			_ = say.Close()
			_ = destination.Close()
			res, err = client.RoundTrip(ask2("CONNECT", "mx.example:25", nil, io.NopCloser(strings.NewReader("again"))).WithContext(t.Context()))
			if err != nil {
				t.Fatalf("%s: the connection carries nothing more: %v", c.name, err)
			}
			if all, err := io.ReadAll(res.Body); err != nil || string(all) != "again" {
				t.Errorf("%s: %q, %v", c.name, all, err)
			}
			client.CloseIdleConnections()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

func (s *station) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.ended)
}

// A destination is told the difference between a client's end and its failure,
// also where its octets are counted.
func TestFailuresArePassedOn(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(conn net.Conn, res *http.Response, say *io.PipeWriter)
		want error
	}{
		{"an end", func(_ net.Conn, _ *http.Response, say *io.PipeWriter) { _ = say.Close() }, nil},
		{"a reset", func(_ net.Conn, res *http.Response, _ *io.PipeWriter) { res.Body.Close() }, syscall.ECONNRESET},
		{"a body that fails", func(_ net.Conn, _ *http.Response, say *io.PipeWriter) { say.CloseWithError(io.ErrNoProgress) }, syscall.ECONNRESET},
		{"a connection that is gone", func(conn net.Conn, _ *http.Response, _ *io.PipeWriter) { conn.Close() }, syscall.ECONNRESET},
	} {
		near, far := tcp(t)
		inner, destination := tcp(t)
		h := &station{way: func(context.Context, Request) (net.Conn, *Refusal) {
			return forward.Counted(inner, new(forward.Flow)), nil
		}}
		done := served(t.Context(), &Server{Handler: h}, far)
		client := library(near)
		body, say := io.Pipe()
		res, err := client.RoundTrip(ask2("CONNECT", "mx.example:25", nil, body).WithContext(t.Context()))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(say, "MAIL"); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(destination, make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
		c.end(near, res, say)
		if _, err := io.Copy(io.Discard, destination); !errors.Is(err, c.want) {
			t.Errorf("%s: the destination was told %v", c.name, err)
		}
		_ = destination.Close()
		_ = near.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
		client.CloseIdleConnections()
	}
}

// So is a client told the difference between a destination's end and its failure.
func TestFailuresReachTheClient(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(destination *net.TCPConn)
		want error
	}{
		{"an end", func(d *net.TCPConn) { _ = d.CloseWrite() }, io.EOF},
		{"a reset", func(d *net.TCPConn) { _ = d.SetLinger(0); _ = d.Close() }, syscall.ECONNRESET},
	} {
		near, far := tcp(t)
		inner, destination := tcp(t)
		h := &station{way: func(context.Context, Request) (net.Conn, *Refusal) { return inner, nil }}
		done := served(t.Context(), &Server{Handler: h, Limits: forward.Limits{Half: time.Millisecond}}, far)
		tunnel, _, err := Request{To: to(t, "mx.example:25"), Version: HTTP2}.Connect(t.Context(), near, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(destination, banner); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(tunnel, make([]byte, len(banner))); err != nil {
			t.Fatal(err)
		}
		c.end(destination)
		if n, err := tunnel.Read(make([]byte, 1)); n != 0 || !errors.Is(err, c.want) {
			t.Errorf("%s: the client was told %v", c.name, err)
		}
		_ = tunnel.Close()
		_ = destination.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// What a destination said before its end comes to a client that goes on
// writing, however late it reads.
func TestEndLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		long := strings.Repeat("0123456789", 20_000)
		said := newHalves(make(chan string, 1))
		said.said = strings.NewReader(long)
		h := &station{way: func(context.Context, Request) (net.Conn, *Refusal) { return said, nil }}
		done := served(t.Context(), &Server{Handler: h}, far)
		tunnel, _, err := Request{To: to(t, "mx.example:25"), Version: HTTP2}.Connect(t.Context(), near, nil)
		if err != nil {
			t.Fatal(err)
		}
		over := make(chan struct{})
		go func() {
			defer close(over)
			for {
				if _, err := io.WriteString(tunnel, "x"); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}()
		time.Sleep(time.Minute) // the destination has ended, and Limits.Half is over
		if all, err := io.ReadAll(tunnel); err != nil || string(all) != long {
			t.Errorf("%d octets of %d, %v", len(all), len(long), err)
		}
		_ = tunnel.Close()
		<-over
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// A destination that does not read holds up its own tunnel, and no other of
// the connection.
func TestSlowDestination(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const slowOnes = 12
		near, far := net.Pipe()
		var ways int
		var destinations []net.Conn
		h := &station{way: func(ctx context.Context, r Request) (net.Conn, *Refusal) {
			if ways++; ways > slowOnes {
				return echo(ctx, r)
			}
			inner, destination := net.Pipe()
			destinations = append(destinations, destination)
			return halfOpen{inner}, nil
		}}
		done := served(t.Context(), &Server{Handler: h}, far)
		client := library(near)
		var slow []*http.Response
		for range slowOnes {
			answer, err := client.RoundTrip(ask2("CONNECT", "mx.example:25", nil, io.NopCloser(bytes.NewReader(make([]byte, 8<<20)))).WithContext(t.Context()))
			if err != nil {
				t.Fatal(err)
			}
			slow = append(slow, answer)
			synctest.Wait() // its window is full
		}
		long := strings.Repeat("0123456789", 100_000)
		quick, err := client.RoundTrip(ask2("CONNECT", "mx.example:25", nil, io.NopCloser(strings.NewReader(long))).WithContext(t.Context()))
		if err != nil {
			t.Fatal(err)
		}
		if all, err := io.ReadAll(quick.Body); err != nil || string(all) != long {
			t.Errorf("%d octets of %d, %v", len(all), len(long), err)
		}
		for i, answer := range slow {
			destinations[i].Close()
			if _, err := io.Copy(io.Discard, answer.Body); err == nil {
				t.Error("a tunnel that lost what was said had a proper end")
			}
		}
		client.CloseIdleConnections()
		if err := <-done; err != nil || h.count() != slowOnes+1 {
			t.Error(err)
		}
	})
}

// failing is a destination whose end is an error, as a reset is.
type failing struct{ net.Conn }

func (f failing) Read(p []byte) (int, error) {
	n, err := f.Conn.Read(p)
	if errors.Is(err, io.EOF) {
		err = io.ErrClosedPipe
	}
	return n, err
}

// halfOpen is a destination that does not mind the end of the client's half.
type halfOpen struct{ net.Conn }

func (halfOpen) CloseWrite() error { return nil }

// Streams of one connection hold places as connections do.
func TestStreamsHoldPlaces(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &station{way: echo}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- (&Server{Handler: h, Limits: forward.Limits{PerClient: 3}}).Run(ctx, l) }()
	dial := func() net.Conn {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	client := library(dial())
	open := func(want int) *io.PipeWriter {
		t.Helper()
		body, say := io.Pipe()
		res, err := client.RoundTrip(ask2("CONNECT", "mx.example:25", nil, body).WithContext(t.Context()))
		if err != nil || res.StatusCode != want {
			t.Fatalf("%v, %v; want %d", res, err, want)
		}
		t.Cleanup(func() { res.Body.Close() })
		return say
	}
	other := dial() // the second place
	defer other.Close()
	if _, _, err := (Request{To: to(t, "mx.example:25")}).Connect(t.Context(), other, nil); err != nil {
		t.Fatal(err)
	}
	first := open(200)  // in the connection's own place
	second := open(200) // in the third
	open(503)
	third := dial()
	if n, err := third.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("a fourth connection was served: %d, %v", n, err)
	}
	third.Close()
	_ = first.Close()
	h.waitFor(t, 2) // the refused one, and the first
	open(200)
	_ = second.Close()
	cancel() // with tunnels open
	if err := <-done; err != nil {
		t.Error(err)
	}
	if len(h.led) != 0 || h.count() != 5 {
		t.Errorf("%d ends, %d requests have none", h.count(), len(h.led))
	}
}

// A listener that is closed, as at a reload, leaves its tunnels, and takes no
// request more on the connections that carry them.
func TestTunnelsOutliveTheirListener(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &station{way: echo}
	done := make(chan error, 1)
	go func() { done <- (&Server{Handler: h}).Run(t.Context(), l) }()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	idle, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	if _, err := io.WriteString(idle, begins); err != nil {
		t.Fatal(err)
	}
	tunnel, _, err := Request{To: to(t, "mx.example:25"), Version: HTTP2}.Connect(t.Context(), conn, nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	if _, err := io.Copy(io.Discard, idle); err != nil { // ends by itself, long before Limits.Request
		t.Error(err)
	}
	_ = tunnel.SetDeadline(time.Now().Add(20 * time.Second))
	go func() { _, _ = io.WriteString(tunnel, "still here") }()
	if _, err := io.ReadFull(tunnel, make([]byte, 10)); err != nil {
		t.Error(err)
	}
	h.waitFor(t, 1) // that of the idle connection
	_ = tunnel.Close()
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

func (s *station) waitFor(t *testing.T, n int) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); s.count() < n; {
		if time.Now().After(end) {
			t.Fatalf("%d ends of %d", s.count(), n)
		}
		time.Sleep(time.Millisecond)
	}
}

// A frame of HTTP/2 as a stranger writes it (RFC 9113 section 4.1).
func frame(kind, flags byte, stream uint32, payload ...byte) string {
	n := len(payload)
	head := []byte{byte(n >> 16), byte(n >> 8), byte(n), kind, flags, byte(stream >> 24), byte(stream >> 16), byte(stream >> 8), byte(stream)}
	return string(head) + string(payload)
}

// The frames and flags of the tests.
const (
	frameData, frameHeaders, frameReset, frameSettings, framePing, frameGoAway, frameContinuation = 0, 1, 3, 4, 6, 7, 9

	endStream, endHeaders = 1, 4
)

// fields writes a list of fields without the table (RFC 7541 section 6.2.2).
func fields(pairs ...string) (block []byte) {
	for i, s := range pairs {
		if i%2 == 0 {
			block = append(block, 0)
		}
		block = append(append(block, byte(len(s))), s...)
	}
	return block
}

var asks2 = fields(":method", "CONNECT", ":authority", "mx.example:25", "proxy-authorization", "Basic dTpodW50ZXIyLWh1bnRlcjI=") // u:hunter2-hunter2

const begins = preface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00" // and empty SETTINGS

// closed is a client that opens no window: it says that nothing may be sent.
var closed = preface + frame(frameSettings, 0, 0, 0, 4, 0, 0, 0, 0)

// What a client says, when it is left alone, and what comes of it.
func TestHowHTTP2Begins(t *testing.T) {
	ask := frame(frameHeaders, endHeaders, 1, asks2...)
	for _, c := range []struct {
		name   string
		say    string
		ends   bool // the client hangs up
		answer string
		took   time.Duration
		err    error // of the one end
		led    bool
	}{
		{"nothing behind the preface", begins, false, "", 31 * time.Second, forward.ErrClosed, false}, // and a second for GOAWAY
		{"hangs up", begins, true, "", 0, forward.ErrClosed, false},
		{"half a preface", preface[:20], false, "", 30 * time.Second, forward.ErrTimeout, false},
		{"half a preface, and hangs up", preface[:20], true, "", 0, forward.ErrClosed, false},
		{"nearly a preface", preface[:18] + "XX", false, "HTTP/1.1 400 Bad Request\r\n", 0, errBad, false},
		{"no settings", preface, false, "", 2 * time.Second, forward.ErrClosed, false},
		{"no frames", preface + strings.Repeat("GET / HTTP/1.1\r\n", 4), false, "", time.Second, forward.ErrClosed, false},
		{"a head that never ends", begins + frame(frameHeaders, 0, 1, asks2...), false, "", 31 * time.Second, forward.ErrClosed, false},
		{"extended CONNECT", begins + frame(frameHeaders, endHeaders, 1, fields(":method", "CONNECT", ":protocol", "websocket", ":scheme", "https", ":path", "/", ":authority", "mx.example:25")...), true, "", 0, forward.ErrClosed, false},
		{"no authority", begins + frame(frameHeaders, endHeaders, 1, fields(":method", "CONNECT", "host", "mx.example:25")...), true, "", 0, forward.ErrClosed, false},
		{"a length", begins + frame(frameHeaders, endHeaders, 1, append(fields("content-length", "5"), asks2...)...), true, "", 0, forward.ErrClosed, false}, // fields before pseudo-fields
		{"a refusal that is not read", closed + frame(frameHeaders, endHeaders, 1, fields(":method", "GET", ":scheme", "http", ":path", "/", ":authority", "mx.example:25")...), false, "", 61 * time.Second, ErrRefused, false},
		{"a head too long, and an answer that is not read", closed + frame(frameHeaders, 0, 1, asks2...) + frame(frameContinuation, endHeaders, 1, bytes.Repeat(fields("x", strings.Repeat("x", 120)), 100)...), false, "", 61 * time.Second, forward.ErrClosed, false},
		{"a tunnel, and hangs up", begins + ask, true, "", 0, nil, true},
		{"a tunnel, and no word more", begins + ask, false, "", 10*time.Minute + 31*time.Second, forward.ErrIdle, true},
		{"a tunnel, and another fault", begins + ask + frame(frameSettings, 0, 1), false, "", time.Second, nil, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			near, far := net.Pipe()
			h := &station{way: echo}
			start := time.Now()
			done := served(t.Context(), &Server{Handler: h}, far)
			var got bytes.Buffer
			heard := make(chan struct{})
			go func() { defer close(heard); _, _ = io.Copy(&got, near) }()
			for i := range c.say { // one octet at a time
				if _, err := io.WriteString(near, c.say[i:i+1]); err != nil {
					break
				}
			}
			if c.ends {
				synctest.Wait()
				near.Close()
			}
			err := <-done
			if took := time.Since(start); took != c.took {
				t.Errorf("%s: ended after %v, want %v", c.name, took, c.took)
			}
			<-heard
			near.Close()
			if !strings.HasPrefix(got.String(), c.answer) {
				t.Errorf("%s: answered %q", c.name, got.String())
			}
			v := h.only(t)
			if (c.led || errors.Is(c.err, ErrRefused)) != (err == nil) || c.led != !v.r.To.IsZero() || v.err == nil || c.err != nil && !errors.Is(v.err, c.err) {
				t.Errorf("%s: %v, ended %+v", c.name, err, v)
			}
		})
	}
}

// Refusals on one connection have an end, which the client is told.
func TestRefusalsHaveAnEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		h := &station{way: func(context.Context, Request) (net.Conn, *Refusal) { return nil, &Refusal{407, "log in"} }}
		done := served(t.Context(), &Server{Handler: h}, far)
		client := library(near)
		for range maxRefused {
			res, err := client.RoundTrip(ask2("CONNECT", "mx.example:25", nil, nil).WithContext(t.Context()))
			if err != nil || res.StatusCode != 407 {
				t.Fatal(res, err)
			}
			_ = res.Body.Close()
		}
		if err := <-done; err != nil || h.count() != maxRefused {
			t.Errorf("%v, %d refused", err, h.count())
		}
		client.CloseIdleConnections()
	})
}

// A client that asks and resets, over and over, is served no more than it may
// have open, and no more often than it may be refused.
func TestRapidReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		var mu sync.Mutex
		var now, most int
		h := &station{way: func(ctx context.Context, _ Request) (net.Conn, *Refusal) {
			mu.Lock()
			now++
			most = max(most, now)
			mu.Unlock()
			<-ctx.Done() // a destination that does not answer
			mu.Lock()
			now--
			mu.Unlock()
			return nil, RefusalOf(ctx.Err())
		}}
		start := time.Now()
		done := served(t.Context(), &Server{Handler: h, Limits: forward.Limits{PerClient: 10}}, far)
		go func() { _, _ = io.Copy(io.Discard, near) }()
		_, err := io.WriteString(near, begins)
		for id := uint32(1); err == nil && id < 20_000; id += 2 {
			_, err = io.WriteString(near, frame(frameHeaders, endHeaders|endStream, id, asks2...)+frame(frameReset, 0, id, 0, 0, 0, 8))
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		near.Close()
		if took := time.Since(start); took > time.Second { // behind GOAWAY, which discards what comes
			t.Errorf("ended after %v", took)
		}
		if most > 10 || h.count() > 10*maxRefused || len(h.led) > 0 {
			t.Errorf("%d at once, %d in all, %d without an end", most, h.count(), len(h.led))
		}
	})
}

// The end of the server's context ends idle connections and tunnels at once.
func TestHTTP2EndsWithItsContext(t *testing.T) {
	over := errors.New("the server ends")
	for _, tunnel := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			near, far := net.Pipe()
			h := &station{way: echo}
			ctx, cancel := context.WithCancelCause(t.Context())
			done := served(ctx, &Server{Handler: h}, far)
			go func() { _, _ = io.Copy(io.Discard, near) }()
			say := begins
			if tunnel {
				say += frame(frameHeaders, endHeaders, 1, asks2...)
			}
			if _, err := io.WriteString(near, say); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			start := time.Now()
			cancel(over)
			err := <-done
			if v := h.only(t); time.Since(start) != 0 || v.err == nil || !tunnel && (!errors.Is(v.err, over) || !errors.Is(err, over)) {
				t.Errorf("tunnel %t: %v, %+v", tunnel, err, v)
			}
			near.Close()
		})
	}
}

// A TLS connection speaks the version that its handshake chose, and no other.
func TestVersionsOverTLS(t *testing.T) {
	server, pool := certificate(t)
	for _, c := range []struct {
		offered, served []string
		version         Version
		err             bool
	}{
		{[]string{"h2", "http/1.1"}, []string{"h2", "http/1.1"}, HTTP2, false},
		{[]string{"http/1.1"}, []string{"h2", "http/1.1"}, HTTP11, false},
		{[]string{"h2"}, nil, HTTP11, false}, // the server knows no ALPN: HTTP/1
		{[]string{"h2"}, nil, HTTP2, true},   // and not the other
	} {
		near, far := tcp(t)
		h := &station{way: echo}
		cfg := server.Clone()
		cfg.NextProtos = c.served
		done := served(t.Context(), &Server{Handler: h}, tls.Server(far, cfg))
		conn, _, err := Handshake(t.Context(), near, &tls.Config{RootCAs: pool, ServerName: "proxy.example", NextProtos: c.offered})
		if err != nil {
			t.Fatal(err)
		}
		tunnel, res, err := Request{To: to(t, "mx.example:25"), Version: c.version}.Connect(t.Context(), conn, nil)
		if (err != nil) != c.err || !c.err && res.Status != 200 {
			t.Errorf("%v, served %v, %s: %+v, %v", c.offered, c.served, c.version, res, err)
		}
		if err == nil {
			tunnel.Close()
		}
		_ = near.Close()
		err = <-done
		if v := h.only(t); c.err != errors.Is(err, errBad) || !c.err && v.r.Version != c.version {
			t.Errorf("%s was served as %s", c.version, v.r.Version)
		}
	}
}

// FuzzFrames says a preface and any octets behind it to the server: it ends,
// by itself or with its client, tells the handler of each end once, and no
// error holds a credential.
func FuzzFrames(f *testing.F) {
	ask := frame(frameHeaders, endHeaders, 1, asks2...)
	settings := frame(frameSettings, 0, 0)
	for _, say := range []string{
		settings + ask + frame(frameData, 0, 1, []byte("EHLO x\r\n")...) + frame(frameData, endStream, 1),
		settings + ask + frame(frameReset, 0, 1, 0, 0, 0, 8) + frame(frameHeaders, endHeaders|endStream, 3, asks2...),
		settings + frame(frameHeaders, 0, 1, asks2[:9]...) + frame(frameContinuation, endHeaders, 1, asks2[9:]...),
		settings + frame(frameHeaders, endHeaders|endStream, 1, fields(":method", "GET", ":scheme", "http", ":path", "/", ":authority", "mx.example:25")...),
		settings + frame(frameHeaders, endHeaders, 1, append(bytes.Clone(asks2), fields("content-length", "5")...)...) + frame(frameData, 0, 1, 'x'),
		settings + frame(framePing, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8) + frame(frameGoAway, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
	} {
		f.Add([]byte(say), true)
		f.Add([]byte(say), false)
	}
	f.Fuzz(func(t *testing.T, in []byte, stays bool) {
		synctest.Test(t, func(t *testing.T) {
			near, far := net.Pipe()
			h := &station{way: echo}
			done := served(t.Context(), &Server{Handler: h}, far)
			go func() { _, _ = io.Copy(io.Discard, near) }()
			_, _ = io.WriteString(near, preface+string(in))
			if !stays {
				near.Close()
			}
			err := <-done
			near.Close()
			if len(h.led) > 0 || h.count() == 0 {
				t.Errorf("%q: %d ends, %d requests have none", in, h.count(), len(h.led))
			}
			for _, v := range h.ended {
				if text := fmt.Sprint(err, v.err); strings.Contains(text, "hunter2") || strings.Contains(text, "dTpodW50") {
					t.Errorf("%q: the credential is in %s", in, text)
				}
			}
		})
	})
}
