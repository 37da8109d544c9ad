package peers

import (
	"maps"
	"slices"
	"strings"

	"postern/door"
	"postern/verdict"
)

// Smarthost4 is where the port is passed on to: another machine's address, which in these worlds
// the target has as a second one. What comes from the target comes from Target4.
const Smarthost4 = "203.0.113.25"

// smarthost is a provider's Postfix that serves the domain; more differs between the cases.
func smarthost(more string) string {
	return override(postfixMain, "myhostname = smarthost.isp.example\nmydomain = isp.example\nmydestination = smarthost.isp.example, victim.example, localhost\n"+
		"inet_interfaces = "+Smarthost4+"\ninet_protocols = ipv4\nsmtp_bind_address = "+Smarthost4+"\n"+more)
}

const (
	trusting  = "mynetworks = " + Target4 + "/32" // the forwarder is its customer
	mistrusts = "mynetworks = 127.0.0.0/8"
)

// passedOn makes the set-up of a forwarder before a smarthost.
func passedOn(host, start string, files map[string]string) func() setup {
	all := map[string]string{"etc/postfix/main.cf": smarthost(host), "etc/postfix/master.cf": postfixMaster}
	maps.Copy(all, files)
	return proxy("25", "ip addr add "+Smarthost4+"/24 dev eth0\n"+strings.TrimSpace(postfixStart)+"\n"+start, all)
}

// forwarded makes the two cases of a forwarder: before a smarthost that trusts it, and before one
// that does not.
func forwarded(server, what, start string, files map[string]string) []Passage {
	return []Passage{
		{
			Case: Case{
				Server: server, Config: "open", What: what + ", to a smarthost that trusts this machine", Want: "open", Hole: "plain", Knock: plain,
				Flags: []string{"--quick"}, setup: passedOn(trusting, start, files),
			},
			Door: door.Forward, Port: "25", Kind: verdict.KindForward, Egress: Smarthost4,
		},
		{
			Case: Case{
				Server: server, Config: "closed", What: what + ", to a smarthost that does not", Want: "closed", Knock: plain,
				Flags: []string{"--quick"}, setup: passedOn(mistrusts, start, files),
			},
			Door: door.Forward, Port: "25",
		},
	}
}

func haproxyConf(server string) map[string]string {
	return map[string]string{"etc/haproxy/own.cfg": `
global
  maxconn 100
defaults
  mode tcp
  timeout connect 5s
  timeout client 1m
  timeout server 1m
listen smtp
  bind ` + Target4 + `:25
  server smarthost ` + Smarthost4 + ":25 " + server + "\n"}
}

const haproxyStart = "haproxy -db -f /etc/haproxy/own.cfg &"

var nginxConf = map[string]string{"etc/nginx/own.conf": `
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
daemon off;
user www-data;
pid /run/nginx.pid;
error_log stderr;
events { worker_connections 100; }
stream {
  server {
    listen ` + Target4 + `:25;
    proxy_pass ` + Smarthost4 + `:25;
  }
}
`}

// nginxMail is nginx's mail proxy: it speaks SMTP itself, up to RCPT, and asks a server of HTTP to
// which mail server it shall lead; here that is nginx too. It has a name of its own.
func nginxMail(backend, more string) map[string]string {
	return map[string]string{"etc/nginx/own.conf": `
load_module /usr/lib/nginx/modules/ngx_mail_module.so;
daemon off;
user www-data;
pid /run/nginx.pid;
error_log stderr;
events { worker_connections 100; }
http {
  access_log off;
  server {
    listen 127.0.0.1:8025;
    location / {
      add_header Auth-Status OK;
      add_header Auth-Server ` + backend + `;
      add_header Auth-Port 25;
      return 200;
    }
  }
}
mail {
  server_name mx.victim.example;
  auth_http 127.0.0.1:8025/;
  server {
    listen ` + Target4 + `:25;
    protocol smtp;
    smtp_auth none;
    ` + more + `
  }
}
`}
}

// mailProxies are nginx before a smarthost that trusts it, which sees its address or, by XCLIENT,
// the client's; and before this machine's own server.
func mailProxies() []Passage {
	const start = "nginx -c /etc/nginx/own.conf &"
	open := forwarded("nginx-mail", "protocol smtp, smtp_auth none, xclient off", start, nginxMail(Smarthost4, "xclient off;"))
	open[0].Lost = true
	own := Passage{
		Case: Case{
			Server: "nginx-mail", Config: "own-server", What: "the same, to this machine's own server, which trusts 127.0.0.1", Want: "open", Hole: "plain", Knock: plain,
			Flags: []string{"--quick"},
			setup: proxy("25", strings.TrimSpace(postfixStart)+"\n"+start, map[string]string{
				"etc/postfix/main.cf": override(postfixMain, "myhostname = backend.victim.example\ninet_interfaces = loopback-only\ninet_protocols = ipv4\nsmtp_bind_address = "+Target4), "etc/postfix/master.cf": postfixMaster,
				"etc/nginx/own.conf": nginxMail("127.0.0.1", "xclient off;")["etc/nginx/own.conf"],
			}),
		},
		Door: door.Forward, Port: "25", Kind: verdict.KindForward, Egress: Target4, Lost: true,
	}
	kept := Passage{
		Case: Case{
			Server: "nginx-mail", Config: "xclient", What: "xclient on, to a smarthost that trusts this machine and believes it", Want: "closed", Knock: plain,
			Flags: []string{"--quick"}, setup: passedOn(trusting+"\nsmtpd_authorized_xclient_hosts = "+Target4, start, nginxMail(Smarthost4, "xclient on;")),
		},
		Door: door.Forward, Port: "25",
	}
	return append(open, own, kept)
}

var rinetdConf = map[string]string{"etc/rinetd.conf": Target4 + " 25 " + Smarthost4 + " 25\n"}

// nftRules pass the port on. With masquerade the smarthost sees this machine; without it, the
// client. Both addresses are here on one machine, so what a router does in its postrouting chain
// happens in input.
func nftRules(masquerade string) map[string]string {
	return map[string]string{"etc/nftables.conf": `
table ip passed {
  chain prerouting {
    type nat hook prerouting priority dstnat
    ip daddr ` + Target4 + ` tcp dport 25 dnat to ` + Smarthost4 + `
  }
  chain input {
    type nat hook input priority 100
    ` + masquerade + `
  }
}
`}
}

var forwardPassages = slices.Concat(
	forwarded("haproxy", "mode tcp, bind :25", haproxyStart, haproxyConf("")),
	[]Passage{{
		Case: Case{
			Server: "haproxy", Config: "send-proxy", What: "send-proxy-v2, to a smarthost that trusts this machine and demands the header", Want: "closed", Knock: plain,
			Flags: []string{"--quick"}, setup: passedOn(trusting+"\nsmtpd_upstream_proxy_protocol = haproxy", haproxyStart, haproxyConf("send-proxy-v2")),
		},
		Door: door.Forward, Port: "25",
	}},
	forwarded("nginx", "stream, listen 25", "nginx -c /etc/nginx/own.conf &", nginxConf),
	mailProxies(),
	forwarded("socat", "TCP-LISTEN:25,fork", "socat TCP-LISTEN:25,bind="+Target4+",fork,reuseaddr TCP:"+Smarthost4+":25 &", nil),
	[]Passage{{
		Case: Case{
			Server: "socat", Config: "own-server", What: "TCP-LISTEN:25,fork, to this machine's own server, which trusts 127.0.0.1", Want: "open", Hole: "plain", Knock: plain,
			Flags: []string{"--quick"},
			setup: proxy("25", strings.TrimSpace(postfixStart)+"\nsocat TCP-LISTEN:25,bind="+Target4+",fork,reuseaddr TCP:127.0.0.1:25 &", map[string]string{
				"etc/postfix/main.cf": override(postfixMain, "inet_interfaces = loopback-only\ninet_protocols = ipv4\nsmtp_bind_address = "+Target4), "etc/postfix/master.cf": postfixMaster,
			}),
		},
		Door: door.Forward, Port: "25", Kind: verdict.KindSMTP, Egress: Target4, Lost: true,
	}},
	forwarded("rinetd", "a line for port 25", "rinetd -f -c /etc/rinetd.conf &", rinetdConf),
	forwarded("nftables", "dnat to, with masquerade", "nft -f /etc/nftables.conf", nftRules("ct status dnat snat to "+Target4)),
	[]Passage{{
		Case: Case{
			Server: "nftables", Config: "client-kept", What: "dnat to without masquerade, to a smarthost that trusts this machine", Want: "closed", Knock: plain,
			Flags: []string{"--quick"}, setup: passedOn(trusting, "nft -f /etc/nftables.conf", nftRules("")),
		},
		Door: door.Forward, Port: "25",
	}},
)
