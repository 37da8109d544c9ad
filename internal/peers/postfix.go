package peers

import "strings"

// postfixMain is Debian's main.cf as its installer writes it for an internet site, with our names.
// queue_run_delay and the backoff are short, so that mail which met a door still shut is tried
// again within the test.
const postfixMain = `
compatibility_level = 3.6
queue_directory = /var/spool/postfix
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
data_directory = /var/lib/postfix
mail_owner = postfix
setgid_group = postdrop
myhostname = mx.victim.example
mydomain = victim.example
myorigin = victim.example
mydestination = mx.victim.example, victim.example, localhost
mynetworks = 127.0.0.0/8 [::ffff:127.0.0.0]/104 [::1]/128
smtpd_relay_restrictions = permit_mynetworks permit_sasl_authenticated defer_unauth_destination
inet_interfaces = all
inet_protocols = all
recipient_delimiter = +
alias_maps = hash:/etc/aliases
alias_database = hash:/etc/aliases
mailbox_size_limit = 0
smtpd_banner = $myhostname ESMTP $mail_name (Debian/GNU)
smtp_tls_security_level = may
queue_run_delay = 5s
minimal_backoff_time = 5s
`

const postfixMaster = `
smtp       inet  n  -  n  -  -  smtpd
pickup     unix  n  -  n  60 1  pickup
cleanup    unix  n  -  n  -  0  cleanup
qmgr       unix  n  -  n  300 1 qmgr
tlsmgr     unix  -  -  n  1000? 1 tlsmgr
rewrite    unix  -  -  n  -  -  trivial-rewrite
bounce     unix  -  -  n  -  0  bounce
defer      unix  -  -  n  -  0  bounce
trace      unix  -  -  n  -  0  bounce
verify     unix  -  -  n  -  1  verify
flush      unix  n  -  n  1000? 0 flush
proxymap   unix  -  -  n  -  -  proxymap
proxywrite unix  -  -  n  -  1  proxymap
smtp       unix  -  -  n  -  -  smtp
relay      unix  -  -  n  -  -  smtp
showq      unix  n  -  n  -  -  showq
error      unix  -  -  n  -  -  error
retry      unix  -  -  n  -  -  error
discard    unix  -  -  n  -  -  discard
local      unix  -  n  n  -  -  local
virtual    unix  -  n  n  -  -  virtual
lmtp       unix  -  -  n  -  -  lmtp
anvil      unix  -  -  n  -  1  anvil
scache     unix  -  -  n  -  1  scache
`

const postfixStart = `
mkdir -p /var/lib/postfix /var/mail /var/spool/mail
chown postfix:postfix /var/lib/postfix
chgrp mail /var/mail && chmod 2775 /var/mail
chgrp postdrop /usr/sbin/postdrop 2>/dev/null || true
postalias /etc/aliases
postfix -c /etc/postfix set-permissions >/dev/null 2>&1 || true
postfix start
`

// override puts the lines of own in the place of those of base that set the same name: Postfix
// would take the last, and warn at each start.
func override(base, own string) string {
	name := func(line string) string { before, _, _ := strings.Cut(line, " ="); return before }
	set := map[string]bool{}
	for line := range strings.Lines(own) {
		set[name(line)] = true
	}
	var text strings.Builder
	for line := range strings.Lines(base) {
		if !set[name(line)] {
			text.WriteString(line)
		}
	}
	return text.String() + own + "\n"
}

// postfix makes the set-up with the lines of main.cf that differ, and lines added to master.cf.
func postfix(main string, master ...string) func() setup {
	return func() setup {
		ports := []string{"25"}
		for _, line := range master {
			if strings.HasPrefix(line, "587 ") {
				ports = append(ports, "587")
			}
		}
		return setup{
			root: "postfix",
			files: map[string]string{
				"etc/postfix/main.cf":   override(postfixMain, main),
				"etc/postfix/master.cf": postfixMaster + strings.Join(master, "\n") + "\n",
			},
			start: postfixStart,
			ports: ports,
		}
	}
}

var postfixCases = []Case{
	{
		Server: "postfix", Config: "closed", What: "as Debian installs it for an internet site",
		Want: "closed", Family: "4", Knock: plain, setup: postfix(""),
	},
	{
		Server: "postfix", Config: "closed-six", What: "the same, over IPv6",
		Want: "closed", Family: "6", Knock: plain, setup: postfix(""),
	},
	{
		Server: "postfix", Config: "closed-impatient", What: "smtpd_hard_error_limit = 3, smtpd_client_connection_rate_limit = 20",
		Want: "closed", Family: "4", Knock: plain, Flags: append([]string{"--quick"}, unhurried...), // the whole battery takes longer there than a test may
		setup: postfix("smtpd_soft_error_limit = 1\nsmtpd_hard_error_limit = 3\nsmtpd_error_sleep_time = 1s\nsmtpd_client_connection_rate_limit = 20\nanvil_rate_time_unit = 10s"),
	},
	{
		Server: "postfix", Config: "closed-greylisting", What: "a policy server defers each new triple for 4 seconds",
		Want: "closed", Defers: true, Family: "4", Knock: plain,
		setup: postfix("smtpd_recipient_restrictions = check_policy_service unix:/run/peers/greylist"),
	},
	{
		Server: "postfix", Config: "closed-backscatter", What: "local_recipient_maps empty: unknown users are taken and bounced",
		Want: "closed", Backscatter: true, Family: "4", Knock: plain,
		setup: postfix("local_recipient_maps ="),
	},
	{
		Server: "postfix", Config: "catch-all", What: "luser_relay: whatever is before our at sign is taken, and kept",
		Want: "closed", Family: "4", Knock: plain,
		setup: postfix("local_recipient_maps =\nluser_relay = anna"),
	},
	{
		Server: "postfix", Config: "mynetworks", What: "mynetworks = 0.0.0.0/0 [::]/0",
		Want: "open", Hole: "plain", Family: "4", Knock: plain,
		setup: postfix("mynetworks = 0.0.0.0/0 [::]/0"),
	},
	{
		Server: "postfix", Config: "mynetworks-greylisting", What: "the same, where a policy server defers each new triple for 4 seconds",
		Want: "open", Hole: "plain", Family: "4", Defers: true, Knock: plain,
		setup: postfix("mynetworks = 0.0.0.0/0 [::]/0\nsmtpd_recipient_restrictions = check_policy_service unix:/run/peers/greylist"),
	},
	{
		Server: "postfix", Config: "sender-map", What: "check_sender_access with victim.example OK, before reject_unauth_destination",
		Want: "open", Hole: "local-sender host-sender bare-sender local-sender-unknown sub-sender", Family: "4", Knock: localSender,
		setup: postfix("smtpd_relay_restrictions = permit_mynetworks, check_sender_access inline:{victim.example=OK}, reject_unauth_destination"),
	},
	{
		Server: "postfix", Config: "permit-mx-backup", What: "permit_mx_backup without permit_mx_backup_networks",
		Want: "open", Hole: "backup-mx", Family: "4", Knock: backupMX,
		setup: postfix("smtpd_relay_restrictions = permit_mynetworks, permit_mx_backup, reject_unauth_destination"),
	},
	{
		Server: "postfix", Config: "untrusted-routing", What: "allow_untrusted_routing = yes, relay_domains = " + Partner,
		Want: "open", Hole: "relaydom-pct relaydom-at-at relaydom-quoted relaydom-bang relaydom-route", Family: "4", Knock: secondHop, Flags: relaying,
		setup: postfix("allow_untrusted_routing = yes\nrelay_domains = " + Partner + "\ntransport_maps = inline:{" + Partner + "=smtp:[192.0.2.66]}"),
	},
	{
		Server: "postfix", Config: "xclient", What: "smtpd_authorized_xclient_hosts = 0.0.0.0/0 [::]/0",
		Want: "open", Hole: "xclient xclient-name", Family: "4",
		Knock: Knock{Before: []string{"XCLIENT ADDR=127.0.0.1 NAME=localhost"}, From: "stranger@far.example", To: []string{"{foreign}"}},
		setup: postfix("smtpd_authorized_xclient_hosts = 0.0.0.0/0 [::]/0"),
	},
	{
		Server: "postfix", Config: "proxy", What: "smtpd_upstream_proxy_protocol = haproxy, reachable by everybody",
		Want: "open", Hole: "proxy-v1 proxy-v2 proxy-v1-six", Family: "4",
		Knock: Knock{Preamble: "PROXY TCP4 127.0.0.1 203.0.113.10 4444 25\r\n", From: "stranger@far.example", To: []string{"{foreign}"}},
		setup: postfix("smtpd_upstream_proxy_protocol = haproxy"),
	},
	{
		Server: "postfix", Config: "six-only-over-four", What: "mynetworks holds [2001:db8::]/32, judged over IPv4",
		Want: "closed", Family: "4", Knock: plain,
		setup: postfix("mynetworks = 127.0.0.0/8 [2001:db8::]/32"),
	},
	{
		Server: "postfix", Config: "six-only-over-six", What: "mynetworks holds [2001:db8::]/32, judged over IPv6",
		Want: "open", Hole: "plain", Family: "6", Knock: plain,
		setup: postfix("mynetworks = 127.0.0.0/8 [2001:db8::]/32"),
	},
	{
		Server: "postfix", Config: "helo-map", What: "check_helo_access with victim.example OK, before reject_unauth_destination",
		Want: "open", Hole: "helo-dom helo-host", Family: "4", Knock: heloTrust,
		setup: postfix("smtpd_relay_restrictions = permit_mynetworks, check_helo_access inline:{victim.example=OK}, reject_unauth_destination"),
	},
	{
		Server: "postfix", Config: "data-time", What: "reject_unauth_destination only in smtpd_data_restrictions, where it sees no recipient if there are several",
		Want: "open", Hole: "second-recipient", Family: "4",
		Knock: Knock{From: "stranger@far.example", To: []string{"{local}", "{foreign}"}},
		setup: postfix("smtpd_relay_restrictions =\nsmtpd_recipient_restrictions = permit_mynetworks, check_recipient_access static:OK, reject_unauth_destination\nsmtpd_data_restrictions = reject_unauth_destination"),
	},
	{
		Server: "postfix", Config: "submission", What: "port 25 closed, port 587 with mynetworks = 0.0.0.0/0 and no login",
		Want: "open", Hole: "plain", Family: "4",
		Knock: Knock{Port: "587", From: "stranger@far.example", To: []string{"{foreign}"}},
		setup: postfix("", "587 inet n - n - - smtpd\n  -o mynetworks=0.0.0.0/0"),
	},
	{
		Server: "postfix", Config: "closed-postscreen", What: "postscreen with all deep protocol tests: the first session is deferred, the next one passes",
		Want: "closed", Defers: true, Family: "4", Knock: plain,
		setup: func() setup {
			s := postfix("postscreen_greet_wait = 3s\npostscreen_greet_action = enforce\npostscreen_pipelining_enable = yes\npostscreen_non_smtp_command_enable = yes\npostscreen_bare_newline_enable = yes\npostscreen_bare_newline_action = enforce")()
			s.files["etc/postfix/master.cf"] = strings.Replace(postfixMaster, "smtp       inet  n  -  n  -  -  smtpd",
				"smtp inet n - n - 1 postscreen\nsmtpd pass - - n - - smtpd\ndnsblog unix - - n - 0 dnsblog\ntlsproxy unix - - n - 0 tlsproxy", 1)
			return s
		},
	},
}
