package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"postern/internal/machine"
)

const (
	debianMain = `# as Debian installs it
compatibility_level = 3.6
myhostname = mx.victim.example
mydomain = victim.example
mydestination = $myhostname, $mydomain, localhost
mynetworks = 127.0.0.0/8 [::ffff:127.0.0.0]/104 [::1]/128
smtpd_relay_restrictions = permit_mynetworks permit_sasl_authenticated defer_unauth_destination
`
	debianMaster = "smtp inet n - y - - smtpd\nsmtp unix - - y - - smtp\n"
)

// own is the machine of the tests: a public address, a bridge of containers.
var own = []machine.Interface{
	{Name: "lo", Prefix: netip.MustParsePrefix("127.0.0.1/8")},
	{Name: "eth0", Prefix: netip.MustParsePrefix("203.0.113.10/20")},
	{Name: "docker0", Prefix: netip.MustParsePrefix("172.17.0.1/16"), Bridge: true},
}

// judge reads main.cf (its first lines are Debian's), master.cf (smtpd on port
// 25 if empty) and more files.
func judge(t *testing.T, main, master string, more map[string]string) []Finding {
	t.Helper()
	if master == "" {
		master = debianMaster
	}
	set := map[string]string{"/etc/postfix/main.cf": debianMain + main, "/etc/postfix/master.cf": master}
	for name, text := range more {
		set[name] = text
	}
	found, err := Postfix(t.Context(), Foreign{Dir: "/etc/postfix", Hostname: "mx.victim.example", Own: own, Read: files(set)})
	if err != nil {
		t.Fatal(err)
	}
	if last := found[len(found)-1]; last.Check != "verdict" {
		t.Errorf("the last finding is %q, want the verdict", last.What)
	}
	return found[:len(found)-1]
}

// Line 8 of main.cf is the first line of each case. A case names a form that
// must be found at that place; "-" is a problem that no form plays, "none" no
// finding at all, "note" and "warning" such a finding.
func TestPostfix(t *testing.T) {
	const main, master = "/etc/postfix/main.cf", "/etc/postfix/master.cf"
	relay := func(first string) string {
		return "smtpd_relay_restrictions = " + first + ", reject_unauth_destination\n"
	}
	for _, c := range []struct {
		name, main, master string
		more               map[string]string
		form, at, says     string
	}{
		{name: "as Debian installs it", form: "none"},
		{name: "as Debian installs it, with content filter and submission", form: "none", master: debianMaster +
			"127.0.0.1:10025 inet n - n - - smtpd\n  -o mynetworks=127.0.0.0/8\n  -o smtpd_recipient_restrictions=permit_mynetworks,reject\n" +
			"submission inet n - y - - smtpd\n  -o syslog_name=postfix/submission\n  -o smtpd_tls_security_level=encrypt\n  -o smtpd_sasl_auth_enable=yes\n" +
			"  -o smtpd_relay_restrictions=permit_sasl_authenticated,reject\n"},

		{name: "everybody is trusted", main: "mynetworks = 0.0.0.0/0\n", form: "plain", at: main + ":8"},
		{name: "everybody is trusted, on the third line", main: "mynetworks =\n  127.0.0.0/8,\n# a comment\n  0.0.0.0/0\n", form: "plain", at: main + ":11"},
		{name: "everybody is trusted, through a name", main: "office = 0.0.0.0/0\nmynetworks = 127.0.0.0/8 $office\n", form: "plain", at: main + ":8"},
		{name: "everybody is trusted, through a file", main: "mynetworks = /etc/postfix/nets\n", more: map[string]string{"/etc/postfix/nets": "127.0.0.0/8\n0.0.0.0/0\n"}, form: "plain", at: "/etc/postfix/nets:2"},
		{name: "everybody is trusted, through a table", main: "mynetworks = cidr:/etc/postfix/nets\n", more: map[string]string{"/etc/postfix/nets": "0.0.0.0/1 OK\n128.0.0.0/1 OK\n"}, form: "plain", at: "/etc/postfix/nets:2"},
		{name: "half of everybody", main: "mynetworks = 128.0.0.0/1\n", form: "plain", at: main + ":8"},
		{name: "all but one network", main: "mynetworks = !192.0.2.0/24 0.0.0.0/0\n", form: "plain", at: main + ":8"},
		{name: "everybody is refused first", main: "mynetworks = !0.0.0.0/0 0.0.0.0/0\n", form: "none"},
		{name: "one public network", main: "mynetworks = 192.0.2.0/24\n", form: "none"},
		{name: "IPv6 only", main: "mynetworks = 127.0.0.0/8 [::]/0\n", form: "plain", at: main + ":8"},
		{name: "IPv6 is trusted and not spoken", main: "mynetworks = 127.0.0.0/8 [::]/0\ninet_protocols = ipv4\n", form: "none"},
		{name: "everybody is trusted, on loopback only", main: "mynetworks = 0.0.0.0/0\ninet_interfaces = loopback-only\n", form: "warning", at: main + ":8", says: "this machine only"},
		{name: "the provider's network by style", main: "mynetworks =\nmynetworks_style = subnet\n", form: "none"}, // an empty list is a list
		{name: "a whole private range", main: "mynetworks = 172.16.0.0/12\n", form: "warning", at: main + ":8"},
		{name: "one port only", master: debianMaster + "2525 inet n - y - - smtpd -o { mynetworks = 127.0.0.0/8 0.0.0.0/0 }\n", form: "plain", at: master + ":3", says: "postconf -P '2525/inet/mynetworks=127.0.0.0/8'"},
		{name: "one port overrides main.cf and is closed", main: "mynetworks = 0.0.0.0/0\n", master: "25 inet n - y - - smtpd\n -o mynetworks=127.0.0.0/8\n", form: "none"},

		{name: "own domain as sender", main: relay("check_sender_access hash:/etc/postfix/senders"), more: map[string]string{"/etc/postfix/senders": "# ours\nspam.example REJECT\nvictim.example   OK\n"}, form: "local-sender", at: "/etc/postfix/senders:3", says: main + ":8"},
		{name: "a partner's domain as sender", main: relay("check_sender_access texthash:senders"), more: map[string]string{"/etc/postfix/senders": "partner.example RELAY\n"}, form: "-", at: "/etc/postfix/senders:1"},
		{name: "own domain as sender, after the refusal", main: "smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination, check_sender_access inline:{victim.example=OK}\n", form: "none"},
		{name: "own domain as sender, where it cannot permit", main: "smtpd_sender_restrictions = check_sender_access inline:{victim.example=OK}\n", form: "none"},
		{name: "own domain as sender is refused", main: relay("check_sender_access inline:{{victim.example = REJECT not from outside}}"), form: "none"},
		{name: "a class that permits", main: "smtpd_restriction_classes = insiders\ninsiders = check_sender_access inline:{victim.example=OK}\n" + relay("insiders"), form: "local-sender", at: main + ":9"},
		{name: "a table that answers with a class", main: "smtpd_restriction_classes = insiders\ninsiders = permit\n" + relay("check_sender_access inline:{victim.example=insiders}"), form: "local-sender", at: main + ":10"},
		{name: "warned of only, where it refuses; it permits all the same", main: relay("warn_if_reject check_sender_access inline:{victim.example=OK}"), form: "local-sender", at: main + ":8"},
		{name: "recipient rules in front of a closed relay list", main: "smtpd_recipient_restrictions = check_sender_access inline:{victim.example=OK}, reject_unauth_destination\n", form: "none"},
		{name: "own name in HELO", main: relay("check_helo_access inline:{mx.victim.example=OK}"), form: "helo-host", at: main + ":8"},
		{name: "a PTR record that is not confirmed", main: relay("check_reverse_client_hostname_access inline:{partner.example=OK}"), form: "warning", at: main + ":8", says: "Postfix does not take"},
		{name: "a PTR record that is confirmed", main: relay("check_client_access inline:{partner.example=OK}"), form: "none"},
		{name: "a wide network of clients", main: relay("check_client_access cidr:/etc/postfix/clients"), more: map[string]string{"/etc/postfix/clients": "192.0.2.1/32 OK\n198.0.0.0/8 OK\n"}, form: "plain", at: "/etc/postfix/clients:2"},
		{name: "one client", main: relay("check_client_access inline:{192.0.2.1=OK}"), form: "none"},
		{name: "every recipient", main: relay("check_recipient_access static:OK"), form: "plain", at: main + ":8"},
		{name: "own recipients, with a way on", main: relay("check_recipient_access inline:{victim.example=OK}"), form: "none"},
		{name: "backup for whoever asks", main: relay("permit_mx_backup"), form: "backup-mx", at: main + ":8"},
		{name: "backup for one network", main: relay("permit_mx_backup") + "permit_mx_backup_networks = 192.0.2.0/24\n", form: "none"},
		{name: "permit is the last word", main: "smtpd_relay_restrictions = permit_mynetworks, permit\nsmtpd_recipient_restrictions =\n", form: "warning", at: main + ":8", says: "serves nobody"},
		{name: "certificates of everybody", main: relay("permit_tls_all_clientcerts") + "smtpd_tls_security_level = may\nsmtpd_tls_ask_ccert = yes\n", form: "starttls-cert", at: main + ":8"},
		{name: "certificates that nobody is asked for", main: relay("permit_tls_all_clientcerts") + "smtpd_tls_security_level = may\n", form: "none"},
		{name: "fingerprints of everybody", main: relay("permit_tls_clientcerts") + "relay_clientcerts = static:all\nsmtpd_tls_security_level = may\nsmtpd_tls_ask_ccert = yes\n", form: "starttls-cert", at: main + ":9"},
		{name: "a bare address in HELO", main: relay("permit_naked_ip_address"), form: "-", at: main + ":8"},
		{name: "rules of before 2.10", main: "compatibility_level = 0\nsmtpd_relay_restrictions =\nsmtpd_recipient_restrictions = permit_mynetworks, reject_unauth_destination\n", form: "none"},
		{name: "no rule at all", main: "smtpd_relay_restrictions =\n", form: "warning", at: main + ":8", says: "serves nobody"},

		{name: "routes for a partner", main: "allow_untrusted_routing = yes\nrelay_domains = partner.example\n", form: "relaydom-pct", at: main + ":8"},
		{name: "a partner without routes", main: "relay_domains = partner.example\n", form: "none"},
		{name: "every domain is ours", main: "relay_domains = static:ALL\n", form: "plain", at: main + ":8"},
		{name: "XCLIENT from everybody", main: "smtpd_authorized_xclient_hosts = 0.0.0.0/0\n", form: "xclient", at: main + ":8"},
		{name: "XCLIENT from one proxy", main: "smtpd_authorized_xclient_hosts = 192.0.2.7\n", form: "none"},
		{name: "XFORWARD from everybody", main: "smtpd_authorized_xforward_hosts = static:all\n", form: "warning", at: main + ":8"},
		{name: "PROXY from everybody", main: "smtpd_upstream_proxy_protocol = haproxy\n", form: "proxy-v1", at: main + ":8"},
		{name: "PROXY before postscreen", main: "postscreen_upstream_proxy_protocol = haproxy\n", master: "smtp inet n - y - 1 postscreen\nsmtpd pass - - y - - smtpd\n", form: "proxy-v2", at: main + ":8"},
		{name: "PROXY, and nobody is trusted", main: "smtpd_upstream_proxy_protocol = haproxy\nsmtpd_relay_restrictions = permit_sasl_authenticated, reject_unauth_destination\n", form: "none"},
		{name: "postscreen hands on to a service that trusts all", master: "smtp inet n - y - 1 postscreen\nsmtpd pass - - y - - smtpd\n  -o mynetworks=0.0.0.0/0\n", form: "plain", at: master + ":3"},

		{name: "bare line feeds", main: "smtpd_forbid_bare_newline = no\n", form: "warning", at: main + ":8"},
		{name: "logins in the clear", main: "smtpd_sasl_auth_enable = yes\n", form: "warning", at: main},
		{name: "logins of nobody", main: "smtpd_sasl_auth_enable = yes\nsmtpd_tls_auth_only = yes\nsmtpd_sasl_security_options =\n", form: "-", at: main + ":10"},
		{name: "a catch-all", main: "virtual_alias_maps = inline:{@victim.example=anna}\n", form: "note", at: main + ":8"},

		{name: "a policy server", main: relay("check_policy_service unix:private/policy"), form: "note", at: main + ":8", says: "not decided: a policy service"},
		{name: "a policy server after the refusal", main: "smtpd_recipient_restrictions = check_policy_service unix:private/policy\n", form: "none"},
		{name: "senders in a directory", main: relay("check_sender_access ldap:senders"), form: "note", at: main + ":8", says: "tables of type ldap"},
		{name: "senders in a file that is gone", main: relay("check_sender_access hash:/etc/postfix/gone"), form: "note", at: main + ":8", says: "cannot be read"},
		{name: "trusted networks in a directory", main: "mynetworks = ldap:nets\n", form: "note", at: main + ":7", says: "not decided: ldap:nets"},
		{name: "XCLIENT from a directory", main: "smtpd_authorized_xclient_hosts = ldap:nets\n", form: "note", at: main + ":8", says: "not decided: who may say with XCLIENT"},
		{name: "a policy server at both ends", main: "smtpd_client_restrictions = check_policy_service inet:a:1\n" + relay("check_policy_service inet:b:2"), form: "note", at: main + ":9", says: "inet:b:2"},
		{name: "domains in a database", main: "virtual_mailbox_domains = mysql:/etc/postfix/domains.cf\n", form: "note", at: main + ":8", says: "not decided: which domains are yours"},
		{name: "yes in capitals", main: "relay_domains = partner.example\nallow_untrusted_routing = YES\n", form: "relaydom-pct", at: main + ":9"},
		{name: "logins in the clear, in capitals", main: "smtpd_sasl_auth_enable = Yes\n", form: "warning", at: main},
		{name: "a level in capitals", main: relay("permit_tls_all_clientcerts") + "smtpd_tls_security_level = May\nsmtpd_tls_ask_ccert = Yes\n", form: "starttls-cert", at: main + ":8"},
		{name: "bare line feeds, in capitals", main: "smtpd_forbid_bare_newline = No\n", form: "warning", at: main + ":8"},
		{name: "neither yes nor no", main: "relay_domains = partner.example\nallow_untrusted_routing = true\n", form: "warning", at: main + ":9", says: "serves nobody"},
		{name: "a whole top-level domain", main: "myhostname = victim.com\nmydomain = com\nrelay_domains = $mydomain\n", form: "-", at: main + ":9"},
		{name: "a whole top-level domain, as nobody wrote it", main: "myhostname = victim.com\nfree = ${mydomain:}\nrelay_domains = co.uk\n", form: "-", at: main + ":10", says: "every name under co.uk"},
		{name: "names under a top-level domain, where parents are not asked", main: "relay_domains = com\nparent_domain_matches_subdomains =\n", form: "none"},
		{name: "a provider's domain", main: "relay_domains = gmail.com\n", form: "-", at: main + ":8", says: "mailbox"},
		{name: "a name at home", main: "relay_domains = lan\n", form: "none"},
		{name: "role accounts everywhere", main: relay("check_recipient_access hash:/etc/postfix/roles"), more: map[string]string{"/etc/postfix/roles": "# roles\npostmaster@ OK\nabuse@ OK\n"}, form: "-", at: "/etc/postfix/roles:2"},
		{name: "role accounts everywhere, by an expression", main: relay("check_recipient_access pcre:/etc/postfix/roles"), more: map[string]string{"/etc/postfix/roles": "/^postmaster@/ OK\n"}, form: "-", at: "/etc/postfix/roles:1"},
		{name: "an expression that ends where a stranger goes on", main: relay("check_recipient_access regexp:{{/@partner[.]example/ OK}}"), form: "-", at: main + ":8"},
		{name: "an expression that begins where a stranger began", main: relay("check_recipient_access regexp:{{/partner[.]example$$/ OK}}"), form: "-", at: main + ":8"},
		{name: "an expression with both ends", main: relay("check_recipient_access regexp:{{/@partner[.]example$$/ OK}}"), form: "none"},
		{name: "an expression whose dollar sign is not doubled", main: relay("check_recipient_access regexp:{{/@partner[.]example$/ OK}}"), form: "warning", at: main + ":8", says: "$$"},
		{name: "a code without a text is OK", main: relay("check_recipient_access inline:{{com = 550}}"), form: "-", at: main + ":8"},
		{name: "a code with a text", main: relay("check_recipient_access inline:{{com = 550 no}}"), form: "none"},
		{name: "an answer that is no word", main: relay("check_sender_access inline:{{victim.example = okay}}"), form: "warning", at: main + ":8", says: "451"},
		{name: "an argument that takes the word that refuses", main: "smtpd_relay_restrictions = permit_dnswl_client, reject_unauth_destination\n", form: "plain", at: main + ":8"},
		{name: "strangers with a name of their own", main: "mynetworks = 0.0.0.0/0\nsmtpd_client_restrictions = check_client_access inline:{{unknown = REJECT}}\n", form: "-", at: main + ":8"},
		{name: "a table in the line", main: relay("check_client_access cidr:{{0.0.0.0/0 OK}}"), form: "plain", at: main + ":8"},
		{name: "a table in the line, of networks that nobody is in", main: "mynetworks = cidr:{{127.0.0.0/8 OK} {!0.0.0.0/0 OK}}\n", form: "none"},
		{name: "a table of tables", main: relay("check_recipient_access unionmap:{inline:{a=DUNNO}, inline:{com=OK}}"), form: "-", at: main + ":8"},
		{name: "bits behind the length", main: "mynetworks = 127.0.0.1/8\n", form: "warning", at: main + ":8", says: "Postfix wants 127.0.0.0/8"},
		{name: "bits behind the length, in a table", main: "mynetworks = cidr:/etc/postfix/nets\n", more: map[string]string{"/etc/postfix/nets": "192.168.1.1/24 OK\n"}, form: "warning", at: "/etc/postfix/nets:1", says: "passes over"},
		{name: "bits behind the length, after everybody", main: "mynetworks = 0.0.0.0/0 127.0.0.1/8\n", form: "plain", at: main + ":8"},
		{name: "an IPv6 address without brackets", main: "mynetworks = 127.0.0.0/8 ::1\n", form: "warning", at: main + ":8", says: "serves nobody"},
		{name: "what stands behind a comment", main: "mynetworks = 127.0.0.0/8 # 0.0.0.0/0\n", form: "none"},
		{name: "all, which is a host's name", main: "mynetworks = all\n", form: "none"},
		{name: "a network that is left out, and not alone", main: "mynetworks = !198.18.0.0/15 0.0.0.0/0\n", form: "plain", at: main + ":8"},
		{name: "-o of smtpd closes nothing that is told elsewhere", main: "relay_domains = static:all\n", master: "smtp inet n - y - - smtpd -o relay_domains=\n", form: "plain", at: main + ":8"},
		{name: "-o of smtpd opens nothing that is told elsewhere", master: "smtp inet n - y - - smtpd -o relay_domains=static:all\n", form: "none"},
		{name: "-o of the service that tells it", master: "smtp inet n - y - - smtpd -o rewrite_service_name=rw2\nrw2 unix - - y - - trivial-rewrite -o relay_domains=static:all\n", form: "plain", at: master + ":2"},
		{name: "-o of inet_interfaces opens no port", main: "mynetworks = 0.0.0.0/0\n", master: "smtp inet n - y - - smtpd -o inet_interfaces=loopback-only\n", form: "plain", at: main + ":8"},
		{name: "a service that is switched off", main: "mynetworks = 0.0.0.0/0\nmaster_service_disable = smtp.inet\n", form: "none"},
		{name: "a transport that returns all mail", main: "mynetworks = 0.0.0.0/0\ndefault_transport = error:outside mail is not sent from here\n", form: "none"},
		{name: "mail for every domain ends here", main: "mydestination = static:all\n", form: "warning", at: main + ":8", says: "ends here"},
		{name: "a line that is none", main: "mynetworks 0.0.0.0/0\n", form: "warning", at: main + ":8"},
	} {
		t.Run(c.name, func(t *testing.T) {
			found := judge(t, c.main, c.master, c.more)
			if c.form == "none" {
				if len(found) > 0 {
					t.Errorf("found what is not there: %s", inWords(found))
				}
				return
			}
			level := map[string]Level{"note": Note, "warning": Warning}[c.form]
			for _, f := range found {
				hit := f.Level == Problem && (c.form == "-" || slices.Contains(f.Forms, c.form))
				if (level != OK && f.Level == level || level == OK && hit) && f.At.String() == c.at && strings.Contains(f.What+f.Do, c.says) {
					if level != OK && Worst(found) > level {
						t.Errorf("found more than the %s: %s", c.form, inWords(found))
					}
					return
				}
			}
			t.Errorf("want %q at %s saying %q, found: %s", c.form, c.at, c.says, inWords(found))
		})
	}
}

func inWords(found []Finding) string {
	var b strings.Builder
	for _, f := range found {
		fmt.Fprintf(&b, "\n  %s %s at %s: %s; %s; forms %v", f.Level, f.Check, f.At, f.What, f.Do, f.Forms)
	}
	return b.String()
}

// What a finding says to paste closes it.
func TestPostfixRemediesClose(t *testing.T) {
	for _, main := range []string{
		"mynetworks = 127.0.0.0/8 0.0.0.0/0 [::]/0\n",
		"smtpd_relay_restrictions = permit_mynetworks, check_sender_access inline:{victim.example=OK}, reject_unauth_destination\n",
		"smtpd_relay_restrictions = permit_mx_backup, reject_unauth_destination\n",
		"smtpd_relay_restrictions = permit\n",
		"smtpd_relay_restrictions =\n",
		"allow_untrusted_routing = yes\nrelay_domains = partner.example\n",
		"smtpd_authorized_xclient_hosts = 0.0.0.0/0\n",
		"smtpd_upstream_proxy_protocol = haproxy\n",
	} {
		text := main
		for _, f := range judge(t, main, "", nil) {
			for line := range strings.Lines(f.Do) {
				if set, ok := strings.CutPrefix(strings.TrimSpace(line), "postconf -e '"); ok {
					text += strings.TrimSuffix(set, "'") + "\n"
				}
			}
		}
		if text == main {
			t.Errorf("%q: nothing to paste", main)
		}
		if open := relaying(judge(t, text, "", nil)); len(open) > 0 {
			t.Errorf("%q became %q, and still relays %v", main, text, open)
		}
	}
}

func TestPostfixReadsACopy(t *testing.T) {
	found, err := Postfix(t.Context(), Foreign{Dir: "/backup/mx1", Read: files(map[string]string{
		"/backup/mx1/main.cf":   debianMain + "mynetworks = /etc/postfix/nets\n",
		"/backup/mx1/master.cf": debianMaster,
		"/backup/mx1/nets":      "0.0.0.0/0\n",
	})})
	if err != nil {
		t.Fatal(err)
	}
	if len(found) == 0 || found[0].At.String() != "/backup/mx1/nets:1" {
		t.Errorf("found %s; want the line of the copy", inWords(found))
	}
	if _, err := Postfix(t.Context(), Foreign{Dir: "/etc/postfix", Read: files(nil)}); err == nil || !strings.Contains(err.Error(), "--postfix") {
		t.Errorf("without main.cf: error %v, want one that says what to name", err)
	}
}

func TestMynetworksByStyle(t *testing.T) {
	for _, c := range []struct{ level, style, want string }{
		{"3.6", "", "127.0.0.0/8 203.0.113.10/32 172.17.0.1/32"},
		{"0", "", "127.0.0.0/8 203.0.112.0/20 172.17.0.0/16"},
		{"3.6", "class", "127.0.0.0/8 203.0.113.0/24 172.17.0.0/16"},
		{"3.6", "subnet", "127.0.0.0/8 203.0.112.0/20 172.17.0.0/16"},
	} {
		main := "compatibility_level = " + c.level + "\n"
		if c.style != "" {
			main += "mynetworks_style = " + c.style + "\n"
		}
		if got := scoped(t, main).text("mynetworks"); got != c.want {
			t.Errorf("level %s, style %q: mynetworks is %q, want %q", c.level, c.style, got, c.want)
		}
	}
}

func scoped(t testing.TB, main string) *scope {
	t.Helper()
	c, err := readPostfix(Foreign{Dir: "/etc/postfix", Hostname: "mx.victim.example", Own: own, Read: files(map[string]string{
		"/etc/postfix/main.cf": main, "/etc/postfix/master.cf": debianMaster,
	})})
	if err != nil {
		t.Fatal(err)
	}
	return c.scope(c.services[0])
}

func TestExpansion(t *testing.T) {
	for _, c := range []struct{ main, want string }{
		{"v = a $x b\nx = 1\n", "a 1 b"},
		{"v = ${x}2 $(x)3\nx = 1\n", "12 13"},
		{"v = $none.\n", "."},
		{"v = costs $$5\n", "costs $5"},
		{"v = ${x?is set} ${x:is not}\nx = 1\n", "is set"},
		{"v = ${x?is set}${x:is not}\n", "is not"},
		{"v = ${x?{$y}:{no}}\nx = 1\ny = yes\n", "yes"},
		{"v = ${x?{yes}:{$y}}\ny = no\n", "no"},
		{"v = ${{$x} == {1} ? {one} : {other}}\nx = 1\n", "one"},
		{"v = ${{$x} == {1} ? {one} : {other}}\nx = 2\n", "other"},
		{"v = ${{10} > {9} ? {numbers} : {texts}}\n", "numbers"},
		{"v = ${{3.10} >=level {3.9} ? {new} : {old}}\n", "new"},
		{"v = ${{3.6} <level {3.6.1} ? {older} : {same}}\n", "older"},
		{"v = $v\n", ""},
		{"v = $mydomain\nmyhostname = x.$mydomain\n", "localdomain"}, // myhostname has no end while it is asked for
		{"v = $mynetworks\ninet_interfaces = $mynetworks\n", ""},
		{"v = ${unclosed\n", ""},
		{"v = first\nv = second\n", "second"},
		{"v = one\n  two\n\n# no end\n\tthree\nw = x\n", "one  two\tthree"},
	} {
		if got := scoped(t, c.main).text("v"); got != c.want {
			t.Errorf("%q: v is %q, want %q", c.main, got, c.want)
		}
	}
	for _, each := range []string{"xxxxxxxx", ""} { // the second doubles without growing
		bomb := "v = $a0$a0\n"
		for i := range 30 {
			bomb += fmt.Sprintf("a%d = $a%d$a%d %s\n", i, i+1, i+1, each)
		}
		if got := scoped(t, bomb).text("v"); len(got) > maxExpansion {
			t.Errorf("a parameter grew to %d bytes, want at most %d", len(got), maxExpansion)
		}
	}
}

func TestResolve(t *testing.T) {
	const main = debianMain + "relay_domains = partner.example\n"
	for _, c := range []struct {
		path, want string
		class      class
		routed     bool
	}{
		{"a@far.example", "a@far.example", foreign, false},
		{"a@victim.example", "a@victim.example", final, false},
		{"a@VICTIM.example.", "a@victim.example", final, false},
		{"a", "a@mx.victim.example", final, false},
		{"a%far.example@victim.example", "a@far.example", foreign, false},
		{"a%b%far.example@victim.example", "a%b@far.example", foreign, true},
		{"a%far.example", "a@far.example", foreign, false},
		{"far.example!a", "a@far.example", foreign, false},
		{"far.example!a@victim.example", "a@far.example", foreign, false},
		{`"a@far.example"@victim.example`, "a@far.example", foreign, false},
		{"a@far.example@victim.example", "a@far.example", foreign, false},
		{"@victim.example,@mx.victim.example:a@far.example", "a@far.example", foreign, false},
		{"a@[203.0.113.10]", "a@[203.0.113.10]", final, false},
		{"a@[198.18.0.99]", "a@[198.18.0.99]", foreign, false},
		{"a@partner.example", "a@partner.example", relayed, false},
		{"a%far.example@partner.example", "a%far.example@partner.example", relayed, true},
		{"far.example!a@partner.example", "far.example!a@partner.example", relayed, true},
		{`"a@far.example"@partner.example`, `"a@far.example"@partner.example`, relayed, true},
	} {
		r, ok := scoped(t, main).resolve(c.path)
		if !ok || r.address() != c.want || r.class != c.class || r.routed != c.routed {
			t.Errorf("<%s> leads to %s (class %d, routed %v, understood %v), want %s (%d, %v)", c.path, r.address(), r.class, r.routed, ok, c.want, c.class, c.routed)
		}
	}
}

// A file of settings is read as what it says: written down again, one setting
// a line, it reads the same, and every byte knows its line.
func FuzzMain(f *testing.F) {
	f.Add(debianMain)
	f.Add("a = 1\n 2\n#x\n\n 3\nb=${a?{x}:{y}}\n  = \nc\n")
	f.Add("mynetworks = !0.0.0.0/0 cidr:/etc/postfix/x [::]/0\nsmtpd_relay_restrictions = { permit }, check_sender_access inline:{a=OK, {b = OK}}")
	f.Fuzz(func(t *testing.T, text string) {
		lines := strings.Count(text, "\n") + 1
		first := new(postfixConfig).parse(text)
		var again strings.Builder
		for name, s := range first {
			for _, at := range s.value.at {
				if at.line < 1 || int(at.line) > lines {
					t.Fatalf("%s: a byte of line %d in a text of %d", name, at.line, lines)
				}
			}
			fmt.Fprintf(&again, "%s = %s\n", name, s.value.text)
		}
		second := new(postfixConfig).parse(again.String())
		if len(second) != len(first) {
			t.Fatalf("%d settings became %d: %q", len(first), len(second), again.String())
		}
		for name, s := range first {
			if got := second[name].value.text; got != s.value.text {
				t.Errorf("%s = %q became %q", name, s.value.text, got)
			}
		}
	})
}

func (c *postfixConfig) parse(text string) map[string]setting {
	c.files = []string{"main.cf"}
	return c.parseMain(mainCF, text)
}

// Whatever the files say: there is an answer, it points at their lines, and
// settings that Postfix does not know change nothing.
func FuzzPostfix(f *testing.F) {
	f.Add("mynetworks = 0.0.0.0/0\n", debianMaster, "192.0.2.0/24 OK\n")
	f.Add("smtpd_relay_restrictions = check_sender_access hash:/etc/postfix/t, reject_unauth_destination\n", debianMaster, "a OK\nb b\n")
	f.Add("smtpd_restriction_classes = a\na = a, warn_if_reject\nsmtpd_relay_restrictions = a check_client_access cidr:t, reject_unauth_destination", "25 inet n - n - - smtpd -o", "!::/0 a\n")
	f.Add("smtpd_restriction_classes = a b\na = check_sender_access hash:t, b\nb = a\nsmtpd_relay_restrictions = a, reject", debianMaster, strings.Repeat("x a\ny b\nz a\n", 50))
	f.Fuzz(func(t *testing.T, main, master, table string) {
		set := map[string]string{"/etc/postfix/main.cf": main, "/etc/postfix/master.cf": master, "/etc/postfix/t": table}
		at := Foreign{Dir: "/etc/postfix", Hostname: "mx.victim.example", Own: own, Read: files(set)}
		found, err := Postfix(t.Context(), at)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range found[:len(found)-1] { // the last is the verdict
			text, ok := set[x.At.File]
			if !ok || x.At.Line > strings.Count(text, "\n")+1 {
				t.Errorf("a finding at %s, which is no line that was read: %s", x.At, x.What)
			}
		}
		if strings.HasPrefix(strings.TrimLeft(main, "\n"), " ") || strings.Contains(main, "postern_unknown") {
			return
		}
		set["/etc/postfix/main.cf"] = "postern_unknown = x\n" + main
		more, err := Postfix(t.Context(), at)
		if err != nil || len(more) != len(found) {
			t.Errorf("an unknown setting changed %s to %s (%v)", inWords(found), inWords(more), err)
		}
	})
}

// No output is no answer: the verdict says what was read, how much was played
// against which ports, and what came of it.
func TestPostfixVerdict(t *testing.T) {
	for _, c := range []struct {
		main, master string
		level        Level
		says         []string
	}{
		{"", "", OK, []string{"closed: none of these forms relays", " forms, ", "port smtp", "main.cf", "master.cf"}},
		{"mynetworks = 0.0.0.0/0\n", "", Problem, []string{"open"}},
		{"mynetworks = 0.0.0.0/0\n", "127.0.0.1:2525 inet n - y - - smtpd\n", Warning, []string{"forwarder", "127.0.0.1:2525 (this machine only)"}},
		{"smtpd_relay_restrictions = check_policy_service inet:a:1, reject_unauth_destination\n", "", Note, []string{"not decided"}},
		{"mynetworks = 127.0.0.1/8\n", "", OK, []string{"there are warnings"}},
		{"smtpd_delay_reject = maybe\n", "", Warning, []string{"nobody is served"}},
		{"", "smtp unix - - y - - smtp\n", OK, []string{"no service of master.cf"}},
	} {
		master := c.master
		if master == "" {
			master = debianMaster
		}
		found, err := Postfix(t.Context(), Foreign{Dir: "/etc/postfix", Hostname: "mx.victim.example", Own: own, Read: files(map[string]string{
			"/etc/postfix/main.cf": debianMain + c.main, "/etc/postfix/master.cf": master,
		})})
		if err != nil {
			t.Fatal(err)
		}
		last := found[len(found)-1]
		for _, words := range c.says {
			if last.Check != "verdict" || last.Level != c.level || !strings.Contains(last.What, words) {
				t.Errorf("%q %q: %s, want %s saying %q", c.main, c.master, inWords(found), c.level, words)
			}
		}
	}
}
