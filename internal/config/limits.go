package config

import (
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"postern/guard"
	"postern/serve"
)

var limitsBlock = block{
	name: "limits", says: "what one client, and all of them, may make the relay hold or wait for",
	words: []word{
		{"message_size", "size", "25MiB", "of one message"},
		{"recipients", "number", "100, and 1000 of those who log in", "of one message"},
		{"per_user", "rate", "1000/d", "messages of a user; beyond, they are held"},
		{"per_user_bytes", "size a day", "2GiB/d", "octets of a user; beyond, messages are held"},
		{"per_client", "rate", "300/h", "recipients of a trusted client; beyond, messages are held"},
		{"per_alias", "rate", "300/h", "foreign addresses to which an alias forwards strangers' mail; beyond, it is put off, and for one network at a quarter"},
		{"connections", "number", "2000", "at once, of all clients"},
		{"connections_per_client", "number", "20", "at once, of one address"},
		{"new_connections", "rate", "60/m", "of one address"},
		{"connections_per_site", "number", "200", "at once, of one /48 of IPv6"},
		{"stranger_messages", "rate", "1000/h", "that begin at role mx, of one address; its network (/24, /48) has four times as much; beyond, they are put off"},
		{"stranger_recipients", "rate", "3000/h", "that are named at role mx, the same"},
		{"stranger_bytes", "size a time", "2GiB/h", "octets of messages at role mx, the same"},
		{"barren", "time", "30m", "of a session without a message; beyond, it is closed"},
		{"fruitless", "number", "100", "commands since the last message that bring none nearer: NOOP, RSET, EHLO, ...; beyond, the session is closed"},
		{"unknown_recipients", "number", "5", "mailboxes that do not exist, in one session"},
		{"errors", "number", "20", "refusals in one session"},
		{"greet_pause", "time", "500ms", "before the banner of role mx; who talks within it is refused"},
	},
	read: func(r *reader, s section) {
		e, g := &r.settings.Engine, &r.settings.Guard
		s.size("message_size", func(n int64) { e.MessageSize = n })
		s.number("recipients", func(n int) { e.Recipients = n })
		s.rate("per_user", func(rate guard.Rate) { g.PerUser = rate })
		s.sizeRate("per_user_bytes", []string{"d"}, "2GiB/d", func(rate guard.Rate) { g.PerUserBytes = rate })
		s.rate("per_client", func(rate guard.Rate) { g.PerClient = rate })
		s.rate("per_alias", func(rate guard.Rate) { g.PerAlias = rate })
		s.number("connections", func(n int) { e.Connections = n })
		s.number("connections_per_client", func(n int) { e.PerClient, e.PerNetwork = n, max(n, 50) })
		s.rate("new_connections", func(rate guard.Rate) { g.Connections = rate })
		s.number("connections_per_site", func(n int) { e.PerSite = n })
		s.rate("stranger_messages", func(rate guard.Rate) { g.Strangers = rate })
		s.rate("stranger_recipients", func(rate guard.Rate) { g.StrangerRcpts = rate })
		s.sizeRate("stranger_bytes", []string{"m", "h", "d"}, "2GiB/h", func(rate guard.Rate) { g.StrangerBytes = rate })
		s.duration("barren", func(d time.Duration) { e.Barren = d })
		s.number("fruitless", func(n int) { e.Fruitless = n })
		s.number("unknown_recipients", func(n int) { g.Unknown = n })
		s.number("errors", func(n int) { e.Errors = n })
		s.duration("greet_pause", func(d time.Duration) { g.Pause = d })
	},
}

var deliveryBlock = block{
	name: "delivery", says: "how much is delivered at once, and how long it is tried",
	words: []word{
		{"lifetime", "time", "5d", "after which mail that could not be delivered goes back to who sent it"},
		{"notice_lifetime", "time", "2d", "the same for notices, which nobody waits for"},
		{"delay_notice", "time", "4h", "after which who sent it is told once that we still try; 0s: never"},
		{"withheld", "time", "7d", "after which mail is deleted that failed, of which nobody can be told, and about which nobody decided; 0s: never"},
		{"connections", "number", "500", "attempts at once, to all destinations"},
		{"per_destination", "number", "20", "attempts at once, to one domain that answers well"},
	},
	read: func(r *reader, s section) {
		d := &r.settings.Delivery
		s.duration("lifetime", func(t time.Duration) { d.Message = t })
		s.duration("notice_lifetime", func(t time.Duration) { d.Notice = t })
		s.duration("delay_notice", func(t time.Duration) {
			if d.Delay = t; t == 0 {
				d.Delay = -1
			}
		})
		s.duration("withheld", func(t time.Duration) {
			if d.Withheld = t; t == 0 {
				d.Withheld = -1
			}
		})
		s.number("connections", func(n int) { d.Total = n })
		s.number("per_destination", func(n int) { d.Each = n })
	},
}

var traceBlock = block{
	name: "trace", says: "what is remembered of messages that left",
	words: []word{
		{"keep", "time", "30d", "how long it is known where a message came from and what became of it"},
		{"messages", "number", "1000000", "of how many that is known; beyond, the oldest are forgotten sooner"},
	},
	read: func(r *reader, s section) {
		s.duration("keep", func(t time.Duration) { r.settings.Trace = t })
		s.number("messages", func(n int) { r.settings.Traces = n })
	},
}

// leastAudit is between two audits: each takes about a second of all
// processors.
const leastAudit = time.Minute

var auditBlock = block{
	name: "audit", says: "when the relay audits itself, besides at each start and reload",
	words: []word{{"every", "time", "6h", "between two audits"}},
	read: func(r *reader, s section) {
		s.duration("every", func(d time.Duration) {
			if v, _ := s.text("every"); d < leastAudit {
				r.stop(v.at, fmt.Sprintf("every: %s between two audits leaves no time for mail", d), "write 1m or more, as 6h")
			}
			r.settings.Audit.Every = d
		})
	},
}

var metricsBlock = block{
	name: "metrics", says: "numbers for Prometheus at /metrics, and /healthz",
	words: []word{{"address", "text", "", "where it listens, as 127.0.0.1:9125"}},
	read: func(r *reader, s section) {
		v, ok := s.text("address")
		if s.body.Attributes["address"] == nil {
			r.stop(s.at, "metrics has no address", `write address = "127.0.0.1:9125"`)
		}
		if !ok {
			return
		}
		a, err := netip.ParseAddrPort(v.text)
		if err != nil {
			r.stop(v.at, fmt.Sprintf("address %q is no address and port", v.text), `write address = "127.0.0.1:9125"`)
			return
		}
		r.taken(serve.Listener{Name: serve.MetricsSocket, Addrs: []netip.AddrPort{a}, At: v.at})
		r.settings.Metrics, r.settings.MetricsAt = a, v.at
	},
}

var logBlock = block{
	name: "log", says: "the mail log, on standard error",
	words: []word{
		{"level", "debug, info, warn, error", "info", "the least that is logged"},
		{"format", "text, json", "text", "how a line is written"},
	},
	read: func(r *reader, s section) {
		s.one("level", []string{"debug", "info", "warn", "error"}, func(w string) { r.settings.Log.Level = w })
		s.one("format", []string{"text", "json"}, func(w string) { r.settings.Log.JSON = w == "json" })
	},
}

var storageBlock = block{
	name: "storage", says: "where the queue is kept",
	words: []word{{"engine", "pebble", "pebble", "the embedded store, in the state folder"}},
	read: func(r *reader, s section) {
		if v, ok := s.text("engine"); ok && v.text != "pebble" {
			r.stop(v.at, "engine "+strconv.Quote(v.text)+" is not built yet", `leave it out, or write engine = "pebble"`)
		}
	},
}
