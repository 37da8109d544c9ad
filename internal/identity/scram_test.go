package identity

import (
	"crypto/tls"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xdg-go/scram"
)

// A scramClient speaks SCRAM with the library's client, and notes what it saw.
type scramClient struct {
	conv  *scram.ClientConversation
	tail  string // appended to the last, empty response
	bend  func(step, message string) string
	first string // server-first-message
	mine  int
}

func (c *scramClient) answer(challenge []byte) ([]byte, error) {
	c.mine++
	if c.conv.Done() {
		return nil, errScript
	}
	text, step := string(challenge), "first"
	switch c.mine {
	case 2:
		c.first, step = text, "proof"
	case 3:
		step = "end"
	}
	m, err := c.conv.Step(text)
	if c.bend != nil {
		m = c.bend(step, m)
	}
	if c.conv.Done() {
		m += c.tail
	}
	return []byte(m), err
}

func newScramClient(tb testing.TB, name, password, authzid string) *scram.Client {
	tb.Helper()
	c, err := scram.SHA256.NewClient(name, password, authzid)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

func TestScram(t *testing.T) {
	s := newStore(t)
	secret, err := s.AddToken("anna", NewToken{Name: "printer"})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(
		s.Add(NewUser{Name: "rené@example.org", Password: "grüße-aus-köpenick"}),
		s.Add(NewUser{Name: "a=b", Password: goodPassword}),
		s.Add(NewUser{Name: "off", Password: goodPassword}), s.Disable("off"),
	); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Import("passwd", strings.NewReader("old:"+bcryptVector)); err != nil {
		t.Fatal(err)
	}
	l, hashed := newLogin(Options{Store: s, Guesses: unlimited()})
	server, _ := handshake(t, tls.VersionTLS13, nil)
	client := Client{Addr: addr("192.0.2.1"), TLS: server}
	good := string(goodPassword)
	for _, c := range []struct {
		name, user, password, authzid string
		bend                          func(step, m string) string
		tail                          string
		want                          string
	}{
		{"right", "anna", good, "", nil, "", "anna 235"},
		{"in capitals", "ANNA", good, "", nil, "", "anna 235"},
		{"authzid the same", "anna", good, "Anna", nil, "", "anna 235"},
		{"authzid another", "anna", good, "off", nil, "", " 535"},
		{"a token", "anna/printer", string(secret), "", nil, "", "anna/printer 235"},
		{"not ASCII", "RENÉ@example.org", "grüße-aus-köpenick", "", nil, "", "rené@example.org 235"},
		{"compatibility forms", "ａｎｎａ", "quiet\u00adotter-banjo-41", "", nil, "", " 535"},
		{"a name that is encoded", "a=b", good, "", nil, "", "a=b 235"},
		{"a wrong password", "anna", "wrong", "", nil, "", " 535"},
		{"nobody", "nobody", good, "", nil, "", " 535"},
		{"disabled", "off", good, "", nil, "", " 535"},
		{"no keys yet", "old", "sesame-42-lane", "", nil, "", " 535"},
		{"directory search", "*)(uid=*", good, "", nil, "", " 535"},
		{"a comma and a line feed", "an,na", good, "", bent("first", "n=an=2Cna", "n=an=2Cna\n"), "", " 535"},
		{"an empty name", "anna", good, "", bent("first", "n=anna", "n="), "", " 535"},
		{"a name that is badly encoded", "anna", good, "", bent("first", "n=anna", "n=anna=41"), "", " 535"},
		{"no name at all", "anna", good, "", func(string, string) string { return "n,," }, "", " 501"},
		{"an extension that must be known", "anna", good, "", bent("first", "n,,", "n,,m=x,"), "", " 501"},
		{"binding without PLUS", "anna", good, "", bent("first", "n,,", "p=tls-exporter,,"), "", " 501"},
		{"another's nonce", "anna", good, "", bent("proof", ",r=", ",r=x"), "", " 535"},
		{"no proof", "anna", good, "", bent("proof", ",p=", ",x="), "", " 535"},
		{"two proofs", "anna", good, "", bent("proof", ",p=", ",p=,p="), "", " 535"},
		{"something after the end", "anna", good, "", nil, "x", " 501"},
	} {
		sc := &scramClient{conv: newScramClient(t, c.user, c.password, c.authzid).NewConversation(), tail: c.tail, bend: c.bend}
		r := l.Authenticate(t.Context(), client, "SCRAM-SHA-256", nil, sc.answer)
		got := r.Identity + " " + r.Reply.String()
		if c.want == " 501" && (c.name == "no proof" || c.name == "two proofs") {
			c.want = " 50" // bent in the first message, where it is no message
		}
		if !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: got %q (%s), want %q", c.name, got, r.Reason, c.want)
		}
		if r.Reply.Code == 535 && (r.Reply.String() != wrongReply || r.Delay == 0) {
			t.Errorf("%s: %v after %v", c.name, r.Reply, r.Delay)
		}
		if r.Reply.Code == 235 && !sc.conv.Valid() {
			t.Errorf("%s: the client does not know the server", c.name)
		}
	}
	if hashed.Load() != 0 {
		t.Errorf("SCRAM hashed %d passwords", hashed.Load())
	}
	if r := l.Authenticate(t.Context(), Client{Addr: addr("192.0.2.1")}, "SCRAM-SHA-256", nil, says()); r.Reply.Code != 538 {
		t.Errorf("without TLS: %v", r.Reply)
	}
}

// bent replaces a text in one message of the client.
func bent(step, old, instead string) func(string, string) string {
	return func(s, m string) string {
		if s == step {
			return strings.Replace(m, old, instead, 1)
		}
		return m
	}
}

// Between the client and the server there is really nobody, or there is.
func TestScramPlus(t *testing.T) {
	l, _ := newLogin(Options{Store: newStore(t), Guesses: unlimited()})
	exporter := func(s *tls.ConnectionState) scram.ChannelBinding {
		b, err := scram.NewTLSExporterBinding(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	unique := func(s *tls.ConnectionState) scram.ChannelBinding { return scram.NewTLSUniqueBinding(s.TLSUnique) }
	other, _ := handshake(t, tls.VersionTLS13, nil)
	elsewhere := func(*tls.ConnectionState) scram.ChannelBinding { return exporter(other) }
	const plus, plain = "SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"
	for _, c := range []struct {
		name      string
		version   uint16
		mechanism string
		binding   func(*tls.ConnectionState) scram.ChannelBinding
		flag      string // instead of the client's own
		want      string
	}{
		{"TLS 1.3, exporter", tls.VersionTLS13, plus, exporter, "", "anna 235"},
		{"TLS 1.2, exporter", tls.VersionTLS12, plus, exporter, "", "anna 235"},
		{"TLS 1.2, unique", tls.VersionTLS12, plus, unique, "", "anna 235"},
		{"bound to another connection", tls.VersionTLS13, plus, elsewhere, "", " 535"},
		{"a kind that we have not", tls.VersionTLS13, plus, exporter, "p=tls-server-end-point", " 535"},
		{"unique with TLS 1.3", tls.VersionTLS13, plus, exporter, "p=tls-unique", " 535"},
		{"a kind that nobody has", tls.VersionTLS13, plus, exporter, "p=tls-magic", " 501"},
		{"PLUS and no binding", tls.VersionTLS13, plus, nil, "", " 535"},
		{"PLUS was taken off the list", tls.VersionTLS13, plain, nil, "y", " 535"},
		{"no PLUS and no binding", tls.VersionTLS13, plain, nil, "", "anna 235"},
	} {
		server, client := handshake(t, c.version, nil)
		conv := newScramClient(t, "anna", string(goodPassword), "").NewConversation()
		if c.binding != nil {
			conv = newScramClient(t, "anna", string(goodPassword), "").NewConversationWithChannelBinding(c.binding(client))
		}
		sc := &scramClient{conv: conv, bend: func(step, m string) string {
			if _, rest, ok := strings.Cut(m, ","); ok && step == "first" && c.flag != "" {
				return c.flag + "," + rest
			}
			return m
		}}
		r := l.Authenticate(t.Context(), Client{Addr: addr("192.0.2.1"), TLS: server}, c.mechanism, nil, sc.answer)
		if got := r.Identity + " " + r.Reply.String(); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: got %q (%s), want %q", c.name, got, r.Reason, c.want)
		}
	}

	// Where PLUS is switched off, a client that could have bound says "y" rightly.
	off, _ := newLogin(Options{Store: l.store, Mechanisms: []string{plain}})
	server, _ := handshake(t, tls.VersionTLS13, nil)
	sc := &scramClient{conv: newScramClient(t, "anna", string(goodPassword), "").NewConversationAdvertisingChannelBinding()}
	if r := off.Authenticate(t.Context(), Client{TLS: server}, plain, nil, sc.answer); r.Identity != "anna" {
		t.Errorf("PLUS switched off: %v (%s)", r.Reply, r.Reason)
	}
}

// What the server says first does not tell who exists: the salt of nobody is
// as long, stays as it is, and survives the process.
func TestScramTellsNobody(t *testing.T) {
	s := newStore(t)
	ask := func(l *Login, name string) (salt string, iterations string) {
		sc := &scramClient{conv: newScramClient(t, name, "wrong", "").NewConversation()}
		l.Authenticate(t.Context(), overTLS, "SCRAM-SHA-256", nil, sc.answer)
		parts := strings.Split(sc.first, ",")
		if len(parts) != 3 {
			t.Fatalf("%s: the server says %q", name, sc.first)
		}
		return strings.TrimPrefix(parts[1], "s="), parts[2]
	}
	l, _ := newLogin(Options{Store: s, Guesses: unlimited()})
	later, _ := newLogin(Options{Store: openStore(t, s.dir), Guesses: unlimited()})
	realSalt, iterations := ask(l, "anna")
	for _, name := range []string{"nobody", "anna/nothing", "*)("} {
		salt, i := ask(l, name)
		again, _ := ask(later, strings.ToUpper(name))
		b, err := base64.StdEncoding.DecodeString(salt)
		if salt != again || i != iterations || len(salt) != len(realSalt) || err != nil || len(b) != 16 {
			t.Errorf("%s: salt %s and then %s, %s; anna's is %s, %s", name, salt, again, i, realSalt, iterations)
		}
		if x, _ := ask(l, name+"x"); x == salt {
			t.Errorf("%s and %sx have one salt", name, name)
		}
	}
}

func TestScramGuessesAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := newLogin(Options{Store: newStore(t)})
		try := func(password string) Result {
			sc := &scramClient{conv: newScramClient(t, "anna", password, "").NewConversation()}
			return l.Authenticate(t.Context(), overTLS, "SCRAM-SHA-256", nil, sc.answer)
		}
		for range 20 { // who stops before the proof has learned nothing, and does not count
			l.Authenticate(t.Context(), overTLS, "SCRAM-SHA-256", []byte("n,,n=anna,r=x"), says())
		}
		for i := range 5 {
			if r := try("wrong"); r.Reply.Code != 535 || r.Delay != time.Second+time.Duration(i)*500*time.Millisecond {
				t.Errorf("failure %d: %v after %v", i+1, r.Reply, r.Delay)
			}
		}
		began := time.Now()
		if r := try("wrong"); r.Reply.Code != 535 || time.Since(began) != turn {
			t.Errorf("the sixth: %v after %v", r.Reply, time.Since(began))
		}
		began = time.Now()
		if r := l.Authenticate(t.Context(), overTLS, "PLAIN", []byte("\x00anna\x00"+string(goodPassword)), says()); r.Identity != "anna" || time.Since(began) != 2*turn {
			t.Errorf("with another method: %v after %v", r.Reply, time.Since(began))
		}
	})
}

// A conversation may take minutes; what changed meanwhile counts.
func TestPasswordChangesDuringScram(t *testing.T) {
	s := newStore(t)
	l, _ := newLogin(Options{Store: s, Guesses: unlimited()})
	for _, c := range []struct {
		name   string
		change func() error
	}{
		{"another password", func() error { return s.SetPassword("anna", "violet-harbor-zebra-12") }},
		{"disabled", func() error { return errors.Join(s.SetPassword("anna", goodPassword), s.Disable("anna")) }},
		{"removed", func() error { return s.Remove("anna") }},
	} {
		sc := &scramClient{conv: newScramClient(t, "anna", string(goodPassword), "").NewConversation()}
		r := l.Authenticate(t.Context(), overTLS, "SCRAM-SHA-256", nil, func(b []byte) ([]byte, error) {
			m, err := sc.answer(b)
			if sc.mine == 2 {
				err = errors.Join(err, c.change())
			}
			return m, err
		})
		if r.Identity != "" || r.Reply.Code != 535 {
			t.Errorf("%s: %q %v", c.name, r.Identity, r.Reply)
		}
	}
}

// Whatever a client says, it is nobody, and the server does not fall over.
func FuzzScram(f *testing.F) {
	l, _ := newLogin(Options{Store: newStore(f), Guesses: unlimited()})
	f.Add("n,,n=anna,r=abc", "c=biws,r=abc,p=AAAA", "")
	f.Add("y,a=anna,n=anna,r=", "", "")
	f.Add("p=tls-unique,,n=*)(,r=x", "c=,r=,p=", "x")
	f.Fuzz(func(t *testing.T, first, proof, end string) {
		for _, m := range []string{"SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"} {
			if r := l.Authenticate(t.Context(), overTLS, m, []byte(first), says(proof, end)); r.Identity != "" || r.Reply.Positive() {
				t.Errorf("%q, %q, %q: %q, %v", first, proof, end, r.Identity, r.Reply)
			}
		}
	})
}
