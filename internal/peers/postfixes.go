package peers

import (
	"fmt"
	"strconv"
	"strings"
)

// firstPostfix is the port of the first of many Postfix servers.
const firstPostfix = 20000

// A Postfix is one configuration of many that run side by side in one world.
type Postfix struct {
	Main   string            // lines of main.cf, behind those that make a test quick
	Master string            // lines for services; "smtp inet" becomes the port of this one
	Files  map[string]string // beside main.cf; those that end in .map are built by postmap
}

// Port returns the port of the i-th of many.
func Port(i int) string { return strconv.Itoa(firstPostfix + i) }

// quickPostfix is what lets a test ask thousands of recipients: no limits of
// errors and connections, no look into the DNS. XCLIENT from the tester makes
// it any client, with any name.
const quickPostfix = `
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
alias_maps =
alias_database =
smtpd_peername_lookup = no
smtpd_delay_open = no
smtpd_hard_error_limit = 1000000
smtpd_soft_error_limit = 1000000
smtpd_error_sleep_time = 0
smtpd_junk_command_limit = 1000000
smtpd_client_connection_rate_limit = 0
smtpd_client_connection_count_limit = 0
max_idle = 2s
authorized_verp_clients =
disable_dns_lookups = yes
in_flow_delay = 0
`

// quickMaster is what smtpd needs to answer RCPT.
const quickMaster = `
cleanup    unix  n  -  n  -  0  cleanup
rewrite    unix  -  -  n  -  -  trivial-rewrite
proxymap   unix  -  -  n  -  -  proxymap
anvil      unix  -  -  n  -  1  anvil
verify     unix  -  -  n  -  1  verify
tlsmgr     unix  -  -  n  1000? 1 tlsmgr
`

// manyOne starts one of them. The master program is called as postfix(1) does
// after its checks, which would take a second for each; it returns when its ports
// listen. What does not start is like what serves nobody.
const manyOne = `
dir=$1 n=${1##*-}
queue=/var/spool/postfix-$n
mkdir -p $queue /var/lib/postfix-$n
for part in active bounce corrupt defer deferred flush hold incoming private saved trace public maildrop pid; do echo $queue/$part; done | xargs mkdir
chown postfix $queue/[a-o]* $queue/private $queue/public $queue/saved $queue/trace /var/lib/postfix-$n
for table in $dir/*.map; do
	[ ! -e $table ] || postmap -c $dir hash:$table
done
/usr/lib/postfix/sbin/master -w -c $dir || true
`

// manyStart starts all, and then one that is never asked: when that listens,
// the others are ready.
const manyStart = `
chgrp postdrop /usr/sbin/postdrop 2>/dev/null || true
mkdir -p /var/lib/postfix && chown postfix /var/lib/postfix
ls -d /etc/postfix-* | grep -v -- -ready | xargs -n 1 -P 4 sh -eu /etc/one || true
sh -eu /etc/one /etc/postfix-ready
`

// Postfixes makes one world in which a Postfix listens for each of the
// configurations.
func Postfixes(many []Postfix) Case {
	files := map[string]string{
		"etc/one":                    manyOne,
		"etc/postfix/dynamicmaps.cf": "pcre\tpostfix-pcre.so\tdict_pcre_open\n",
	}
	add := func(name, port string, p Postfix) {
		dir := "etc/postfix-" + name
		files[dir+"/main.cf"] = quickPostfix + fmt.Sprintf("queue_directory = /var/spool/postfix-%s\ndata_directory = /var/lib/postfix-%s\n", name, name) +
			p.Main + "smtpd_authorized_xclient_hosts = " + Tester4 + "\n"
		files[dir+"/master.cf"] = strings.Replace(p.Master, "smtp inet ", port+" inet ", 1) + quickMaster
		for name, text := range p.Files {
			files[dir+"/"+name] = text
		}
	}
	for i, p := range many {
		add(strconv.Itoa(i), Port(i), p)
	}
	add("ready", "25", Postfix{Main: "compatibility_level = 3.6\n", Master: "smtp inet n - n - - smtpd\n"})
	return Case{
		Server: "postfix", Config: "many", What: "many configurations side by side",
		Family: "4",
		setup: func() setup {
			return setup{root: "postfix", files: files, start: manyStart, ports: []string{"25"}}
		},
	}
}
