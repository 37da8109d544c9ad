package doctor

import (
	"fmt"
	"slices"
	"strings"
)

const (
	safeNetworks = "127.0.0.0/8 [::ffff:127.0.0.0]/104 [::1]/128"
	safeRelay    = "permit_mynetworks, permit_sasl_authenticated, reject_unauth_destination"
)

// finding says a fault in words: what lets strangers relay, and the line that
// closes it.
func (f *found) finding(c *postfixConfig) Finding {
	out := Finding{Level: Problem, At: c.pos(f.ground.place()), Forms: f.forms}
	switch f.kind {
	case "proxy":
		out.Check = "smtpd_upstream_proxy_protocol"
		if f.scope.postscreen {
			out.Check = "postscreen_upstream_proxy_protocol"
		}
		out.What = "every client is believed when it names another address in a PROXY header, and may so claim a trusted one"
		out.Do = f.set(out.Check, "") + "\nor let only the balancer's address reach this port (firewall)"
	case "xclient":
		out.Check = "smtpd_authorized_xclient_hosts"
		out.What = fmt.Sprintf("%s may say with XCLIENT that they are 127.0.0.1, or logged in", strangers(f.ground.text))
		out.Do = f.set(out.Check, "")
	case "routing":
		out.Check = "allow_untrusted_routing"
		out.What = "an address with a way on, like user%elsewhere@partner, is handed to the partner's server, which may follow it"
		out.Do = f.set(out.Check, "no")
	case "destination":
		out.Check = "relay_domains"
		out.What = fmt.Sprintf("%s in relay_domains lets everybody send to %s", f.ground.text, f.whose())
		out.Do = "name in relay_domains the domains for which you are a relay, each of them whole"
	case "missing":
		out.Check = "smtpd_relay_restrictions"
		out.What = "no restriction refuses foreign recipients: whoever comes may relay"
		out.Do = f.set(out.Check, safeRelay)
	default:
		f.early(c, &out)
	}
	if !f.proved {
		return Finding{
			Check: f.stage.name, Level: Note, At: out.At,
			What: fmt.Sprintf("not decided: %s; %s stands before what refuses foreign recipients, and could let them pass", f.stage.why.undecided, f.rule()),
			Do:   "look at what it answers to strangers, or let it have its turn after reject_unauth_destination",
		}
	}
	if f.scope.local {
		out.Level = Warning
		out.What = strings.Join(f.services, ", ") + ": reached from this machine only; whoever forwards connections to it opens it: " + out.What
	} else if len(c.listeners()) > 1 {
		out.What += " (" + strings.Join(f.services, ", ") + ")"
	}
	return out
}

// whose says to which domains strangers could send: of a pattern that means
// more than one name it is those of whoever has one there.
func (f *found) whose() string {
	switch domain := strings.TrimPrefix(f.ground.text, "."); {
	case slices.Contains(mailProviders, domain):
		return "a provider where anybody has a mailbox"
	case isTable(domain) || f.ground.text == "everything":
		return "every domain"
	default:
		return "every name under " + domain + ", where whoever likes has one"
	}
}

func (f *found) rule() string {
	return f.stage.rules[f.stage.at].text()
}

// early says which restriction permits before another could refuse.
func (f *found) early(c *postfixConfig, out *Finding) {
	out.Check = f.stage.name
	out.Do = f.set(f.stage.name, f.without())
	rule := f.stage.rules[f.stage.at]
	word := strings.ToLower(rule.word.text)
	written := c.pos(rule.word.place())
	switch {
	case word == "permit_mynetworks":
		out.Check = "mynetworks"
		out.What = fmt.Sprintf("mynetworks holds %s: %s relay", f.ground.text, strangers(f.ground.text))
		if f.ground.place().line == 0 {
			out.What += fmt.Sprintf(" (mynetworks_style = %s makes it from this machine's own addresses)", f.scope.text("mynetworks_style"))
		}
		out.Do = f.closeNetworks()
	case word == "permit_mx_backup":
		out.What = "permit_mx_backup relays to every domain that names this server as an MX, and anybody's domain may"
		out.Do += "\nname the domains for which you are a backup in relay_domains"
	case word == "permit_tls_all_clientcerts" || word == "permit_tls_clientcerts":
		out.What = rule.word.text + " lets everybody relay who shows a certificate of whatever authority this server knows"
		if word == "permit_tls_clientcerts" {
			out.What = "permit_tls_clientcerts asks relay_clientcerts, and this answers yes to every certificate"
		}
	case word == "permit_naked_ip_address":
		out.What = "permit_naked_ip_address lets everybody relay who says a bare address in HELO"
	case strings.HasPrefix(word, "check_"):
		keys := make([]string, 0, 3)
		for _, g := range f.grounds {
			if len(keys) == 3 {
				keys = append(keys, "and others")
				break
			}
			keys = append(keys, g.text)
		}
		out.What = fmt.Sprintf("%s says OK to %s before foreign recipients are refused: %s", rule.text(), strings.Join(keys, ", "), claims(word))
		if written != out.At {
			out.What += " (it stands at " + written.String() + ")"
		}
	default:
		out.What = fmt.Sprintf("%s permits before foreign recipients are refused", rule.text())
	}
}

// claims says why what a table looks up proves nothing.
func claims(word string) string {
	switch word {
	case "check_sender_access":
		return "a sender is anybody's to write"
	case "check_helo_access":
		return "a HELO name is anybody's to say"
	case "check_client_access":
		return "a stranger may be one, by address or by a name of their own"
	case "check_recipient_access":
		return "whoever likes has such an address elsewhere, and mail to it is relayed"
	}
	return "and strangers are among them"
}

func strangers(network string) string {
	if strings.HasSuffix(strings.TrimLeft(network, "!"), "/0") || network == "everything" || network == "all" {
		return "all strangers"
	}
	return "strangers in " + network
}

// without is the list without the restriction at fault.
func (f *found) without() string {
	words := make([]string, 0, len(f.stage.rules))
	refuser := false
	for i, r := range f.stage.rules {
		if i == f.stage.at {
			continue
		}
		refuser = refuser || refuses(r)
		words = append(words, r.text())
	}
	if !refuser {
		words = append(words, "reject_unauth_destination")
	}
	return strings.Join(words, ", ")
}

// closeNetworks sets mynetworks to what is left of it when the networks of
// strangers are taken out.
func (f *found) closeNetworks() string {
	if file := f.ground.place().file; file != mainCF && file != masterCF {
		return "take this line out\npostfix reload"
	}
	var words []string
	for _, w := range f.scope.get("mynetworks").words() {
		p, flaw := parseNetwork(w.text)
		if flaw == "" && !wide(p) {
			words = append(words, w.text)
		}
	}
	if len(words) == 0 {
		words = []string{safeNetworks}
	}
	return f.set("mynetworks", strings.Join(words, " "))
}

// set is the line that sets a parameter where it was set: in main.cf, or
// behind -o in master.cf.
func (f *found) set(name, to string) string {
	s := f.scope.service
	if _, ok := s.overrides[name]; ok {
		return fmt.Sprintf("postconf -P %s\npostfix reload", shellWord(fmt.Sprintf("%s/%s/%s=%s", s.name, s.kind, name, to)))
	}
	return fmt.Sprintf("postconf -e %s\npostfix reload", shellWord(strings.TrimSpace(name+" = "+to)))
}

// shellWord quotes what another wrote, so that a shell takes it as one word.
func shellWord(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
