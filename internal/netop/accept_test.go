package netop

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// failing is a listener that fails by err for a while and then has clients.
type failing struct {
	err     error
	until   time.Time
	clients chan net.Conn
	closed  chan struct{}
}

func (l *failing) Accept() (net.Conn, error) {
	if time.Now().Before(l.until) {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", l.err)}
	}
	select {
	case c := <-l.clients:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *failing) Close() error {
	select {
	case <-l.closed:
	default:
		close(l.closed)
	}
	return nil
}

func (*failing) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 25), Port: 25} }

// What passes is waited for, however long; what never passes is said.
func TestAcceptLastsAsLongAsTheProcess(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		ends bool
	}{
		{"no descriptor for this process", syscall.EMFILE, false},
		{"no descriptor on this machine", syscall.ENFILE, false},
		{"no memory", syscall.ENOMEM, false},
		{"a client that gave up", syscall.ECONNABORTED, false},
		{"a network that is down", syscall.ENETDOWN, false},
		{"a firewall's word", syscall.EPERM, false},
		{"an error that nobody knows", syscall.Errno(4095), false},
		{"the descriptor is none", syscall.EBADF, true},
		{"it does not listen", syscall.EINVAL, true},
		{"no socket", syscall.ENOTSOCK, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &failing{err: c.err, until: time.Now().Add(24 * time.Hour), clients: make(chan net.Conn), closed: make(chan struct{})}
				ctx, stop := context.WithCancel(t.Context())
				defer stop()
				served := make(chan net.Conn, 1)
				ended := make(chan error, 1)
				go func() { ended <- Accept(ctx, l, nil, func(c net.Conn) { served <- c }) }()
				if c.ends {
					if err := <-ended; !errors.Is(err, c.err) || !strings.Contains(err.Error(), "accept on 192.0.2.25:25: ") {
						t.Errorf("Accept = %v, want it to say why at once", err)
					}
					return
				}
				near, far := net.Pipe()
				defer near.Close()
				l.clients <- far // after a day
				if got := <-served; got != far {
					t.Error("another client was served")
				}
				if waited := time.Since(l.until); waited > mostAcceptWait {
					t.Errorf("let in %v after it could be", waited)
				}
				stop()
				if err := <-ended; err != nil {
					t.Errorf("Accept = %v after its context ended", err)
				}
			})
		})
	}
}

// scripted is a listener whose descriptors are counted.
type scripted struct {
	failing
	short func() bool
}

func (l *scripted) Accept() (net.Conn, error) {
	if l.short() {
		return nil, syscall.EMFILE
	}
	return l.failing.Accept()
}

// The reserve is spent where there is nothing else, and taken again.
func TestReserve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		l := &scripted{failing: failing{clients: make(chan net.Conn), closed: make(chan struct{})}}
		l.short = func() bool { calls++; return calls == 1 }
		ctx, stop := context.WithCancel(t.Context())
		began := time.Now()
		served := make(chan net.Conn, 1)
		ended := make(chan error, 1)
		go func() { ended <- Accept(ctx, l, nil, func(c net.Conn) { served <- c }) }()
		near, far := net.Pipe()
		defer near.Close()
		l.clients <- far
		<-served
		if waited := time.Since(began); waited != 0 {
			t.Errorf("waited %v with a descriptor in reserve", waited)
		}
		stop()
		if err := <-ended; err != nil {
			t.Errorf("Accept = %v", err)
		}
	})
}
