package smtp

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"postern/internal/netop"
	"postern/transcript"
)

// holdBuffer is how long a silent connection keeps its buffer. A busy client
// answers within it, and a crowd that connects at once does not pile up
// buffers.
//
// The buffer is small or none, never tiny: a client may send a whole group
// before it reads (RFC 2920), and where nothing lies between, as in a pipe in
// memory, a group that does not fit would find both ends writing.
const holdBuffer = 100 * time.Millisecond

// maxDiscard bounds what is read and thrown away of a command line that is too
// long, before the connection is closed.
const maxDiscard = 1 << 20

// An inbound is the server's end of what the client sends. Its goroutine is
// the only reader; interrupt may come from another one.
type inbound struct {
	conn   net.Conn
	rec    *transcript.Transcript
	buf    []byte // nil while nothing is held
	r, w   int    // buf[r:w] is received and not yet used
	peeked [1]byte

	mu      sync.Mutex
	waiting bool // for a command: may be interrupted
	stopped bool // the server is shutting down: no more waiting
}

// errStopped ends the wait for a command when the server shuts down.
var errStopped = errors.New("interrupted")

func (in *inbound) window() []byte { return in.buf[in.r:in.w] }
func (in *inbound) buffered() int  { return in.w - in.r }

// interrupt ends the present and each later wait for a command, but lets a
// message that is under way come to its end.
func (in *inbound) interrupt() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.stopped = true
	if in.waiting {
		in.conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// attach reads from conn from now on: TLS was made on the old one.
func (in *inbound) attach(conn net.Conn) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.conn = conn
}

// kill closes the connection under whoever reads or writes.
func (in *inbound) kill() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.conn.Close()
}

func (in *inbound) deadline(t time.Time, command bool) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.stopped && command {
		return false
	}
	in.waiting = command
	in.conn.SetReadDeadline(t)
	return true
}

// release gives the buffer back if nothing is in it.
func (in *inbound) release() {
	if in.buf != nil && in.r == in.w {
		putBuffer(in.buf)
		in.buf, in.r, in.w = nil, 0, 0
	}
}

// wait reads the first octets of the next command; the buffer is empty.
func (in *inbound) wait(until time.Time, now time.Time, ends func() error) error {
	hold := now.Add(holdBuffer)
	if until.IsZero() || hold.Before(until) {
		err := in.fill(hold, true)
		if !netop.IsTimeout(err) {
			return err
		}
		in.release()
		for {
			step, last := nextLook(until)
			if !in.deadline(step, true) {
				return errStopped
			}
			_, err := io.ReadFull(in.conn, in.peeked[:])
			if err == nil {
				break
			}
			if err = in.readError(err); last || !netop.IsTimeout(err) {
				return err
			}
			if why := ends(); why != nil {
				return why
			}
		}
		in.buf = getBuffer(smallBuffer)
		in.buf[0] = in.peeked[0]
		in.r, in.w = 0, 1
		in.record(in.peeked[:])
		return nil
	}
	return in.fill(until, true)
}

// fill reads once. There must be room: the caller has used what it could, or
// has made the buffer grow.
func (in *inbound) fill(until time.Time, command bool) error {
	if in.buf == nil {
		in.buf = getBuffer(smallBuffer)
	}
	if in.r == in.w {
		in.r, in.w = 0, 0
	} else if in.w == len(in.buf) {
		in.w = copy(in.buf, in.window())
		in.r = 0
	}
	if !in.deadline(until, command) {
		return errStopped
	}
	for {
		n, err := in.conn.Read(in.buf[in.w:])
		if n > 0 {
			in.record(in.buf[in.w : in.w+n])
			in.w += n
			return nil
		}
		if err != nil {
			return in.readError(err)
		}
	}
}

// nextLook returns when a wait is to be looked at, and whether that is its end.
func nextLook(until time.Time) (step time.Time, last bool) {
	step = time.Now().Add(lookAgain)
	if !until.IsZero() && !step.Before(until) {
		return until, true
	}
	return step, false
}

func (in *inbound) record(p []byte) {
	if in.rec != nil {
		in.rec.Add(time.Now(), transcript.Received, p)
	}
}

func (in *inbound) readError(err error) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.stopped && in.waiting && netop.IsTimeout(err) {
		return errStopped
	}
	return err
}

// grow moves what is held into a large buffer.
func (in *inbound) grow() {
	if len(in.buf) == largeBuffer {
		return
	}
	b := getBuffer(largeBuffer)
	n := copy(b, in.window())
	putBuffer(in.buf)
	in.buf, in.r, in.w = b, 0, n
}

// shrink gives a large buffer back when what is held fits in a small one.
func (in *inbound) shrink() {
	if len(in.buf) != largeBuffer || in.buffered() > smallBuffer {
		return
	}
	b := getBuffer(smallBuffer)
	n := copy(b, in.window())
	putBuffer(in.buf)
	in.buf, in.r, in.w = b, 0, n
}

// A lineRule says how long a line may be and take. Limits count the line end.
type lineRule struct {
	max, maxAuth int
	idle, whole  time.Duration
	lines        LineEnds
	beforeWait   func() error // sends what was answered so far
	ends         func() error // says why a long wait is to end; nil: it goes on
}

// line returns the next command line without its end. It is valid until the
// next call. ErrLineTooLong and ErrBareLine leave the reader at the start of
// the next line; after any other error nothing more can be read.
func (in *inbound) line(rule *lineRule) ([]byte, error) {
	var until time.Time
	for seen := 0; ; {
		b := in.window()
		if i := bytes.IndexByte(b[seen:], '\n'); i >= 0 {
			line := b[:seen+i+1]
			in.r += len(line)
			if len(line) > rule.limit(line) {
				return nil, tooLong(line)
			}
			return cutLineEnd(line, rule.lines)
		}
		seen = len(b)
		if seen > rule.limit(b) || seen == largeBuffer {
			if announcesChunk(b) {
				return nil, errBadChunk
			}
			return nil, in.discardLine(rule)
		}
		if err := rule.beforeWait(); err != nil {
			return nil, err
		}
		if seen == 0 {
			now := time.Now()
			if err := in.wait(after(now, rule.idle), now, rule.ends); err != nil {
				return nil, err
			}
			continue
		}
		if until.IsZero() {
			until = after(time.Now(), rule.whole)
		}
		if seen == len(in.buf) {
			in.grow()
		}
		if err := in.fill(until, true); err != nil {
			return nil, err
		}
	}
}

func (r *lineRule) limit(line []byte) int {
	n := r.max
	if isAuth(line) && (r.maxAuth < 0 || n >= 0 && r.maxAuth > n) {
		n = r.maxAuth
	}
	if n < 0 {
		return largeBuffer
	}
	return n
}

func isAuth(line []byte) bool { return len(line) >= 5 && bytes.EqualFold(line[:5], []byte("AUTH ")) }

// discardLine throws away the rest of a line that is too long, so that its
// tail is not taken for a command.
func (in *inbound) discardLine(rule *lineRule) error {
	until := after(time.Now(), rule.whole)
	for total := 0; total < maxDiscard; {
		total += in.buffered()
		if i := bytes.IndexByte(in.window(), '\n'); i >= 0 {
			in.r += i + 1
			return ErrLineTooLong
		}
		in.r = in.w
		if err := in.fill(until, true); err != nil {
			return err
		}
	}
	return errEndless
}

// tooLong is why a line is not taken. Behind one that announces a chunk, that
// chunk would be taken for commands.
func tooLong(line []byte) error {
	if announcesChunk(line) {
		return errBadChunk
	}
	return ErrLineTooLong
}

var errEndless = errors.New("a line without end")

// cutLineEnd takes the line end off and holds the line to the policy.
func cutLineEnd(line []byte, policy LineEnds) ([]byte, error) {
	text := line[:len(line)-1]
	crlf := bytes.HasSuffix(text, []byte("\r"))
	if crlf {
		text = text[:len(text)-1]
	}
	if policy == StrictLines && (!crlf || bytes.IndexByte(text, '\r') >= 0) {
		return nil, ErrBareLine
	}
	return text, nil
}

// after returns the end of a limit that begins now; a negative limit has none.
func after(now time.Time, limit time.Duration) time.Time {
	if limit < 0 {
		return time.Time{}
	}
	return now.Add(limit)
}
