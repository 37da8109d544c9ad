package forward

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// A Count is how many octets a tunnel carried.
type Count struct {
	Up   int64 // from the client
	Down int64 // to the client
}

// Why a tunnel ended that nobody closed; test with errors.Is.
var (
	ErrIdle = errors.New("nothing passed for too long")
	ErrHalf = errors.New("one end had ended, and the other did not in time")
)

// Splice joins two connections until both have ended, and closes both. The
// end of one is passed on as the end of that direction alone; the other goes
// on. It returns nil when both ended by themselves, else why the tunnel was
// cut: ErrIdle, ErrHalf, the cause of ctx, or what failed on the wire. A tunnel
// between TCP connections in which nothing passes holds no buffer, and where
// much passes the system carries the octets without showing them.
func Splice(ctx context.Context, client, server net.Conn, l Limits) (Count, error) {
	flow := &Flow{}
	if c, ok := server.(*counted); ok {
		server, flow = c.Conn, c.flow
	}
	s := &splice{limits: l.WithDefaults(), start: time.Now(), client: client, server: server, flow: flow, over: make(chan struct{})}
	defer context.AfterFunc(ctx, func() { s.cut(context.Cause(ctx)) })()
	s.watch()
	var up sync.WaitGroup
	up.Go(func() { s.carry(server, client, &flow.up, "from the client") })
	s.carry(client, server, &flow.down, "from the destination")
	up.Wait()
	return flow.Count(), s.end()
}

// A splice is one tunnel: a goroutine for each direction, and a timer.
type splice struct {
	limits         Limits
	client, server net.Conn
	start          time.Time
	last           atomic.Int64 // when octets last passed, since start
	flow           *Flow
	ended          atomic.Int32  // directions
	over           chan struct{} // both have

	mu     sync.Mutex
	timer  *time.Timer
	closed bool
	why    error // it was cut
}

func (s *splice) touch() { s.last.Store(int64(time.Since(s.start))) }

// cut ends both directions; the first reason counts.
func (s *splice) cut(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.close(why)
}

func (s *splice) close(why error) {
	if s.closed {
		return
	}
	s.closed, s.why = true, why
	if s.timer != nil {
		s.timer.Stop()
	}
	s.client.Close()
	s.server.Close()
}

// end closes what is open, and says why the tunnel was cut.
func (s *splice) end() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.close(nil)
	return s.why
}

// watch cuts the tunnel when it was silent too long.
func (s *splice) watch() {
	if s.limits.Idle < 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.timer = time.AfterFunc(s.limits.Idle, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		silent := time.Since(s.start) - time.Duration(s.last.Load())
		switch {
		case s.closed:
		case silent < s.limits.Idle:
			s.timer.Reset(s.limits.Idle - silent)
		default:
			s.close(fmt.Errorf("%w: %v", ErrIdle, s.limits.Idle))
		}
	})
}

// carry is one direction, from its first octet to its end or its error.
func (s *splice) carry(dst, src net.Conn, n *atomic.Int64, which string) {
	err := s.move(dst, src, n)
	if err != nil {
		s.cut(fmt.Errorf("%s: %w", which, err))
	}
	if s.ended.Add(1) == 2 {
		close(s.over)
	}
	if err == nil && closeWrite(dst) != nil && s.limits.Half >= 0 {
		// Nothing tells dst that the end has come but closing it, and with it
		// what is on its way back.
		t := time.NewTimer(s.limits.Half)
		defer t.Stop()
		select {
		case <-t.C:
			s.cut(fmt.Errorf("%w: %v", ErrHalf, s.limits.Half))
		case <-s.over:
		}
	}
}

func (s *splice) move(dst, src net.Conn, n *atomic.Int64) error {
	if u, ok := src.(*unread); ok {
		if err := s.put(dst, u.rest, n); err != nil {
			return err
		}
		src = u.Conn
	}
	if u, ok := dst.(*unread); ok {
		dst = u.Conn // what it has yet to be read stays with the other direction
	}
	if in, ok := src.(*net.TCPConn); ok {
		return s.pour(dst, in, n)
	}
	return s.copy(dst, src, n)
}

// put hands on what was read.
func (s *splice) put(dst net.Conn, p []byte, n *atomic.Int64) error {
	s.touch()
	put, err := dst.Write(p)
	n.Add(int64(put))
	s.touch()
	return err
}

const (
	bigBuffer   = 32 << 10
	smallBuffer = 2 << 10 // what waits for octets, where something must
)

// buffers are borrowed while octets pass.
var buffers = sync.Pool{New: func() any { return new([bigBuffer]byte) }}

func borrow() *[bigBuffer]byte {
	if b, ok := buffers.Get().(*[bigBuffer]byte); ok {
		return b
	}
	return new([bigBuffer]byte)
}

// copy carries where one end is no TCP connection: it waits with a small
// buffer, and borrows a big one while that would be filled.
func (s *splice) copy(dst, src net.Conn, n *atomic.Int64) error {
	small := make([]byte, smallBuffer)
	var big *[bigBuffer]byte
	defer func() {
		if big != nil {
			buffers.Put(big)
		}
	}()
	for {
		b := small
		if big != nil {
			b = big[:]
		}
		got, err := src.Read(b)
		if got > 0 {
			if err := s.put(dst, b[:got], n); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case got < smallBuffer && big != nil:
			buffers.Put(big)
			big = nil
		case got == smallBuffer && big == nil:
			big = borrow()
		}
	}
}
