package main

import (
	"bytes"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"postern/serve"
)

// here sets the place for a test.
func here(t *testing.T, place *time.Location) {
	old := time.Local
	time.Local = place
	t.Cleanup(func() { time.Local = old })
}

func TestPrintTrace(t *testing.T) {
	here(t, time.FixedZone("CET", 3600))
	at := time.Date(2026, 11, 24, 13, 2, 11, 204e6, time.UTC)
	m := serve.Trace{
		ID: "06G1JX6QZR8V3KTM", State: "deferred", MessageID: "<r1@example.org>", Accepted: at, From: "<anna@example.org>", Size: 12345,
		Listener: "submission", Peer: "192.0.2.20", Helo: "pc.example.org", Identity: "anna", TLS: "TLS 1.3",
		To: []serve.TraceRecipient{
			{Recipient: "<b@far.example>", Reason: "authenticated", Who: "anna", At: "postern.hcl:31:1", Goes: []serve.TraceDelivery{{To: "b@far.example"}}},
			{Recipient: "<sales@example.org>", Reason: "inbound", Who: "example.org", At: "postern.hcl:9:1", Goes: []serve.TraceDelivery{{To: "c@slow.example"}}},
		},
		Events: []serve.TraceEvent{
			{At: at, Event: "held", Note: "anna has reached its limit"},
			{At: at.Add(time.Second), Event: "released"},
			{At: at.Add(2 * time.Second), Event: "delivered", To: "b@far.example", Attempt: 1, Reply: "250 2.0.0 ok 7A1", Host: "mx1.far.example", Addr: "[2001:db8::9]:25", TLS: "TLS 1.3 verified"},
			{At: at.Add(3 * time.Second), Event: "deferred", To: "c@slow.example", Attempt: 1, Next: at.Add(time.Hour), Note: "connection refused"},
			{At: at.Add(23 * time.Hour), Event: "deferred", To: "c@slow.example", Attempt: 2, Next: at.Add(24 * time.Hour), Host: "mx.slow.example", Addr: "198.51.100.9:25", Reply: "451 \x1b[2J\u202e4.7.1\xff\u009b " + strings.Repeat("x", 1000)},
		},
	}
	want := `06G1JX6QZR8V3KTM  <r1@example.org>  12345 octets  deferred
  from  <anna@example.org>   from anna (TLS 1.3, 192.0.2.20, as pc.example.org) by listener submission
  to    <b@far.example>      granted: authenticated anna  postern.hcl:31:1
  to    <sales@example.org>  granted: inbound example.org  postern.hcl:9:1
          goes to c@slow.example
  Tue 24 Nov 2026 CET
  14:02:11.204  accepted
  14:02:11.204  held: anna has reached its limit
  14:02:12.204  released
  14:02:13.204  b@far.example   delivered  mx1.far.example 2001:db8::9  TLS 1.3 verified  "250 2.0.0 ok 7A1"
  14:02:14.204  c@slow.example  deferred   connection refused; next 24 Nov 15:02:11 (attempt 1)
  Wed 25 Nov 2026 CET
  13:02:11.204  c@slow.example  deferred  mx.slow.example 198.51.100.9  no TLS  "451 \x1b[2J\u{202e}4.7.1\xff\x9b ` + strings.Repeat("x", 383) + `…"; next 25 Nov 14:02:11 (attempt 2)
`
	var b bytes.Buffer
	if err := printTraces(&b, &lives{messages: []serve.Trace{m}}, false); err != nil || b.String() != want {
		t.Errorf("%v\ngot\n%s\nwant\n%s", err, b.String(), want)
	}
	b.Reset()
	m.Hold, m.State = "over \x07 its limit", "held"
	m.To[1].Goes[0].Waits = &serve.Wait{For: "operator", Why: m.Hold}
	if err := printTraces(&b, &lives{messages: []serve.Trace{m}, moreMessages: true}, false); err != nil || !strings.HasSuffix(b.String(), "  c@slow.example waits for you: over \\x07 its limit; postern queue release 06G1JX6QZR8V3KTM, or delete\n  (the newest; there are more: --max, --since, --until)\n") {
		t.Errorf("held: %v\n%s", err, b.String())
	}
	b.Reset()
	m.From = "<a\x1b[1m@example.org>"
	want = `ACCEPTED             ID                STATE  FROM                    TO
24 Nov 14:02:11.204  06G1JX6QZR8V3KTM  held   <a\x1b[1m@example.org>  <b@far.example> and 1 more
24 Nov 14:02:11.204  06G1JX6QZR8V3KTM  held   <a\x1b[1m@example.org>  <b@far.example> and 1 more

there are more: --max, --since, --until; postern trace ID prints one in full
`
	if err := printTraces(&b, &lives{messages: []serve.Trace{m, m}, moreMessages: true}, false); err != nil || b.String() != want {
		t.Errorf("a list: %v\ngot\n%s\nwant\n%s", err, b.String(), want)
	}
}

func TestTraceWords(t *testing.T) {
	here(t, time.UTC)
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		s    traceSearch
		arg  string
		want string
	}{
		{traceSearch{}, "06g1jx6qzr8v3ktm", "[id=06G1JX6QZR8V3KTM]"},
		{traceSearch{}, "<x@y>", "[name=<x@y> address=<x@y>]"},
		{traceSearch{to: "@far.example"}, "x@y", "[address=x@y&to=@far.example name=x@y&to=@far.example]"},
		{traceSearch{from: "<>"}, "", "[from=<>]"},
		{traceSearch{since: "2h", until: "10:30"}, "", "[since=2026-11-24T10:00:00Z&until=2026-11-24T10:30:00Z]"},
		{traceSearch{}, "hello", "neither an id"},
		{traceSearch{}, "<>", "--from '<>'"},
		{traceSearch{since: "x"}, "", "no time"},
		{traceSearch{most: -1}, "", "one at least"},
	} {
		var args []string
		if c.arg != "" {
			args = []string{c.arg}
		}
		if c.s.most == 0 {
			c.s.most = 20
		}
		list, err := c.s.words(args, now)
		var words []string
		for _, v := range list {
			s, err := url.QueryUnescape(v.Encode())
			if err != nil {
				t.Fatal(err)
			}
			words = append(words, s)
		}
		if got := fmt.Sprint(words); err == nil && got != c.want || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q %+v: got %s, %v; want %s", c.arg, c.s, got, err, c.want)
		}
	}
}

func TestMoment(t *testing.T) {
	cet := time.FixedZone("CET", 3600)
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, cet)
	for s, want := range map[string]string{
		"90m": "2026-11-24T10:30:00+01:00", "3d": "2026-11-21T12:00:00+01:00", "2w": "2026-11-10T12:00:00+01:00",
		"0s": "2026-11-24T12:00:00+01:00", "11:59": "2026-11-24T11:59:00+01:00", "12:01": "2026-11-23T12:01:00+01:00", "23:59:58": "2026-11-23T23:59:58+01:00",
		"2026-11-01": "2026-11-01T00:00:00+01:00", "2026-11-01 10:00": "2026-11-01T10:00:00+01:00", "2026-11-01T10:00:01": "2026-11-01T10:00:01+01:00",
		"2026-11-01T10:00:01Z": "2026-11-01T10:00:01Z",
		"-2h":                  "", "d": "", "-1d": "", "1.5d": "", "99999999d": "", "soon": "", "2026-13-01": "", "25:00": "",
	} {
		got, err := moment(s, now)
		if (err != nil) != (want == "") || err == nil && got.Format(time.RFC3339) != want {
			t.Errorf("%s: got %v, %v; want %s", s, got, err, want)
		}
	}
}
