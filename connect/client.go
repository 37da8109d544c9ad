package connect

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
	"time"

	"postern/forward"
	"postern/transcript"
)

// Connect asks for a tunnel on conn, on which nothing was said yet; rec may be
// nil. After a nil error the returned connection is the tunnel: use it in
// place of conn, for what came behind the answer's blank line is read from it
// first, and closing it closes conn. After an error there is none, and conn
// is the caller's to close; after a *StatusError the result is filled.
func (r Request) Connect(ctx context.Context, conn net.Conn, rec *transcript.Transcript) (net.Conn, Result, error) {
	if err := r.check(); err != nil {
		return nil, Result{}, err
	}
	if r.Version == HTTP2 {
		return r.connect2(ctx, conn, rec)
	}
	w := &wire{conn: conn, rec: rec}
	var res Result
	err := w.within(ctx, r.Version.String()+" CONNECT", func() (err error) {
		if err = w.writeHead(r.connectHead(), nil); err != nil {
			return err
		}
		res, err = w.answer()
		return err
	})
	if err != nil {
		return nil, res, err
	}
	if res.Status/100 != 2 {
		res.Text = w.in.rest[:min(len(w.in.rest), maxText)]
		return nil, res, &StatusError{res.Status, res.Reason}
	}
	// RFC 9110 section 9.3.6: lengths in the answer mean nothing here.
	return forward.Unread(conn, w.in.rest), res, nil
}

// Post sends a request with body to the absolute URI http://To/, and reads
// all that comes back until the proxy closes, to at most 64 KiB, or has kept
// the connection for two seconds behind a whole answer. Method is
// POST or PUT. What is no HTTP comes back as Text with the status 0: proxies
// of that kind hand on the far server's words as they are. After an error the
// result holds what had come. conn stays the caller's to close.
func (r Request) Post(ctx context.Context, conn net.Conn, method string, body []byte, rec *transcript.Transcript) (Result, error) {
	if err := r.check(); err != nil {
		return Result{}, err
	}
	if method != http.MethodPost && method != http.MethodPut || r.Version == HTTP2 {
		return Result{}, fmt.Errorf("%w: %.20q over %s", ErrRequest, method, r.Version)
	}
	w := &wire{conn: conn, rec: rec}
	err := w.within(ctx, r.Version.String()+" "+method, func() error {
		// Side by side: the far server speaks first, and a proxy that refuses
		// may close before the body has left. What it said counts.
		sent := make(chan error, 1)
		go func() { sent <- w.writeHead(r.postHead(method, len(body)), body) }()
		err := w.all(ctx)
		conn.SetWriteDeadline(time.Unix(1, 0)) // nobody reads the rest of the body
		refused := <-sent
		conn.SetWriteDeadline(time.Time{})
		if err != nil && !isTimeout(refused) {
			err = errors.Join(refused, err)
		}
		return err
	})
	all := w.in.rest
	if res, done, wrong := w.in.next(); done && wrong == nil {
		res.Text = w.in.rest
		return res, err
	}
	return Result{Text: all}, err
}

const maxAnswer = 64 << 10

// Handshake makes TLS with a proxy that is reached by it, offers HTTP/2 and
// HTTP/1.1 where cfg names no protocols, and says which one was chosen.
func Handshake(ctx context.Context, conn net.Conn, cfg *tls.Config) (*tls.Conn, Version, error) {
	if cfg = cfg.Clone(); len(cfg.NextProtos) == 0 {
		cfg.NextProtos = []string{"h2", "http/1.1"}
	}
	t := tls.Client(conn, cfg)
	if err := t.HandshakeContext(ctx); err != nil {
		w := &forward.WireError{Doing: "TLS with the proxy", Err: err}
		switch {
		case ctx.Err() != nil:
			w.Kind, w.Err = forward.ErrTimeout, context.Cause(ctx)
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
			w.Kind = forward.ErrClosed
		}
		return nil, HTTP11, w
	}
	if t.ConnectionState().NegotiatedProtocol == "h2" {
		return t, HTTP2, nil
	}
	return t, HTTP11, nil
}

// A wire is the client's end of an exchange.
type wire struct {
	conn net.Conn
	rec  *transcript.Transcript
	in   answerReader
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
			wrong.Seen = w.in.seen()
		}
		w.rec.Note(time.Now(), wrong.Error())
	}
	return err
}

// writeHead sends the head and the body in one write; the credential stays out
// of the transcript.
func (w *wire) writeHead(h head, body []byte) error {
	if _, err := w.conn.Write(append([]byte(h.before+h.secret+h.after), body...)); err != nil {
		return err
	}
	if h.secret != "" {
		h.secret = "(hidden)"
	}
	w.rec.Add(time.Now(), transcript.Sent, append([]byte(h.before+h.secret+h.after), body...))
	return nil
}

// fill reads once. What it returns is the caller's to record.
func (w *wire) fill() ([]byte, error) {
	b := make([]byte, 2<<10)
	n, err := w.conn.Read(b)
	w.in.rest = append(w.in.rest, b[:n]...)
	if n > 0 {
		return b[:n], nil
	}
	return nil, err
}

func (w *wire) received(b []byte) { w.rec.Add(time.Now(), transcript.Received, b) }

// kept is how long a proxy may still hand on the body whose request it has
// answered: some answer to the far server's first word, which is no HTTP.
const kept = 2 * time.Second

// all reads until the proxy closes, to a bound; nothing at all is an error.
// Some keep the connection, whatever they were asked.
func (w *wire) all(ctx context.Context) error {
	whole := false
	for len(w.in.rest) < maxAnswer {
		b, err := w.fill()
		if errors.Is(err, io.EOF) && len(w.in.rest) > 0 || whole && isTimeout(err) {
			return nil
		}
		if err != nil {
			return err
		}
		w.received(b)
		if !whole && w.in.whole() {
			whole = true
			w.conn.SetReadDeadline(time.Now().Add(kept))
			if ctx.Err() != nil { // that it is over was said before
				w.conn.SetReadDeadline(time.Unix(1, 0))
			}
		}
	}
	return nil
}

func isTimeout(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
}

// answer reads the head of the final answer. What stands behind a yes belongs
// to the tunnel: whoever reads it there records it.
func (w *wire) answer() (Result, error) {
	for {
		b, err := w.fill()
		if err != nil {
			return Result{}, err
		}
		res, done, err := w.in.next()
		if done && err == nil && res.Status/100 == 2 {
			b = b[:len(b)-len(w.in.rest)]
		}
		w.received(b)
		if done || err != nil {
			return res, err
		}
	}
}
