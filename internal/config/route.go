package config

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"postern/internal/problem"
	"postern/internal/state"
	"postern/mail"
	"postern/serve"
)

var routeBlock = block{
	name: "route", label: "default", many: true, says: "how mail for a domain, and those below it, leaves; default is for all others",
	words: []word{
		{"via", "mx, smarthost, hold", "", "the domain's MX, another server, or not yet"},
		{"host", "text", "", "the smarthost as host:port"},
		{"hosts", "list", "", "several smarthosts, any of which may be used"},
		{"login", "text", "", "a file with user and password on two lines"},
		{"tls", "none, may, require, verify", "may; verify with a login", "how far the connection is protected"},
		{"source", "list", "as the machine likes", "the addresses of this machine that connections come from; of several of a family, any"},
		{"helo", "text", "hostname", "our name in EHLO; it should be that of the source's PTR record"},
		{"proxy", "text", "", "what they go through where there is no other way out: socks5://host:port or http://host:port"},
		{"proxy_login", "text", "", "a file with the proxy's user and password on two lines"},
		{"connections", "number", "20", "at once, to one destination"},
	},
	read: func(r *reader, s section) {
		route := serve.Route{Domain: s.label, At: s.at, TLS: "may"}
		if s.label != "default" {
			d, err := mail.ParseDomain(s.label)
			if err != nil {
				r.stop(s.at, fmt.Sprintf("route %q: %v", s.label, err), `name a domain, or "default"`)
				return
			}
			route.Domain = d.ASCII()
		}
		for _, other := range r.settings.Routes {
			if other.Domain == route.Domain {
				r.stop(s.at, fmt.Sprintf("route %q stands twice, first in %s", s.label, other.At), "join the two")
				return
			}
		}
		via := ""
		s.one("via", []string{"mx", "smarthost", "hold"}, func(word string) { via = word })
		hosts := s.texts("hosts")
		if v, ok := s.text("host"); ok {
			hosts = append(hosts, v)
		}
		given := len(hosts) > 0
		switch {
		case via == "" && s.body.Attributes["via"] == nil:
			r.stop(s.at, fmt.Sprintf("route %q does not say how", s.label), `write via = "mx", "smarthost" or "hold"`)
		case via == "smarthost" && !given:
			r.stop(s.at, fmt.Sprintf("route %q names no smarthost", s.label), `write host = "smtp.provider.example:465"`)
		case via == "smarthost":
			for _, v := range hosts {
				if host, ok := r.hostPort(v, v.text, "host"); ok {
					route.Smarthosts = append(route.Smarthosts, host)
				}
			}
		case given:
			r.stop(hosts[0].at, "host is for smarthosts", `write via = "smarthost"`)
		}
		route.Hold = via == "hold"
		if v, ok := s.text("login"); ok && via != "smarthost" {
			r.stop(v.at, "login is for a smarthost: nobody else's server is told a password", `leave it out, or write via = "smarthost"`)
		} else if ok {
			route.Login, route.TLS = r.secret(v), "verify"
		}
		s.one("tls", []string{"none", "may", "require", "verify"}, func(word string) {
			if v, _ := s.text("tls"); route.Login != "" && word != "verify" {
				r.stop(v.at, fmt.Sprintf("tls = %q would show the login to whoever listens", word), `write tls = "verify"`)
			}
			route.TLS = word
		})
		for _, v := range s.texts("source") {
			a, err := netip.ParseAddr(v.text)
			if err != nil || a.IsUnspecified() {
				r.stop(v.at, fmt.Sprintf("source: %q is no address", v.text), "name an address of this machine, as 192.0.2.7")
				continue
			}
			route.Source = append(route.Source, a.Unmap())
		}
		if v, ok := s.text("helo"); ok {
			d, err := mail.ParseDomain(v.text)
			if err != nil {
				r.stop(v.at, fmt.Sprintf("helo: %v", err), "name a host, as out.example.org")
			}
			route.Helo = d.ASCII()
		}
		if v, ok := s.text("proxy"); ok {
			kind, host, _ := strings.Cut(v.text, "://")
			if kind != "socks5" && kind != "http" {
				r.stop(v.at, fmt.Sprintf("proxy %q is of no kind that we speak", v.text), `write "socks5://10.0.0.1:1080" or "http://10.0.0.1:3128"`)
			} else if _, ok := r.hostPort(v, host, "proxy"); ok {
				route.Proxy = v.text
			}
		}
		if v, ok := s.text("proxy_login"); ok {
			route.ProxyLogin = r.secret(v)
		}
		s.number("connections", func(n int) { route.Connections = n })
		r.settings.Routes = append(r.settings.Routes, route)
	},
}

// beside returns the path of a file that is looked for beside the
// configuration, and refuses one that cannot be read.
func (r *reader) beside(v value) string {
	path := v.text
	if !filepath.IsAbs(path) {
		path = filepath.Join(filepath.Dir(r.path), path)
	}
	r.settings.Files = append(r.settings.Files, path)
	f, err := os.Open(path)
	if err != nil {
		r.stop(v.at, fmt.Sprintf("%s: %v", v.text, err), "name a file that this user can read; it is looked for beside the configuration")
		return path
	}
	_ = f.Close() // only its being there was asked
	return path
}

// secret is beside, for a file that holds a secret: others may not write it, and
// should not read it.
func (r *reader) secret(v value) string {
	path := r.beside(v)
	r.settings.Secrets = append(r.settings.Secrets, serve.Secret{File: path, At: v.at})
	if stops, _ := problem.Split(state.Secret(path, v.at)); stops != nil {
		r.problems = append(r.problems, stops)
	}
	return path
}

var tlsBlock = block{
	name: "tls", says: "the host's certificate; without it, one is made that nobody vouches for",
	words: []word{
		{"certificate", "text", "", "a PEM file with the chain, the host's first"},
		{"key", "text", "", "a PEM file with its key"},
		{"client_ca", "list", "", "PEM files of authorities: their certificates let users log in that allow it"},
	},
	read: func(r *reader, s section) {
		certificate, one := s.text("certificate")
		key, two := s.text("key")
		if one != two {
			r.stop(s.at, "tls needs a certificate and its key", `write certificate = "cert.pem" and key = "key.pem"`)
		}
		if one && two {
			r.settings.TLS = serve.Certificate{File: r.beside(certificate), Key: r.secret(key), At: certificate.at}
		}
		for _, v := range s.texts("client_ca") {
			r.settings.ClientCAs = append(r.settings.ClientCAs, r.beside(v))
		}
	},
}
