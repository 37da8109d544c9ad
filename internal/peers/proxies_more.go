package peers

import (
	"slices"

	"postern/door"
	"postern/verdict"
)

// Programs that lead on and are no proxies by profession: a tool, the near end of a tunnel, a
// cache, a superserver. They answer in ways of their own.

// another makes a set-up of the packages with these.
func another(port, start string, files map[string]string) func() setup {
	return inAnother(proxy(port, start, files))
}

func inAnother(of func() setup) func() setup {
	return func() setup {
		s := of()
		s.root = "others"
		return s
	}
}

func ncatStart(login string) string {
	return "ncat --listen " + Target4 + " 3128 --keep-open --proxy-type http " + login + " &"
}

// shadowsocksStart makes both ends of the tunnel on one machine. The near end says yes before the
// far one has connected.
func shadowsocksStart(far string) string {
	const secret = " -s 127.0.0.1 -p 8388 -k " + Password + " -m aes-256-gcm "
	return "ss-server" + secret + far + " &\nss-local" + secret + "-b " + Target4 + " -l 1080 &"
}

// trafficStart lets the server forward whatever it is asked for, which its manual calls an open
// proxy. It wants its folders.
func trafficStart(edit string) string {
	return `
for d in /run /var/log /var/cache; do mkdir -p $d/trafficserver; chown proxy $d/trafficserver; done
sed -i -e 's/server_ports .*/server_ports STRING 8080/' -e 's/remap_required .*/remap_required INT 0/' \
	-e '$aCONFIG proxy.config.admin.user_id STRING proxy' ` + edit + ` /etc/trafficserver/records.config
traffic_server &
`
}

// v2rayConf blocks what goes to those ports.
func v2rayConf(protocol, port, blocked string) map[string]string {
	return map[string]string{"etc/v2ray/own.json": `{
	"inbounds": [{"listen": "` + Target4 + `", "port": ` + port + `, "protocol": "` + protocol + `", "settings": {}}],
	"outbounds": [{"protocol": "freedom"}, {"protocol": "blackhole", "tag": "nowhere"}],
	"routing": {"rules": [{"type": "field", "port": "` + blocked + `", "outboundTag": "nowhere"}]}
}`}
}

const v2rayStart = "v2ray -config /etc/v2ray/own.json &"

var xinetdConf = map[string]string{"etc/xinetd.own": `
service passed
{
	type = UNLISTED
	port = 25
	bind = ` + Target4 + `
	socket_type = stream
	protocol = tcp
	wait = no
	user = root
	redirect = ` + Smarthost4 + ` 25
}
`}

// forwardedBy are the two cases of a forwarder of those packages.
func forwardedBy(server, what, start string, files map[string]string) []Passage {
	both := forwarded(server, what, start, files)
	for i := range both {
		both[i].setup = inAnother(both[i].setup)
	}
	return both
}

var morePassages = slices.Concat([]Passage{
	{
		Case: Case{
			Server: "ncat", Config: "open", What: "--proxy-type http", Want: "open", Hole: "connect-ipv4 connect-name",
			setup: another("3128", ncatStart(""), nil),
		},
		Door: door.Connect, Port: "3128", Kind: verdict.KindConnect, Egress: Target4, Ask: tunnel25,
	},
	{
		Case: Case{
			Server: "ncat", Config: "login", What: "--proxy-type http, --proxy-auth", Want: "closed",
			setup: another("3128", ncatStart("--proxy-auth anna:"+Password), nil),
		},
		Door: door.Connect, Port: "3128", Why: "login", Ask: tunnel25, Owner: Ask{How: "connect", User: "anna", Port: "25"},
	},
	{
		Case: Case{
			Server: "shadowsocks", Config: "open", What: "ss-local on the world's side", Want: "open", Hole: "socks5-ipv4 socks5-name",
			setup: another("1080", shadowsocksStart(""), nil),
		},
		Door: door.SOCKS, Port: "1080", Kind: verdict.KindSOCKS, Egress: Target4, Ask: socks25,
	},
	{
		Case: Case{
			Server: "shadowsocks", Config: "not-to-us", What: "the same, with an acl at the far end: it says yes and hangs up, as if it could not reach the tester", Want: "inconclusive",
			setup: another("1080", shadowsocksStart("--acl /etc/own.acl"), map[string]string{"etc/own.acl": "[outbound_block_list]\n192.0.2.0/24\n"}),
		},
		Door: door.SOCKS, Port: "1080", Why: "said yes and hung up", Ask: socks25,
	},
	{
		Case: Case{
			Server: "trafficserver", Config: "open", What: "remap_required 0: tunnels to 443 alone, requests to any port", Want: "open", Hole: "post put",
			setup: another("8080", trafficStart(""), nil),
		},
		Door: door.Connect, Port: "8080", Kind: verdict.KindConnect, Egress: Target4, Software: "trafficserver", Ask: post25,
	},
	{
		Case: Case{
			Server: "trafficserver", Config: "closed", What: "remap_required 1, its default", Want: "closed",
			setup: another("8080", trafficStart(`-e 's/remap_required .*/remap_required INT 1/'`), nil),
		},
		Door: door.Connect, Port: "8080", Software: "trafficserver", Ask: tunnel25,
	},
	{
		Case: Case{
			Server: "v2ray", Config: "open", What: "socks on the world's side", Want: "open", Hole: "socks5-ipv4 socks5-name",
			setup: another("1080", v2rayStart, v2rayConf("socks", "1080", "1")),
		},
		Door: door.SOCKS, Port: "1080", Kind: verdict.KindSOCKS, Egress: Target4, Ask: socks25,
	},
	{
		Case: Case{
			Server: "v2ray", Config: "no-port-25", What: "http on the world's side, ports 25, 465 and 587 to blackhole: it says yes to them and hangs up", Want: "closed",
			setup: another("8080", v2rayStart, v2rayConf("http", "8080", "25,465,587")),
		},
		Door: door.Connect, Port: "8080", Elsewhere: true, Why: "other ports", Ask: tunnel25, Owner: tunnel443,
	},
},
	forwardedBy("xinetd", "redirect", "xinetd -dontfork -f /etc/xinetd.own &", xinetdConf),
	forwardedBy("pen", "a balancer with one server", "pen -f "+Target4+":25 "+Smarthost4+":25 &", nil),
	forwardedBy("redir", "its default", "redir -n "+Target4+":25 "+Smarthost4+":25 &", nil),
)
