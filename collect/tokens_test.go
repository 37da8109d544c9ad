package collect

import (
	"slices"
	"strings"
	"testing"
	"time"

	"postern/plan"
)

var testTime = time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)

func TestFind(t *testing.T) {
	k := newKeys(testSecret)
	list := must(k.mint(2, time.Hour, testTime))
	a, b := string(list[0]), string(list[1])
	old := string(plan.Mint(k.token, [5]byte{1}, testTime.Add(-time.Hour)))
	for _, c := range []struct {
		name, text string
		want       []plan.Token
		expired    bool
	}{
		{"alone", a, list[:1], false},
		{"in upper case", strings.ToUpper(a), list[:1], false},
		{"what looks like the start of one before it", "ptpt" + a[2:] + " pt" + a, list[:1], false},
		{"letters before and after", "xyz" + a + "abc", list[:1], false},
		{"two, in their order, each once", b + a + b, []plan.Token{list[1], list[0]}, false},
		{"expired", "<" + old + "@x>", nil, true},
		{"expired and live", old + " " + a, list[:1], true},
		{"cut short", a[:len(a)-1], nil, false},
		{"none", "postmaster@probe.example", nil, false},
		{"", "", nil, false},
	} {
		live, expired := k.find(c.text, testTime)
		if !slices.Equal(live, c.want) || expired != c.expired {
			t.Errorf("%s: find(%q) = %q, expired %v; want %q, %v", c.name, c.text, live, expired, c.want, c.expired)
		}
	}
	if _, err := k.mint(1, MaxTTL+time.Second, testTime); err == nil {
		t.Error("a token that outlives every queue was minted")
	}
	if other := newKeys([]byte("another secret of tests")); len(must(other.mint(0, time.Hour, testTime))) != 0 {
		t.Error("no tokens were asked for")
	} else if live, _ := other.find(a, testTime); len(live) != 0 {
		t.Error("one collector takes another's tokens")
	}
}

// However a text is cut into pieces, the scanner finds what find does, and
// finds no token that was not minted.
func FuzzScanner(f *testing.F) {
	k := newKeys(testSecret)
	token := string(plan.Mint(k.token, [5]byte{3}, testTime.Add(time.Hour)))
	f.Add("to <", token, ">", 3)
	f.Add("ptpt", strings.ToUpper(token), token, 1)
	f.Add("", "pt", token[2:], 26)
	f.Add("pta", "PT\x00pt", "", 7)
	f.Fuzz(func(t *testing.T, before, middle, after string, size int) {
		text := before + middle + after
		live, expired := k.find(text, testTime)
		s := scanner{keys: k, now: testTime, left: len(text)}
		for rest := text; rest != ""; {
			n := min(max(size, 1), len(rest))
			_, _ = s.Write([]byte(rest[:n]))
			rest = rest[n:]
		}
		if !slices.Equal(live, s.found) || expired != s.expired {
			t.Fatalf("in pieces of %d of %q: %q, %v; at once %q, %v", size, text, s.found, s.expired, live, expired)
		}
		for _, found := range live {
			if string(found) != token {
				t.Fatalf("%q is taken for a token; none like it was minted", found)
			}
		}
		if want := strings.Contains(strings.ToLower(text), token); want != (len(live) == 1) {
			t.Fatalf("find(%q) = %q; the token is in it: %v", text, live, want)
		}
	})
}

// What a relay made of an address never becomes a domain of ours by being odd:
// the last domain in it decides.
func FuzzDomainOf(f *testing.F) {
	for _, s := range []string{"<a@probe.example>", "<@x:a@probe.example.> NOTIFY=NEVER", "a%b@[192.0.2.66]", "<a@probe.example", "probe.example!a", "<\"a@b\"@c>", "<>", "@", "<a@[IPv6:::1>"} {
		f.Add(s)
	}
	o := ours{domain: testConfig().Domain}
	f.Fuzz(func(t *testing.T, s string) {
		d := domainOf(s)
		if d.IsZero() {
			return
		}
		if !strings.Contains(strings.ToLower(dots.Replace(s)), strings.Trim(strings.ToLower(d.String()), "[]")) {
			t.Fatalf("domainOf(%q) = %q, which is not in it", s, d)
		}
		if o.has(d, ownAddr.Addr()) && !d.IsLiteral() && d.ASCII() != "probe.example" && !strings.HasSuffix(d.ASCII(), ".probe.example") {
			t.Fatalf("%q of %q is taken for ours", d, s)
		}
	})
}

func TestBannersOfOurs(t *testing.T) {
	k := newKeys(testSecret)
	nonce := k.newNonce(testTime)
	text := plan.Banner{Domain: "probe.example", Nonce: nonce, Peer: peerAddr.Addr()}.String()
	if want := "probe.example ESMTP Postern collector " + nonce + " [198.51.100.4]"; text != want {
		t.Errorf("banner %q, want %q", text, want)
	}
	for _, c := range []struct {
		name, banner string
		at           time.Duration
		want         bool
	}{
		{"as sent", "220 " + text, 0, true},
		{"a minute later", text, time.Minute, true},
		{"two hours later", text, 2 * time.Hour, false},
		{"made in the future", text, -2 * time.Hour, false},
		{"one letter changed", strings.Replace(text, nonce[5:9], "aaaa", 1), 0, false},
		{"cut short", text[:40], 0, false},
		{"another server's", "220 mx.far.example ESMTP Postfix", 0, false},
		{"", "", 0, false},
	} {
		if got := k.ours(c.banner, testTime.Add(c.at)); got != c.want {
			t.Errorf("%s: ours(%q) = %v, want %v", c.name, c.banner, got, c.want)
		}
	}
	if newKeys([]byte("another collector's")).ours(text, testTime) {
		t.Error("another collector takes the banner for its own")
	}
	if k.newNonce(testTime) == nonce {
		t.Error("two sessions have the same nonce")
	}
}
