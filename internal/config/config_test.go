package config

import (
	"bytes"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postern/internal/meter"
	"postern/internal/problem"
	"postern/policy"
	"postern/serve"
)

var update = flag.Bool("update", false, "write what is generated anew")

// frame is what every file needs; %s stands for the tested part, in line 6.
const frame = `hostname = "mx.example.org"
listener "mx" { port = 25 }
listener "submissions" { port = 465 }
listener "trusted" { port = 2525 }

`

func TestProblems(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"syntax", `domain "a.example" {`, "f.hcl:6:20: Unclosed configuration block"},
		{"unknown block", `listner "x" { port = 1 }`, `f.hcl:6:1: unknown block "listner" in the file; did you mean "listener"?`},
		{"unknown word", `limits { mesage_size = "1MiB" }`, `f.hcl:6:10: unknown word "mesage_size" in limits; did you mean "message_size"?`},
		{"word without a block", `port = 25`, `f.hcl:6:1: unknown word "port" in the file; there are: hostname`},
		{"no label", `user { may_send_as = ["*"] }`, `f.hcl:6:1: block user needs a name; write user "anna" { ... }`},
		{"a label too much", `limits "x" { errors = 3 }`, "f.hcl:6:1: block limits takes no name"},
		{"twice", "tls { client_ca = [] }\ntls { client_ca = [] }", "f.hcl:7:1: block tls stands twice; join the two"},
		{"no role", `listener "foo" { port = 1 }`, `f.hcl:6:1: listener "foo" has no role; write role = "mx"`},
		{"a wrong role", "listener \"foo\" {\n  port = 1\n  role = \"mix\"\n}", `f.hcl:8:10: role: unknown value "mix"; did you mean "mx"?`},
		{"no port", `listener "submission" { addresses = ["127.0.0.1"] }`, `f.hcl:6:1: listener "submission" has no port; write port = 25`},
		{"a port that is none", `listener "submission" { port = 70000 }`, "f.hcl:6:32: port 70000 is no port"},
		{"one socket twice", `listener "submission" { port = 465 }`, `f.hcl:6:1: listener "submission" takes 0.0.0.0:465, which listener "submissions" of f.hcl:3:1 has already; give one of them another port`},
		{"the socket of a listener for the metrics", `metrics { address = "127.0.0.1:25" }`, `f.hcl:6:21: metrics takes 127.0.0.1:25, which listener "mx" of f.hcl:2:1 has already`},
		{"a listener of the metrics' name", `listener "metrics" {
  role = "mx"
  port = 2525
}`, `f.hcl:6:1: a listener or gateway cannot be called "metrics": the block metrics has a socket of that name`},
		{"one socket as a part of all", "listener \"submission\" {\n  port = 25\n  addresses = [\"2001:db8::7\"]\n}", `f.hcl:6:1: listener "submission" takes [2001:db8::7]:25, which listener "mx" of f.hcl:2:1 has already`},
		{"a listener without sockets", "listener \"submission\" {\n  port = 587\n  addresses = []\n}", `f.hcl:6:1: listener "submission" listens nowhere`},
		{"an address that is none", "listener \"submission\" {\n  port = 587\n  addresses = [\"127.0.0.1\", \"127.1\"]\n}", `f.hcl:8:29: addresses: "127.1" is no address; write 192.0.2.7`},
		{"PROXY from anybody", "listener \"submission\" {\n  port = 587\n  proxy_from = [\"0.0.0.0/0\"]\n}", "f.hcl:8:17: proxy_from 0.0.0.0/0 trusts everybody"},
		{"PROXY and trust", "listener \"t\" {\n  role = \"trusted\"\n  port = 1\n  proxy_from = [\"192.0.2.2\"]\n}", `f.hcl:6:1: listener "t" trusts clients by their address and takes that address from a PROXY header`},
		{"XCLIENT", "listener \"submission\" {\n  port = 587\n  xclient_from = [\"192.0.2.2\"]\n}", "f.hcl:8:3: xclient_from: Postern takes nobody's word for who the client is; let the balancer speak PROXY"},
		{"mynetworks", `mynetworks = ["10.0.0.0/8"]`, "f.hcl:6:1: mynetworks: a list of networks that may relay is how relays are opened by accident"},
		{"relay_domains", `relay_domains = ["far.example"]`, "f.hcl:6:1: relay_domains: a domain that is relayed for is a domain with a next hop"},
		{"permit_mx_backup", `permit_mx_backup = true`, "f.hcl:6:1: permit_mx_backup: who publishes our name as an MX must not decide what we relay"},
		{"a password", `user "anna" { password = "x" }`, "f.hcl:6:15: password: passwords do not belong in a file that others read; postern user passwd NAME"},
		{"a wildcard domain", `domain "*.example.org" { deliver = "hold" }`, `f.hcl:6:1: domain "*.example.org": a wildcard makes strangers' domains ours`},
		{"a top-level domain", "domain \"org\" {\n  recipients = []\n  deliver = \"hold\"\n}", `f.hcl:6:1: domain "org" is a top-level name`},
		{"a domain twice", "domain \"a.example\" {\n  recipients = []\n  deliver = \"hold\"\n}\ndomain \"A.Example\" {\n  recipients = []\n  deliver = \"hold\"\n}", `f.hcl:10:1: domain "A.Example" stands twice, first in f.hcl:6:1`},
		{"no place of mailboxes", `domain "a.example" { recipients = [] }`, `f.hcl:6:1: domain "a.example" does not say where its mailboxes are`},
		{"mailboxes unknown", `domain "a.example" { deliver = "hold" }`, `f.hcl:6:1: nobody can be asked which mailboxes "a.example" has`},
		{"a next hop that is none", `domain "a.example" { deliver = "dovecot" }`, `f.hcl:6:32: deliver: "dovecot" says no place; write "lmtp:unix:/path"`},
		{"a next hop in IPv6 without brackets", `domain "a.example" { deliver = "smtp:2001:db8::1:25" }`, `f.hcl:6:32: deliver: "2001:db8::1:25" is no host and port; write mail.example.org:25, 192.0.2.7:25 or [2001:db8::7]:25`},
		{"a next hop with a port that is none", `domain "a.example" { deliver = "smtp:mail:70000" }`, `f.hcl:6:32: deliver: "mail:70000" is no host and port`},
		{"a next hop without port", `domain "a.example" { deliver = "smtp:mail" }`, `f.hcl:6:32: deliver: "mail" is no host and port`},
		{"a mailbox that is a route", "domain \"a.example\" {\n  recipients = [\"a%b\"]\n  deliver = \"hold\"\n}", `f.hcl:6:1: mailbox "a%b" of a.example: other servers read such a name as a route`},
		{"a mailbox elsewhere", "domain \"a.example\" {\n  recipients = [\"x\", \"b@c.example\"]\n  deliver = \"hold\"\n}", `f.hcl:7:22: recipient "b@c.example" is not of a.example`},
		{"a wildcard mailbox", "domain \"a.example\" {\n  recipients = [\"*\"]\n  deliver = \"hold\"\n}", `f.hcl:7:17: recipient "*": there are no wildcards`},
		{"a missing file", "domain \"a.example\" {\n  recipients = file(\"gone\")\n  deliver = \"hold\"\n}", "f.hcl:7:16: file gone: open"},
		{"catch-all outside", "domain \"a.example\" {\n  recipients = []\n  catch_all = \"b@far.example\"\n  deliver = \"hold\"\n}", "f.hcl:6:1: catch_all of a.example points to b@far.example, outside"},
		{"an alias outside in strangers' names", "domain \"a.example\" {\n  recipients = []\n  deliver = \"hold\"\n  alias \"x\" { to = [\"b@far.example\"] }\n}", "f.hcl:9:3: alias x@a.example forwards to b@far.example, which is not ours, in the name of strangers"},
		{"an alias in a circle", "domain \"a.example\" {\n  recipients = []\n  deliver = \"hold\"\n  alias \"x\" { to = [\"y@a.example\"] }\n  alias \"y\" { to = [\"x@a.example\"] }\n}", "f.hcl:9:3: alias x@a.example leads back to itself: x@a.example -> y@a.example -> x@a.example; break the circle"},
		{"a subaddress that is none", "domain \"a.example\" {\n  recipients = []\n  subaddress = \"++\"\n  deliver = \"hold\"\n}", `f.hcl:8:16: subaddress "++" is no separator`},
		{"a sender that is none", `user "anna" { may_send_as = ["*@example.org", "anna"] }`, `f.hcl:6:47: may_send_as "anna"`},
		{"a user twice", "user \"anna\" { may_send_as = [] }\nuser \"Anna\" { may_send_as = [] }", `f.hcl:7:1: user "anna" stands twice, first in f.hcl:6:1`},
		{"a user that is none", `user "an\nna" { may_send_as = [] }`, `f.hcl:6:1: user "an\nna" is no name`},
		{"a client twice", "trusted_client \"x\" { address = \"10.1.2.40\" }\ntrusted_client \"x\" { address = \"10.1.2.41\" }", `f.hcl:7:1: trusted_client "x" stands twice, first in f.hcl:6:1`},
		{"a client named as a user", "trusted_client \"Anna\" { address = \"10.1.2.40\" }\nuser \"anna\" { may_send_as = [] }", `f.hcl:6:1: trusted_client "Anna" has the name of a user, in f.hcl:7:1`},
		{"everybody trusted", "trusted_client \"x\" {\n  address = \"0.0.0.0/0\"\n}", "f.hcl:7:13: trusted_client 0.0.0.0/0 trusts everybody; name single hosts instead"},
		{"every IPv6 client trusted", "trusted_client \"x\" {\n  addresses = [\"10.1.2.40\", \"::/0\"]\n}", "f.hcl:7:29: trusted_client ::/0 trusts everybody"},
		{"a trusted client without address", `trusted_client "x" { may_send_as = ["a@b.example"] }`, `f.hcl:6:1: trusted_client "x" has no address`},
		{"a network that is none", `trusted_client "x" { address = "10.1.2" }`, `f.hcl:6:32: trusted_client: "10.1.2" is no address and no network`},
		{"a rate that is none", `limits { per_user = "1000" }`, `f.hcl:6:21: per_user: "1000" is no rate; write it as 50/h`},
		{"a size that is none", `limits { message_size = "25MB" }`, `f.hcl:6:25: message_size: "25MB" is no size; write it as 25MiB`},
		{"a time that is none", `audit { every = "daily" }`, `f.hcl:6:17: every: "daily" is no time`},
		{"a login in clear", "route \"default\" {\n  via = \"smarthost\"\n  host = \"smtp.provider.example:587\"\n  login = \"f.hcl\"\n  tls = \"may\"\n}", `f.hcl:10:9: tls = "may" would show the login to whoever listens`},
		{"a login for everybody's MX", "route \"default\" {\n  via = \"mx\"\n  login = \"f.hcl\"\n}", "f.hcl:8:11: login is for a smarthost: nobody else's server is told a password"},
		{"a route twice", "route \"far.example\" { via = \"mx\" }\nroute \"FAR.example\" { via = \"hold\" }", `f.hcl:7:1: route "FAR.example" stands twice, first in f.hcl:6:1`},
		{"a password of a smarthost", `route "default" { password = "x" }`, `f.hcl:6:19: password: passwords do not belong in a file that others read; write login = "provider.login"`},
		{"a smarthost without host", `route "default" { via = "smarthost" }`, `f.hcl:6:1: route "default" names no smarthost`},
		{"audits without end", `audit { every = "1ns" }`, "f.hcl:6:17: every: 1ns between two audits leaves no time for mail; write 1m or more"},
		{"a number out of all proportion", `limits { errors = 1e99999999 }`, "f.hcl:6:19: errors is a number out of all proportion"},
		{"no number, and not missing", `metrics { address = null }`, "f.hcl:6:21: address is no text"},
		{"a word of Postfix", `smtpd_client_restrictions = "permit"`, "f.hcl:6:1: smtpd_client_restrictions is a word of Postfix"},
		{"a word of the plan", `audit { alert = "postmaster@example.org" }`, "f.hcl:6:9: alert is not built yet"},
		{"half a certificate", `tls { certificate = "f.hcl" }`, "f.hcl:6:1: tls needs a certificate and its key"},
		{"what is not built", `storage { engine = "postgres" }`, `f.hcl:6:20: engine "postgres" is not built yet`},
		{"a price without currency", `traffic { price_per_gib = "0.09" }`, `f.hcl:6:27: price_per_gib: "0.09" is no price; write a number and a currency, as "0.09 EUR"`},
		{"a price that would move a terminal", "traffic {\n  price_per_gib = \"1 \\u001b[2J\"\n}", `f.hcl:7:19: price_per_gib: "1 \x1b[2J" is no price`},
		{"a price of nothing", `traffic { price_per_gib = "-1 EUR" }`, `f.hcl:6:27: price_per_gib: "-1 EUR" is no price`},
		{"a budget without end", `traffic { budget = "100GiB" }`, `f.hcl:6:20: budget: "100GiB" is no size a day or month; write it as 100GiB/month, or 5GiB/day`},
		{"a budget of a week", `traffic { budget_per_user = "1GiB/week" }`, `f.hcl:6:29: budget_per_user: "1GiB/week" is no size a day or month`},
		{"a share that is none", `traffic { soft = "120%" }`, `f.hcl:6:18: soft: "120%" is no share; write it as 80%, from 1% to 100%`},
		{"a share without its sign", `traffic { soft = "80" }`, `f.hcl:6:18: soft: "80" is no share`},
		{"breakouts a day", `traffic { breakout = "50/d" }`, `f.hcl:6:22: breakout: "50/d" is no rate an hour; write it as 50/h, or off`},
		{"a gateway to every mail server", "gateway \"socks\" {\n  port = 1080\n  login = true\n  tls = true\n  to = [\"*:25\"]\n}", `f.hcl:10:9: gateway "socks" leads to port 25 of every host: whoever gets one password has an open relay; name the mail servers`},
		{"a gateway for nobody", "gateway \"connect\" {\n  port = 8080\n  to = [\"a.example:443\"]\n}", `f.hcl:6:1: gateway "connect" would be for nobody, and one for everybody there is not`},
		{"a gateway to nowhere", "gateway \"connect\" {\n  port = 8080\n  login = true\n  tls = true\n}", `f.hcl:6:1: gateway "connect" leads nowhere`},
		{"a gateway that speaks nothing", "gateway \"out\" {\n  port = 8080\n  login = true\n  tls = true\n  to = [\"a.example:443\"]\n}", `f.hcl:6:1: gateway "out" does not say what it speaks`},
		{"passwords in clear", "gateway \"socks\" {\n  port = 1080\n  login = true\n  to = [\"a.example:443\"]\n}", `f.hcl:6:1: gateway "socks" takes passwords that everybody on the way can read; write tls = true`},
		{"a limit that is none", "gateway \"socks\" {\n  port = 1080\n  login = true\n  tls = true\n  to = [\"a.example:443\"]\n  tunnels_per_user = 0\n}", `f.hcl:11:22: tunnels_per_user: "0" is no number from 1; write a number, as 100`},
		{"a place without port", "gateway \"socks\" {\n  port = 1080\n  login = true\n  tls = true\n  to = [\"a.example\"]\n}", `f.hcl:10:9: to: "a.example" is no host and port`},
		{"a port that is taken", "gateway \"socks\" {\n  port = 25\n  login = true\n  tls = true\n  to = [\"a.example:443\"]\n}", `f.hcl:6:1: listener "socks" takes 0.0.0.0:25, which listener "mx"`},
		{"a proxy of no kind", "route \"default\" {\n  via = \"mx\"\n  proxy = \"ftp://10.0.0.1:21\"\n}", `f.hcl:8:11: proxy "ftp://10.0.0.1:21" is of no kind that we speak`},
		{"a source that is none", "route \"default\" {\n  via = \"mx\"\n  source = [\"here\"]\n}", `f.hcl:8:13: source: "here" is no address`},
		{"interpolation", `user "${x}" { may_send_as = [] }`, "f.hcl:6:7: Invalid string literal"},
		{"a function that is none", "limits {\n  errors = max(1)\n}", `f.hcl:7:12: unknown function max; there are file("name") and env("NAME")`},
		{"an environment without it", "metrics {\n  address = env(\"POSTERN_TEST_NOT_SET\")\n}", "f.hcl:7:13: the environment has no POSTERN_TEST_NOT_SET"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			if err := os.WriteFile("f.hcl", []byte(frame+c.text+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Load("f.hcl")
			if err == nil {
				t.Fatalf("%s\nloads; want %q", c.text, c.want)
			}
			for _, p := range problem.All(err) {
				if strings.HasPrefix(p.Error(), c.want) {
					return
				}
			}
			t.Errorf("%s\ngot  %v\nwant %s", c.text, err, c.want)
		})
	}
}

func TestAllProblemsInOneRun(t *testing.T) {
	_, err := Read("f.hcl", []byte("hostname = \"mx\"\nlistener \"a\" { port = 0 }\ndomain \"*\" {}\nlimits { errors = \"x\" }\n"))
	if n := len(problem.All(err)); n != 4 {
		t.Errorf("%d problems, want 4:\n%v", n, err)
	}
	if _, err := Load(filepath.Join(t.TempDir(), "none.hcl")); err == nil || !strings.Contains(err.Error(), "postern init writes one") {
		t.Errorf("a file that is not there: %v", err)
	}
}

// A list that an editor of Windows wrote has a byte order mark at its head and
// CRLF at the ends of its lines; its first entry is like the others.
func TestListsOfWindows(t *testing.T) {
	t.Chdir(t.TempDir())
	for name, text := range map[string]string{
		"names": "\xef\xbb\xbfanna\r\nben\r\n", "addresses": "\xef\xbb\xbfanna@example.org\r\nben@example.org", "networks": "\xef\xbb\xbf10.1.2.40\r\n",
		"wide": "\xff\xfea\x00", "joined": "anna\n\xef\xbb\xbfben\n",
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := Read("f.hcl", []byte(frame+`
domain "example.org" {
  recipients = file("names")
  deliver    = "hold"
  alias "sales" { to = file("addresses") }
}
user "anna" { may_send_as = file("addresses") }
trusted_client "scanner" {
  address     = file("networks")
  may_send_as = file("addresses")
}
`))
	if err != nil {
		t.Fatal(err)
	}
	org := s.Policy.Domains[0]
	got := fmt.Sprint(org.Mailboxes, org.Aliases[0].To, s.Policy.Users[0].MaySendAs, s.Policy.Trusted[0].Networks[0].Prefix, s.Policy.Trusted[0].MaySendAs)
	if want := "[anna ben] [anna@example.org ben@example.org]"; !strings.HasPrefix(got, want) || strings.Contains(got, "\ufeff") {
		t.Errorf("got %q, want %q and so on", got, want)
	}
	for name, want := range map[string]string{"wide": "f.hcl:7:16: file wide: read wide: its text is UTF-16; save it as UTF-8", "joined": "mailbox \"\\ufeffben\""} {
		if _, err := Read("f.hcl", []byte(frame+"domain \"a.example\" {\n  recipients = file(\""+name+"\")\n  deliver = \"hold\"\n}")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}

func TestWhatIsRead(t *testing.T) {
	t.Chdir(t.TempDir())
	t.Setenv("POSTERN_TEST_METRICS", "127.0.0.1:9125")
	if err := os.WriteFile("recipients", []byte("# ours\nanna\nben # two\n\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Read("f.hcl", []byte(frame+`
domain "example.org" {
  recipients = file("recipients")
  deliver    = "lmtp:unix:/run/dovecot/lmtp"
  subaddress = "+"
  alias "sales" { to = ["anna@example.org", "ben@example.org"] }
}
domain "example.net" { deliver = "smtp:mail.example.net:25" }
user "anna" {
  may_send_as = ["anna@example.org"]
  limit       = "10/h"
}
trusted_client "scanner" {
  address     = "10.1.2.40"
  may_send_as = ["scanner@example.org"]
}
route "default" { via = "mx" }
limits {
  message_size   = "5MiB"
  per_user_bytes = "1GiB/d"
}
metrics { address = env("POSTERN_TEST_METRICS") }
log { format = "json" }
traffic {
  price_per_gib   = "0.09 €"
  budget          = "100GiB/month"
  budget_per_user = "5GiB/day"
  soft            = "75%"
  breakout        = "200/h"
}
`))
	if err != nil {
		t.Fatal(err)
	}
	org, net := s.Policy.Domains[0], s.Policy.Domains[1]
	if strings.Join(org.Mailboxes, ",") != "anna,ben" || org.Asked || !net.Asked || org.At.String() != "f.hcl:7:1" {
		t.Errorf("domains = %+v, %+v", org, net)
	}
	if h := s.Hops["example.org"]; !h.LMTP || h.Network != "unix" || h.Address != "/run/dovecot/lmtp" {
		t.Errorf("next hop = %+v", h)
	}
	if s.Engine.MessageSize != 5<<20 || s.Guard.PerUserBytes.N != 1<<30 || s.Guard.Clients["anna"].N != 10 || !s.Log.JSON || s.Metrics != netip.MustParseAddrPort("127.0.0.1:9125") {
		t.Errorf("settings = %+v", s)
	}
	if want := (serve.Traffic{
		Price: 0.09, Currency: "€", Soft: 0.75, Floor: meter.Habit{Messages: 200, Recipients: 400},
		All: serve.Budget{Octets: 100 << 30, Per: meter.Monthly, Text: "100GiB/month"}, Each: serve.Budget{Octets: 5 << 30, Per: meter.Daily, Text: "5GiB/day"},
	}); s.Traffic != want {
		t.Errorf("traffic = %+v", s.Traffic)
	}
	if at := s.Policy.Users[0].MaySendAs[0].At.String(); at != "f.hcl:15:18" {
		t.Errorf("may_send_as stands at %s", at)
	}
	p, err := policy.Compile(s.Policy)
	if fatal, _ := problem.Split(err); fatal != nil || !p.Prove().Closed() {
		t.Errorf("%v", err)
	}
	again, err := Read("f.hcl", []byte(frame))
	if err != nil || again.Policy.Hash == s.Policy.Hash {
		t.Errorf("two configurations have one name: %s (%v)", s.Policy.Hash, err)
	}
}

func TestEveryDraftLoads(t *testing.T) {
	for _, domain := range []string{"", "example.org"} {
		for _, deliver := range []string{"hold", "lmtp:unix:/run/lmtp", "smtp:mail.example.org:25"} {
			for _, smarthost := range []string{"", "smtp.provider.example:465"} {
				for _, user := range []string{"", "anna"} {
					d := Draft{
						Hostname: "mx.example.org", Domain: domain, Deliver: deliver, Recipients: []string{"postmaster"}, Smarthost: smarthost,
						User: user, MaySendAs: []string{"anna@example.org"}, State: "/var/lib/postern", Program: "/usr/bin/postern", Config: "/etc/postern/postern.hcl",
					}
					files, err := d.Files()
					if err != nil || d.Check() != nil {
						t.Fatal(err, d.Check())
					}
					if _, err := Read("postern.hcl", files["postern.hcl"]); err != nil {
						t.Errorf("%+v: %v\n%s", d, err, files["postern.hcl"])
					}
				}
			}
		}
	}
}

// The store keeps names in small letters; one user must not become two.
func TestAUserIsOneInAnyCase(t *testing.T) {
	s, err := Read("f.hcl", []byte(frame+"user \"Anna\" {\n  may_send_as = [\"anna@example.org\"]\n  limit = \"5/h\"\n}\n"))
	if err != nil || s.Policy.Users[0].Name != "anna" || s.Guard.Clients["anna"].N != 5 {
		t.Errorf("users = %+v, limits = %v (%v)", s.Policy.Users, s.Guard.Clients, err)
	}
}

func TestADomainIsOneInAnyLabels(t *testing.T) {
	s, err := Read("f.hcl", []byte(frame+"domain \"bücher.example\" {\n  recipients = [\"anna@xn--bcher-kva.example\"]\n  deliver = \"hold\"\n}\n"))
	if err != nil || s.Policy.Domains[0].Mailboxes[0] != "anna" {
		t.Errorf("%+v (%v)", s.Policy.Domains, err)
	}
}

func TestDraftInOtherLanguages(t *testing.T) {
	d := Draft{Hostname: "mx.bücher.example", Domain: "bücher.example", Deliver: "hold", State: "/srv/100% mail", Program: "/usr/bin/postern", Config: `/srv/a "b"/postern.hcl`}
	files, err := d.Files()
	if err != nil || d.Check() != nil {
		t.Fatal(err, d.Check())
	}
	for name, want := range map[string]string{
		"dns.txt":         "xn--bcher-kva.example.  IN MX     10 mx.xn--bcher-kva.example.\n",
		"postern.service": `ExecStart=/usr/bin/postern serve --config "/srv/a \"b\"/postern.hcl"` + "\n",
		"postern.hcl":     `state    = "/srv/100% mail"` + "\n",
	} {
		if !strings.Contains(string(files[name]), want) {
			t.Errorf("%s has no line %q:\n%s", name, want, files[name])
		}
	}
	if want := `ReadWritePaths="/srv/100%% mail"`; !strings.Contains(string(files["postern.service"]), want) {
		t.Errorf("the unit has no line %q", want)
	}
	for _, bad := range []Draft{{Hostname: d.Hostname, User: "an\nna"}, {Hostname: d.Hostname, State: "/srv/$x"}, {Hostname: "mx"}, {Hostname: d.Hostname, Key: "key.pem"}} {
		if bad.Check() == nil {
			t.Errorf("%+v will do", bad)
		}
	}
}

func TestReferenceIsFresh(t *testing.T) {
	const page = "../../docs/configuration.md"
	var b bytes.Buffer
	if err := WriteReference(&b); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(page, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if have, err := os.ReadFile(page); err != nil || !bytes.Equal(have, b.Bytes()) {
		t.Errorf("docs/configuration.md is stale (%v); write it anew with: go test ./internal/config -update", err)
	}
}

// Whatever the bytes, there is no panic, and every problem has its place in
// the file.
func FuzzRead(f *testing.F) {
	f.Add(frame)
	f.Add(frame + `domain "a.example" { recipients = ["a"] }` + "\n" + `user "anna" { may_send_as = ["*@a.example", "<>"] }`)
	f.Add("hostname = \"mx.example.org\"\nlimits { per_user = \"5/h\" }\ntrusted_client \"x\" { address = \"10.0.0.0/8\" }")
	f.Add(frame + "limits { errors = 1e99999999 }")
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "file") || strings.Contains(text, "login") || strings.Contains(text, "tls") {
			return // no other files are read here
		}
		_, err := Read("f.hcl", []byte(text))
		for _, p := range problem.All(err) {
			if p.At.File != "f.hcl" || p.At.Line < 1 || p.At.Line > strings.Count(text, "\n")+1 {
				t.Errorf("%q: %v stands outside of the file", text, p)
			}
		}
	})
}

// Who is asked for a mailbox need not be who gets the mail.
func TestAskIsNotDeliver(t *testing.T) {
	s, err := Read("f.hcl", []byte(frame+"domain \"a.example\" {\n  ask     = \"smtp:directory.example:25\"\n  deliver = \"lmtp:unix:/run/lmtp\"\n}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if h := s.Hops["a.example"]; h.Address != "/run/lmtp" || h.Ask == nil || h.Ask.Address != "directory.example:25" {
		t.Errorf("next hop %+v, asked %+v", h, h.Ask)
	}
}
