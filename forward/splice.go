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

	"postern/internal/netop"
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
// cut: ErrIdle, ErrHalf, the cause of ctx, or what failed on the wire. Between
// two TCP connections the system carries the octets without showing them.
func Splice(ctx context.Context, client, server net.Conn, l Limits) (Count, error) {
	defer client.Close()
	defer server.Close()
	l = l.WithDefaults()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(ctx, func() {
		client.Close()
		server.Close()
	})()
	s := &splice{limits: l, cut: cancel, start: time.Now(), over: make(chan struct{})}
	var ways, watch sync.WaitGroup
	watch.Go(func() { s.watch(ctx) })
	var up, down error
	ways.Go(func() { up = s.carry(server, client, &s.up, "from the client") })
	ways.Go(func() { down = s.carry(client, server, &s.down, "from the destination") })
	ways.Wait()
	cut := context.Cause(ctx)
	watch.Wait()
	if cut == nil {
		cut = errors.Join(up, down)
	}
	return Count{Up: s.up.Load(), Down: s.down.Load()}, cut
}

// A splice is one tunnel: a goroutine for each direction, one that watches.
type splice struct {
	limits   Limits
	cut      context.CancelCauseFunc
	start    time.Time
	last     atomic.Int64 // when octets last passed, since start
	up, down atomic.Int64
	ended    atomic.Int32  // directions
	over     chan struct{} // both have
}

func (s *splice) touch() { s.last.Store(int64(time.Since(s.start))) }

// watch cuts the tunnel when it was silent too long.
func (s *splice) watch(ctx context.Context) {
	if s.limits.Idle < 0 {
		return
	}
	t := time.NewTimer(s.limits.Idle)
	defer t.Stop()
	for {
		select {
		case <-s.over:
			return
		case <-ctx.Done():
			return
		case <-t.C:
		}
		silent := time.Since(s.start) - time.Duration(s.last.Load())
		if silent >= s.limits.Idle {
			s.cut(fmt.Errorf("%w: %v", ErrIdle, s.limits.Idle))
			return
		}
		t.Reset(s.limits.Idle - silent)
	}
}

// carry is one direction, from its first octet to its end or its error.
func (s *splice) carry(dst, src net.Conn, n *atomic.Int64, which string) error {
	err := s.move(dst, src, n)
	if err != nil {
		err = fmt.Errorf("%s: %w", which, err)
		s.cut(err)
	}
	if s.ended.Add(1) == 2 {
		close(s.over)
	}
	if err != nil {
		return err
	}
	if closeWrite(dst) != nil && s.limits.Half >= 0 {
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
	return nil
}

// buffers hold what passes where the system does not carry it.
var buffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

func (s *splice) move(dst, src net.Conn, n *atomic.Int64) error {
	if u, ok := src.(*unread); ok {
		m, err := dst.Write(u.rest)
		n.Add(int64(m))
		s.touch()
		if err != nil {
			return err
		}
		src = u.Conn
	}
	if u, ok := dst.(*unread); ok {
		dst = u.Conn // what it has yet to be read stays with the other direction
	}
	in, ok := src.(*net.TCPConn)
	if out, both := dst.(*net.TCPConn); ok && both {
		return s.pour(out, in, n)
	}
	b, ok := buffers.Get().(*[32 << 10]byte)
	if !ok {
		b = new([32 << 10]byte)
	}
	defer buffers.Put(b)
	for {
		got, err := src.Read(b[:])
		if got > 0 {
			s.touch()
			put, err := dst.Write(b[:got])
			n.Add(int64(put))
			s.touch()
			if err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

const (
	// pourSize is how much the system carries before it is asked how it goes:
	// a receiver that takes less than this in Limits.Idle counts as silent.
	pourSize = 128 << 10
	// lookEvery parts Limits.Idle: a tunnel between TCP connections is cut at
	// most this part of it late.
	lookEvery = 10
)

// pour lets the system carry (splice on Linux). It says nothing while it does,
// so it is stopped now and then, which loses no octet.
func (s *splice) pour(dst, src *net.TCPConn, n *atomic.Int64) error {
	for {
		if s.limits.Idle >= 0 {
			_ = src.SetReadDeadline(time.Now().Add(max(s.limits.Idle/lookEvery, time.Millisecond)))
		}
		moved, err := dst.ReadFrom(&io.LimitedReader{R: src, N: pourSize})
		n.Add(moved)
		if moved > 0 {
			s.touch()
		}
		switch {
		case err != nil && !netop.IsTimeout(err):
			return err
		case err == nil && moved < pourSize:
			return nil
		}
	}
}
