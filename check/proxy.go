package check

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"postern/door"
	"postern/plan"
	"postern/probe"
	"postern/report"
	"postern/verdict"
)

// A proxy is asked one form after the other, each in a connection of its own:
// a tunnel serves for one conversation only.

// proxies checks a port at which proxies may answer.
func (c *Checker) proxies(ctx context.Context, w located, a netip.AddrPort, pace *pace, dial func(context.Context) (net.Conn, error), doors []door.Door) ([]report.Door, error) {
	first := c.newPort(doors[0], w, a, pace, dial)
	first.progress(Connecting, "")
	found, err := first.sniff(ctx, doors)
	switch {
	case err != nil:
		return nil, err
	case isRefused(found.err):
		return nil, errShut
	case found.err != nil:
		why := notTested(found.err)
		return []report.Door{first.notTested(why)}, nil //nolint:nilerr // that it does not answer is the answer
	case slices.Contains(found.doors, door.SMTP):
		mail := c.newPort(door.SMTP, w, a, pace, dial)
		mail.wrapped = found.tls != ""
		d, err := c.mailServer(ctx, mail)
		return []report.Door{d}, err
	case len(found.doors) == 0:
		first.evidence.Session.TLS, first.evidence.Do = found.tls, found.do
		first.evidence.Named = found.do != "" && c.namesAProxy()
		return []report.Door{first.notTested(found.why)}, nil
	}
	return c.proxiesFound(ctx, w, a, pace, dial, found)
}

// namesAProxy reports whether the caller says that proxies are there.
func (c *Checker) namesAProxy() bool {
	return len(c.o.Forms) > 0 || slices.ContainsFunc(c.o.Doors, func(d door.Door) bool { return d == door.SOCKS || d == door.Connect })
}

// proxiesFound checks the proxies that answered at a port.
func (c *Checker) proxiesFound(ctx context.Context, w located, a netip.AddrPort, pace *pace, dial func(context.Context) (net.Conn, error), found sniffed) ([]report.Door, error) {
	var list []report.Door
	for _, d := range found.doors {
		p := c.newPort(d, w, a, pace, dial)
		p.evidence.From, p.evidence.Session.TLS = found.local.Addr(), found.tls
		p.wrapped, p.sni = found.tls != "", found.sni
		if found.four {
			p.forms = ofVersionFour(p.forms)
		}
		result, err := c.proxyAt(ctx, p, d == door.SOCKS && found.login)
		if errors.Is(err, probe.ErrForeign) {
			result, err = p.notTested(found.why), nil
		}
		if err != nil {
			return nil, err
		}
		list = append(list, result)
	}
	return list, nil
}

// ofVersionFour returns the forms of version 4 alone: nothing else is said to a
// port that is only suspected to be a proxy.
func ofVersionFour(forms []plan.Form) []plan.Form {
	return slices.DeleteFunc(slices.Clone(forms), func(f plan.Form) bool { return !strings.HasPrefix(f.Move.Name, "socks4") })
}

func (p *port) notTested(why string) report.Door {
	p.evidence.NotTested = why
	j := verdict.Judge(p.evidence)
	p.o.Progress(Event{Addr: p.addr, Door: p.evidence.Door, Step: Judged, Text: string(j.Verdict)})
	return report.Door{Door: p.evidence.Door, Judgement: j}
}

// proxyAt plays the battery of one door against a proxy; login says that its
// first word was to ask for one.
func (c *Checker) proxyAt(ctx context.Context, p *port, login bool) (report.Door, error) {
	defer func() { c.watch.forget(p.tokens) }()
	if err := p.takeTokens(ctx); err != nil {
		return report.Door{}, err
	}
	p.inbox = p.watch.expect(p.tokens)
	p.prepareProxy(login)
	if err := p.playProxy(ctx); err != nil {
		return report.Door{}, err
	}
	return c.judged(p, p.await(ctx)), nil
}

// prepareProxy makes the plays. Without a collector of our own there is no
// place that a proxy may be asked for: everybody else's is none of ours.
func (p *port) prepareProxy(login bool) {
	_, fronted := p.o.Collector.(Fronted)
	for i, f := range p.forms {
		play, missing := p.makePlay(f, p.tokens[i])
		switch {
		case !fronted:
			missing = []string{"a collector that a proxy can be led to (--collector DOMAIN)"}
		case p.evidence.Blind != "":
			missing = []string{"a collector that can be reached; now " + p.evidence.Blind}
		}
		if len(missing) > 0 {
			x := verdict.Exchange{Form: f, Envelope: play.Envelope, Token: play.Token, Outcome: verdict.NotRun, Needs: true, Why: "needs " + missing[0]}
			if login && f.Move.Name == "socks5" { // whatever place: it has said no already
				x.Outcome, x.Needs, x.Why, x.Stage, x.Answer, x.Said, x.At = verdict.Denied, false, "", verdict.AtProxy, verdict.WantsLogin, "no method without a login", time.Now()
			}
			p.evidence.Exchanges = append(p.evidence.Exchanges, x)
			continue
		}
		p.plays = append(p.plays, play)
	}
}

// playProxy plays what was prepared, and returns probe.ErrForeign when no form
// was answered in the protocol of the door.
func (p *port) playProxy(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errPatience)
	defer cancel()
	played, foreign := map[string]verdict.Exchange{}, 0
	for i, play := range p.plays {
		var x verdict.Exchange
		if guesses(play.Form) {
			x = p.guessAtProxy(ctx, play, played)
		} else {
			x = p.askProxy(ctx, play, played)
		}
		played[play.Form.ID] = x
		if x.Answer == verdict.Unsupported && x.Stage == verdict.AtProxy && x.Why != "" {
			foreign++
		}
		p.o.Progress(Event{Addr: p.addr, Door: p.evidence.Door, Step: Playing, Form: play.Form.ID, State: x.Outcome, Text: x.Said, Done: i + 1, Total: len(p.plays)})
	}
	if foreign > 0 && foreign+p.mute(played) == len(played) {
		return probe.ErrForeign
	}
	p.lookForBackend(ctx, played)
	all := p.evidence.Exchanges
	for _, x := range played {
		all = append(all, x)
	}
	p.evidence.Exchanges = inOrder(p.forms, all)
	return nil
}

// lookForBackend asks for a page of the server itself where every tunnel ended
// in the words of a gateway that cannot reach what stands behind it. One that
// says the same of its own page is a reverse proxy whose server is down, and
// leads nowhere else.
func (p *port) lookForBackend(ctx context.Context, played map[string]verdict.Exchange) {
	if p.evidence.Door != door.Connect || p.pace.wait(ctx) != nil {
		return
	}
	var down []string
	for id, x := range played {
		switch {
		case x.Stage == verdict.AtProxy && x.Answer == verdict.Unreachable:
			down = append(down, id)
		case x.Answer == verdict.Granted:
			return // it reaches somebody
		}
	}
	if len(down) == 0 {
		return
	}
	status, err := probe.Connect{Proxy: p.proxy()}.Page(ctx)
	if err != nil {
		return
	}
	for _, id := range down {
		x := played[id]
		if strings.HasPrefix(x.Said, fmt.Sprintf("HTTP %d", status)) {
			x.Answer, x.Said = verdict.NoProxy, x.Said+", as to a request for its own page"
			played[id] = x
		}
	}
}

// mute counts the forms to which nothing was said at all.
func (p *port) mute(played map[string]verdict.Exchange) int {
	n := 0
	for _, x := range played {
		if x.Answer == "" && (x.Outcome == verdict.Silent || x.Outcome == verdict.Dropped) {
			n++
		}
	}
	return n
}

// askProxy plays one form: once more where the proxy hung up, which may be
// chance, and not at all where the same words have been refused to strangers
// whatever place they ask for.
func (p *port) askProxy(ctx context.Context, play probe.Play, played map[string]verdict.Exchange) verdict.Exchange {
	if x, ok := refusedBefore(play, played); ok {
		return x
	}
	var x verdict.Exchange
	for tries := 1; ; tries++ {
		if err := p.pace.wait(ctx); err != nil {
			return verdict.Exchange{Form: play.Form, Envelope: play.Envelope, Token: play.Token, Outcome: verdict.NotRun, Why: err.Error()}
		}
		via := p.proxy()
		via.Hasty = silentBefore(played)
		var err error
		if p.evidence.Door == door.SOCKS {
			x, err = probe.SOCKS{Proxy: via}.Play(ctx, play)
		} else {
			x, err = probe.Connect{Proxy: via}.Play(ctx, play)
		}
		x.Tries = tries
		if errors.Is(err, probe.ErrForeign) {
			x.Why = err.Error()
		}
		again := x.Outcome == verdict.Dropped && x.Stage != verdict.AtMessage || errors.Is(err, probe.ErrNotConnected)
		if !again || tries == 2 || ctx.Err() != nil {
			break
		}
	}
	return p.recognise(ctx, x)
}

// refusedBefore returns the answer to a form from that to two others with the
// same words, when it was one that does not depend on the place. SOCKS asks for
// a login before it hears of one; a web proxy may want it for some ports alone.
func refusedBefore(play probe.Play, played map[string]verdict.Exchange) (verdict.Exchange, bool) {
	if play.Form.Set == plan.Core {
		return verdict.Exchange{}, false
	}
	same := 0
	var before verdict.Exchange
	for _, x := range played {
		if x.Form.Move.Name != play.Form.Move.Name || x.Form.Set != plan.Core {
			continue
		}
		anywhere := play.Form.Door == door.SOCKS || play.Form.Move.Arg.Uses("p25")
		if x.Answer == verdict.NoProxy || x.Answer == verdict.WantsLogin && anywhere {
			same++
			before = x
		}
	}
	if same < 2 {
		return verdict.Exchange{}, false
	}
	return verdict.Exchange{
		Form: play.Form, Envelope: play.Envelope, Token: play.Token, Tries: 0, Stage: before.Stage, Outcome: verdict.Denied,
		Answer: before.Answer, Said: before.Said + ", as to every place", At: before.At, Transcript: before.Transcript,
	}, true
}

// silentBefore reports whether two forms waited in vain for what the next one
// will wait for: for the way to a place, or for a word in a tunnel. A network
// that drops what goes to port 25 does so whichever way it was asked, and a
// proxy that answers no request answers none to other places.
func silentBefore(played map[string]verdict.Exchange) bool {
	ways, tunnels := 0, 0
	for _, x := range played {
		switch {
		case x.Outcome != verdict.Silent:
		case x.Stage == verdict.AtProxy:
			ways++
		case x.Stage == verdict.AtBanner:
			tunnels++
		}
	}
	return ways >= 2 || tunnels >= 2
}

// recognise asks the collector whether the banner that came through is its own.
func (p *port) recognise(ctx context.Context, x verdict.Exchange) verdict.Exchange {
	f, ok := p.o.Collector.(Fronted)
	if x.Nonce != "" && ok {
		x.Ours, _ = f.Ours(ctx, plan.Banner{Domain: p.o.Collector.Domain(), Nonce: x.Nonce}.String())
	}
	if x.Form.Set == plan.Info && x.Outcome == verdict.Taken && x.Stage == verdict.AtBanner && !x.Ours {
		x.Outcome, x.Said = verdict.Denied, "a mail server greeted that is not the collector: "+strings.TrimSpace(fmt.Sprintf("%.60q", x.Reply.Text()))
	}
	return x
}

func (p *port) proxy() probe.Proxy {
	via := probe.Proxy{Dial: p.dial, Addr: p.addr, Helo: p.o.Helo, Timeout: p.o.Timeout, Name: p.sni}
	if p.wrapped {
		via.TLS = probe.Implicit
	}
	return via
}
