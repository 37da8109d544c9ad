package peers

import (
	"strings"

	"postern/door"
	"postern/verdict"
)

// danteConf makes a danted.conf with those rules; the rest is what its manual begins with.
func danteConf(rules string) map[string]string {
	return map[string]string{"etc/danted.conf": `
logoutput: stderr
internal: ` + Target4 + ` port = 1080
external: ` + Target4 + `
clientmethod: none
socksmethod: none
user.privileged: root
user.unprivileged: nobody
` + rules}
}

const (
	danteStart = "/usr/sbin/danted -f /etc/danted.conf &"

	danteClients = "client pass { from: 0.0.0.0/0 to: 0.0.0.0/0 }\n"
	danteAll     = "socks pass { from: 0.0.0.0/0 to: 0.0.0.0/0 }\n"
)

// danteLogin asks for the password of a user of the machine.
func danteLogin() map[string]string {
	files := danteConf(danteClients + danteAll)
	files["etc/danted.conf"] = strings.Replace(files["etc/danted.conf"], "socksmethod: none", "socksmethod: username", 1)
	files["etc/shadow"] = "root:*:19000:0:99999:7:::\nanna:" + hashed + ":19000:0:99999:7:::\n"
	return files
}

// danteBoth leaves by the addresses of both families.
func danteBoth(rules string) map[string]string {
	files := danteConf(rules)
	files["etc/danted.conf"] = strings.Replace(files["etc/danted.conf"], "external: "+Target4, "external: "+Target4+"\nexternal: "+Target6, 1)
	return files
}

func danteBlock(port string) string {
	return "socks block { from: 0.0.0.0/0 to: 0.0.0.0/0 port = " + port + " }\n"
}

// sshStart makes the machine log in to itself, so that its clients leave by the far end of ssh,
// which is here the machine itself. sshd goes into the background before it listens.
func sshStart(server string) string {
	return `
mkdir -p /run/sshd /root/.ssh
chmod 700 /root/.ssh
ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/own
ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519
cp /root/.ssh/id_ed25519.pub /root/.ssh/authorized_keys
/usr/sbin/sshd -f /dev/null -o HostKey=/etc/ssh/own -o ListenAddress=127.0.0.1 ` + server + `
ssh -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o ConnectionAttempts=20 -N -D 0.0.0.0:1080 root@127.0.0.1 &
`
}

var socksPassages = []Passage{
	{
		Case: Case{
			Server: "microsocks", Config: "open", What: "no login: its default", Want: "open", Hole: "socks5-ipv4 socks5-name",
			setup: proxy("1080", "/usr/bin/microsocks -i 0.0.0.0 -p 1080 &", nil),
		},
		Door: door.SOCKS, Port: "1080", Kind: verdict.KindSOCKS, Egress: Target4, Ask: socks25,
	},
	{
		Case: Case{
			Server: "microsocks", Config: "login", What: "-u anna -P", Want: "closed",
			setup: proxy("1080", "/usr/bin/microsocks -i 0.0.0.0 -p 1080 -u anna -P "+Password+" &", nil),
		},
		Door: door.SOCKS, Port: "1080", Why: "login", Ask: socks25, Owner: Ask{How: "socks5", User: "anna", Port: "25"},
	},
	{
		Case: Case{
			Server: "dante", Config: "open", What: "socksmethod: none, socks pass from 0.0.0.0/0", Want: "open", Hole: "socks5-ipv4 socks5-name socks4",
			setup: proxy("1080", danteStart, danteConf(danteClients+danteAll)),
		},
		Door: door.SOCKS, Port: "1080", Kind: verdict.KindSOCKS, Egress: Target4, Ask: socks25,
	},
	{
		Case: Case{
			Server: "dante", Config: "from", What: "socks pass from 203.0.113.0/24", Want: "closed",
			setup: proxy("1080", danteStart, danteConf(danteClients+"socks pass { from: 203.0.113.0/24 to: 0.0.0.0/0 }\n")),
		},
		Door: door.SOCKS, Port: "1080", Ask: socks25,
	},
	{
		Case: Case{
			Server: "dante", Config: "client-from", What: "client pass from 203.0.113.0/24: it hangs up on others, and nothing shows what it is", Want: "not_tested",
			setup: proxy("1080", danteStart, danteConf("client pass { from: 203.0.113.0/24 to: 0.0.0.0/0 }\n"+danteAll)),
		},
		Door: door.SOCKS, Port: "1080", Why: "hangs up on our first word", Ask: socks25,
	},
	{
		Case: Case{
			Server: "dante", Config: "client-from-named", What: "the same, and its owner says that a proxy is there", Want: "inconclusive", Flags: []string{"--door", "socks"},
			setup: proxy("1080", danteStart, danteConf("client pass { from: 203.0.113.0/24 to: 0.0.0.0/0 }\n"+danteAll)),
		},
		Door: door.SOCKS, Port: "1080", Why: "hangs up on our first word", Ask: socks25,
	},
	{
		Case: Case{
			Server: "dante", Config: "login", What: "socksmethod: username", Want: "closed",
			setup: proxy("1080", danteStart, danteLogin()),
		},
		Door: door.SOCKS, Port: "1080", Why: "login", Ask: socks25, Owner: Ask{How: "socks5", User: "anna", Port: "25"},
	},
	{
		Case: Case{
			Server: "dante", Config: "no-port-25", What: "socks block to port 25, then socks pass: submission is left", Want: "closed",
			setup: proxy("1080", danteStart, danteConf(danteClients+danteBlock("25")+danteAll)),
		},
		Door: door.SOCKS, Port: "1080", Elsewhere: true, Why: "submission ports", Ask: socks25, Owner: Ask{How: "socks5", Port: "587"},
	},
	{
		Case: Case{
			Server: "dante", Config: "no-mail", What: "socks block to ports 25, 465 and 587, then socks pass", Want: "closed",
			setup: proxy("1080", danteStart, danteConf(danteClients+danteBlock("25")+danteBlock("465")+danteBlock("587")+danteAll)),
		},
		Door: door.SOCKS, Port: "1080", Elsewhere: true, Why: "other ports", Ask: socks25, Owner: socks443,
	},
	{
		Case: Case{
			Server: "dante", Config: "four-only", What: "socks block of mail to 0.0.0.0/0, then socks pass to 0/0: IPv6 is left", Want: "open", Hole: "socks5-ipv6",
			setup: proxy("1080", danteStart, danteBoth(danteClients+danteBlock("25")+danteBlock("465")+danteBlock("587")+"socks pass { from: 0/0 to: 0/0 }\n")),
		},
		Door: door.SOCKS, Port: "1080", Both: true, Kind: verdict.KindSOCKS, Egress: Target6, Ask: Ask{How: "socks5", Port: "25", Six: true},
	},
	{
		Case: Case{
			Server: "openssh", Config: "open", What: "ssh -D 0.0.0.0:1080", Want: "open", Hole: "socks5-ipv4 socks5-name socks4",
			setup: proxy("1080", sshStart(""), nil),
		},
		Door: door.SOCKS, Port: "1080", Kind: verdict.KindSOCKS, Egress: Target4, Ask: socks25,
	},
	{
		Case: Case{
			Server: "openssh", Config: "permit-open", What: "ssh -D 0.0.0.0:1080, at a server with PermitOpen *:443", Want: "closed",
			setup: proxy("1080", sshStart("-o PermitOpen='*:443'"), nil),
		},
		Door: door.SOCKS, Port: "1080", Elsewhere: true, Why: "other ports", Ask: socks25, Owner: socks443,
	},
}
