package check

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"

	"postern/mail"
	"postern/plan"
	"postern/probe"
	"postern/smtp"
	"postern/transcript"
	"postern/verdict"
)

// A port is the check of one port of one address.
type port struct {
	o     *Options
	addr  netip.AddrPort
	dial  func(context.Context) (net.Conn, error)
	facts plan.Facts
	pace  *pace
	watch *watch
	forms []plan.Form
	inbox *inbox
	spool *spool

	wrapped bool   // it speaks TLS from the first octet
	sni     string // a proxy's name in the handshake

	// silent is asked what else may answer at a port that says nothing; nil:
	// nobody is.
	silent    func(ctx context.Context) sniffed
	smtp      probe.SMTP
	evidence  verdict.Evidence
	plays     []probe.Play
	said      map[string]string // the form that said it, by what forms look like on the wire: none is played twice
	battery   *battery
	guess     *probe.Play  // the form that is played with a list of logins, last of all
	total     int          // of the plays, once they are over
	tokens    []plan.Token // one for each form, the last for the controls' sender
	recipient func(plan.Token) mail.Address
	ignoresUs bool // it has left a stranger's recipient without an answer
	names     names
	refuses   bool // it refuses a stranger's recipient, so that what it accepts is its own
}

// An otherDoorError is returned for a port that is no mail server's.
type otherDoorError struct{ found sniffed }

func (e *otherDoorError) Error() string { return fmt.Sprintf("it is a proxy: %v", e.found.doors) }

// errShut is returned for a port on which nothing listens.
var errShut = errors.New("nothing listens")

// run plays the battery; arrivals are waited for by the caller. It returns
// errShut when there is no port to test, and otherwise leaves in evidence
// what it saw.
func (p *port) run(ctx context.Context) error {
	p.evidence.Addr = p.addr
	p.progress(Connecting, "")
	visit, err := p.findMode(ctx)
	if err != nil {
		var other *otherDoorError
		switch {
		case isRefused(err):
			return errShut
		case errors.As(err, &other):
			return err
		}
		p.evidence.NotTested = notTested(err)
		return nil
	}
	p.evidence.Session, p.evidence.From = visit.Session, visit.Local.Addr()
	p.learn(ctx, visit.Session)
	if err := p.takeTokens(ctx); err != nil {
		visit.Close()
		return err
	}
	p.inbox = p.watch.expect(p.tokens) // before the first message is sent: it may arrive before we wait
	visit = p.askOrEncrypt(ctx, visit)
	p.prepare(p.forms)
	p.playAll(ctx, visit)
	return nil
}

// askOrEncrypt asks the controls; a server that takes nothing before STARTTLS
// (530, RFC 3207 section 4) gets every session encrypted from here on.
func (p *port) askOrEncrypt(ctx context.Context, visit *probe.Visit) *probe.Visit {
	p.askControls(ctx, visit)
	visit = p.askInStep(ctx, visit)
	if !visit.Offers("STARTTLS") || visit.Session.TLS != "" || !p.demandsMore() {
		return visit
	}
	encrypted := p.smtp
	encrypted.TLS = probe.StartTLS
	again, err := p.open(ctx, encrypted)
	if err != nil || !p.usable(again) {
		return visit
	}
	visit.Close()
	p.smtp = encrypted
	p.evidence.Session, p.evidence.Asked = again.Session, nil
	p.askControls(ctx, again)
	return again
}

// demandsMore reports whether a control was refused for want of TLS or of a
// login, to which TLS may be the first step.
func (p *port) demandsMore() bool {
	return slices.ContainsFunc(p.evidence.Asked, func(a verdict.Asked) bool {
		return a.Reply.Code == 530 || verdict.MeaningOf(a.Reply) == verdict.WantsTLS
	})
}

// findMode opens the first session. A server that stays silent may wait for
// TLS or for a PROXY header; both are tried, and the first banner wins.
func (p *port) findMode(ctx context.Context) (*probe.Visit, error) {
	p.smtp = probe.SMTP{
		Dial: p.dial,
		Addr: p.addr, Helo: p.o.Helo, Timeout: p.o.Timeout,
	}
	first := p.smtp
	if p.addr.Port() == 465 || p.wrapped { // RFC 8314 section 3.3
		first.TLS = probe.Implicit
	}
	first.Banner = p.bannerPatience()
	v, err := p.open(ctx, first)
	if w := p.sayHelo(ctx, first, v, err); w != nil {
		v, err, first.Hello = w, nil, "HELO"
	}
	if err == nil && (v.Session.Banner.Positive() || v.Session.Banner.Permanent()) {
		first.Banner, first.Proxied = 0, p.smtp.Proxied
		p.smtp = first
		return v, nil
	}
	if err == nil {
		v.Close()
		err = fmt.Errorf("%w: %s", probe.ErrNoBanner, v.Session.Banner)
	}
	if !errors.Is(err, probe.ErrNoBanner) || errors.Is(err, smtp.ErrNotSMTP) && first.TLS == probe.Plain {
		return nil, err
	}
	if p.silent != nil && errors.Is(err, smtp.ErrTimeout) {
		if found := p.silent(ctx); len(found.doors) > 0 {
			return nil, &otherDoorError{found}
		}
	}
	return p.tryOthers(ctx, first, err)
}

// silence is after how long without a banner other ways are tried beside:
// longer than the greet pauses in use, which are 5 to 6 seconds.
const silence = 8 * time.Second

func (p *port) silence() time.Duration {
	if p.o.Timeout > 0 {
		return min(silence, p.o.Timeout/2)
	}
	return silence
}

func (p *port) tryOthers(ctx context.Context, first probe.SMTP, why error) (*probe.Visit, error) {
	patient, encrypted, proxied := p.smtp, p.smtp, p.smtp
	encrypted.TLS, encrypted.Banner = probe.Implicit, p.silence()
	proxied.Proxied, proxied.Banner = true, p.silence()
	ways := []probe.SMTP{proxied}
	if first.TLS == probe.Implicit {
		ways = append(ways, patient)
	} else {
		ways = append(ways, encrypted)
		if errors.Is(why, smtp.ErrTimeout) {
			ways = append(ways, patient)
		}
	}
	type result struct {
		way probe.SMTP
		v   *probe.Visit
		err error
	}
	results := make(chan result, len(ways))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, way := range ways {
		go func() {
			v, err := p.open(ctx, way)
			results <- result{way, v, err}
		}()
	}
	var won *result
	for range ways {
		r := <-results
		switch {
		case r.err == nil && won == nil && p.usable(r.v):
			won = &r
			cancel() // the others are given up
		case r.err == nil:
			r.v.Close()
		}
	}
	if won == nil {
		return nil, why
	}
	won.way.Banner = 0
	p.smtp = won.way
	return won.v, nil
}

// open opens a session at the target's pace; when it is turned away for now
// it comes again, as long as the caller is willing to wait.
func (p *port) open(ctx context.Context, s probe.SMTP) (*probe.Visit, error) {
	deadline := time.Now().Add(p.o.Wait)
	for first := true; ; first = false {
		if err := p.pace.wait(ctx); err != nil {
			return nil, err
		}
		v, err := s.Open(ctx, &transcript.Transcript{})
		if err != nil {
			return v, err
		}
		if !v.Session.Banner.Transient() && !v.Session.Hello.Transient() {
			return v, nil
		}
		if first && s.TLS == probe.Plain && !s.Proxied {
			// Postfix says 421 to whoever comes without the PROXY header that it waits for.
			proxied := s
			proxied.Proxied = true
			if w, err := proxied.Open(ctx, &transcript.Transcript{}); err == nil && w.TurnedAway() == nil {
				v.Close()
				p.smtp.Proxied = true
				return w, nil
			}
		}
		d, _ := p.pace.refused()
		if time.Now().Add(d).After(deadline) {
			return v, nil
		}
		v.Close()
		p.progress(Pausing, fmt.Sprintf("%s; again in %s", v.Session.Banner, d.Round(time.Second)))
	}
}

// prepare makes the plays: an envelope and a message for each form.
func (p *port) prepare(forms []plan.Form) []probe.Play {
	if p.o.Backup != nil {
		p.facts.Backup = p.o.Backup(p.addr.Addr(), p.facts.Host)
	}
	before := len(p.plays)
	if p.said == nil {
		p.said = map[string]string{}
	}
	for _, f := range forms {
		token := p.tokens[slices.IndexFunc(p.forms, func(g plan.Form) bool { return g.ID == f.ID })]
		play, missing := p.makePlay(f, token)
		key := f.Move.Name + "\x00" + strings.ReplaceAll(fmt.Sprintf("%q", play.Envelope), string(token), "T")
		x := verdict.Exchange{Form: f, Envelope: play.Envelope, Token: play.Token, Outcome: verdict.NotRun, Needs: true}
		switch {
		case len(missing) > 0:
			x.Why = "needs " + missing[0]
		case f.Set == plan.Owner && p.o.Collector == nil:
			x.Why = "needs a collector (--collector DOMAIN)"
		case p.said[key] != "" && f.As.IsZero():
			x.Why = verdict.TheSame + p.said[key]
		case p.said[key] != "":
			continue // one name more that is no other
		default:
			p.said[key] = f.ID
			if why, impossible := probe.Impossible(p.evidence.Session, f.Move.Name); impossible {
				x.Outcome, x.Stage, x.Why, x.Needs, x.Tries, x.At = verdict.NotOffered, verdict.AtMove, why, false, 1, time.Now()
				break
			}
			p.plays = append(p.plays, play)
			continue
		}
		p.evidence.Exchanges = append(p.evidence.Exchanges, x)
	}
	return p.plays[before:]
}

// prepareMissing makes the plays of the forms that lacked a fact which has
// been learned since.
func (p *port) prepareMissing() []probe.Play {
	var again []plan.Form
	p.evidence.Exchanges = slices.DeleteFunc(p.evidence.Exchanges, func(x verdict.Exchange) bool {
		if x.Needs {
			again = append(again, x.Form)
		}
		return x.Needs
	})
	return p.prepare(again)
}

func (p *port) makePlay(f plan.Form, t plan.Token) (probe.Play, []string) {
	to := p.recipient(t)
	e, missing := f.Expand(p.facts, t, to)
	return probe.Play{
		Form: f, Envelope: e, Token: t, Local: p.facts.Local, Held: p.held(f, e),
		Message: probe.Message{
			Token: t, Form: f.ID, From: p.sender(t), Recipient: to,
			Target: p.addr.Addr().String(), Date: time.Now(), Note: p.o.Note,
		},
	}, missing
}

// held returns why no message is sent in a form whose recipient is accepted,
// or "".
func (p *port) held(f plan.Form, e plan.Envelope) string {
	if p.o.Collector == nil {
		return "there is no collector"
	}
	for _, name := range []struct {
		mark  string
		value mail.Domain
	}{{"dom", p.facts.Domain}, {"host", p.facts.Host}} {
		d := firstDomain(f.As, name.value)
		// A notice about what it takes goes to the sender.
		if uses := f.Recipient.Uses(name.mark) || f.Sender.Uses(name.mark); uses && !p.refuses && !p.names.itsOwn(d) {
			return "the server takes strangers' recipients, and that " + d.String() + " is its own is a guess"
		}
	}
	if _, offered := p.evidence.Session.Extensions["DSN"]; e.RecipientParams == "NOTIFY=NEVER" && !offered {
		return verdict.NoDSN
	}
	return ""
}

// sender returns our address of a token: answers to it name the token too.
func (p *port) sender(t plan.Token) mail.Address {
	to := p.recipient(t)
	a, err := mail.NewAddress(strings.Replace(to.Local(), string(t), "s-"+string(t), 1), to.Domain())
	if err != nil || len(a.Local()) > mail.MaxLocal {
		return to // the local part has no room for two letters more
	}
	return a
}

// blindDomain stands for "somebody else's domain" when there is no collector:
// recipients are asked about and nothing is ever sent. It exists in the DNS
// and belongs to nobody who could be bothered (RFC 2606 section 3).
const blindDomain = "example.com"

// takeTokens gets a token for each form and one more for the controls' sender.
func (p *port) takeTokens(ctx context.Context) error {
	n := len(p.forms) + 1
	var err error
	if p.o.Collector != nil {
		p.recipient = p.o.Collector.Recipient
		if p.tokens, err = p.o.Collector.Tokens(ctx, n, tokenLife); err != nil {
			return fmt.Errorf("ask the collector for tokens: %w", err)
		}
		return nil
	}
	domain, err := mail.ParseDomain(blindDomain)
	if err != nil {
		return err
	}
	p.recipient = func(t plan.Token) mail.Address {
		a, _ := mail.NewAddress(string(t), domain) // a token is a valid local part
		return a
	}
	// Nobody will verify these: they only make each envelope unlike any other.
	for range n {
		var secret [16]byte
		_, _ = rand.Read(secret[:]) // never fails (crypto/rand)
		p.tokens = append(p.tokens, plan.Mint(secret[:], [5]byte(secret[:5]), time.Now().Add(tokenLife)))
	}
	return nil
}

// playAll plays everything that shares sessions first in the session that is
// open, then the rest, then once more what the server put off.
func (p *port) playAll(ctx context.Context, visit *probe.Visit) {
	b := newBattery(p.smtp, p.pace, p.sessions(visit))
	p.battery = b
	done := 0
	b.progress = func(x verdict.Exchange) {
		if x.Tries <= 1 {
			done++
		}
		p.o.Progress(Event{Addr: p.addr, Step: Playing, Form: x.Form.ID, State: x.Outcome, Text: x.Reply.String(), Done: done, Total: len(p.plays)})
	}
	b.paused = func(d time.Duration, why string) {
		p.progress(Pausing, fmt.Sprintf("%s; again in %s", why, d.Round(time.Second)))
	}
	if !p.usable(visit) {
		visit.Close()
		p.evidence.Exchanges = append(p.evidence.Exchanges, p.notRun("the server refused the session")...)
		return
	}
	shared, alone := p.split()
	n := min(len(shared), perSession)
	b.add(append(alone, shared[n:]...))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		b.visit(ctx, visit, shared[:n])
		visit.Close()
	}()
	b.play(ctx)
	<-ended
	b.play(ctx) // what the first session handed back after the others had ended
	p.retry(ctx)
	p.carry(ctx)
	p.guessLogins(ctx)
	played := b.exchanges(p.forms)
	p.confirm(ctx, played)
	p.askUnknown(ctx, played)
	p.evidence.Exchanges = inOrder(p.forms, append(p.evidence.Exchanges, played...))
}

func (p *port) usable(v *probe.Visit) bool {
	return v.Session.Banner.Positive() && v.Session.Hello.Positive()
}

func (p *port) notRun(why string) []verdict.Exchange {
	var all []verdict.Exchange
	for _, play := range p.plays {
		all = append(all, verdict.Exchange{Form: play.Form, Envelope: play.Envelope, Token: play.Token, Outcome: verdict.NotRun, Why: why})
	}
	return all
}

// split puts the forms that share a session before those that need their own,
// pipelined ones first, each in the battery's order.
func (p *port) split() (shared, alone []probe.Play) {
	var stepped []probe.Play
	for _, play := range p.plays {
		switch {
		case guesses(play.Form):
			p.guess = &play
		case !probe.Shared(play.Form.Move.Name):
			alone = append(alone, play)
		case play.Form.Move.Name == "":
			shared = append(shared, play)
		default:
			stepped = append(stepped, play)
		}
	}
	return append(shared, stepped...), alone
}

// retry plays again what was put off, until it is decided or the patience
// that the caller gave is used up. The pauses count and the playing does not,
// or a slow server would be asked again less often than a fast one.
func (p *port) retry(ctx context.Context) {
	left := p.o.Wait
	for _, d := range retryDelays {
		again := p.battery.putOff(p.plays, func(x verdict.Exchange) bool { return p.evidence.Firm(x) })
		control := p.controlPutOff()
		if left -= d; len(again) == 0 && !control || left < 0 {
			return
		}
		p.progress(Pausing, fmt.Sprintf("%d forms were put off; again in %s", len(again), d))
		p.battery.shelve(p.spool)
		if err := sleep(ctx, d); err != nil {
			return
		}
		if control {
			p.askAgain(ctx)
			again = append(again, p.prepareMissing()...)
		}
		p.battery.add(again)
		p.battery.play(ctx)
	}
}

// carry plays to their end the forms whose message was held back because the
// name in the recipient or the sender is a guess, or because a notice would go
// to somebody else, once the server has shown that it relays
// for nobody: it refused the plainest form, at whatever stage, or returned it.
// What it takes for the name is then for itself.
func (p *port) carry(ctx context.Context) {
	held := p.battery.passed(p.plays)
	if len(held) == 0 || p.o.Collector == nil || !p.turnsPlainDown(ctx) {
		return
	}
	for i := range held {
		held[i].Held = ""
	}
	p.battery.add(held)
	p.battery.play(ctx)
}

// returnPatience is for a notice about the plainest form: a server that
// returns what it took does so as soon as it looks at it.
const returnPatience = 10 * time.Second

// turnsPlainDown reports whether the plainest form was refused, or came back.
func (p *port) turnsPlainDown(ctx context.Context) bool {
	plain, ok := p.battery.exchange("plain")
	if !ok || plain.Outcome != verdict.Taken || p.evidence.Blind != "" {
		return ok && (plain.Outcome == verdict.Denied || plain.Outcome == verdict.Deferred && p.evidence.Firm(plain)) && !notOfStrangers(plain.Reply)
	}
	for until := time.Now().Add(min(returnPatience, p.o.Wait)); ; {
		for _, a := range p.inbox.arrivals() {
			if a.Kind != verdict.Delay && slices.Contains(a.Tokens, plain.Token) {
				return a.Kind == verdict.Bounce
			}
		}
		p.progress(Waiting, "whether the plainest form comes back")
		if left := time.Until(until); left <= 0 || !came(ctx, p.inbox, left) {
			return false
		}
	}
}

// confirm asks a control once more where the server hung up on forms: when it
// no longer answers that as it did, hanging up was no answer to the form.
func (p *port) confirm(ctx context.Context, played []verdict.Exchange) {
	hungUp := func(x verdict.Exchange) bool { return x.Outcome == verdict.Dropped && x.Stage != verdict.AtMove }
	control := p.answered()
	if !slices.ContainsFunc(played, hungUp) || control.Reply.IsZero() || p.pace.wait(ctx) != nil {
		return
	}
	v, err := p.smtp.Open(ctx, &transcript.Transcript{})
	if err == nil {
		defer v.Close()
		asked, err := v.Ask(ctx, p.controlSender(), []verdict.Asked{{Control: control.Control, Recipient: control.Recipient}})
		if err == nil && asked[0].Reply.Code/100 == control.Reply.Code/100 {
			return
		}
	}
	for i, x := range played {
		if hungUp(x) {
			played[i].Outcome, played[i].Why = verdict.NotRun, "the server has stopped answering us"
		}
	}
}

// answered returns a control that was answered, one that was accepted before
// others; its reply is zero when there is none.
func (p *port) answered() verdict.Asked {
	var one verdict.Asked
	for _, a := range p.evidence.Asked {
		if a.Reply.Positive() {
			return a
		}
		if !a.Reply.IsZero() {
			one = a
		}
	}
	return one
}

func (p *port) progress(s Step, text string) {
	p.o.Progress(Event{Addr: p.addr, Door: p.evidence.Door, Step: s, Text: text, Total: max(p.total, len(p.plays))})
}

func isRefused(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED)
}

// notTested says in one sentence why there was nothing to test.
func notTested(err error) string {
	var wire *smtp.WireError
	var timeout net.Error
	switch {
	case errors.Is(err, smtp.ErrNotSMTP) && errors.As(err, &wire):
		return fmt.Sprintf("not an SMTP server: it said %.60q", wire.Seen)
	case errors.Is(err, probe.ErrNoBanner) && errors.Is(err, smtp.ErrTimeout):
		return "it took the connection and never said anything; no SMTP server, or one that waits for something we do not know"
	case errors.Is(err, probe.ErrNoBanner):
		return "it took the connection and closed it without a word"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "no route to it"
	case errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return "no answer; a firewall drops what we send"
	}
	return err.Error()
}

// inOrder returns the exchanges in the order of the forms.
func inOrder(forms []plan.Form, list []verdict.Exchange) []verdict.Exchange {
	byID := make(map[string]verdict.Exchange, len(list))
	for _, x := range list {
		byID[x.Form.ID] = x
	}
	ordered := make([]verdict.Exchange, 0, len(list))
	for _, f := range forms {
		if x, ok := byID[f.ID]; ok {
			ordered = append(ordered, x)
		}
	}
	return ordered
}
