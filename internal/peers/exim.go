package peers

import "strings"

// exim makes Debian's own configuration for an internet site, through its update-exim4.conf; lines
// replaces settings of update-exim4.conf.conf, macros go into exim4.conf.localmacros, and acl to
// the head of Debian's ACL for RCPT.
func exim(settings, macros, acl string, edit ...string) func() setup {
	conf := `dc_eximconfig_configtype='internet'
dc_other_hostnames='victim.example'
dc_local_interfaces=''
dc_readhost=''
dc_relay_domains=''
dc_minimaldns='false'
dc_relay_nets=''
dc_smarthost=''
CFILEMODE='644'
dc_use_split_config='false'
dc_hide_mailname=''
dc_mailname_in_oh='true'
dc_localdelivery='mail_spool'
` + settings + "\n"
	return func() setup {
		return setup{
			root: "exim",
			files: map[string]string{
				"etc/exim4/update-exim4.conf.conf": conf,
				"etc/exim4/exim4.conf.localmacros": macros + "\n",
				"etc/exim4/local_rcpt":             acl + "\n",
				"etc/exim4/percent_hack":           percentRouter,
				"etc/exim4/fail_others":            failingRouter,
			},
			start: `
mkdir -p /var/log/exim4 /var/spool/exim4 /var/lib/exim4 /var/mail /run/exim4
chown -R Debian-exim:Debian-exim /var/log/exim4 /var/spool/exim4 /run/exim4
chgrp mail /var/mail && chmod 2775 /var/mail
sed -i -e '1i log_file_path = syslog' -e '/^acl_check_rcpt:/r /etc/exim4/local_rcpt' /etc/exim4/exim4.conf.template
` + strings.Join(edit, "\n") + `
update-exim4.conf
exim4 -bd -q1m
`,
			ports: []string{"25"},
		}
	}
}

// percentRouter is the redirect that Exim's manual gives for the percent hack.
const percentRouter = `
percent_hack:
  debug_print = "R: percent_hack for $local_part@$domain"
  driver = redirect
  domains = +local_domains
  condition = ${if match{$local_part}{%}}
  data = ${sg{$local_part}{%}{@}}
`

// failingRouter returns what comes from outside for others; Exim's own notices leave.
const failingRouter = `
fail_others:
  debug_print = "R: fail_others for $local_part@$domain"
  driver = redirect
  domains = ! +local_domains
  condition = ${if def:sender_host_address}
  allow_fail
  data = :fail: we do not relay
`

var eximCases = []Case{
	{
		Server: "exim", Config: "closed", What: "as Debian installs it for an internet site",
		Want: "closed", Family: "4", Knock: plain, setup: exim("", "", ""),
	},
	{
		Server: "exim", Config: "closed-six", What: "the same, over IPv6",
		Want: "closed", Family: "6", Knock: plain, setup: exim("", "", ""),
	},
	{
		Server: "exim", Config: "relay-nets", What: "dc_relay_nets='0.0.0.0/0'",
		Want: "open", Hole: "plain", Family: "4", Knock: plain, setup: exim("dc_relay_nets='0.0.0.0/0'", "", ""),
	},
	{
		Server: "exim", Config: "sender-trust", What: "accept sender_domains = +local_domains in the ACL for RCPT",
		Want: "open", Hole: "local-sender local-sender-unknown bare-sender", Family: "4", Knock: localSender,
		setup: exim("", "", "accept\n  sender_domains = +local_domains"),
	},
	{
		Server: "exim", Config: "helo-trust", What: "accept if the HELO name is one of our domains",
		Want: "open", Hole: "helo-dom helo-host helo-localhost", Family: "4", Knock: heloTrust,
		setup: exim("", "", "accept\n  condition = ${if match_domain{$sender_helo_name}{+local_domains}}"),
	},
	{
		Server: "exim", Config: "percent-hack", What: "a redirect router for the percent sign, which the ACL lets pass",
		Want: "open", Hole: "pct-domain pct-host pct-local-sender pct-quoted-dom", Family: "4", Knock: percentHack,
		setup: exim("", "CHECK_RCPT_LOCAL_LOCALPARTS = ^[.] : ^.*[@!/|]", "",
			`sed -i '/^begin routers/r /etc/exim4/percent_hack' /etc/exim4/exim4.conf.template`),
	},
	{
		Server: "exim", Config: "relay-domains", What: "dc_relay_domains='*': every domain is one that it relays for",
		Want: "open", Hole: "plain", Family: "4", Knock: plain, setup: exim("dc_relay_domains='*'", "", ""),
	},
	{
		Server: "exim", Config: "six-only", What: "dc_relay_nets='2001::0db8::::/32', judged over IPv6",
		Want: "open", Hole: "plain", Family: "6", Knock: plain, setup: exim("dc_relay_nets='2001::0db8::::/32'", "", ""),
	},
}
