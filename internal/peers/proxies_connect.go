package peers

import (
	"postern/door"
	"postern/verdict"
)

// squidStart edits the file that Debian ships. Squid makes a table of as many descriptors as it
// may have, which on some machines are a million.
func squidStart(edit string) string {
	return `
sed -i ` + edit + ` /etc/squid/squid.conf
mkdir -m 1777 /dev/shm
chown -R proxy:proxy /var/log/squid /var/spool/squid
ulimit -n 1024
squid -N -d 1 -f /etc/squid/squid.conf &
`
}

// squidLogin lets in whoever logs in; squidUsers says who looks at the passwords.
const squidLogin = `-e 's/^http_access allow localhost$/http_access allow users/' `

func squidUsers(program string) map[string]string {
	return map[string]string{
		"etc/squid/conf.d/users.conf": "auth_param basic program /usr/lib/squid/" + program + "\nacl users proxy_auth REQUIRED\n",
		"etc/squid/users":             "anna:" + hashed + "\n",
	}
}

func tinyproxyStart(edit string) string {
	return `
sed -i -e '/^LogFile/d' ` + edit + ` /etc/tinyproxy/tinyproxy.conf
mkdir -p /run/tinyproxy
chown tinyproxy:tinyproxy /run/tinyproxy
tinyproxy -d -c /etc/tinyproxy/tinyproxy.conf &
`
}

// privoxyStart copies Debian's file to where its installer would, and lets it listen to the world.
func privoxyStart(actions string) string {
	return `
sed -e 's/^listen-address .*//' /usr/share/privoxy/config >/etc/privoxy/config
echo 'listen-address ` + Target4 + `:8118' >>/etc/privoxy/config
printf '` + actions + `' >>/etc/privoxy/user.action
mkdir -p /var/log/privoxy
chown -R privoxy:privoxy /var/log/privoxy 2>/dev/null || chown -R privoxy /var/log/privoxy
privoxy --no-daemon --user privoxy /etc/privoxy/config &
`
}

func apacheConf(rules string) map[string]string {
	const modules = "/usr/lib/apache2/modules/mod_"
	return map[string]string{"etc/apache2/own.conf": `
ServerRoot /etc/apache2
ServerName mx.victim.example
Listen ` + Target4 + `:80
PidFile /run/apache2.pid
ErrorLog /proc/self/fd/2
User www-data
Group www-data
LoadModule mpm_event_module ` + modules + `mpm_event.so
LoadModule authz_core_module ` + modules + `authz_core.so
LoadModule proxy_module ` + modules + `proxy.so
LoadModule proxy_http_module ` + modules + `proxy_http.so
LoadModule proxy_connect_module ` + modules + `proxy_connect.so
DocumentRoot /var/www
` + rules}
}

const apacheStart = "mkdir -p /var/www\n/usr/sbin/apache2 -f /etc/apache2/own.conf -DFOREGROUND &"

var connectPassages = []Passage{
	{
		Case: Case{
			Server: "squid", Config: "open", What: "http_access allow all, without Safe_ports and SSL_ports", Want: "open", Hole: "connect-ipv4 connect-name",
			setup: proxy("3128", squidStart(`-e '/^http_access deny/d' -e 's/^http_access allow localhost$/http_access allow all/'`), nil),
		},
		Door: door.Connect, Port: "3128", Kind: verdict.KindConnect, Egress: Target4, Software: "squid", Ask: tunnel25,
	},
	{
		Case: Case{
			Server: "squid", Config: "allow-all", What: "http_access allow all below Debian's rules for ports", Want: "closed",
			setup: proxy("3128", squidStart(`-e 's/^http_access allow localhost$/http_access allow all/'`), nil),
		},
		Door: door.Connect, Port: "3128", Elsewhere: true, Why: "other ports", Software: "squid", Ask: tunnel25, Owner: tunnel443,
	},
	{
		Case: Case{
			Server: "squid", Config: "closed", What: "as Debian ships it", Want: "closed",
			setup: proxy("3128", squidStart("-e ''"), nil),
		},
		Door: door.Connect, Port: "3128", Software: "squid", Ask: tunnel25,
	},
	{
		Case: Case{
			Server: "squid", Config: "any-login", What: "auth_param basic program basic_fake_auth, http_access allow everybody who logs in, without rules for ports", Want: "open", Hole: "connect-login",
			Flags: []string{"--try-logins"}, setup: proxy("3128", squidStart(squidLogin+`-e '/^http_access deny/d'`), squidUsers("basic_fake_auth")),
		},
		Door: door.Connect, Port: "3128", Kind: verdict.KindConnect, Egress: Target4, Software: "squid", Ask: Ask{How: "connect", User: "nobody-at-all", Port: "25"},
	},
	{
		Case: Case{
			Server: "squid", Config: "login", What: "the same with basic_ncsa_auth and a file of users", Want: "closed",
			Flags: []string{"--try-logins"}, setup: proxy("3128", squidStart(squidLogin+`-e '/^http_access deny/d'`), squidUsers("basic_ncsa_auth /etc/squid/users")),
		},
		Door: door.Connect, Port: "3128", Why: "login", Software: "squid", Ask: tunnel25, Owner: Ask{How: "connect", User: "anna", Port: "25"},
	},
	{
		Case: Case{
			Server: "tinyproxy", Config: "open", What: "no Allow, no ConnectPort", Want: "open", Hole: "connect-ipv4 connect-name",
			setup: proxy("8888", tinyproxyStart("-e '/^Allow/d'"), nil),
		},
		Door: door.Connect, Port: "8888", Kind: verdict.KindConnect, Egress: Target4, Software: "tinyproxy", Ask: tunnel25,
	},
	{
		Case: Case{
			Server: "tinyproxy", Config: "connect-port", What: "no Allow, ConnectPort 443: requests to port 25 are no tunnels, and pass", Want: "open", Hole: "post put",
			setup: proxy("8888", tinyproxyStart(`-e '/^Allow/d' -e '$aConnectPort 443'`), nil),
		},
		Door: door.Connect, Port: "8888", Kind: verdict.KindConnect, Egress: Target4, Software: "tinyproxy", Ask: post25,
	},
	{
		Case: Case{
			Server: "tinyproxy", Config: "login", What: "no Allow, no ConnectPort, BasicAuth", Want: "closed",
			setup: proxy("8888", tinyproxyStart("-e '/^Allow/d' -e '$aBasicAuth anna "+Password+"'"), nil),
		},
		Door: door.Connect, Port: "8888", Why: "login", Software: "tinyproxy", Ask: tunnel25, Owner: Ask{How: "connect", User: "anna", Port: "25"},
	},
	{
		Case: Case{
			Server: "tinyproxy", Config: "closed", What: "as Debian ships it: Allow 127.0.0.1", Want: "closed",
			setup: proxy("8888", tinyproxyStart(""), nil),
		},
		Door: door.Connect, Port: "8888", Software: "tinyproxy", Ask: tunnel25,
	},
	{
		Case: Case{
			Server: "privoxy", Config: "open", What: "listen-address of the world's side: its default is to limit nothing", Want: "open", Hole: "connect-ipv4 connect-name",
			setup: proxy("8118", privoxyStart(""), nil),
		},
		Door: door.Connect, Port: "8118", Kind: verdict.KindConnect, Egress: Target4, Software: "privoxy", Ask: tunnel25,
	},
	{
		Case: Case{
			Server: "privoxy", Config: "limit-connect", What: "+limit-connect{443}: requests to port 25 are no tunnels, and pass", Want: "open", Hole: "post put",
			setup: proxy("8118", privoxyStart(`{+limit-connect{443}}\n/\n`), nil),
		},
		Door: door.Connect, Port: "8118", Kind: verdict.KindConnect, Egress: Target4, Software: "privoxy", Ask: post25,
	},
	{
		Case: Case{
			Server: "apache", Config: "open", What: "ProxyRequests On, Require all granted, AllowCONNECT 25 443", Want: "open", Hole: "connect-ipv4 connect-name",
			setup: proxy("80", apacheStart, apacheConf("ProxyRequests On\nAllowCONNECT 25 443\n<Proxy *>\nRequire all granted\n</Proxy>\n")),
		},
		Door: door.Connect, Port: "80", Kind: verdict.KindConnect, Egress: Target4, Software: "apache", Ask: tunnel25,
	},
	{
		Case: Case{
			Server: "apache", Config: "requests", What: "ProxyRequests On, Require all granted: tunnels to 443 alone, requests to any port", Want: "open", Hole: "post put",
			setup: proxy("80", apacheStart, apacheConf("ProxyRequests On\n<Proxy *>\nRequire all granted\n</Proxy>\n")),
		},
		Door: door.Connect, Port: "80", Kind: verdict.KindConnect, Egress: Target4, Software: "apache", Ask: post25,
	},
	{
		Case: Case{
			Server: "apache", Config: "closed", What: "ProxyRequests On, Require ip 203.0.113.0/24", Want: "closed",
			setup: proxy("80", apacheStart, apacheConf("LoadModule authz_host_module /usr/lib/apache2/modules/mod_authz_host.so\nProxyRequests On\n<Proxy *>\nRequire ip 203.0.113.0/24\n</Proxy>\n")),
		},
		Door: door.Connect, Port: "80", Software: "apache", Ask: tunnel25,
	},
	{
		Case: Case{
			Server: "apache", Config: "web", What: "ProxyRequests Off: a web server", Want: "closed",
			setup: proxy("80", apacheStart, apacheConf("ProxyRequests Off\n")),
		},
		Door: door.Connect, Port: "80", Why: "web server", Software: "apache", Ask: tunnel25,
	},
}
