package serve

import (
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// pipe returns the two ends of a connection in memory, from one address to
// another. Unlike net.Pipe it holds what was written until it is read, as a
// network does: a client may send a whole group before it reads.
func pipe(client, server netip.AddrPort) (near, far net.Conn) {
	up, down := newStream(), newStream()
	c, s := net.TCPAddrFromAddrPort(client), net.TCPAddrFromAddrPort(server)
	return &end{in: down, out: up, local: c, remote: s}, &end{in: up, out: down, local: s, remote: c}
}

// A stream is one direction.
type stream struct {
	mu       sync.Mutex
	changed  chan struct{} // closed and replaced when something changes
	data     []byte
	closed   bool
	deadline time.Time
}

func newStream() *stream { return &stream{changed: make(chan struct{})} }

func (s *stream) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *stream) read(b []byte) (int, error) {
	for {
		s.mu.Lock()
		n, err := copy(b, s.data), error(nil)
		s.data = s.data[n:]
		switch {
		case n > 0 || len(b) == 0:
		case s.closed:
			err = io.EOF
		case !s.deadline.IsZero() && !time.Now().Before(s.deadline):
			err = os.ErrDeadlineExceeded
		}
		wait, until := s.changed, s.deadline
		s.mu.Unlock()
		if n > 0 || err != nil || len(b) == 0 {
			return n, err
		}
		await(wait, until)
	}
}

// await blocks until ch is closed or the time has come; the zero time never comes.
func await(ch <-chan struct{}, until time.Time) {
	if until.IsZero() {
		<-ch
		return
	}
	t := time.NewTimer(time.Until(until))
	defer t.Stop()
	select {
	case <-ch:
	case <-t.C:
	}
}

// maxStream bounds what may lie unread; both ends are ours, and a battery's
// largest group is far below.
const maxStream = 1 << 20

func (s *stream) write(b []byte) (n int, err error) {
	s.change(func() {
		if s.closed || len(s.data)+len(b) > maxStream {
			err = io.ErrClosedPipe
			return
		}
		s.data = append(s.data, b...)
		n = len(b)
	})
	return n, err
}

// An end is one side of a connection in memory.
type end struct {
	in, out       *stream
	local, remote net.Addr
}

func (e *end) Read(b []byte) (int, error)  { return e.in.read(b) }
func (e *end) Write(b []byte) (int, error) { return e.out.write(b) }
func (e *end) Close() error {
	for _, s := range []*stream{e.in, e.out} {
		s.change(func() { s.closed = true })
	}
	return nil
}
func (e *end) LocalAddr() net.Addr              { return e.local }
func (e *end) RemoteAddr() net.Addr             { return e.remote }
func (e *end) SetWriteDeadline(time.Time) error { return nil } // a write never waits
func (e *end) SetReadDeadline(t time.Time) error {
	e.in.change(func() { e.in.deadline = t })
	return nil
}
func (e *end) SetDeadline(t time.Time) error { return e.SetReadDeadline(t) }
