package lab

import (
	"context"
	"net"
	"net/netip"

	"postern/door"
	"postern/forward"
	"postern/open"
	"postern/verdict"
)

// Who is who: the client is at 127.0.0.1, and nothing else in the lab shares
// an address with anything that it must be told from.
var (
	socksHost, socksEgress   = local(11), local(12)
	secondHost, secondEgress = local(13), local(14)
	webHost, webEgress       = local(21), local(22)
	ispHost, ispEgress       = local(31), local(32) // a forwarder, and its provider's smarthost
	natHost, natGateway      = local(41), local(42)
	natRelay                 = local(43)
)

func local(n byte) netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 0, n}) }

func socksGate(s open.SOCKS, from netip.Addr) func(World) (Gateway, error) {
	return func(w World) (Gateway, error) {
		s.Dial = w.way(from)
		return s, nil
	}
}

func webGate(s open.Connect, from netip.Addr) func(World) (Gateway, error) {
	return func(w World) (Gateway, error) {
		s.Dial = w.way(from)
		return s, nil
	}
}

func openProxies() []Specimen {
	list := []Specimen{
		{Name: "socks4", What: "SOCKS 4 and 4a for anybody", Form: "socks4", Gate: socksGate(open.SOCKS{Version: 4}, socksEgress)},
		{Name: "socks5", What: "SOCKS 5 for anybody", Form: "socks5-ipv4", Gate: socksGate(open.SOCKS{Version: 5}, socksEgress)},
		{Name: "socks5-any-login", What: "SOCKS 5 that takes any user and password", Form: "socks5-login", Flags: "--try-logins", Gate: socksGate(open.SOCKS{AnyLogin: true}, socksEgress)},
		{Name: "socks5-guessable", What: "SOCKS 5 that takes admin with the password admin", Form: "socks5-guess", Flags: "--try-logins", Gate: socksGate(open.SOCKS{Users: map[string]string{"admin": "admin"}}, socksEgress)},
		{Name: "socks5-chain", What: "SOCKS 5 that leads on through a second proxy", Form: "socks5-ipv4", Egress: secondEgress, Gate: func(w World) (Gateway, error) {
			second, err := w.behind(secondHost, open.SOCKS{Dial: w.way(secondEgress)})
			return open.SOCKS{Dial: through(socksEgress, second)}, err
		}},
		{Name: "connect", What: "CONNECT for anybody, to any port", Door: door.Connect, Form: "connect-ipv4", Gate: webGate(open.Connect{}, webEgress)},
		{Name: "connect-h2", What: "CONNECT over HTTP/1 for nobody, over HTTP/2 for anybody", Door: door.Connect, Form: "connect-h2", Gate: webGate(open.Connect{Streams: true}, webEgress)},
		{Name: "connect-tls", What: "CONNECT for anybody, inside TLS", Door: door.Connect, Form: "connect-ipv4", TLS: true, Gate: webGate(open.Connect{}, webEgress)},
		{Name: "connect-any-login", What: "CONNECT that takes any user and password", Door: door.Connect, Form: "connect-login", Flags: "--try-logins", Gate: webGate(open.Connect{AnyLogin: true}, webEgress)},
		{Name: "connect-guessable", What: "CONNECT that takes test with the password test", Door: door.Connect, Form: "connect-guess", Flags: "--try-logins", Gate: webGate(open.Connect{Users: map[string]string{"test": "test"}}, webEgress)},
		{Name: "post", What: "no tunnels, but POST to any port", Door: door.Connect, Form: "post", Gate: webGate(open.Connect{Absolute: true, Only: true}, webEgress)},
	}
	for i := range list {
		s := &list[i]
		s.Want = verdict.Open
		if s.Door == door.Connect {
			s.Kind, s.Host = verdict.KindConnect, webHost
		} else {
			s.Door, s.Kind, s.Host = door.SOCKS, verdict.KindSOCKS, socksHost
		}
		switch {
		case s.Egress.IsValid():
		case s.Door == door.SOCKS:
			s.Egress = socksEgress
		default:
			s.Egress = webEgress
		}
	}
	return list
}

func proxyDecoys() []Specimen {
	list := []Specimen{
		{Name: "connect-web-only", What: "CONNECT for anybody, to port 443 alone", Door: door.Connect, Want: verdict.Closed, Gate: func(w World) (Gateway, error) {
			ports := []uint16{443}
			if p, ok := w.Ports[443]; ok {
				ports = append(ports, p)
			}
			return open.Connect{Dial: w.way(webEgress), Ports: ports}, nil
		}},
		{Name: "socks-nowhere", What: "says yes to everything, and connects nowhere", Door: door.SOCKS, Want: verdict.Inconclusive, Gate: func(World) (Gateway, error) {
			return open.SOCKS{Dial: nowhere}, nil
		}},
		{Name: "connect-nowhere", What: "says 200 to everything, and connects nowhere", Door: door.Connect, Want: verdict.Inconclusive, Gate: func(World) (Gateway, error) {
			return open.Connect{Dial: nowhere}, nil
		}},
		{Name: "socks-itself", What: "leads everybody to a mail server of its own, which takes all and sends nothing", Door: door.SOCKS, Want: verdict.Accepts, Gate: func(w World) (Gateway, error) {
			trap, err := w.behind(socksHost, open.SMTP{Name: "mx." + Domain.String(), Rule: discard, Sink: w.sink("mx."+Domain.String(), socksEgress)})
			return open.SOCKS{Dial: toItself(trap)}, err
		}},
		{Name: "connect-itself", What: "leads everybody to a mail server of its own, which is closed", Door: door.Connect, Want: verdict.Closed, Gate: func(w World) (Gateway, error) {
			own, err := w.behind(webHost, open.SMTP{Name: "mx." + Domain.String(), Rule: closed, Sink: w.sink("mx."+Domain.String(), webEgress)})
			return open.Connect{Dial: toItself(own)}, err
		}},
		{Name: "login-page", What: "answers everything with 200 and a page to log in", Door: door.Connect, Want: verdict.Closed, Gate: func(World) (Gateway, error) {
			return page("<html><title>Log in</title><form method=post><input name=room></form></html>"), nil
		}},
		{Name: "socks-no-banner", What: "leads on, and loses what the far server says first", Door: door.SOCKS, Want: verdict.Inconclusive, Gate: func(w World) (Gateway, error) {
			return open.SOCKS{Dial: mutilated(w.way(socksEgress))}, nil
		}},
	}
	for i := range list {
		if list[i].Host = webHost; list[i].Door == door.SOCKS {
			list[i].Host = socksHost
		}
	}
	return list
}

// forwardedPorts are ports behind which somebody else's server stands.
func forwardedPorts() []Specimen {
	fromHost := func(host netip.Addr) open.Rule {
		return when(func(a open.Asked) bool { return a.Client.Addr == host })
	}
	return []Specimen{
		{Name: "forwarded", What: "port 25 passed on to a provider's smarthost, which trusts its customer", Want: verdict.Open, Form: "plain", Door: door.Forward, Kind: verdict.KindForward, Host: ispHost, Egress: ispEgress, Gate: func(w World) (Gateway, error) {
			return w.passedOn(ispHost, ispEgress, ispEgress, open.SMTP{Name: "smarthost.isp.example", Rule: fromHost(ispHost)}, forward.NoHeader)
		}},
		{Name: "nat", What: "a mail server behind address translation, which takes the gateway for its own network", Want: verdict.Open, Form: "plain", Door: door.Forward, Kind: verdict.KindSMTP, Host: natHost, Egress: natHost, Gate: func(w World) (Gateway, error) {
			return w.passedOn(natGateway, natRelay, natHost, open.SMTP{Name: "mx." + Domain.String(), Rule: fromHost(natGateway)}, forward.NoHeader)
		}},
		{Name: "mail-proxy", What: "a mail proxy that greets by itself, and hides its clients from the server behind it", Want: verdict.Open, Form: "plain", Door: door.Forward, Kind: verdict.KindForward, Host: natHost, Egress: natHost, Gate: func(w World) (Gateway, error) {
			server := open.SMTP{Name: "backend." + Domain.String(), Rule: fromHost(natGateway), Sink: w.sink("backend."+Domain.String(), natHost)}
			place, err := w.behind(natRelay, server)
			return open.Forward{Dial: greeting("mx."+Domain.String(), onward(natGateway, place))}, err
		}},
		{Name: "forwarded-proxy", What: "the same port passed on with a PROXY header, so that the smarthost knows the client", Want: verdict.Closed, Door: door.Forward, Host: ispHost, Gate: func(w World) (Gateway, error) {
			return w.passedOn(ispHost, ispEgress, ispEgress, open.SMTP{Name: "smarthost.isp.example", Rule: fromHost(ispHost), Proxied: true}, forward.HeaderV2)
		}},
		{Name: "nat-closed", What: "a closed mail server behind address translation", Want: verdict.Closed, Door: door.Forward, Host: natHost, Gate: func(w World) (Gateway, error) {
			return w.passedOn(natGateway, natRelay, natHost, open.SMTP{Name: "mx." + Domain.String(), Rule: closed}, forward.NoHeader)
		}},
	}
}

// passedOn puts a mail server at an address and returns the port that leads to
// it: the server sees its clients come from one address, and its own mail
// leaves by another.
func (w World) passedOn(from, at, egress netip.Addr, server open.SMTP, h forward.Header) (Gateway, error) {
	server.Sink = w.sink(server.Name, egress)
	place, err := w.behind(at, server)
	return open.Forward{Dial: onward(from, place), Header: h}, err
}

// toItself leads everybody to one place, whatever was asked for.
func toItself(place netip.AddrPort) open.Dial {
	return func(ctx context.Context, _ forward.Address) (net.Conn, error) { return dial(ctx, netip.Addr{}, place) }
}
