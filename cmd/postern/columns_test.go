package main

import (
	"strings"
	"testing"
	"unicode/utf8"

	"postern/catch"
)

func TestTablesFitOnAScreen(t *testing.T) {
	var b strings.Builder
	rows := &table{w: &b}
	rows.row("ADDRESS", "SPECIMEN", "WHAT IT IS")
	rows.row("127.0.0.1:2501", "open", "relays for anybody")
	rows.row("127.0.0.11:2555", "socks-itself", "leads everybody to a mail server of its own, which takes all and sends nothing, for ever")
	rows.row("127.0.0.11:2556", "wörd", strings.Repeat("ü", 90))
	if err := rows.flush(); err != nil {
		t.Fatal(err)
	}
	want := `ADDRESS          SPECIMEN      WHAT IT IS
127.0.0.1:2501   open          relays for anybody
127.0.0.11:2555  socks-itself  leads everybody to a mail server of its own,
                               which takes all and sends nothing, for ever
127.0.0.11:2556  wörd          ` + strings.Repeat("ü", 90) + "\n"
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

func TestCaughtLinesFitOnAScreen(t *testing.T) {
	long := strings.Repeat("very.long.", 12) + "example"
	for _, m := range []struct{ from, to, subject string }{
		{"shop@example.org", "anna@example.org", "Your order"},
		{"shop@" + long, "anna@" + long, strings.Repeat("Grüße ", 30)},
	} {
		line := caughtLine(catch.Message{ID: "00000012", From: m.from, To: []string{m.to}, Subject: m.subject, Size: 123456})
		if n := utf8.RuneCountInString(line); n > columns {
			t.Errorf("%d columns: %s", n, line)
		}
		if !strings.Contains(line, m.from[:10]) || !strings.Contains(line, m.to[:10]) || !strings.Contains(line, m.subject[:5]) {
			t.Errorf("%q names too little", line)
		}
	}
}
