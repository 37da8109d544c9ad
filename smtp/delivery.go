package smtp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"postern/mail"
)

// A RcptResult is what the server said of one recipient. After a message that
// was accepted, the recipients whose reply is positive will get it.
type RcptResult struct {
	To    mail.ForwardPath
	Reply mail.Reply // that to MAIL when MAIL was refused; zero when not asked
}

// groupSize is how many octets of commands are sent before the replies are
// read. A group must fit what lies between: a server that answers while
// nobody reads stops reading (RFC 2920 section 3.1).
const groupSize = 3 << 10

// Send delivers one message: a result for each recipient, the reply that
// decided about the message, and an error when no reply could be had. The
// message counts as delivered to the recipients whose reply is positive if and
// only if the error is nil and the last reply is positive; after an error it
// is not known. A message with a bare CR or LF is not sent (ErrBareLine).
//
// Over LMTP each recipient has a reply of its own after the message, and that
// is the one in its result: a recipient has the message if and only if its
// reply is positive, even if there is an error. A recipient that was accepted
// and whose reply was not heard has the zero Reply. The last reply is the first
// positive one of them, else the one that was heard last. A server that says
// 421 to one of them closes, so look at each before the next message.
//
// Commands are pipelined and the message is sent as one chunk where the server
// offers it; where it offers that and does not know the command, the error is
// ErrNoChunks: nothing was taken, and the message goes without CHUNKING over
// another connection. A reply that came before the end of the message is no
// word about it: ErrEarly, unless it refuses. After an error the connection is
// closed.
func (c *Client) Send(ctx context.Context, env mail.Envelope, body io.Reader) ([]RcptResult, mail.Reply, error) {
	if err := c.fits(env); err != nil {
		return nil, mail.Reply{}, err
	}
	d := &delivery{c: c, results: make([]RcptResult, len(env.To))}
	for i, to := range env.To {
		d.results[i].To = to.Path
	}
	if err := d.prepare(env, body); err != nil {
		return nil, mail.Reply{}, err
	}
	err := d.run(ctx)
	d.release()
	if err != nil {
		c.raw.conn.Close()
		return d.results, d.final, fmt.Errorf("send message: %w", err)
	}
	return d.results, d.final, nil
}

// fits says what the server lacks for this envelope, before it sees any of it.
func (c *Client) fits(env mail.Envelope) error {
	if env.From.IsZero() || len(env.To) == 0 {
		return errors.New("send message: the envelope has no reverse-path or no recipient")
	}
	need := func(keyword string, wanted bool) error {
		if _, ok := c.Extension(keyword); wanted && !ok {
			return fmt.Errorf("%s: %w", keyword, ErrNotOffered)
		}
		return nil
	}
	utf8 := env.Sender.UTF8 || env.From.Address().NeedsUTF8()
	for _, to := range env.To {
		if to.Path.IsZero() {
			return errors.New("send message: a recipient is empty")
		}
		utf8 = utf8 || to.Path.Address().NeedsUTF8()
	}
	if most := c.limit("RCPTMAX"); most > 0 && len(env.To) > most {
		return fmt.Errorf("%w: %d of %d", ErrTooMany, len(env.To), most)
	}
	if size, ok := c.Extension("SIZE"); ok {
		if n, err := strconv.ParseInt(size, 10, 64); err == nil && n > 0 && env.Sender.Size > n {
			return fmt.Errorf("%w: %d octets, the server takes %d", ErrTooLarge, env.Sender.Size, n)
		}
	}
	return errors.Join(
		need("SMTPUTF8", utf8),
		need("8BITMIME", env.Sender.Body == mail.Body8BitMIME),
		need("BINARYMIME", env.Sender.Body == mail.BodyBinary),
		need("REQUIRETLS", env.Sender.RequireTLS),
	)
}

// limit returns one of the LIMITS of RFC 9422, 0 when it is not told.
func (c *Client) limit(name string) int {
	args, _ := c.Extension("LIMITS")
	for _, word := range strings.Fields(args) {
		if key, value, ok := strings.Cut(word, "="); ok && strings.EqualFold(key, name) {
			n, err := strconv.Atoi(value)
			if err == nil && n > 0 {
				return n
			}
		}
	}
	return 0
}

// mailCommand and rcptCommand write what the server offers; a parameter that
// is no valid value is refused, because it would become another parameter.
func (c *Client) mailCommand(env mail.Envelope) (string, error) {
	p := env.Sender
	s := "MAIL FROM:" + env.From.String()
	if _, ok := c.Extension("SIZE"); ok && p.Size > 0 {
		s += " SIZE=" + strconv.FormatInt(p.Size, 10)
	}
	if p.Body == mail.Body8BitMIME || p.Body == mail.BodyBinary {
		s += " BODY=" + string(p.Body)
	}
	utf8 := p.UTF8 || env.From.Address().NeedsUTF8()
	for _, to := range env.To {
		utf8 = utf8 || to.Path.Address().NeedsUTF8()
	}
	if utf8 {
		s += " SMTPUTF8"
	}
	if p.RequireTLS {
		s += " REQUIRETLS"
	}
	if _, ok := c.Extension("AUTH"); ok && p.Auth != "" {
		if p.Auth != "<>" && !isXtext(p.Auth) {
			return "", fmt.Errorf("MAIL: AUTH=%q is no xtext", p.Auth)
		}
		s += " AUTH=" + p.Auth
	}
	if _, ok := c.Extension("DSN"); ok {
		if p.Ret == mail.RetFull || p.Ret == mail.RetHeaders {
			s += " RET=" + string(p.Ret)
		}
		if p.EnvID != "" {
			if !isXtext(p.EnvID) {
				return "", fmt.Errorf("MAIL: ENVID=%q is no xtext", p.EnvID)
			}
			s += " ENVID=" + p.EnvID
		}
	}
	return s + "\r\n", nil
}

func (c *Client) rcptCommand(to mail.Recipient) (string, error) {
	s := "RCPT TO:" + to.Path.String()
	if _, ok := c.Extension("DSN"); !ok {
		return s + "\r\n", nil
	}
	if n := formatNotify(to.Params.Notify); n != "" {
		s += " NOTIFY=" + n
	}
	if o := to.Params.ORcpt; o != "" {
		kind, addr, ok := strings.Cut(o, ";")
		if !ok || kind == "" || !isXtext(kind) || !isOrcpt(addr) {
			return "", fmt.Errorf("RCPT: ORCPT=%q is no address type and xtext", o)
		}
		s += " ORCPT=" + o
	}
	return s + "\r\n", nil
}

func formatNotify(n mail.Notify) string {
	if n&mail.NotifyNever != 0 {
		return "NEVER"
	}
	var words []string
	for _, w := range []struct {
		bit  mail.Notify
		name string
	}{{mail.NotifySuccess, "SUCCESS"}, {mail.NotifyFailure, "FAILURE"}, {mail.NotifyDelay, "DELAY"}} {
		if n&w.bit != 0 {
			words = append(words, w.name)
		}
	}
	return strings.Join(words, ",")
}

// A delivery is one run of Send.
type delivery struct {
	c        *Client
	commands []string // RSET if one is due, MAIL, each RCPT
	rset     int      // 1 if the first is RSET
	chunks   bool     // by BDAT
	message  message

	results  []RcptResult
	accepted int
	waiting  []int // over LMTP: those accepted and not yet answered after the message
	final    mail.Reply
	last     mail.Reply // over LMTP: the one heard last
	over     bool       // the server has said 421, or refused MAIL
}

func (d *delivery) prepare(env mail.Envelope, body io.Reader) error {
	if d.c.dirty {
		d.commands, d.rset = append(d.commands, "RSET\r\n"), 1
	}
	line, err := d.c.mailCommand(env)
	if err != nil {
		return err
	}
	d.commands = append(d.commands, line)
	for _, to := range env.To {
		if line, err = d.c.rcptCommand(to); err != nil {
			return err
		}
		d.commands = append(d.commands, line)
	}
	d.message.body = body
	d.message.beforeEnd = func() error { return nil }
	if _, ok := d.c.Extension("CHUNKING"); ok {
		if d.chunks, err = d.message.measure(); err != nil {
			d.message.release()
			return err
		}
	}
	return nil
}

func (d *delivery) release() { d.message.release() }

// run sends the envelope in groups, then the message.
func (d *delivery) run(ctx context.Context) error {
	d.message.beforeEnd = func() error { return d.inStep(ctx) }
	_, pipelining := d.c.Extension("PIPELINING")
	for next := 0; next < len(d.commands); {
		first, group := next, ""
		for next < len(d.commands) && (group == "" || pipelining && len(group)+len(d.commands[next]) <= groupSize) {
			group += d.commands[next]
			next++
		}
		data := pipelining && !d.chunks && next == len(d.commands)
		if data {
			group += "DATA\r\n"
		}
		if err := d.c.write(ctx, []byte(group)); err != nil {
			return err
		}
		for i := first; i < next; i++ {
			if err := d.answer(ctx, i); err != nil {
				return err
			}
		}
		if data {
			return d.data(ctx)
		}
		if d.over {
			return nil
		}
	}
	switch {
	case d.accepted == 0:
		return nil
	case d.chunks:
		return d.bdat(ctx)
	}
	if err := d.c.write(ctx, []byte("DATA\r\n")); err != nil {
		return err
	}
	return d.data(ctx)
}

// answer reads the reply to one command of the envelope.
func (d *delivery) answer(ctx context.Context, i int) error {
	r, err := d.c.reply(ctx, d.c.options.Timeouts.Command, "the reply to "+strings.TrimSpace(d.commands[i]))
	if err != nil {
		if d.over && errors.Is(err, ErrClosed) {
			return nil // it said 421 and keeps to it
		}
		return err
	}
	switch {
	case i < d.rset:
		d.c.dirty = false
		return nil
	case i == d.rset:
		if !r.Positive() {
			d.final, d.over = r, true
			for j := range d.results {
				d.results[j].Reply = r
			}
			return nil
		}
		d.c.dirty = true
		return nil
	}
	if d.over {
		return nil // refused because MAIL was
	}
	if d.c.options.LMTP && r.Positive() {
		d.waiting = append(d.waiting, i-d.rset-1)
	} else {
		d.results[i-d.rset-1].Reply = r
	}
	if r.Positive() {
		d.accepted++
	} else if d.accepted == 0 {
		d.final = r // if no recipient is taken, this decides
	}
	if r.Code == 421 {
		d.final, d.over = r, true
		d.accepted = 0
		d.ended(r)
	}
	return nil
}

// data reads the reply to DATA and sends the message. Where all was refused
// and the server goes on none the less, an empty message for nobody ends it
// (RFC 2920 section 3.1).
func (d *delivery) data(ctx context.Context) error {
	r, err := d.c.reply(ctx, d.c.options.Timeouts.Data, "the reply to DATA")
	if err != nil {
		if d.over && errors.Is(err, ErrClosed) {
			return nil
		}
		return err
	}
	if r.Code != 354 {
		if r.Positive() || r.Intermediate() {
			// To a message that it has not seen. What it means nobody can
			// know, and it must not count as taken.
			return &ReplyError{"DATA", r}
		}
		if d.accepted > 0 {
			d.final = r
			d.ended(r)
		}
		return nil
	}
	if d.accepted == 0 && d.c.options.LMTP {
		// RFC 2033 section 4.2 forbids it, and a message for nobody may have
		// no reply: there is no way back into step.
		d.c.raw.conn.Close()
		return nil
	}
	if d.accepted == 0 {
		if err := d.c.write(ctx, []byte(".\r\n")); err != nil {
			return err
		}
		_, err := d.c.reply(ctx, d.c.options.Timeouts.End, "the reply to an empty message")
		return err
	}
	if err := d.message.stuffed(func(p []byte) error { return d.c.write(ctx, p) }); err != nil {
		return d.spoken(ctx, err)
	}
	return d.end(ctx)
}

func (d *delivery) bdat(ctx context.Context) error {
	head := []byte("BDAT " + strconv.FormatInt(d.message.size, 10) + " LAST\r\n")
	if err := d.message.chunk(head, func(p []byte) error { return d.c.write(ctx, p) }); err != nil {
		return d.spoken(ctx, err)
	}
	return d.end(ctx)
}

// end reads the reply to the end of the message.
func (d *delivery) end(ctx context.Context) error {
	if d.c.options.LMTP {
		return d.endEach(ctx)
	}
	r, err := d.c.reply(ctx, d.c.options.Timeouts.End, "the reply to the end of the message")
	if err != nil {
		return err
	}
	if err := d.knowsChunks(r); err != nil {
		return err
	}
	d.final = r
	d.c.dirty = !r.Positive()
	return nil
}

// knowsChunks tells a server that does not know BDAT from one that refuses a
// message. It has taken the message for commands: the connection is of no more
// use.
func (d *delivery) knowsChunks(r mail.Reply) error {
	if d.chunks && r.AboutCommand() {
		return fmt.Errorf("%w: %s", ErrNoChunks, r)
	}
	return nil
}

// errRefused is how the sending of a message ends that the server has refused
// in the middle; its reply is final.
var errRefused = errors.New("refused before its end")

// inStep holds the server to answering after the message, and not before. What
// it says against the message counts at once.
func (d *delivery) inStep(ctx context.Context) error {
	if !d.c.raw.early() {
		return nil
	}
	r, err := d.c.reply(ctx, quitWait, "the rest of an early reply")
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrEarly, err)
	case r.Positive(), r.Intermediate():
		return fmt.Errorf("%w: %s", ErrEarly, r)
	}
	return d.refused(r)
}

// refused ends a message that the server has refused before its end.
func (d *delivery) refused(r mail.Reply) error {
	if err := d.knowsChunks(r); err != nil {
		return err
	}
	d.final = r
	d.ended(r)
	d.c.raw.conn.Close()
	return errRefused
}

// spoken looks whether a server that stopped reading has said why. A message
// that we could not read or must not send has no answer.
func (d *delivery) spoken(ctx context.Context, err error) error {
	if errors.Is(err, ErrClosed) {
		r, replyErr := d.c.reply(ctx, quitWait, "the last words of the server")
		if replyErr != nil || r.Positive() || r.Intermediate() {
			return err
		}
		err = d.refused(r)
	}
	if errors.Is(err, errRefused) {
		return nil
	}
	return err
}
