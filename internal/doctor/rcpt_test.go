package doctor

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/internal/machine"
	"postern/internal/peers"
)

// rcptBase is what all configurations of the differential test begin with.
const rcptBase = `compatibility_level = 3.6
myhostname = mx.victim.example
mydomain = victim.example
mydestination = $myhostname, $mydomain, localhost
mynetworks = 127.0.0.0/8
local_recipient_maps =
`

// before stands in front of the word that refuses.
func before(words string) string {
	return "smtpd_relay_restrictions = " + words + ", reject_unauth_destination\n"
}

// A rcptCase is a configuration of which a real Postfix and we must say the
// same, at each single recipient and as a whole.
type rcptCase struct {
	main   string
	files  map[string]string
	master string
	why    string // a written reason for a disagreement; then the recipients alone may differ
}

// configurations of each kind, as people write them. Those that people got
// wrong in public are among them.
var rcptCases = slices.Concat(
	each("", // the defaults, and what compatibility makes of them
		"",
		"compatibility_level = 0\nsmtpd_recipient_restrictions = permit_mynetworks, reject_unauth_destination\n",
		"compatibility_level = 0\n",
		"compatibility_level = 2\nsmtpd_relay_restrictions =\nsmtpd_recipient_restrictions = permit_mynetworks reject_unauth_destination\n",
		"smtpd_relay_restrictions =\n",
		"smtpd_relay_restrictions = permit_mynetworks, permit\nsmtpd_recipient_restrictions =\n",
		"smtpd_relay_restrictions = permit_mynetworks\nsmtpd_recipient_restrictions = permit, reject\n",
		"smtpd_relay_restrictions = permit_mynetworks\nsmtpd_recipient_restrictions = warn_if_reject reject_unauth_destination\n",
		"smtpd_relay_restrictions = permit_mynetworks\nsmtpd_data_restrictions = reject_unauth_destination\n",
		"smtpd_restriction_classes = closed\nclosed = reject_unauth_destination\nsmtpd_relay_restrictions = permit_mynetworks, closed\n",
		"smtpd_relay_restrictions = PERMIT_mynetworks, Reject_Unauth_Destination\n",
		"smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destinations\nsmtpd_recipient_restrictions = reject_unauth_destination\n",
		"smtpd_relay_restrictions = { permit_mynetworks }, reject_unauth_destination\n",
		"smtpd_delay_reject = no\nsmtpd_sender_restrictions = reject_unauth_destination\nsmtpd_relay_restrictions = permit\nsmtpd_recipient_restrictions = defer_unauth_destination, permit\n",
		"smtpd_relay_before_recipient_restrictions = no\nsmtpd_recipient_restrictions = permit\n",
	),
	each("", // words without case
		"relay_domains = partner.example\nallow_untrusted_routing = Yes\n",
		"relay_domains = partner.example\nallow_untrusted_routing = YES\n",
		"relay_domains = partner.example\nallow_untrusted_routing = true\n",
		"allow_percent_hack = No\n", "allow_percent_hack = off\n", "swap_bangpath = NO\n",
		"smtpd_delay_reject = No\nsmtpd_sender_restrictions = reject_unauth_destination\n",
		"mynetworks_style = SUBNET\n", "resolve_dequoted_address = no\n", "append_dot_mydomain = YES\n", "append_at_myorigin = no\n",
		"smtpd_reject_unlisted_recipient = No\ndefault_transport = error:closed\nmynetworks = 0.0.0.0/0\n",
	),
	each("", // networks: match_list(3)
		"mynetworks = 0.0.0.0/0\n", "mynetworks = 0.0.0.0/0 [::]/0\n", "mynetworks = [::]/0\n", "mynetworks = ::/0\n", "mynetworks = ::1 0.0.0.0/0\n",
		"mynetworks = 127.0.0.1/8\n", "mynetworks = 127.0.0.1/8 0.0.0.0/0\n", "mynetworks = 0.0.0.0/0 127.0.0.1/8\n", "mynetworks = [fd00::1]/8 0.0.0.0/0\n",
		"mynetworks = 0.0.0.0/33\n", "mynetworks = 198.18/15\n", "mynetworks = 198.18.0.0/15\n", "mynetworks = 198.18.0.77\n",
		"mynetworks = !198.18.0.0/15 0.0.0.0/0\n", "mynetworks = 0.0.0.0/0 !198.18.0.0/15\n", "mynetworks = !!0.0.0.0/0\n", "mynetworks = !0.0.0.0/1 0.0.0.0/0\n",
		"mynetworks = static:all\n", "mynetworks = all\n", "mynetworks = unknown\n", "mynetworks = !unknown static:all\n", "mynetworks = *\n", "mynetworks = 0.0.0.0\n",
		"mynetworks = 127.0.0.0/8 # 0.0.0.0/0\n", "mynetworks = 127.0.0.0/8, 0.0.0.0/0 # all\n", "mynetworks = 127.0.0.0/8\n  0.0.0.0/0\n", "mynetworks =\n# one\n 0.0.0.0/1,\n\n 128.0.0.0/1\n",
		"mynetworks = cidr:{{0.0.0.0/0 OK}}\n", "mynetworks = cidr:{{!127.0.0.0/8 OK}}\n", "mynetworks = cidr:{{127.0.0.1/8 OK} {0.0.0.0/0 OK}}\n",
		"mynetworks = regexp:{{/./ OK}}\n", "mynetworks = pcre:{{/^198[.]18/ x}}\n", "mynetworks = inline:{198.18.0.77=x, 198=x}\n", "mynetworks = inline:{{198 = x}}\n",
		"mynetworks = fail:all 0.0.0.0/0\n", "mynetworks = 0.0.0.0/0 fail:all\n", "mynetworks = nosuch:table\n", "mynetworks = unionmap:{inline:{a=b},static:x}\n",
		"mynetworks = [::ffff:0.0.0.0]/96\n", "mynetworks = [0.0.0.0]/0\n", "mynetworks = [0.0.0.0/0]\n", "mynetworks = [198.18.0.0/15\n", "mynetworks = !\n",
	),
	[]rcptCase{ // networks in files
		{main: "mynetworks = ${config_directory}/nets\n", files: map[string]string{"nets": "127.0.0.0/8\n# comment\n0.0.0.0/0\n"}},
		{main: "mynetworks = !${config_directory}/nets, 0.0.0.0/0\n", files: map[string]string{"nets": "198.18.0.0/15\n"}},
		{main: "mynetworks = ${config_directory}/nets\n", files: map[string]string{"nets": "127.0.0.0/8 # 0.0.0.0/0\n"}},
		{main: "mynetworks = hash:${config_directory}/nets.map\n", files: map[string]string{"nets.map": "198.18.0.77 x\n198.18 x\n"}},
		{main: "mynetworks = cidr:${config_directory}/nets\n", files: map[string]string{"nets": "if 198.0.0.0/8\n198.18.0.0/15 x\nendif\n!198.0.0.0/8 y\n"}},
		{main: "mynetworks = cidr:${config_directory}/nets\n", files: map[string]string{"nets": "127.0.0.1/8 x\n0.0.0.0/0\n0.0.0.0/1\n  continued\n"}},
	},
	each("", // domains: names under a parent, tables, what is no list
		"relay_domains = example\n", "relay_domains = invalid\n", "relay_domains = .invalid\n", "relay_domains = .com, .invalid\nparent_domain_matches_subdomains =\n", "relay_domains = com\n",
		"relay_domains = com\nparent_domain_matches_subdomains =\n", "relay_domains = com\nparent_domain_matches_subdomains = smtpd_access_maps\n", "relay_domains = !strangers-own.invalid invalid\n",
		"myhostname = victim.com\nrelay_domains = $mydomain\nmydomain = com\n", "relay_domains = partner.example\n", "relay_domains = co.uk\n", "relay_domains = gmail.com\n", "relay_domains = github.io\n",
		"relay_domains = static:all\n", "relay_domains = all\n", "relay_domains = *\n", "relay_domains = regexp:{{/./ x}}\n", "relay_domains = pcre:{{/[.]invalid$/ x}}\n", "relay_domains = pcre:{{/partner[.]example$/ x}}\n",
		"relay_domains = inline:{com=x}\n", "relay_domains = inline:{.com=x}\n", "relay_domains = INVALID\n", "relay_domains = inline:{INVALID=x}\n", "relay_domains = 127.0.0.1/8\n", "relay_domains = partner.example:25 static:all\n",
		"relay_domains = partner.example\nrelay_recipient_maps = inline:{anna@partner.example=x}\n", "relay_domains = static:all\nrelay_recipient_maps = inline:{anna@partner.example=x}\n", "relay_domains = static:all\nrelay_recipient_maps = static:x\n",
		"relay_domains = static:all\nrelay_transport = error:no\n", "mydestination = static:all\n", "virtual_mailbox_domains = static:all\n", "virtual_alias_domains = static:all\n", "mydestination = invalid, com\n", "mydestination = regexp:{{/invalid/ x}}\n",
		"mynetworks = 0.0.0.0/0\ndefault_transport = error:5.1.1 nowhere\n", "mynetworks = 0.0.0.0/0\ntransport_maps = inline:{{* = error:no}}\n", "mynetworks = 0.0.0.0/0\ntransport_maps = inline:{{invalid = error:no} {.invalid = error:no}}\n", "mynetworks = 0.0.0.0/0\ndefault_transport = Error:no\n",
		"relay_domains = fail:x\n", "mydestination = $myhostname ::1\n",
	),
	each("", // recipients in tables
		before("check_recipient_access inline:{postmaster@=OK}"), before("check_recipient_access inline:{postmaster@=OK, abuse@=RELAY}"), before("check_recipient_access inline:{com=OK}"), before("check_recipient_access inline:{.com=OK}"),
		before("check_recipient_access inline:{.com=OK}")+"parent_domain_matches_subdomains =\n", before("check_recipient_access inline:{com=OK}")+"parent_domain_matches_subdomains =\n",
		before("check_recipient_access inline:{victim.example=OK}"), before("check_recipient_access inline:{partner.example=OK}"), before("check_recipient_access inline:{gmail.com=OK}"), before("check_recipient_access inline:{anna@partner.example=OK}"),
		before("check_recipient_access inline:{{com = 550}}"), before("check_recipient_access inline:{{com = 550 no}}"), before("check_recipient_access inline:{{com = 250}}"), before("check_recipient_access inline:{{com = OK for a while}}"), before("check_recipient_access inline:{{com = ok}}"),
		before("check_recipient_access inline:{{com = permit}}"), before("check_recipient_access inline:{{com = permit_mynetworks, permit}}"), before("check_recipient_access inline:{{com = okay}}"), before("check_recipient_access inline:{{com = inline:{a=b}}}"),
		before("check_recipient_access inline:{{com = HOLD}}"), before("check_recipient_access inline:{{com = DUNNO}}"), before("check_recipient_access inline:{{com = FILTER smtp:[1.2.3.4]}}"), before("check_recipient_access inline:{{com = REDIRECT a@victim.example}}"), before("check_recipient_access inline:{{com = DEFER_IF_PERMIT later}}"),
		before("check_recipient_access pcre:{{/^postmaster@/ OK}}"), before("check_recipient_access pcre:{{/^abuse\\@/i OK}}"), before("check_recipient_access regexp:{{/^(postmaster|abuse)@/ OK}}"), before("check_recipient_access regexp:{{/@partner[.]example/ OK}}"), before("check_recipient_access regexp:{{/partner[.]example$$/ OK}}"),
		before("check_recipient_access regexp:{{/@partner[.]example$$/ OK}}"), before("check_recipient_access regexp:{{!/@victim[.]example$$/ OK}}"), before("check_recipient_access pcre:{{if /@.*com$$/} {/^info/ OK} {endif}}"), before("check_recipient_access regexp:{{/com$$/ DUNNO} {/./ OK}}"),
		before("check_recipient_access static:OK"), before("check_recipient_access static:{OK always}"), before("check_recipient_access static:DUNNO"), before("check_recipient_access fail:x"), before("check_recipient_access unionmap:{inline:{com=OK}}"), before("check_recipient_access unionmap:{inline:{com=DUNNO},inline:{com=OK}}"),
		before("check_recipient_access pipemap:{inline:{com=x},inline:{x=OK}}"), before("inline:{com=OK}"), before("check_recipient_access { inline:{com=OK} }"), before("check_recipient_access /etc/postfix/x"), before("check_recipient_access"),
		before("CHECK_Recipient_Access inline:{com=OK}"), before("warn_if_reject check_recipient_access inline:{com=OK}"), before("warn_if_reject reject, permit_auth_destination, inline:{com=OK}"), before("check_recipient_mx_access inline:{com=OK}"), before("check_recipient_a_access static:OK"),
		"smtpd_relay_restrictions =\nsmtpd_recipient_restrictions = check_recipient_access inline:{postmaster@=OK}, permit_mynetworks, reject_unauth_destination\n",
		"smtpd_recipient_restrictions = check_recipient_access inline:{postmaster@=OK}, reject_unauth_destination\n",
		before("check_recipient_access inline:{token+x@=OK}")+"recipient_delimiter = +\n", before("check_recipient_access inline:{token@=OK}")+"recipient_delimiter = +-\n",
		"smtpd_restriction_classes = partners\npartners = check_sender_access inline:{victim.example=OK}\n"+before("check_recipient_access inline:{com=partners}"), "smtpd_restriction_classes = Partners\nPartners = permit\n"+before("check_recipient_access inline:{com=partners}"),
		"smtpd_restriction_classes = partners\npartners = inline:{com=OK}\n"+before("partners"), "smtpd_restriction_classes = partners\npartners = inline:{victim.example=OK}\nsmtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination\nsmtpd_sender_restrictions = partners\n",
		"smtpd_restriction_classes = partners\n"+before("permit_mynetworks"),
	),
	[]rcptCase{
		{main: before("check_recipient_access hash:${config_directory}/roles.map"), files: map[string]string{"roles.map": "postmaster@  OK\nABUSE@ OK\n"}},
		{main: before("check_recipient_access texthash:${config_directory}/roles"), files: map[string]string{"roles": "Postmaster@  OK\n"}},
		{main: before("check_recipient_access pcre:${config_directory}/roles"), files: map[string]string{"roles": "/^postmaster@/ OK\n/^.*@victim[.]example$/ OK\n/(?=x)x/ OK\n"}, why: "an expression that Go cannot try is not decided"},
		{main: before("check_recipient_access hash:${config_directory}/roles.map"), files: map[string]string{"roles.map": "# nothing\ncom\n  OK\ninvalid\n"}},
		{main: "relay_domains = ${config_directory}/domains\n", files: map[string]string{"domains": "partner.example\n.com invalid\n"}},
		{main: "relay_domains = hash:${config_directory}/domains.map\n", files: map[string]string{"domains.map": "partner.example x\nCOM x\n"}},
	},
	each("", // senders, HELO names, clients
		before("check_sender_access inline:{victim.example=OK}"), before("check_sender_access inline:{<>=OK}"), before("check_sender_access inline:{{<> = OK}}")+"smtpd_null_access_lookup_key = null\n", before("check_sender_access inline:{postmaster@=OK}"),
		before("check_sender_access regexp:{{/^$$/ OK}}"), before("check_sender_access regexp:{{/victim/ OK}}"), before("check_sender_access static:OK"), "smtpd_sender_restrictions = check_sender_access inline:{victim.example=OK}\n", "smtpd_sender_restrictions = check_sender_access static:REJECT\nmynetworks = 0.0.0.0/0\n",
		"smtpd_sender_restrictions = check_sender_access inline:{{victim.example = REJECT}}\n"+before("check_sender_access inline:{victim.example=OK}"), before("check_sender_access inline:{victim.example=reject_unauth_destination}"),
		before("check_helo_access inline:{mx.victim.example=OK}"), before("check_helo_access inline:{victim.example=OK}"), before("check_helo_access inline:{.victim.example=OK}"), before("check_helo_access regexp:{{/^mx[.]/ OK}}"), "smtpd_helo_required = yes\n"+before("check_helo_access inline:{victim.example=OK}"),
		before("check_client_access inline:{unknown=OK}"), before("check_client_access inline:{198.18=OK}"), before("check_client_access inline:{198=OK}"), before("check_client_access inline:{2001:2=OK}"), before("check_client_access cidr:{{0.0.0.0/0 OK}}"), before("check_client_access cidr:{{0.0.0.0/1 REJECT} {128.0.0.0/1 OK}}"),
		before("check_client_access inline:{com=OK}"), before("check_client_access regexp:{{/victim[.]example/ OK}}"), before("check_client_access regexp:{{/victim[.]example$$/ OK}}"), before("check_client_access regexp:{{/unknown/ DUNNO} {/./ OK}}"),
		before("check_reverse_client_hostname_access inline:{com=OK}"), before("check_reverse_client_hostname_access static:OK"), before("check_sender_mx_access static:OK"), before("check_client_mx_access static:OK"), before("check_ccert_access static:OK"),
		"mynetworks = com\n", "mynetworks = .com\n", "mynetworks = victim.example\n", before("permit_naked_ip_address"), before("permit_inet_interfaces"), before("permit_tls_all_clientcerts"), before("permit_sasl_authenticated"), before("permit_auth_destination"), before("check_relay_domains"), "smtpd_relay_restrictions = check_relay_domains\nrelay_domains = com\n",
		before("reject_plaintext_session, permit"), before("defer_if_permit, permit"), before("warn_if_reject reject, permit"), before("defer_if_reject"), before("sleep 0, permit"), before("sleep"), before("reject_rbl_client"), before("permit_dnswl_client"), before("reject_unauth_pipelining"),
		"smtpd_client_restrictions = permit\nsmtpd_helo_restrictions = permit\nsmtpd_sender_restrictions = permit\n", "smtpd_client_restrictions = reject\nmynetworks = 0.0.0.0/0\n", "smtpd_client_restrictions = permit_mynetworks, reject\nmynetworks = 0.0.0.0/0\n", "smtpd_client_restrictions = check_client_access inline:{unknown=DEFER_IF_PERMIT}\nmynetworks = 0.0.0.0/0\n",
	),
	each("", // ways on
		"relay_domains = partner.example\nallow_untrusted_routing = yes\n", "relay_domains = partner.example\nallow_untrusted_routing = no\n", "allow_percent_hack = no\nallow_untrusted_routing = yes\n", "swap_bangpath = no\n", "recipient_delimiter = %\n",
		before("permit_auth_destination")+"allow_untrusted_routing = yes\nrelay_domains = partner.example\n", before("check_recipient_access inline:{partner.example=OK}")+"allow_untrusted_routing = yes\nrelay_domains = partner.example\n", "myorigin = strangers-own.invalid\n", "resolve_null_domain = yes\n",
	),
	[]rcptCase{ // what stands behind -o
		{main: "relay_domains = static:all\n", master: "smtp inet n - n - - smtpd -o relay_domains=\n"},
		{main: "", master: "smtp inet n - n - - smtpd -o relay_domains=static:all\n"},
		{main: "", master: "smtp inet n - n - - smtpd -o mynetworks=0.0.0.0/0\n"},
		{main: "mynetworks = 0.0.0.0/0\n", master: "smtp inet n - n - - smtpd -o { mynetworks = 127.0.0.0/8 }\n"},
		{main: "relay_domains = partner.example\nallow_untrusted_routing = yes\n", master: "smtp inet n - n - - smtpd\n  -o allow_untrusted_routing=no\n"},
		{main: "relay_domains = static:all\n", master: "smtp inet n - n - - smtpd -o rewrite_service_name=rw2 -o relay_domains=x\nrw2 unix - - n - - trivial-rewrite -o relay_domains=\n"},
		{main: "relay_domains =\n", master: "smtp inet n - n - - smtpd -o rewrite_service_name=rw2\nrw2 unix - - n - - trivial-rewrite -o relay_domains=static:all\n"},
		{main: "mydestination = victim.example\n", master: "smtp inet n - n - - smtpd -o mydestination=\n"},
		{main: "", master: "smtp inet n - n - - smtpd -o allow_percent_hack=no -o swap_bangpath=no -o mydestination=\n"},
		{main: "parent_domain_matches_subdomains =\nrelay_domains = com\n", master: "smtp inet n - n - - smtpd -o parent_domain_matches_subdomains=relay_domains\n"},
		{main: "nets = 127.0.0.0/8\nmynetworks = $nets\n", master: "smtp inet n - n - - smtpd -o nets=0.0.0.0/0\n"},
		{main: before("permit_mynetworks"), master: "smtp inet n - n - - smtpd -o smtpd_relay_restrictions=permit,reject\n"},
		{main: before("permit_mynetworks"), master: "smtp inet n - n - - smtpd -o smtpd_relay_restrictions=permit_mynetworks,reject -o mynetworks=cidr:{{198.18.0.0/15,OK}}\n"},
	},
	made(100),
)

func each(after string, mains ...string) []rcptCase {
	var all []rcptCase
	for _, m := range mains {
		all = append(all, rcptCase{main: m + after})
	}
	return all
}

// made makes configurations out of parts, always the same ones.
func made(n int) []rcptCase {
	r := rand.New(rand.NewPCG(25, 587))
	pick := func(from ...string) string { return from[r.IntN(len(from))] }
	table := func() string {
		return pick("inline:{com=OK}", "inline:{postmaster@=OK, victim.example=REJECT}", "inline:{victim.example=OK}", "regexp:{{/abuse@/ OK} {/com$$/ REJECT}}", "pcre:{{!/victim/ OK}}",
			"static:OK", "static:DUNNO", "cidr:{{198.18.0.0/15 OK} {0.0.0.0/0 REJECT}}", "cidr:{{!198.18.0.0/15 OK}}", "inline:{unknown=OK, 2001:2=REJECT}", "inline:{com=class}", "inline:{{<> = OK} {198 = OK}}")
	}
	rule := func() string {
		return pick("permit_mynetworks", "permit_auth_destination", "warn_if_reject reject", "check_client_access "+table(), "check_sender_access "+table(), "check_recipient_access "+table(), "check_helo_access "+table(),
			"class", "reject_unauth_destination", table(), "warn_if_reject "+table(), "reject_unknown", "DEFER_unauth_destination", "permit_naked_ip_address", "check_reverse_client_hostname_access "+table())
	}
	rules := func(most int) string {
		var list []string
		for range r.IntN(most + 1) {
			list = append(list, rule())
		}
		return strings.Join(list, pick(" ", ", "))
	}
	var all []rcptCase
	for range n {
		main := "smtpd_restriction_classes = class\nclass = " + pick("permit_mynetworks", "check_sender_access inline:{victim.example=OK}", "permit_auth_destination, reject", "warn_if_reject reject, permit") + "\n"
		main += "mynetworks = " + pick("127.0.0.0/8", "127.0.0.1/8", "!198.18.0.0/15, 0.0.0.0/0", "[2001:2::]/48", "regexp:{{/18[.]0/ x}}", "com") + "\n"
		main += "relay_domains = " + pick("", "com", ".invalid", "partner.example", "!strangers-own.invalid, invalid", "regexp:{{/own.*com$$/ x}}") + "\n"
		main += pick("", "parent_domain_matches_subdomains =\n", "parent_domain_matches_subdomains = relay_domains\n") + pick("", "allow_untrusted_routing = Yes\n") + pick("", "allow_percent_hack = No\n", "swap_bangpath = no\n")
		late := pick("", "", "smtpd_delay_reject = no\n")
		main += late + pick("", "", "smtpd_relay_before_recipient_restrictions = no\n") + pick("", "recipient_delimiter = +\n")
		if late == "" { // else they are asked about the tester, before it says XCLIENT
			main += "smtpd_client_restrictions = " + rules(1) + "\n"
		}
		main += "smtpd_sender_restrictions = " + rules(1) + "\n"
		main += "smtpd_relay_restrictions = " + rules(3) + ", " + pick("reject_unauth_destination", "defer", "") + "\nsmtpd_recipient_restrictions = " + rules(2) + pick("", ", reject_unauth_destination") + "\n"
		all = append(all, rcptCase{main: main})
	}
	return all
}

func (c rcptCase) service() string {
	if c.master == "" {
		return "smtp inet n - n - - smtpd\n"
	}
	return c.master
}

// Whether a recipient is taken is asked of a real Postfix, for each
// configuration, each form, each key that its tables and lists favour, and a
// battery that knows nothing of these.
func TestPostfixAgreesByRCPT(t *testing.T) {
	var many []peers.Postfix
	for _, c := range rcptCases {
		many = append(many, peers.Postfix{Main: rcptBase + c.main, Master: c.service(), Files: c.files})
	}
	peers.Require(t)
	target := peers.Start(t, peers.Postfixes(many))
	places := make(chan int, 12)
	var wg sync.WaitGroup
	for i, c := range rcptCases {
		places <- 1
		wg.Go(func() {
			defer func() { <-places }()
			c.compare(t, target, i)
		})
	}
	wg.Wait()
}

// read reads the configuration as the doctor would find it on the server.
func (c rcptCase) read(t *testing.T) (*postfixConfig, []Finding) {
	set := map[string]string{"/etc/postfix/main.cf": rcptBase + c.main, "/etc/postfix/master.cf": c.service()}
	for name, text := range c.files {
		set["/etc/postfix/"+strings.TrimSuffix(name, "")] = text
	}
	f := Foreign{Dir: "/etc/postfix", Hostname: peers.Host, Read: files(set), Own: []machine.Interface{
		{Name: "lo", Prefix: netip.MustParsePrefix("127.0.0.1/8")},
		{Name: "lo", Prefix: netip.MustParsePrefix("::1/128")},
		{Name: "eth0", Prefix: netip.PrefixFrom(netip.MustParseAddr(peers.Target4), 24)},
		{Name: "eth0", Prefix: netip.PrefixFrom(netip.MustParseAddr(peers.Target6), 64)},
	}}
	found, err := Postfix(t.Context(), f)
	if err != nil {
		t.Error(err)
	}
	config, err := readPostfix(f)
	if err != nil {
		t.Error(err)
	}
	return config, found
}

func (c rcptCase) compare(t *testing.T, target *peers.Target, i int) {
	config, found := c.read(t)
	s := config.listeners()[0]
	var all []attempt
	faults := newFaults()
	faults.keep = func(_ *scope, a attempt) {
		if a.from == a.client.addr && !a.client.encrypted && a.client.helo != "" && !a.many && !a.mx && !a.client.login {
			all = append(all, a)
		}
	}
	s.play(faults)
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	all = append(battery(s), some(s, all)...)
	// Of one that serves nobody no banner comes; there is no need to wait for it long.
	serves, patience := len(s.fatal()) == 0, 20*time.Second
	if !serves {
		patience = 3 * time.Second
	}
	taken, err := ask(target, i, all, patience)
	if err != nil {
		t.Errorf("%q: %v", c.main, err)
		return
	}
	var open []string
	for n, a := range all {
		_, passes := s.hear(a, false)
		passes = passes && serves
		if taken[n] && s.leads(a.to, s.facts()) {
			open = append(open, a.path)
		}
		if passes != taken[n] && c.why == "" {
			t.Errorf("%q %q: %s (%s) as %s, from <%s> to <%s>: Postfix takes it: %v; we say %v", c.main, c.master, a.client.addr, a.client.name, a.client.helo, a.sender, a.path, taken[n], passes)
			return
		}
	}
	problem := Worst(found) == Problem
	if (len(open) > 0) != problem {
		t.Errorf("%q %q: Postfix takes %d of %d, such as %v; we say %v: %s", c.main, c.master, len(open), len(all), open[:min(len(open), 3)], problem, inWords(found))
	}
}

// some are enough of the attempts: first those that we say would pass.
func some(s *scope, all []attempt) []attempt {
	var pass, refused []attempt
	for _, a := range all {
		if _, passes := s.hear(a, false); passes {
			pass = append(pass, a)
		} else {
			refused = append(refused, a)
		}
	}
	return slices.Concat(pass[:min(len(pass), 100)], refused[:min(len(refused), 100)])
}

// battery is what a stranger would try who knows nothing of the configuration.
func battery(s *scope) []attempt {
	var all []attempt
	for _, from := range []string{"198.18.0.77", "2001:2::77", "100.64.0.7"} {
		for _, who := range []struct{ name, helo, sender string }{
			{"unknown", "client.strangers-own.invalid", "someone@strangers-own.invalid"},
			{"unknown", "mx.victim.example", ""},
			{"unknown", from, "postmaster@victim.example"},
			{"mail.strangers-own.com", "victim.example", "a+b@sub.victim.example"},
		} {
			for _, path := range []string{
				"token@strangers-own.invalid", "postmaster@strangers-own.invalid", "abuse@strangers-own.com", "info@mail.strangers-own.com", "token+x@strangers-own.example",
				"token%strangers-own.invalid@victim.example", "token%strangers-own.invalid@partner.example", "token@strangers-own.co.uk", "token@gmail.com", "a@strangers-ownpartner.example", "token@strangers-own.invalid@partner.example",
			} {
				a := attempt{from: netip.MustParseAddr(from), sender: who.sender, path: path}
				a.client = client{addr: a.from, name: who.name, unverified: who.name, helo: who.helo}
				var ok bool
				if a.to, ok = s.router().resolve(path); ok {
					all = append(all, a)
				}
			}
		}
	}
	return all
}

// ask says everything to the i-th Postfix, and returns which recipients it took.
func ask(target *peers.Target, i int, all []attempt, patience time.Duration) ([]bool, error) {
	taken := make([]bool, len(all))
	order := make([]int, len(all))
	for n := range order {
		order[n] = n
	}
	who := func(n int) string {
		c := all[n].client
		return c.addr.String() + " " + c.name + " " + c.helo
	}
	slices.SortStableFunc(order, func(a, b int) int { return strings.Compare(who(a), who(b)) })
	for len(order) > 0 {
		n := 1
		for n < len(order) && who(order[n]) == who(order[0]) {
			n++
		}
		served, err := askAs(target, i, all, order[:n], taken, patience)
		if err != nil && patience < 5*time.Second { // it hangs where its own rewriting service has ended
			return taken, nil
		}
		if err != nil || !served {
			return taken, err
		}
		order = order[n:]
	}
	return taken, nil
}

// askAs is one connection, as one client. It reports whether anybody is served
// there.
func askAs(target *peers.Target, i int, all []attempt, which []int, taken []bool, patience time.Duration) (bool, error) {
	conn, err := target.Dial(target.Context(), "tcp", net.JoinHostPort(peers.Target4, peers.Port(i)))
	if err != nil {
		return false, nil // its master has ended
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return false, err
	}
	c := all[which[0]].client
	addr, name := c.addr.String(), c.name
	if c.addr.Is6() {
		addr = "IPV6:" + addr
	}
	if name == "unknown" {
		name = "[UNAVAILABLE]"
	}
	r := bufio.NewReader(conn)
	reply := func() (string, error) {
		for {
			line, err := r.ReadString('\n')
			if err != nil || len(line) < 4 || line[3] == ' ' {
				return line, err
			}
		}
	}
	if _, err := reply(); err != nil {
		return false, nil // its smtpd ends when it reads its configuration
	}
	say := func(text string) (string, error) {
		if _, err := fmt.Fprintf(conn, "%s\r\n", text); err != nil {
			return "", err
		}
		return reply()
	}
	for _, text := range []string{"EHLO tester", "XCLIENT ADDR=" + addr + " NAME=" + name + " REVERSE_NAME=" + name, "EHLO " + c.helo} {
		answer, err := say(text)
		switch {
		case err != nil:
			return false, err
		case answer[0] == '4' || answer[0] == '5':
			return true, nil // refused before MAIL, as without smtpd_delay_reject
		}
	}
	for _, n := range which {
		a := all[n]
		if _, err := say("MAIL FROM:<" + a.sender + ">"); err != nil {
			return false, err
		}
		answer, err := say("RCPT TO:<" + a.path + ">")
		if err != nil {
			return false, err
		}
		taken[n] = answer[0] == '2'
		if _, err := say("RSET"); err != nil {
			return false, err
		}
	}
	return true, nil
}
