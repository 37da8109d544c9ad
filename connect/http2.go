package connect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"postern/forward"
	"postern/transcript"
)

// connect2 asks for a tunnel in a stream of HTTP/2. The frames are in no
// transcript, which notes the request and the answer.
func (r Request) connect2(ctx context.Context, conn net.Conn, rec *transcript.Transcript) (net.Conn, Result, error) {
	rec.Note(time.Now(), "HTTP/2 CONNECT "+r.To.String())
	t := &tunnel{below: conn}
	// The stream outlives ctx, which bounds only the answer.
	streaming, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	t.cancel = cancel
	stop := context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })

	body, sent := io.Pipe()
	res, answered, err := r.roundTrip(streaming, t, body)
	if !stop() && err == nil {
		_ = answered.Body.Close()
		err = context.Cause(ctx)
	}
	if err == nil && res.Status/100 != 2 {
		res.Text, _ = io.ReadAll(io.LimitReader(answered.Body, maxText))
		_ = answered.Body.Close()
		err = &StatusError{res.Status, res.Reason}
	}
	if err != nil {
		t.end()
		var status *StatusError
		if !errors.As(err, &status) {
			err = wireError(ctx, err)
		}
		rec.Note(time.Now(), err.Error())
		return nil, res, err
	}
	rec.Note(time.Now(), fmt.Sprintf("HTTP/2 answer %d", res.Status))
	t.run(answered.Body, sent)
	return t, res, nil
}

func wireError(ctx context.Context, err error) error {
	w := &forward.WireError{Doing: "HTTP/2 CONNECT", Err: err}
	switch {
	case ctx.Err() != nil:
		w.Kind, w.Err = forward.ErrTimeout, context.Cause(ctx)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		w.Kind = forward.ErrClosed
	}
	return w
}

func (r Request) roundTrip(ctx context.Context, t *tunnel, body io.ReadCloser) (Result, *http.Response, error) {
	// Prior knowledge, also where conn is TLS: then its handshake chose HTTP/2.
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	t.transport = &http.Transport{
		Protocols: protocols, DisableCompression: true, MaxResponseHeaderBytes: maxAnswerHead,
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			if t.dialed.Swap(true) {
				return nil, errors.New("the connection has ended")
			}
			return t.below, nil
		},
	}
	header := r.Header.Clone()
	if header == nil {
		header = http.Header{}
	}
	if header.Get("User-Agent") == "" {
		header.Set("User-Agent", "") // do not send the library's name
	}
	if !r.Auth.IsZero() {
		header.Set("Proxy-Authorization", r.Auth.header())
	}
	ask := &http.Request{
		Method: http.MethodConnect, URL: &url.URL{Scheme: "http", Host: r.To.String()}, Host: r.To.String(),
		Header: header, Body: body, ContentLength: -1,
	}
	answer, err := t.transport.RoundTrip(ask.WithContext(ctx))
	if err != nil {
		return Result{}, nil, err
	}
	return Result{Status: answer.StatusCode, Reason: http.StatusText(answer.StatusCode), Header: answer.Header}, answer, nil
}

// A tunnel is a stream of HTTP/2 as a connection. Its user holds one end of a
// pipe in memory, which has deadlines; two goroutines carry between the other
// end and the stream, and Close waits for both.
type tunnel struct {
	net.Conn  // the user's end of the pipe
	far       net.Conn
	below     net.Conn
	transport *http.Transport
	dialed    atomic.Bool
	cancel    context.CancelCauseFunc
	carrying  sync.WaitGroup
	half      atomic.Bool // the user writes no more
	failed    atomic.Pointer[error]
}

var errTunnelClosed = errors.New("the tunnel was closed")

func (t *tunnel) run(in io.ReadCloser, out io.WriteCloser) {
	t.Conn, t.far = net.Pipe()
	t.carrying.Go(func() {
		if _, err := io.Copy(t.far, in); err != nil {
			err = fmt.Errorf("%w (%w)", syscall.ECONNRESET, err)
			t.failed.Store(&err)
		}
		_ = in.Close()
		t.far.Close() // a pipe has no half to close: who reads to the end has all
	})
	t.carrying.Go(func() {
		_, err := io.Copy(out, t.far)
		if err != nil && !t.half.Load() {
			// The proxy hears no more, or the stream is gone: what it said
			// before is still to be read, and its end ends this too.
			_, _ = io.Copy(io.Discard, t.far)
		}
		_ = out.Close() // ends our half of the stream
	})
}

// Read reads from the stream. A proxy resets it where the far connection has
// failed, which is no proper end.
func (t *tunnel) Read(p []byte) (int, error) {
	n, err := t.Conn.Read(p)
	if failed := t.failed.Load(); failed != nil && errors.Is(err, io.EOF) {
		err = *failed
	}
	return n, err
}

// CloseWrite ends our half of the stream; what was written before has left the pipe.
func (t *tunnel) CloseWrite() error {
	t.half.Store(true)
	return t.far.SetReadDeadline(time.Unix(1, 0))
}

// Close ends the stream and the connection below it.
func (t *tunnel) Close() error {
	err := t.Conn.Close()
	t.end()
	return err
}

func (t *tunnel) end() {
	t.cancel(errTunnelClosed)
	t.below.Close()
	if t.far != nil {
		t.far.Close()
	}
	t.carrying.Wait()
	if t.transport != nil {
		t.transport.CloseIdleConnections()
	}
}

// LocalAddr returns that of the connection below.
func (t *tunnel) LocalAddr() net.Addr { return t.below.LocalAddr() }

// RemoteAddr returns the proxy's.
func (t *tunnel) RemoteAddr() net.Addr { return t.below.RemoteAddr() }
