package socks

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"time"

	"postern/forward"
	"postern/transcript"
)

// Play makes the request on conn, on which nothing was said yet, and reads the
// answer; rec may be nil. After a nil error the tunnel begins at the next
// octet. After a *ReplyError the reply is filled too; after any error the
// connection is of no more use and is the caller's to close.
//
// The reply's Method is filled as far as the handshake came.
func (r Request) Play(ctx context.Context, conn net.Conn, rec *transcript.Transcript) (Reply, error) {
	if err := r.check(); err != nil {
		return Reply{}, err
	}
	w := &wire{conn: conn, rec: rec}
	reply := Reply{Code: GeneralFailure}
	err := w.within(ctx, fmt.Sprintf("SOCKS%d %s", r.Version, r.Command), func() error {
		if r.Version == 4 {
			return r.play4(w, &reply)
		}
		return r.play5(w, &reply)
	})
	return reply, err
}

// ReadReply reads one more reply: the second one of BIND, which comes when
// somebody has connected.
func (r Request) ReadReply(ctx context.Context, conn net.Conn, rec *transcript.Transcript) (Reply, error) {
	w := &wire{conn: conn, rec: rec}
	reply := Reply{Code: GeneralFailure}
	err := w.within(ctx, fmt.Sprintf("SOCKS%d second reply", r.Version), func() error {
		if r.Version == 4 {
			return w.reply4(r.Command, &reply)
		}
		return w.reply5(r.Command, &reply)
	})
	return reply, err
}

func (r Request) play4(w *wire, reply *Reply) error {
	head, tail := r.request4()
	if err := w.writeSecret(head, []byte(r.User), tail); err != nil {
		return err
	}
	return w.reply4(r.Command, reply)
}

func (r Request) play5(w *wire, reply *Reply) error {
	reply.Method = NoMethod
	if err := w.write(r.greeting()); err != nil {
		return err
	}
	b, err := w.read(2)
	if err != nil {
		return err
	}
	if b[0] != 5 {
		return w.notSOCKS()
	}
	reply.Method = Method(b[1])
	switch {
	case reply.Method == NoMethod:
		return ErrNoMethod
	case !slices.Contains(r.offered(), reply.Method):
		return fmt.Errorf("%w: %s", ErrBadMethod, reply.Method)
	case reply.Method == UserPassword && r.User == "":
		return ErrLoginWanted
	case reply.Method == UserPassword:
		if err := r.logIn(w); err != nil {
			return err
		}
	case reply.Method != NoAuth:
		return fmt.Errorf("%w: %s", ErrBadMethod, reply.Method)
	}
	if err := w.write(r.request5()); err != nil {
		return err
	}
	return w.reply5(r.Command, reply)
}

func (r Request) logIn(w *wire) error {
	if err := w.writeSecret(nil, r.login(), nil); err != nil {
		return err
	}
	b, err := w.read(2)
	if err != nil {
		return err
	}
	if b[0] != 1 && b[0] != 5 { // RFC 1929 says 1; servers are seen that repeat the 5
		return w.notSOCKS()
	}
	if b[1] != 0 {
		return ErrAuth
	}
	return nil
}

// A wire is the client's end of a handshake.
type wire struct {
	conn net.Conn
	rec  *transcript.Transcript
	seen []byte // of the answer that is being read
}

// within bounds do by ctx and shows in its error what had come.
func (w *wire) within(ctx context.Context, doing string, do func() error) error {
	err := forward.Within(ctx, w.conn, doing, do)
	var wrong *forward.WireError
	if errors.As(err, &wrong) {
		if wrong.Doing == "" {
			wrong.Doing = doing
		}
		if wrong.Seen == nil {
			wrong.Seen = w.seen
		}
		w.rec.Note(time.Now(), wrong.Error())
	}
	return err
}

func (w *wire) write(p []byte) error {
	w.seen = nil
	n, err := w.conn.Write(p)
	w.rec.Frame(time.Now(), transcript.Sent, p[:n])
	return err
}

// writeSecret sends three parts in one write and keeps the middle one out of
// the transcript.
func (w *wire) writeSecret(head, secret, tail []byte) error {
	w.seen = nil
	if _, err := w.conn.Write(slices.Concat(head, secret, tail)); err != nil {
		return err
	}
	if len(secret) > 0 {
		secret = []byte("(hidden)")
	}
	w.rec.Frame(time.Now(), transcript.Sent, slices.Concat(head, secret, tail))
	return nil
}

// read reads n octets, no more, and returns them.
func (w *wire) read(n int) ([]byte, error) {
	b := make([]byte, n)
	got, err := io.ReadFull(w.conn, b)
	w.seen = append(w.seen, b[:got]...)
	w.rec.Frame(time.Now(), transcript.Received, b[:got])
	return b, err
}

// notSOCKS is the error about an answer that is none. Nothing of use follows
// on this connection any more, so it takes along what came in the same
// segment: "HTTP/1.1 400" tells more than "HT".
func (w *wire) notSOCKS() error {
	w.conn.SetReadDeadline(time.Now().Add(aMoment))
	rest := make([]byte, maxSeen)
	n, _ := w.conn.Read(rest)
	w.rec.Frame(time.Now(), transcript.Received, rest[:n])
	return &forward.WireError{Kind: ErrNotSOCKS, Seen: append(w.seen, rest[:n]...)}
}

const (
	maxSeen = 256
	aMoment = 50 * time.Millisecond
)

func (w *wire) reply4(c Command, reply *Reply) error {
	w.seen = nil
	b, err := w.read(1)
	if err != nil {
		return err
	}
	if b[0] != 0 && b[0] != 4 { // it is 0; servers are seen that repeat the 4
		return w.notSOCKS()
	}
	if b, err = w.read(1); err != nil {
		return err
	}
	code := Code(b[0])
	if code < Granted4 || code > BadIdent4 {
		return w.notSOCKS()
	}
	reply.Code, reply.Method = code, NoAuth
	b, err = w.read(6)
	if !code.Granted() {
		return &ReplyError{c, code} // also when the server hangs up right behind the code
	}
	if err != nil {
		return err
	}
	reply.Bound = forward.At(netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[2:])), binary.BigEndian.Uint16(b)))
	return nil
}

func (w *wire) reply5(c Command, reply *Reply) error {
	w.seen = nil
	b, err := w.read(1)
	if err != nil {
		return err
	}
	if b[0] != 5 {
		return w.notSOCKS()
	}
	if b, err = w.read(1); err != nil {
		return err
	}
	reply.Code = Code(b[0])
	bound, err := w.bound()
	if !reply.Code.Granted() {
		return &ReplyError{c, reply.Code} // also when the server hangs up right behind the code
	}
	if err == nil {
		reply.Bound = bound
	}
	return err
}

// bound reads the rest of a reply of SOCKS 5.
func (w *wire) bound() (forward.Address, error) {
	b, err := w.read(2)
	if err != nil {
		return forward.Address{}, err
	}
	var size int
	var name bool
	switch b[1] {
	case typeIPv4, 0: // servers that have no address to tell write ten octets all the same
		size = 4
	case typeIPv6:
		size = 16
	case typeName:
		if b, err = w.read(1); err != nil {
			return forward.Address{}, err
		}
		size, name = int(b[0]), true
	default:
		return forward.Address{}, w.notSOCKS()
	}
	if b, err = w.read(size + 2); err != nil {
		return forward.Address{}, err
	}
	a, err := addressOf(b, name)
	if err != nil {
		return forward.Address{}, nil //nolint:nilerr // a name that is none is the server's affair; the tunnel stands
	}
	return a, nil
}

// addressOf reads an address and the port behind it.
func addressOf(b []byte, name bool) (forward.Address, error) {
	host, port := b[:len(b)-2], binary.BigEndian.Uint16(b[len(b)-2:])
	if name {
		return forward.Named(string(host), port)
	}
	ip, _ := netip.AddrFromSlice(host)
	return forward.At(netip.AddrPortFrom(ip, port)), nil
}
