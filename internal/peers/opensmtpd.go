package peers

// opensmtpd makes a smtpd.conf of the example that Debian installs, listening to the world and
// serving our domain, with one more rule before its last.
func opensmtpd(rule string) func() setup {
	return func() setup {
		return setup{
			root: "opensmtpd",
			files: map[string]string{"etc/smtpd.conf": `
table aliases file:/etc/aliases
listen on 0.0.0.0
listen on ::
queue ttl 1h
action "local" mbox alias <aliases>
action "relay" relay helo mx.victim.example
match from any for domain "victim.example" action "local"
match for local action "local"
` + rule + `
match from local for any action "relay"
`},
			start: `
mkdir -p /var/spool/smtpd /var/lib/opensmtpd/empty /var/mail /run/smtpd
ln -s ../../spool/mail /var/mail 2>/dev/null || true
chgrp mail /var/mail && chmod 2775 /var/mail
chmod 711 /var/spool/smtpd
smtpd
`,
			ports: []string{"25"},
		}
	}
}

var opensmtpdCases = []Case{
	{
		Server: "opensmtpd", Config: "closed", What: "Debian's example, listening to the world for its own domain",
		Want: "closed", Family: "4", Knock: plain, setup: opensmtpd(""),
	},
	{
		Server: "opensmtpd", Config: "closed-six", What: "the same, over IPv6",
		Want: "closed", Family: "6", Knock: plain, setup: opensmtpd(""),
	},
	{
		Server: "opensmtpd", Config: "any-for-any", What: "match from any for any",
		Want: "open", Hole: "plain", Family: "4", Knock: plain, setup: opensmtpd(`match from any for any action "relay"`),
	},
	{
		Server: "opensmtpd", Config: "by-sender", What: `match from any mail-from "@victim.example" for any`,
		Want: "open", Hole: "local-sender local-sender-unknown", Family: "4", Knock: localSender,
		setup: opensmtpd(`match from any mail-from "@victim.example" for any action "relay"`),
	},
	{
		Server: "opensmtpd", Config: "by-helo", What: `match from any helo "victim.example" for any`,
		Want: "open", Hole: "helo-dom", Family: "4", Knock: heloTrust,
		setup: opensmtpd(`match from any helo "victim.example" for any action "relay"`),
	},
	{
		Server: "opensmtpd", Config: "six-only", What: `match from src "2001:db8::/32" for any, judged over IPv6`,
		Want: "open", Hole: "plain", Family: "6", Knock: plain,
		setup: opensmtpd(`match from src "2001:db8::/32" for any action "relay"`),
	},
}
