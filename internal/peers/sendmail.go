package peers

import "strings"

// sendmail makes a sendmail.cf from Debian's sendmail.mc with its features, listening to the
// world, and with lines added to the access map that Debian ships. That map refuses 192.0.2/24
// outright, which is our tester's, so that line alone goes.
func sendmail(features string, access ...string) func() setup {
	return func() setup {
		return setup{
			root: "sendmail",
			files: map[string]string{
				"etc/mail/features.m4":      features + "\n",
				"etc/mail/local-host-names": "victim.example\nmx.victim.example\nlocalhost\n",
				"etc/mail/access.own":       strings.Join(access, "\n") + "\n",
				"etc/mail/trusted-users":    "",
			},
			start: `
# Sendmail opens a socket for each family, and both want port 25.
echo 1 >/proc/sys/net/ipv6/bindv6only
mkdir -p /var/lib/sendmail/host_status /etc/mail/m4 /var/spool/mqueue /var/spool/mqueue-client /var/lib/sendmail /run/sendmail/mta /var/mail /etc/mail/smrsh
: >/etc/mail/m4/dialup.m4 && : >/etc/mail/m4/provider.m4
chown smmta:smmsp /var/spool/mqueue /run/sendmail/mta
chgrp mail /var/mail && chmod 2775 /var/mail
cd /etc/mail
# What the installer says to edit for listening to the world, and our features before the mailers.
awk -v own=features.m4 '
	/MSP-v4/ { next }
	/^DAEMON_OPTIONS/ { sub(/, Addr=127.0.0.1/, "") }
	/^dnl DAEMON_OPTIONS.*MTA-v6/ { sub(/^dnl /, ""); sub(/, Addr=::1/, "") }
	/^MAILER_DEFINITIONS/ { while ((getline line <own) > 0) print line }
	{ print }' /usr/share/sendmail/cf/debian/sendmail.mc >sendmail.mc
grep -v '^Connect:192\.0\.2' /usr/share/sendmail/examples/db/access >access || true
cat access.own >>access
cp /etc/aliases aliases
m4 sendmail.mc >sendmail.cf
mta=/usr/libexec/sendmail/sendmail
# Our lines come last and win.
makemap -r hash access <access
printf '%s\tesmtp:[192.0.2.66]\n' ` + Partner + ` | makemap hash mailertable
$mta -bi -C /etc/mail/sendmail.cf >/dev/null
$mta -bd -q1m -C /etc/mail/sendmail.cf
`,
			ports: []string{"25"},
		}
	}
}

// patient lifts Debian's limit of ten connections in ten minutes from one client. The greet pause
// of five seconds, the throttle on bad recipients and the limit on connections at a time stay.
const patient = "ClientRate:\t0"

var sendmailCases = []Case{
	{
		Server: "sendmail", Config: "closed", What: "Debian's sendmail.mc, listening to the world, without its limit of connections in ten minutes",
		Want: "closed", Family: "4", Knock: plain, setup: sendmail("", patient),
	},
	{
		Server: "sendmail", Config: "closed-throttling", What: "the same with Debian's own limit, ten connections in ten minutes",
		Want: "closed", Family: "4", Knock: plain, setup: sendmail(""), Flags: []string{"--quick"}, // the battery wants more connections than that
	},
	{
		Server: "sendmail", Config: "promiscuous", What: "FEATURE(promiscuous_relay)",
		Want: "open", Hole: "plain", Family: "4", Knock: plain, setup: sendmail("FEATURE(`promiscuous_relay')dnl", patient),
	},
	{
		Server: "sendmail", Config: "promiscuous-throttling", What: "FEATURE(promiscuous_relay), ten connections in ten minutes",
		Want: "open", Hole: "plain", Family: "4", Knock: plain, setup: sendmail("FEATURE(`promiscuous_relay')dnl"), Flags: []string{"--quick"},
	},
	{
		Server: "sendmail", Config: "relay-local-from", What: "FEATURE(relay_local_from)",
		Want: "open", Hole: "local-sender host-sender ip-sender local-sender-unknown bare-sender", Family: "4", Knock: localSender,
		setup: sendmail("FEATURE(`relay_local_from')dnl", patient),
	},
	{
		Server: "sendmail", Config: "relay-based-on-mx", What: "FEATURE(relay_based_on_MX)",
		Want: "open", Hole: "backup-mx", Family: "4", Knock: backupMX,
		setup: sendmail("FEATURE(`relay_based_on_MX')dnl", patient),
	},
	{
		Server: "sendmail", Config: "loose-relay-check", What: "FEATURE(loose_relay_check), relaying for " + Partner,
		Want: "open", Hole: "relaydom-pct", Family: "4", Knock: secondHop, Flags: relaying,
		setup: sendmail("FEATURE(`loose_relay_check')dnl\nFEATURE(`mailertable')dnl", patient, "To:"+Partner+"\tRELAY"),
	},
}
