package serve

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/forward"
	"postern/guard"
	"postern/internal/identity"
	"postern/smtp"
)

var update = flag.Bool("update", false, "write docs/limits.md anew")

// A bound is one row of docs/limits.md: a limit that a stranger can reach.
type bound struct {
	field string // of the defaults that it is, as TestLimitsPageIsWhole knows them
	what  string
	value any
	word  string // of the configuration; "" for none
	at    string // what happens there
	hurt  string // who feels it
}

type chapter struct {
	title, says string
	bounds      []bound
}

// chapters are the page. What is written here in words is written nowhere else;
// every number is that of the code.
func chapters() []chapter {
	e, g, f, l := smtp.DefaultLimits, guard.DefaultLimits, forward.DefaultLimits, identity.DefaultGuessLimits
	return []chapter{
		{"Places", "Each listener has its own. What the machine's descriptors and memory do not carry is said at the start, and so many are served as they do carry.", []bound{
			{"smtp.Connections", "connections at once", e.Connections, "connections", "`421 4.3.2 Busy`. From four fifths on, strangers have 10 s for what else has minutes, 2 minutes for a session without a message and 10 commands that lead nowhere; the last tenth is for trusted clients and for addresses that logged in or brought a message in the last 30 days", "strangers who come in that moment; servers of others try again"},
			{"smtp.PerClient", "of one address (IPv6: /64)", e.PerClient, "connections_per_client", "`421 4.7.0 Too many connections from your address`", "that address"},
			{"smtp.PerNetwork", "of one /24 (IPv6: /56)", e.PerNetwork, "", "the same", "that network: an office, a household"},
			{"smtp.PerSite", "of one /48 of IPv6", e.PerSite, "connections_per_site", "the same", "that customer of a provider"},
			{"guard.Connections", "new ones of one address in a time", g.Connections, "new_connections", "`421 4.7.0 Too many connections from your address; slow down`", "that address"},
			{"", "descriptors", "LimitNOFILE", "", "`421 4.3.2 Busy` by one that is held in reserve, a line of the log a minute, `postern_accept_failures_total`; nobody waits unheard, and the relay goes on", "clients that come in that moment"},
		}},
		{"Time", "A client that is slow, or says nothing, holds its place for so long.", []bound{
			{"guard.Pause", "before the banner of role mx", 500 * time.Millisecond, "greet_pause", "a client that talks before it is refused with 554", "nobody who speaks SMTP"},
			{"smtp.Idle", "until the next command", e.Idle, "", "`421 4.4.2 Waited too long`", "that client"},
			{"smtp.Command", "for a command to come to its line end", e.Command, "", "the same", "that client"},
			{"smtp.Barren", "of a session without a message", e.Barren, "barren", "`421 4.4.2 No message for too long`", "clients that keep a connection for later; they connect again"},
			{"smtp.DataIdle", "between two segments of a message", e.DataIdle, "", "`421 4.4.2`; nothing is stored", "that client; it sends again"},
			{"smtp.DataTotal", "for a whole message", e.DataTotal, "", "the same", "that client"},
			{"smtp.DataRate", "octets a second of a message, after the first minutes", e.DataRate, "", "the same", "that client"},
			{"smtp.Write", "for a reply to leave", e.Write, "", "closed", "that client"},
			{"smtp.Handshake", "for TLS to be made", e.Handshake, "", "closed", "that client"},
			{"smtp.Drain", "for messages under way when the relay ends", e.Drain, "", "cut off; not answered 250, so sent again", "clients with large messages in that moment"},
		}},
		{"One session", "", []bound{
			{"smtp.Errors", "replies of class 5", e.Errors, "errors", "`421 4.7.0 Too many errors`", "that client"},
			{"smtp.AuthErrors", "failed logins", e.AuthErrors, "", "`421 4.7.0 Too many failed logins`", "that client"},
			{"guard.Unknown", "mailboxes that do not exist", g.Unknown, "unknown_recipients", "`421 4.7.0 Too many mailboxes that do not exist`", "that client: an old list, or a program that guesses"},
			{"smtp.Messages", "messages; those who log in and trusted clients: no limit", e.Messages, "", "`421 4.7.0 Enough messages for one connection`", "that client; it connects again"},
			{"smtp.Fruitless", "commands since the last message that bring none nearer (NOOP, RSET, HELP, VRFY, EXPN, EHLO, HELO)", e.Fruitless, "fruitless", "`421 4.4.2 No message for too long`", "that client"},
			{"smtp.Recipients", "recipients of a message; those who log in and trusted clients: 1000", e.Recipients, "recipients", "`452 4.5.3`; the rest is sent again", "nobody who follows RFC 5321"},
			{"smtp.CommandLine", "octets of a command", e.CommandLine, "", "`500 5.5.2 Line too long`", "that client"},
			{"smtp.AuthLine", "octets of AUTH and its responses", e.AuthLine, "", "the same", "that client"},
		}},
		{"One message", "", []bound{
			{"smtp.MessageSize", "octets", e.MessageSize, "message_size", "`552 5.3.4`", "that sender"},
			{"smtp.TextLine", "octets of a line", e.TextLine, "", "`550 5.6.0`", "that sender"},
			{"guard.HeaderBytes", "octets of the header", g.HeaderBytes, "", "`550 5.6.0`", "that sender"},
			{"guard.HeaderLines", "fields of the header", g.HeaderLines, "", "`550 5.6.0`", "that sender"},
			{"guard.Hops", "Received fields", g.Hops, "", "`554 5.4.6 Loop`", "mail that goes in circles"},
		}},
		{"What strangers bring in a time", "At role mx. A network (/24, IPv6: /48) has four times as much as one address; so has an address behind which many clients seem to be, as a gateway of ours.", []bound{
			{"guard.Strangers", "messages that come", g.Strangers, "stranger_messages", "`451 4.7.1 Too much from your address for now`", "that address and its network; servers try again"},
			{"guard.StrangerRcpts", "recipients that are named", g.StrangerRcpts, "stranger_recipients", "the same", "the same"},
			{"guard.StrangerBytes", "octets", octets{g.StrangerBytes}, "stranger_bytes", "the same", "the same; behind an address of a large provider these are its other customers"},
			{"guard.PerAlias", "foreign addresses to which one alias forwards", g.PerAlias, "per_alias", "`452 4.7.1 This address gets too much mail just now`; for one network (/24, IPv6: /48) at a quarter", "people who write to that alias, and first those of a network that writes much"},
		}},
		{"Memory", "Shares of what the machine and the control groups above the relay allow; a container of 256 MiB is enough. `GOMEMLIMIT` is set to what is left, unless it is given.", []bound{
			{"", "of messages that come in: an eighth, at most", int64(mostFlight), "", "`452 4.3.1 Short of memory`; a quarter is kept for logins and trusted clients, and one network has a fifth of the rest", "strangers in that moment; servers try again"},
			{"", "of the queue's tables and cache: a sixteenth, at most", int64(mostStore), "", "writes wait for the disk", "all, for milliseconds"},
		}},
		{"Logins", "By failures; [policy.md](policy.md) says what a right password is worth beyond them.", []bound{
			{"guess.Network", "of one account, from one network", l.Network, "", "later turns, or `454 4.7.0`", "a client that guesses there"},
			{"guess.Known", "of one account, in a day, from one network that it knows", l.Known, "", "turns that grow to 5 minutes; each login takes 10 failures back", "that account, in that network"},
			{"guess.KnownAll", "of all accounts, in a day, from one network that they know", l.KnownAll, "", "turns that grow to 30 seconds", "accounts that failed three times there"},
			{"guess.Site", "of one account, from one site (/48)", l.Site, "", "later turns, or `454 4.7.0`", "a client that guesses there"},
			{"guess.Client", "of one client, whatever the account", l.Client, "", "the same", "that client"},
			{"guess.ClientLonger", "of one client, in a day", l.ClientLonger, "", "the same", "that client, and whoever shares its address"},
			{"guess.SiteLonger", "of one site, in a day", l.SiteLonger, "", "the same", "that site"},
			{"guess.Account", "of one account, from anywhere", l.Account, "", "the same, for unfamiliar networks", "clients that guess; the owner waits for a turn"},
			{"guess.All", "of everybody together", l.All, "", "the same, for unfamiliar networks", "clients that guess; people who travel wait for a turn"},
		}},
		{"Gateways", "SOCKS and CONNECT.", []bound{
			{"forward.Connections", "connections at once; a gateway of the relay: 10000, as far as the machine carries them", f.Connections, "", "closed without a word; a stream of HTTP/2: 503", "clients that come in that moment"},
			{"forward.PerClient", "of one address (IPv6: /64); a gateway of the relay: 500", f.PerClient, "", "the same", "that address"},
			{"forward.Request", "for a request to be whole", f.Request, "", "closed", "that client"},
			{"forward.Dial", "for the connection to the destination", f.Dial, "", "refused as unreachable", "that client"},
			{"forward.Idle", "of a tunnel without an octet", f.Idle, "", "both ends are closed", "that client"},
			{"forward.Half", "for what is on its way when one end has ended", f.Half, "", "the same", "that client"},
		}},
	}
}

// octets is a rate of them.
type octets struct{ guard.Rate }

func (b bound) String() string {
	value := fmt.Sprint(b.value)
	switch v := b.value.(type) {
	case int64:
		value = sizeInWords(v)
	case octets:
		_, unit, _ := strings.Cut(v.String(), "/")
		value = sizeInWords(v.N) + "/" + unit
	case time.Duration:
		value = spell(v)
	case identity.Limit:
		value = fmt.Sprintf("%d in %s", v.Failures, spell(v.In))
	}
	word := ""
	if b.word != "" {
		word = "`" + b.word + "`"
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s |", b.what, value, word, b.at, b.hurt)
}

// spell writes a time without what is zero in it.
func spell(d time.Duration) string {
	text := d.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if short, ok := strings.CutSuffix(text, zero); ok {
			text = short + zero[:1]
		}
	}
	return text
}

func sizeInWords(n int64) string {
	for _, u := range []struct {
		name string
		n    int64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if n%u.n == 0 && n > 0 {
			return fmt.Sprintf("%d %s", n/u.n, u.name)
		}
	}
	return fmt.Sprint(n)
}

func limitsPage() []byte {
	var b bytes.Buffer
	b.WriteString("# Limits\n\nEvery limit that a stranger can reach: what holds without a word of the configuration, its word in [`limits`](configuration.md#limits) where it has one, what happens there, and who is hurt. A reply of class 4 means that a server tries again by itself. Room on the disk is in [delivery.md](delivery.md). This page is made from the values of the code.\n")
	for _, c := range chapters() {
		fmt.Fprintf(&b, "\n## %s\n", c.title)
		if c.says != "" {
			fmt.Fprintf(&b, "%s\n\n", c.says)
		}
		b.WriteString("| limit | default | word | at the limit | who is hurt |\n| --- | --- | --- | --- | --- |\n")
		for _, each := range c.bounds {
			fmt.Fprintln(&b, each)
		}
	}
	return b.Bytes()
}

func TestLimitsPageIsFresh(t *testing.T) {
	const page = "../docs/limits.md"
	want := limitsPage()
	if *update {
		if err := os.WriteFile(page, want, 0o644); err != nil { //nolint:gosec // a page of the docs
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(page); err != nil || !bytes.Equal(got, want) {
		t.Errorf("docs/limits.md is stale (%v); write it anew with: go test ./serve -run LimitsPage -update", err)
	}
}

// A limit that is added has a row.
func TestLimitsPageIsWhole(t *testing.T) {
	var rows []string
	for _, c := range chapters() {
		for _, b := range c.bounds {
			rows = append(rows, b.field)
			if b.at == "" || b.hurt == "" {
				t.Errorf("%q does not say what happens and who is hurt", b.what)
			}
		}
	}
	ours := []string{"guard.PerUser", "guard.PerUserBytes", "guard.PerClient", "guard.Clients"} // which no stranger reaches
	for name, defaults := range map[string]any{"smtp": smtp.Limits{}, "guard": guard.Limits{}, "forward": forward.Limits{}, "guess": identity.GuessLimits{}} {
		of := reflect.TypeOf(defaults)
		for i := range of.NumField() {
			field := name + "." + of.Field(i).Name
			if slices.Contains(ours, field) == slices.Contains(rows, field) {
				t.Errorf("%s: a row that a stranger's limit lacks, or one that is no stranger's", field)
			}
		}
	}
}
