package forward

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"postern/internal/netop"
)

// joined is a tunnel over pipes: what the client and the server hold of it.
func joined(ctx context.Context, l Limits) (client, server net.Conn, done chan error, n *Count) {
	client, a := net.Pipe()
	b, server := net.Pipe()
	done, n = make(chan error, 1), new(Count)
	go func() {
		var err error
		*n, err = Splice(ctx, a, b, l)
		done <- err
	}()
	return client, server, done, n
}

// pair is two ends of a TCP connection.
func pair(t testing.TB) (near, far net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if near, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if far, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close(); far.Close() })
	return near, far
}

// Megabytes in both directions arrive whole, are counted, and each end is
// passed on alone: over TCP, over TCP with octets read before, over pipes on
// one side.
func TestSpliceCarriesAll(t *testing.T) {
	for _, c := range []struct {
		name  string
		early string
		piped bool
	}{{"TCP", "", false}, {"TCP, read before", "EHLO c\r\n", false}, {"TCP to a pipe", "", true}} {
		t.Run(c.name, func(t *testing.T) {
			client, a := pair(t)
			b, server := pair(t)
			if c.piped {
				b, server = net.Pipe()
			}
			done := make(chan error, 1)
			var n Count
			go func() {
				var err error
				n, err = Splice(t.Context(), Unread(a, []byte(c.early)), b, Limits{Half: -1})
				done <- err
			}()
			up, down := make([]byte, 3<<20), make([]byte, 2<<20)
			_, _ = rand.Read(up)
			_, _ = rand.Read(down)
			var senders sync.WaitGroup
			send := func(conn net.Conn, p []byte) {
				senders.Go(func() {
					if _, err := conn.Write(p); err != nil {
						t.Error(err)
					}
					if closeWrite(conn) != nil {
						conn.Close()
					}
				})
			}
			if c.piped { // who has no half to close sends first and reads not at all
				send(server, down)
				if got, err := io.ReadAll(client); err != nil || sha256.Sum256(got) != sha256.Sum256(down) {
					t.Errorf("%d octets of %d came down, %v", len(got), len(down), err)
				}
				client.Close()
				up = nil
			} else {
				send(client, up)
				got, err := io.ReadAll(server) // to its end, while the other direction has not begun
				if want := append([]byte(c.early), up...); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%d octets of %d came up, %v", len(got), len(want), err)
				}
				send(server, down)
				if got, err := io.ReadAll(client); err != nil || !bytes.Equal(got, down) {
					t.Errorf("%d octets of %d came down, %v", len(got), len(down), err)
				}
			}
			senders.Wait()
			if err := <-done; err != nil {
				t.Error(err)
			}
			if want := (Count{int64(len(c.early) + len(up)), int64(len(down))}); n != want {
				t.Errorf("counted %+v, want %+v", n, want)
			}
		})
	}
}

// Silence is cut to the nanosecond, counted from the last octet in either
// direction.
func TestSpliceIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server, done, n := joined(t.Context(), Limits{Idle: time.Minute})
		start := time.Now()
		for i := range 5 {
			time.Sleep(50 * time.Second)
			from, to := client, server
			if i%2 == 1 {
				from, to = server, client
			}
			go func() { _, _ = io.WriteString(from, "x") }()
			if _, err := to.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
		}
		err := <-done
		if took := time.Since(start); !errors.Is(err, ErrIdle) || took != 250*time.Second+time.Minute || *n != (Count{3, 2}) {
			t.Errorf("%v after %v with %+v", err, took, *n)
		}
		if _, err := client.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("the client's end: %v", err)
		}
	})
}

// A peer that takes nothing is silent too.
func TestSpliceStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, _, done, _ := joined(t.Context(), Limits{Idle: time.Minute})
		go func() { _, _ = io.WriteString(client, "nobody reads this") }()
		start := time.Now()
		if err := <-done; !errors.Is(err, ErrIdle) || time.Since(start) != time.Minute {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

// Over TCP the system carries, and silence is still seen.
func TestSpliceIdleOverTCP(t *testing.T) {
	client, a := pair(t)
	b, server := pair(t)
	go func() { _, _ = io.WriteString(client, "x") }()
	n, err := Splice(t.Context(), a, b, Limits{Idle: 50 * time.Millisecond})
	if !errors.Is(err, ErrIdle) || n.Up != 1 {
		t.Errorf("%+v, %v", n, err)
	}
	if got, err := io.ReadAll(server); err != nil || string(got) != "x" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestSpliceEnds(t *testing.T) {
	told := errors.New("told to stop")
	for _, c := range []struct {
		name  string
		act   func(client, server net.Conn, cancel context.CancelCauseFunc)
		want  error
		after time.Duration
	}{
		{"both ends", func(client, server net.Conn, _ context.CancelCauseFunc) { client.Close(); server.Close() }, nil, 0},
		// A pipe has no half to close, so the other way has Half to end.
		{"one end of a pipe", func(client, _ net.Conn, _ context.CancelCauseFunc) { client.Close() }, ErrHalf, 5 * time.Second},
		{"the context", func(_, _ net.Conn, cancel context.CancelCauseFunc) { cancel(told) }, told, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			client, server, done, _ := joined(ctx, Limits{})
			start := time.Now()
			c.act(client, server, cancel)
			if err := <-done; !errors.Is(err, c.want) || time.Since(start) != c.after {
				t.Errorf("%s: %v after %v", c.name, err, time.Since(start))
			}
		})
	}
}

// A listener of connections in memory.
type listener struct{ conns chan net.Conn }

func (l listener) Accept() (net.Conn, error) {
	c, ok := <-l.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}
func (l listener) Close() error   { return nil }
func (l listener) Addr() net.Addr { return &net.TCPAddr{} }

type from struct {
	net.Conn
	addr string
}

func (f from) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(f.addr)) }

// Who comes beyond the limits is closed without a word, and a place that was
// left is free again.
func TestServeHoldsItsLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := listener{make(chan net.Conn)}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- Serve(ctx, l, Limits{Connections: 4, PerClient: 2}, func(_ context.Context, c net.Conn) {
				defer c.Close()
				_, _ = io.WriteString(c, "in")
				_, _ = c.Read(make([]byte, 1))
			})
		}()
		var all []net.Conn
		come := func(addr string) (net.Conn, bool) {
			near, far := net.Pipe()
			all = append(all, near)
			l.conns <- from{far, addr}
			b := make([]byte, 2)
			_, err := io.ReadFull(near, b)
			return near, err == nil
		}
		var first net.Conn
		for i, c := range []struct {
			addr string
			in   bool
		}{
			{"192.0.2.1:1", true},
			{"192.0.2.1:2", true},
			{"[::ffff:192.0.2.1]:3", false},
			{"[2001:db8::1]:1", true},
			{"[2001:db8::2]:1", true},
			{"[2001:db8::3]:1", false}, // the same /64
			{"192.0.2.9:1", false},     // all places are taken
		} {
			near, in := come(c.addr)
			if in != c.in {
				t.Errorf("%s: in %v, want %v", c.addr, in, c.in)
			}
			if i == 0 {
				first = near
			}
		}
		first.Close()
		synctest.Wait()
		if _, in := come("192.0.2.9:1"); !in {
			t.Error("a place that was left is not free")
		}
		cancel()
		close(l.conns)
		synctest.Wait()
		select {
		case err := <-done:
			t.Fatalf("Serve did not wait for its connections: %v", err)
		default:
		}
		for _, c := range all {
			c.Close()
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// A forwarder tells of the client what it was asked to tell, before the first
// octet of the client's.
func TestForwarder(t *testing.T) {
	for _, c := range []struct {
		header Header
		want   string
	}{
		{NoHeader, ""},
		{HeaderV1, "PROXY TCP4 127.0.0.1 127.0.0.1 %d %d\r\n"},
		{HeaderV2, "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\x7f\x00\x00\x01\x7f\x00\x00\x01%s%s"},
	} {
		front, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		back, far := pair(t)
		ended := make(chan Count, 1)
		f := &Forwarder{
			Header: c.header, Dial: func(context.Context) (net.Conn, error) { return back, nil },
			Ended: func(_ net.Conn, n Count, err error) {
				if err != nil {
					t.Error(err)
				}
				ended <- n
			},
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- f.Run(ctx, front) }()
		client, err := net.Dial("tcp", front.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(client, "EHLO c\r\n"); err != nil {
			t.Fatal(err)
		}
		_ = closeWrite(client)
		got, err := io.ReadAll(far)
		far.Close()
		want, port, mine := c.want, netop.AddrPort(client.LocalAddr()).Port(), netop.AddrPort(front.Addr()).Port()
		switch c.header {
		case HeaderV1:
			want = fmt.Sprintf(want, port, mine)
		case HeaderV2:
			want = fmt.Sprintf(want, []byte{byte(port >> 8), byte(port)}, []byte{byte(mine >> 8), byte(mine)})
		case NoHeader:
		}
		if err != nil || string(got) != want+"EHLO c\r\n" {
			t.Errorf("header %d: %q, %v", c.header, got, err)
		}
		if n := <-ended; n != (Count{8, 0}) {
			t.Errorf("header %d: %+v", c.header, n)
		}
		client.Close()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// A destination that does not answer costs the client Limits.Dial.
func TestForwarderDials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		f := &Forwarder{Dial: func(ctx context.Context) (net.Conn, error) {
			<-ctx.Done()
			return nil, context.Cause(ctx)
		}}
		start := time.Now()
		_, err := f.ServeConn(t.Context(), far)
		if err == nil || !strings.Contains(err.Error(), "waited 30s for the destination") || time.Since(start) != 30*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		if _, err := near.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("the client's end: %v", err)
		}
	})
}
