package forward

import (
	"errors"
	"net"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// A stream is one direction from a TCP connection. It waits without a buffer:
// one is borrowed for each try to read, and given back when there was nothing.
// Where a try filled it, and the other end is TCP too, the kernel moves the
// octets through a pipe (splice), which is borrowed in the same way.
type stream struct {
	in  syscall.RawConn
	out syscall.RawConn // nil: no TCP connection

	read   func(fd uintptr) bool // the methods below, made once
	splice func(fd uintptr) bool
	drain  func(fd uintptr) bool

	buffer *[bigBuffer]byte
	pipe   pipe
	got    int // octets of the last try
	err    error
	moved  func(int) // is told of what left the pipe
}

// pour carries from a TCP connection to its end.
func (s *splice) pour(dst net.Conn, src *net.TCPConn, n *atomic.Int64) error {
	in, err := src.SyscallConn()
	if err != nil {
		return err
	}
	w := &stream{in: in, moved: func(m int) { n.Add(int64(m)); s.touch() }}
	w.read, w.splice, w.drain = w.tryRead, w.trySplice, w.tryDrain
	if tcp, ok := dst.(*net.TCPConn); ok {
		if w.out, err = tcp.SyscallConn(); err != nil {
			return err
		}
	}
	for {
		if err := w.in.Read(w.read); err != nil {
			return err
		}
		if w.err == nil && w.got > 0 {
			err = s.put(dst, w.buffer[:w.got], n)
		}
		buffers.Put(w.buffer)
		switch {
		case err != nil:
			return err
		case w.err != nil || w.got == 0:
			return w.err
		}
		for much := w.got == bigBuffer && w.out != nil; much; much = w.got >= bigBuffer {
			if ended, err := w.through(); ended || err != nil {
				return err
			}
		}
	}
}

// tryRead reads what is there, and reports whether something was: octets, the
// end, or an error.
func (w *stream) tryRead(fd uintptr) bool {
	w.buffer = borrow()
	w.got, w.err = again(func() (int, error) { return unix.Read(int(fd), w.buffer[:]) })
	if errors.Is(w.err, unix.EAGAIN) {
		buffers.Put(w.buffer)
		return false
	}
	w.err = failed("read", w.err)
	return true
}

// through moves what is there by a pipe. Without a pipe, which may be when
// there are too many descriptors, it moves nothing and the next read is one
// with a buffer.
func (w *stream) through() (ended bool, err error) {
	if err := w.in.Read(w.splice); err != nil {
		return false, err
	}
	switch {
	case w.err != nil:
		return false, w.err
	case w.pipe == pipe{}:
		return false, nil
	case w.got == 0:
		w.pipe.giveBack()
		return true, nil
	}
	w.pipe.holds = w.got
	if err := w.out.Write(w.drain); err != nil || w.err != nil {
		w.pipe.close()
		return false, errors.Join(err, w.err)
	}
	w.pipe.giveBack()
	return false, nil
}

func (w *stream) trySplice(fd uintptr) bool {
	if w.pipe = takePipe(); w.pipe == (pipe{}) {
		w.got, w.err = 0, nil
		return true
	}
	w.got, w.err = again(func() (int, error) { return move(int(fd), w.pipe.w, pipeSize) })
	if w.err != nil {
		w.pipe.giveBack()
		w.err = failed("splice", ignoreAgain(w.err))
		return w.err != nil
	}
	return true
}

// tryDrain empties the pipe as far as the other end takes it.
func (w *stream) tryDrain(fd uintptr) bool {
	w.err = nil
	for w.pipe.holds > 0 {
		n, err := again(func() (int, error) { return move(w.pipe.r, int(fd), w.pipe.holds) })
		if errors.Is(err, unix.EAGAIN) {
			return false
		}
		if err != nil {
			w.err = failed("splice", err)
			return true
		}
		w.pipe.holds -= n
		w.moved(n)
	}
	return true
}

func move(from, to, most int) (int, error) {
	n, err := unix.Splice(from, nil, to, nil, most, unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
	return int(n), err
}

func again(do func() (int, error)) (int, error) {
	for {
		if n, err := do(); !errors.Is(err, unix.EINTR) {
			return max(n, 0), err
		}
	}
}

// failed is err as the net package has it, nil where there is none.
func failed(op string, err error) error {
	if err == nil {
		return nil
	}
	return &net.OpError{Op: op, Net: "tcp", Err: err}
}

func ignoreAgain(err error) error {
	if errors.Is(err, unix.EAGAIN) {
		return nil
	}
	return err
}

// A pipe is empty while nobody has borrowed it.
type pipe struct{ r, w, holds int }

// pipeSize is asked for; the kernel may give less.
const pipeSize = 256 << 10

// pipes are those that nobody uses. More are made when more is carried at
// once, and closed after.
var pipes = make(chan pipe, 16)

// takePipe returns the zero pipe where none can be made.
func takePipe() pipe {
	select {
	case p := <-pipes:
		return p
	default:
	}
	var ends [2]int
	if unix.Pipe2(ends[:], unix.O_NONBLOCK|unix.O_CLOEXEC) != nil {
		return pipe{}
	}
	_, _ = unix.FcntlInt(uintptr(ends[0]), unix.F_SETPIPE_SZ, pipeSize) // a smaller one is slower
	return pipe{r: ends[0], w: ends[1]}
}

func (p pipe) giveBack() {
	select {
	case pipes <- p:
	default:
		p.close()
	}
}

func (p pipe) close() {
	_ = unix.Close(p.r)
	_ = unix.Close(p.w)
}
