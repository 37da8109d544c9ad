package open

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/md5" //nolint:gosec // it is what CRAM-MD5 is made of
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"

	"postern/mail"
	"postern/smtp"
)

// A Message is what an open server took and means to hand on.
type Message struct {
	From   mail.ReversePath
	To     []mail.Address // rewritten by the rule; none: all were kept or dropped
	Bounce []mail.Address // recipients that a notice to From must name
	Body   []byte         // with the trace field that the server added
}

// A Sink takes what an open server hands on. An error is answered with 451.
type Sink interface {
	Take(ctx context.Context, m Message) error
}

// A Client is who the server believes to be talking to.
type Client struct {
	Addr     netip.Addr
	Claimed  bool // Addr was claimed by XCLIENT or a PROXY header
	Helo     string
	TLS      bool
	Identity string // of a login
}

// An Asked is one recipient that a rule decides on.
type Asked struct {
	Client Client
	From   mail.ReversePath
	To     mail.ForwardPath
	Index  int // how many recipients were accepted before it
}

// A Fate is what becomes of a message to an accepted recipient.
type Fate uint8

// The fates.
const (
	Relay  Fate = iota // hand it on to Answer.Next
	Keep               // for a mailbox of the server's own: taken and gone
	Bounce             // taken, and returned to the sender
)

// An Answer is what a rule says to one recipient.
type Answer struct {
	Reply mail.Reply // positive accepts
	Fate  Fate
	Next  mail.Address // of Relay
}

// A Rule decides on one recipient; it is where a server is careless.
type Rule func(ctx context.Context, a Asked) Answer

// SMTP is a careless mail server. Its fields must not change once it runs.
type SMTP struct {
	Name     string
	Sink     Sink
	Rule     Rule // nil: everybody may send to anybody
	TLS      *tls.Config
	Limits   smtp.Limits
	Proxied  bool              // demands a PROXY header, and believes anybody's
	XClient  bool              // takes XCLIENT from anybody
	AnyLogin bool              // takes any user and password
	Users    map[string]string // takes these users with their passwords
	Methods  []string          // by which one logs in; none: PLAIN and LOGIN
	Refuse   mail.Reply        // when set, the banner that turns everybody away
	MustTLS  mail.Reply        // when set, the answer to MAIL before TLS
	MustAuth mail.Reply        // when set, the answer to MAIL before a login
	AtData   mail.Reply        // when set, the answer to DATA
	AtDot    mail.Reply        // when set, the answer to the end of the message
	Pause    time.Duration
	Slow     func(refused int) time.Duration // before the answer to RCPT, by refusals so far
	DropAt   int                             // hang up after that many refusals; 0: never
	Careless bool                            // a bare LF ends a line, the message too
	Without  []string                        // extensions not offered
}

// Run serves the connections of l until ctx ends.
func (s SMTP) Run(ctx context.Context, l net.Listener) error {
	if s.Proxied {
		l = believing(l)
	}
	return s.server().Run(ctx, l)
}

// ServeConn serves one connection; its address is as it is, also when Proxied.
func (s SMTP) ServeConn(ctx context.Context, c net.Conn) error { return s.server().ServeConn(ctx, c) }

func (s SMTP) server() *smtp.Server {
	server := &smtp.Server{Name: s.Name, Handler: s, TLS: s.TLS, Limits: s.Limits, Without: s.Without, PlainAuth: true}
	if s.Careless {
		server.Lines = smtp.CarelessLines
	}
	return server
}

// Connect begins a session.
func (s SMTP) Connect(_ context.Context, p *smtp.Peer) (smtp.Session, mail.Reply) {
	if !s.Refuse.IsZero() {
		return nil, s.Refuse
	}
	v := &session{server: s, peer: p, client: Client{Addr: p.Remote.Addr().Unmap(), Claimed: s.Proxied}}
	switch {
	case s.XClient && s.takesLogins():
		return struct {
			*session
			xclient
			login
		}{v, xclient{v}, login{v}}, mail.Reply{}
	case s.XClient:
		return struct {
			*session
			xclient
		}{v, xclient{v}}, mail.Reply{}
	case s.takesLogins():
		return struct {
			*session
			login
		}{v, login{v}}, mail.Reply{}
	}
	return v, mail.Reply{}
}

func (s SMTP) takesLogins() bool { return s.AnyLogin || len(s.Users) > 0 || !s.MustAuth.IsZero() }

// A session is one client's conversation with a careless server.
type session struct {
	server  SMTP
	peer    *smtp.Peer
	client  Client
	from    mail.ReversePath
	message Message
	count   int // recipients accepted
	refused int
}

func (v *session) Hello(context.Context, string, bool) mail.Reply { return mail.Reply{} }

func (v *session) Mail(_ context.Context, from mail.ReversePath, _ mail.SenderParams) mail.Reply {
	if !v.server.MustTLS.IsZero() && v.peer.TLS == nil {
		return v.server.MustTLS
	}
	if !v.server.MustAuth.IsZero() && v.client.Identity == "" {
		return v.server.MustAuth
	}
	v.from = from
	return mail.Reply{}
}

func (v *session) Rcpt(ctx context.Context, to mail.ForwardPath, _ mail.RecipientParams) mail.Reply {
	v.client.Helo, v.client.TLS = v.peer.Helo, v.peer.TLS != nil
	answer := Answer{Reply: mail.NewReply(250, "2.1.5", "ok"), Next: to.Address()}
	if v.server.Rule != nil {
		answer = v.server.Rule(ctx, Asked{Client: v.client, From: v.from, To: to, Index: v.count})
	}
	if !answer.Reply.Positive() {
		return v.refuse(ctx, answer.Reply)
	}
	v.count++
	switch answer.Fate {
	case Relay:
		v.message.To = append(v.message.To, answer.Next)
	case Bounce:
		v.message.Bounce = append(v.message.Bounce, to.Address())
	case Keep:
	}
	return answer.Reply
}

func (v *session) refuse(ctx context.Context, r mail.Reply) mail.Reply {
	v.refused++
	if v.server.Slow != nil {
		t := time.NewTimer(v.server.Slow(v.refused))
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
		}
	}
	if v.server.DropAt > 0 && v.refused > v.server.DropAt {
		return smtp.Hangup
	}
	return r
}

func (v *session) StartData(context.Context) mail.Reply { return v.server.AtData }

func (v *session) Data(ctx context.Context, body io.Reader) mail.Reply {
	text, err := io.ReadAll(body) // bounded by the engine's SIZE
	if err != nil {
		return mail.NewReply(451, "4.3.0", "the message did not come whole")
	}
	if !v.server.AtDot.IsZero() {
		return v.server.AtDot
	}
	m := v.message
	m.From = v.from
	m.Body = append([]byte(v.received()), text...)
	if len(m.To)+len(m.Bounce) > 0 {
		if err := v.server.Sink.Take(ctx, m); err != nil {
			return mail.NewReply(451, "4.4.0", "could not hand it on")
		}
	}
	return mail.NewReply(250, "2.0.0", "ok, queued")
}

// received is the trace field (RFC 5321 section 4.4), with the address that
// the server believes the client to have.
func (v *session) received() string {
	return fmt.Sprintf("Received: from %s (%s)\r\n\tby %s (Postern, open to all) with ESMTP;\r\n\t%s\r\n",
		v.peer.Helo, mail.LiteralDomain(v.client.Addr), v.server.Name, time.Now().Format("Mon, 2 Jan 2006 15:04:05 -0700"))
}

func (v *session) Reset() {
	v.from, v.message, v.count = mail.ReversePath{}, Message{}, 0
}

func (v *session) Close(error) {}

// Pause holds the banner back.
func (v *session) Pause() time.Duration { return v.server.Pause }

// Early lets a client that spoke first go on all the same.
func (v *session) Early(context.Context) mail.Reply { return mail.Reply{} }

// xclient takes the client's word for who it is.
type xclient struct{ v *session }

// XClient believes ADDR and LOGIN.
func (x xclient) XClient(_ context.Context, attributes map[string]string) mail.Reply {
	if a, err := netip.ParseAddr(attributes["ADDR"]); err == nil {
		x.v.client.Addr, x.v.client.Claimed = a.Unmap(), true
	}
	if login := attributes["LOGIN"]; login != "" {
		x.v.client.Identity = login
	}
	return mail.NewReply(220, "", x.v.server.Name+" ESMTP")
}

// login takes any user with any password, or those that the server has.
type login struct{ v *session }

// Mechanisms offers what the server has, or the two that carry a password.
func (l login) Mechanisms() []string {
	if m := l.v.server.Methods; len(m) > 0 {
		return m
	}
	return []string{"PLAIN", "LOGIN"}
}

// Auth accepts whatever comes where the server takes any login.
func (l login) Auth(_ context.Context, mechanism string, initial []byte, challenge func([]byte) ([]byte, error)) (string, mail.Reply) {
	prompts := map[string][][]byte{"PLAIN": {nil}, "LOGIN": {[]byte("Username:"), []byte("Password:")}, "CRAM-MD5": {[]byte("<" + rand.Text() + "@" + l.v.server.Name + ">")}}[mechanism]
	var said [][]byte
	for i, prompt := range prompts {
		answer := initial
		if i > 0 || initial == nil {
			var err error
			if answer, err = challenge(prompt); err != nil {
				return "", mail.Reply{}
			}
		}
		said = append(said, answer)
	}
	user, ok := "anybody", l.v.server.AnyLogin
	if !ok {
		user, ok = l.v.server.knows(mechanism, prompts, said)
	}
	if !ok {
		return "", mail.NewReply(535, "5.7.8", "wrong user or password")
	}
	l.v.client.Identity = user
	return user, mail.NewReply(235, "2.7.0", "welcome")
}

// knows returns the user of a login, and whether it is one of the server's.
func (s SMTP) knows(mechanism string, prompts, said [][]byte) (user string, ok bool) {
	if mechanism == "CRAM-MD5" { // RFC 2195
		user, digest, _ := strings.Cut(string(said[0]), " ")
		sum := hmac.New(md5.New, []byte(s.Users[user]))
		_, _ = sum.Write(prompts[0]) // never fails
		return user, s.Users[user] != "" && digest == hex.EncodeToString(sum.Sum(nil))
	}
	words := said
	if mechanism == "PLAIN" {
		if words = bytes.Split(said[0], []byte{0}); len(words) != 3 {
			return "", false
		}
		words = words[1:]
	}
	user = string(words[0])
	return user, s.Users[user] != "" && s.Users[user] == string(words[1])
}
