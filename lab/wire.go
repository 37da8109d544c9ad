package lab

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"postern/open"
)

// A faulty server stands behind the fault of its wire.
type faulty struct {
	wire   Wire
	server open.SMTP
}

// Run serves l until ctx ends.
func (f faulty) Run(ctx context.Context, l net.Listener) error {
	switch f.wire {
	case SplitEHLO:
		return f.server.Run(ctx, wrapping{l, func(c net.Conn) net.Conn { return splitConn{c} }})
	case LosesGroups:
		return f.server.Run(ctx, wrapping{l, func(c net.Conn) net.Conn { return &losingConn{Conn: c} }})
	case DeafToEHLO:
		return f.server.Run(ctx, wrapping{l, func(c net.Conn) net.Conn { return deafConn{c} }})
	case Mute:
		return each(ctx, l, func(c net.Conn) { <-ctx.Done() })
	case NotSMTP:
		return each(ctx, l, func(c net.Conn) {
			_, _ = c.Write([]byte("HTTP/1.0 400 Bad Request\r\nServer: lab\r\n\r\n"))
		})
	case WholeWrites:
	}
	return f.server.Run(ctx, l)
}

// An insideTLS server is reached by clients that begin with TLS, and may choose
// HTTP/2 there.
type insideTLS struct{ Gateway }

// Run serves l until ctx ends.
func (g insideTLS) Run(ctx context.Context, l net.Listener) error {
	config := certificate()
	config.NextProtos = []string{"h2", "http/1.1"}
	return g.Gateway.Run(ctx, tls.NewListener(l, config))
}

// A wrapping listener gives connections with a fault.
type wrapping struct {
	net.Listener
	wrap func(net.Conn) net.Conn
}

// Accept accepts.
func (l wrapping) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.wrap(c), nil
}

// A losingConn loses what comes behind the first command of a group.
type losingConn struct {
	net.Conn
	message bool // what comes is the text of a message
}

// Read reads a command.
func (l *losingConn) Read(p []byte) (int, error) {
	n, err := l.Conn.Read(p)
	if l.message {
		l.message = !bytes.HasSuffix(p[:n], []byte("\r\n.\r\n"))
	} else if i := bytes.IndexByte(p[:n], '\n'); i >= 0 {
		n = i + 1
	}
	return n, err
}

// Write writes an answer.
func (l *losingConn) Write(p []byte) (int, error) {
	l.message = bytes.HasPrefix(p, []byte("354"))
	return l.Conn.Write(p)
}

// A deafConn ends at EHLO.
type deafConn struct{ net.Conn }

// Read reads a command.
func (d deafConn) Read(p []byte) (int, error) {
	n, err := d.Conn.Read(p)
	if bytes.HasPrefix(bytes.ToUpper(p[:n]), []byte("EHLO")) {
		return 0, io.EOF
	}
	return n, err
}

// A splitConn sends long answers in two segments, cut in the middle of a line,
// with a pause between them.
type splitConn struct{ net.Conn }

// Write writes.

func (c splitConn) Write(p []byte) (int, error) {
	if !bytes.HasPrefix(p, []byte("250-")) {
		return c.Conn.Write(p)
	}
	n, err := c.Conn.Write(p[:len(p)/2])
	if err != nil {
		return n, err
	}
	time.Sleep(200 * time.Millisecond) // longer than any delay of acknowledgements, so the halves stay apart
	m, err := c.Conn.Write(p[len(p)/2:])
	return n + m, err
}

// maxMute bounds the connections of specimens that speak no SMTP.
const maxMute = 100

// each hands every connection to speak and closes it after.
func each(ctx context.Context, l net.Listener, speak func(net.Conn)) error {
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	places := make(chan struct{}, maxMute)
	for {
		c, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			return err
		}
		select {
		case places <- struct{}{}:
		default:
			_ = c.Close()
			continue
		}
		wg.Go(func() {
			defer func() { <-places }()
			defer c.Close()
			speak(c)
		})
	}
}
