package smtp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"postern/internal/netop"
	"postern/mail"
)

// A connection is the engine's side of one session. All of it belongs to one
// goroutine; only halt comes from another.
type connection struct {
	server  *Server
	limits  *Limits
	conn    net.Conn // the TLS one once there is TLS
	in      inbound
	out     outbound
	rule    lineRule
	peer    Peer
	session Session
	ctx     context.Context // what hooks get; ends with the connection
	cancel  context.CancelCauseFunc

	refused  bool // by a 554 in place of the banner
	greeted  bool // EHLO or HELO was accepted
	utf8     bool // MAIL had SMTPUTF8
	open     bool // a transaction: MAIL was accepted
	rcpts    int  // accepted in it
	errors   int
	authErrs int
	messages int

	stranger  bool      // nobody knows this client
	since     time.Time // of the last message, or the session's beginning
	fruitless int       // commands since then that lead nowhere

	done  bool   // no further command is read
	err   error  // why it ended; nil after QUIT
	stash []byte // a command that was read in place of the next chunk
}

func (s *Server) newConnection(ctx context.Context, nc net.Conn) *connection {
	limits := s.limits()
	c := &connection{server: s, limits: limits, conn: nc, since: time.Now()}
	c.ctx, c.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	c.in.conn, c.out.conn, c.out.limit = nc, nc, limits.Write
	c.rule = lineRule{
		max: limits.CommandLine, maxAuth: limits.AuthLine,
		idle: limits.Idle, whole: limits.Command, lines: s.Lines, beforeWait: c.out.flush, ends: c.hurried,
	}
	c.peer.Remote, c.peer.Local = netop.AddrPort(nc.RemoteAddr()), netop.AddrPort(nc.LocalAddr())
	return c
}

// serve runs the session from the first octet to the last.
func (c *connection) serve() error {
	if c.server.Implicit {
		if err := c.handshake(); err != nil {
			return err
		}
	}
	session, r := c.server.Handler.Connect(c.ctx, &c.peer)
	c.in.rec, c.out.rec = c.peer.Transcript, c.peer.Transcript
	if c.peer.TLS != nil {
		c.peer.Transcript.StartTLS(time.Now(), tlsNote(c.peer.TLS))
	}
	c.session = session
	c.banner(r)
	for !c.done {
		line, err := c.nextLine()
		if err != nil {
			c.lineFailed(err)
			continue
		}
		c.dispatch(line)
	}
	c.endTransaction()
	flushed := c.out.flush()
	if c.err == nil && flushed != nil {
		c.err = fmt.Errorf("send reply: %w", flushed)
	}
	if session != nil {
		session.Close(c.err)
	}
	c.linger()
	return c.err
}

// banner lets the client wait if the session wants that, and greets or refuses.
func (c *connection) banner(r mail.Reply) {
	r = checked(r, mail.NewReply(220, "", c.server.Name+" ESMTP Postern"))
	if c.session == nil && r.Positive() {
		r = replyBadHook
	}
	if g, ok := c.session.(Greeter); ok && r.Positive() {
		if early := c.pause(g); !early.IsZero() {
			r = early
		}
	}
	switch {
	case r.Positive():
		r.Code, r.Enhanced = 220, mail.EnhancedCode{}
		c.peer.Banner = time.Now()
		c.send(r)
	case r.Code == 554: // RFC 5321 section 3.1
		c.refused = true
		c.send(r)
	default:
		c.close(r, fmt.Errorf("refused at connect: %v", r))
	}
}

// pause waits before the banner; a client that cannot wait is told on.
func (c *connection) pause(g Greeter) mail.Reply {
	d := g.Pause()
	if d <= 0 {
		return mail.Reply{}
	}
	err := c.in.fill(time.Now().Add(d), true)
	switch {
	case netop.IsTimeout(err):
		return mail.Reply{}
	case err != nil:
		c.lineFailed(err)
		return Hangup
	}
	c.peer.Early = true
	return g.Early(c.ctx)
}

// nextLine returns the command that a chunk of a message was not, or the next
// one from the wire.
func (c *connection) nextLine() ([]byte, error) {
	if c.stash != nil {
		line := c.stash
		c.stash = nil
		return line, nil
	}
	switch {
	case c.barren():
		return nil, errBarren
	case c.outlived():
		return nil, errStopped
	}
	return c.in.line(&c.rule)
}

// lineFailed answers when no command could be read.
func (c *connection) lineFailed(err error) {
	switch {
	case errors.Is(err, ErrLineTooLong):
		c.send(replyLineTooLong)
	case errors.Is(err, errBadChunk):
		c.close(replyBadChunk, err)
	case errors.Is(err, ErrBareLine):
		// What follows may be part of what the client took for one line.
		c.close(replyBareCommand, err)
	case errors.Is(err, errEndless):
		c.close(replyEndless, ErrLineTooLong)
	case errors.Is(err, errStopped):
		c.close(replyDown, ErrServerClosed)
	case errors.Is(err, errBarren):
		c.close(replyBarren, ErrTimeout)
	case netop.IsTimeout(err):
		c.close(replyIdle, ErrTimeout)
	case errors.Is(err, io.EOF):
		c.lost(ErrClosed)
	default:
		c.lost(fmt.Errorf("read command: %w", err))
	}
}

// dispatch answers one command.
func (c *connection) dispatch(line []byte) {
	if hasControl(line) {
		if c.server.Lines == StrictLines {
			c.close(replyControl, errControl)
		} else {
			c.send(replyControl)
		}
		return
	}
	word, rest, _ := bytes.Cut(line, []byte(" "))
	var upper [16]byte
	if len(word) > len(upper) && !announcesChunk(line) {
		c.unknown(string(word), string(rest))
		return
	}
	name := upper[:copy(upper[:], word)]
	for i, b := range name {
		if 'a' <= b && b <= 'z' {
			name[i] = b - 0x20
		}
	}
	// RFC 5321 section 4.1.1: white space before the line end is tolerated.
	arg := strings.TrimRight(string(rest), " ")
	cmd, ok := commands[string(name)]
	switch {
	case string(name) != "BDAT" && announcesChunk(line):
		c.close(replyBadChunk, errBadChunk)
	case ok && isRequest(arg) && c.server.Lines == StrictLines:
		c.close(replyForeign, errForeign)
	case c.refused && string(name) != "QUIT":
		c.send(replyRefusedHere)
	case !ok, cmd.offered != nil && !cmd.offered(c):
		c.unknown(string(name), arg)
	case cmd.bare && arg != "":
		c.send(replyNoArgument)
	default:
		if cmd.nothing {
			c.fruitless++
		}
		cmd.run(c, arg)
	}
}

// unknown answers a command that does not exist here.
func (c *connection) unknown(verb, arg string) {
	if s, ok := c.session.(Commander); ok && !c.refused {
		if r := checked(s.Command(c.ctx, verb, arg), mail.Reply{}); !r.IsZero() {
			c.send(r)
			return
		}
	}
	_, known := commands[verb]
	switch {
	case isMethod(verb), c.server.Lines == StrictLines && (isForeign(verb) || isRequest(arg)):
		// A browser or a proxy that somebody aims at us: the next lines are
		// headers, and what is behind them may be commands of his choice. A
		// server that is not strict, as a collector, waits for just that.
		c.close(replyForeign, errForeign)
	case verb == "BDAT": // not offered: its chunk would be taken for commands
		c.close(replyNotOffered, errBadChunk)
	case known:
		c.send(replyNotOffered)
	default:
		c.send(replyUnknown)
	}
}

// send answers one command. Too many errors and 421 end the session; so does
// a client that does not read.
func (c *connection) send(r mail.Reply) {
	if c.done {
		return
	}
	if r.Permanent() {
		c.errors++
		if over(c.errors, c.limits.Errors) {
			r = replyTooManyFails
		}
	}
	if r.Code == 421 || r.Code == 521 || r.Code == Hangup.Code {
		c.close(r, fmt.Errorf("closed with %v", r))
		return
	}
	if !enhancedStatusCodes.in(c) {
		r.Enhanced = mail.EnhancedCode{}
	}
	if err := c.out.add(r); err != nil {
		c.lost(fmt.Errorf("send reply: %w", err))
	}
}

// close sends a last reply and ends the session.
func (c *connection) close(r mail.Reply, why error) {
	if c.done {
		return
	}
	if !enhancedStatusCodes.in(c) {
		r.Enhanced = mail.EnhancedCode{}
	}
	if r.Code != Hangup.Code {
		_ = c.out.add(r) // nobody is left to be told that it failed
	}
	c.lost(why)
}

// lost ends the session without a word.
func (c *connection) lost(why error) {
	if !c.done {
		c.done, c.err = true, why
	}
}

// endTransaction forgets all that a transaction knew. Every way out of one
// leads through here.
func (c *connection) endTransaction() {
	if c.open && c.session != nil {
		c.session.Reset()
	}
	c.open, c.rcpts, c.utf8 = false, 0, false
}

// lingerTime and lingerSize bound how long a client that still sends is
// listened to after the last reply. Closing at once would reset the
// connection, and the reset would take the reply with it.
const (
	lingerTime = 2 * time.Second
	lingerSize = 1 << 20
)

func (c *connection) linger() {
	half, ok := c.conn.(interface{ CloseWrite() error })
	silent := errors.Is(c.err, ErrClosed) || errors.Is(c.err, ErrTimeout) || errors.Is(c.err, ErrServerClosed)
	if !ok || c.err == nil || silent || half.CloseWrite() != nil {
		return
	}
	c.conn.SetReadDeadline(time.Now().Add(lingerTime))
	b := getBuffer(smallBuffer)
	for n := 0; n < lingerSize; {
		m, err := c.conn.Read(b)
		if err != nil {
			break
		}
		n += m
	}
	putBuffer(b)
}

// free gives the buffers back.
func (c *connection) free() {
	putBuffer(c.in.buf)
	putBuffer(c.out.buf)
	c.in.buf, c.out.buf = nil, nil
}
