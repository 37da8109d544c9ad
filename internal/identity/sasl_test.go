package identity

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

var errScript = errors.New("the client has nothing more to say")

// says answers challenges with the given responses, in order.
func says(responses ...string) func([]byte) ([]byte, error) {
	return func([]byte) ([]byte, error) {
		if len(responses) == 0 {
			return nil, errScript
		}
		r := responses[0]
		responses = responses[1:]
		return []byte(r), nil
	}
}

// overTLS is enough of a connection for mechanisms that do not look into it.
var overTLS = Client{Addr: addr("192.0.2.1"), TLS: &tls.ConnectionState{Version: tls.VersionTLS13}}

// newLogin counts what it hashes.
func newLogin(o Options) (*Login, *atomic.Int32) {
	l, n := NewLogin(o), new(atomic.Int32)
	l.match = func(v verifier, password string) bool { n.Add(1); return v.matches(password) }
	return l, n
}

// unlimited is for tests of something else.
func unlimited() *Guesses {
	l := Limit{1 << 30, time.Hour}
	return NewGuesses(GuessLimits{l, l, l, l, l, l, l, l, l})
}

const wrongReply = "535 5.7.8 User name or password is wrong."

func TestVectors(t *testing.T) {
	s := newStore(t)
	secret, err := s.AddToken("anna", NewToken{Name: "printer"})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(
		s.Add(NewUser{Name: "off", Password: goodPassword}), s.Disable("off"), s.Add(NewUser{Name: "carla", Certificate: true}),
		s.Add(NewUser{Name: "rené@example.org", Password: "grüße-aus-köpenick"}),
	); err != nil {
		t.Fatal(err)
	}
	l, hashed := newLogin(Options{Store: s, Guesses: unlimited()})
	good := string(goodPassword)
	yes := func(who string) string { return who + " 235 2.7.0 You are logged in." }
	const malformed = " 501 5.5.2 The login data are not as the method wants them."
	const no = " " + wrongReply
	for _, c := range []struct {
		name, mechanism, initial string
		then                     []string
		want                     string
		hashes                   int32
	}{
		{"PLAIN", "PLAIN", "\x00anna\x00" + good, nil, yes("anna"), 1},
		{"PLAIN in small letters", "plain", "\x00anna\x00" + good, nil, yes("anna"), 0}, // proven a moment ago
		{"PLAIN after an empty challenge", "PLAIN", "", []string{"\x00anna\x00" + good}, yes("anna"), 0},
		{"the name in capitals", "PLAIN", "\x00ANNA\x00" + good, nil, yes("anna"), 0},
		{"authzid the same", "PLAIN", "Anna\x00anna\x00" + good, nil, yes("anna"), 0},
		{"authzid another", "PLAIN", "bert\x00anna\x00" + good, nil, no, 0},
		{"authzid a token", "PLAIN", "anna/printer\x00anna\x00" + good, nil, no, 0},
		{"authzid the token's user", "PLAIN", "anna\x00anna/printer\x00" + string(secret), nil, no, 0},
		{"authzid that is no name", "PLAIN", "*\x00anna\x00" + good, nil, no, 0},
		{"a wrong password", "PLAIN", "\x00anna\x00wrong", nil, no, 1},
		{"a wrong password again", "PLAIN", "\x00anna\x00wrong", nil, no, 1},
		{"the right one and more", "PLAIN", "\x00anna\x00" + good + "x", nil, no, 1},
		{"a user that does not exist", "PLAIN", "\x00bert\x00" + good, nil, no, 1},
		{"a user that is disabled", "PLAIN", "\x00off\x00" + good, nil, no, 1},
		{"a user without a password", "PLAIN", "\x00carla\x00" + good, nil, no, 1},
		{"a token", "PLAIN", "\x00anna/printer\x00" + string(secret), nil, yes("anna/printer"), 1},
		{"a token with the user's password", "PLAIN", "\x00anna/printer\x00" + good, nil, no, 1},
		{"a user with the token's secret", "PLAIN", "\x00anna\x00" + string(secret), nil, no, 1},
		{"a token that does not exist", "PLAIN", "\x00anna/x\x00" + good, nil, no, 1},
		{"not ASCII", "PLAIN", "\x00RENÉ@EXAMPLE.ORG\x00grüße-aus-köpenick", nil, yes("rené@example.org"), 1},
		{"not ASCII, decomposed", "PLAIN", "\x00rene\u0301@example.org\x00gru\u0308ße-aus-ko\u0308penick", nil, yes("rené@example.org"), 0},
		{"no NUL", "PLAIN", "anna", nil, malformed, 0},
		{"one NUL", "PLAIN", "anna\x00" + good, nil, malformed, 0},
		{"three NULs", "PLAIN", "\x00anna\x00" + good + "\x00", nil, malformed, 0},
		{"NUL in the authzid", "PLAIN", "an\x00na\x00anna\x00" + good, nil, malformed, 0},
		{"an empty user", "PLAIN", "\x00\x00" + good, nil, malformed, 0},
		{"an empty password", "PLAIN", "\x00anna\x00", nil, malformed, 0},
		{"not UTF-8", "PLAIN", "\x00anna\x00\xff", nil, malformed, 0},
		{"directory search", "PLAIN", "\x00*)(uid=*))(|(uid=*\x00" + good, nil, no, 1},
		{"line feed in the user", "PLAIN", "\x00anna\nanna\x00" + good, nil, no, 1},
		{"quotes", "PLAIN", "\x00anna' OR '1'='1\x00" + good, nil, no, 1},
		{"a password of a megabyte", "PLAIN", "\x00anna\x00" + strings.Repeat("x", 1<<20), nil, no, 0},
		{"LOGIN", "LOGIN", "", []string{"anna", good}, yes("anna"), 0},
		{"LOGIN with the name at once", "LOGIN", "Anna", []string{good}, yes("anna"), 0},
		{"LOGIN, wrong", "LOGIN", "", []string{"anna", "wrong"}, no, 1},
		{"LOGIN, NUL in the name", "LOGIN", "", []string{"an\x00na", good}, no, 1},
		{"LOGIN, no name", "LOGIN", "", []string{"", good}, no, 0},
		{"LOGIN, no password", "LOGIN", "", []string{"anna", ""}, no, 0},
		{"LOGIN, not UTF-8", "LOGIN", "", []string{"\xff", good}, malformed, 0},
		{"LOGIN, given up", "LOGIN", "", []string{"anna"}, " ", 0},
		{"unknown", "CRAM-MD5", "", nil, " 504 5.5.4 We do not know this login method; choose SCRAM-SHA-256, PLAIN, LOGIN.", 0},
		{"EXTERNAL without a certificate", "EXTERNAL", "anna", nil, " 534 5.7.9 This login method is switched off; choose SCRAM-SHA-256, PLAIN, LOGIN.", 0},
	} {
		var initial []byte
		if c.initial != "" {
			initial = []byte(c.initial)
		}
		hashed.Store(0)
		r := l.Authenticate(t.Context(), overTLS, c.mechanism, initial, says(c.then...))
		if got := r.Identity + " " + r.Reply.String(); got != c.want || hashed.Load() != c.hashes {
			t.Errorf("%s: got %q (%s) and %d hashes, want %q and %d", c.name, got, r.Reason, hashed.Load(), c.want, c.hashes)
		}
		if strings.Contains(r.Reason, good) || strings.ContainsAny(r.Reason, "\n\x00") || strings.Contains(r.Reason, string(secret)) {
			t.Errorf("%s: the reason shows what it should not: %q", c.name, r.Reason)
		}
		if (r.Reply.Code == 535) != (r.Delay > 0) {
			t.Errorf("%s: %d after %v", c.name, r.Reply.Code, r.Delay)
		}

		open := overTLS
		open.TLS = nil
		hashed.Store(0)
		r = l.Authenticate(t.Context(), open, c.mechanism, initial, says(c.then...))
		if r.Identity != "" || r.Reply.Code != 538 || hashed.Load() != 0 {
			t.Errorf("%s without TLS: %q %v", c.name, r.Identity, r.Reply)
		}
	}
}

func TestMechanisms(t *testing.T) {
	tls13, _ := handshake(t, tls.VersionTLS13, nil)
	tls12, _ := handshake(t, tls.VersionTLS12, nil)
	for _, c := range []struct {
		name  string
		on    []string
		state *tls.ConnectionState
		want  []string
	}{
		{"without TLS", nil, nil, nil},
		{"TLS 1.3", nil, tls13, []string{"SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", "LOGIN"}},
		{"TLS 1.2", nil, tls12, []string{"SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", "LOGIN"}},
		{"a handshake that is not complete", nil, &tls.ConnectionState{}, []string{"SCRAM-SHA-256", "PLAIN", "LOGIN"}},
		{"switched off", []string{"plain", "SCRAM-SHA-256"}, tls13, []string{"SCRAM-SHA-256", "PLAIN"}},
	} {
		l := NewLogin(Options{Mechanisms: c.on})
		if diff := cmp.Diff(c.want, l.Mechanisms(c.state)); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
	if got := MechanismNames(); !slices.Contains(got, "EXTERNAL") || len(got) != 5 {
		t.Errorf("MechanismNames() = %q", got)
	}
	r := NewLogin(Options{Mechanisms: []string{"PLAIN"}}).Authenticate(t.Context(), Client{TLS: tls13}, "LOGIN", nil, says())
	if r.Reply.String() != "534 5.7.9 This login method is switched off; choose PLAIN." {
		t.Errorf("LOGIN switched off: %v", r.Reply)
	}
}

func TestTooManyFailedLogins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := DefaultGuessLimits
		limits.Account.Failures = 20
		l, hashed := newLogin(Options{Store: newStore(t), Guesses: NewGuesses(limits)})
		plain := func(user, password, from string) Result {
			c := overTLS
			c.Addr = addr(from)
			return l.Authenticate(t.Context(), c, "PLAIN", []byte("\x00"+user+"\x00"+password), says())
		}
		for _, user := range []string{"anna", "nobody"} { // neither limit nor delay tells who exists
			from := map[string]string{"anna": "192.0.2.1", "nobody": "198.51.100.1"}[user]
			for i, milliseconds := range []int{1000, 1500, 2000, 2500, 3000} {
				delay := time.Duration(milliseconds) * time.Millisecond
				r := plain(user, "wrong", from)
				if r.Reply.String() != wrongReply || r.Delay != delay {
					t.Errorf("%s %d: %v after %v", user, i, r.Reply, r.Delay)
				}
			}
			for i := range 9 { // beyond the limit it takes turns
				began := time.Now()
				r := plain(user, "wrong", from)
				if took, want := time.Since(began), min(time.Duration(i+1)*turn, longestTurn); r.Reply.String() != wrongReply || took != want {
					t.Errorf("%s, turn %d: %v after %v, want %v", user, i, r.Reply, took, want)
				}
			}
		}
		began := time.Now()
		if r := plain("anna", string(goodPassword), "192.0.2.1"); r.Identity != "anna" || time.Since(began) > longestTurn {
			t.Errorf("the right password, after its turn of %v: %v", time.Since(began), r.Reply)
		}
		for i := range 20 {
			plain("anna", "wrong", ipv4(i))
		}
		for range alarmedNetwork.limit.Failures {
			plain("anna", "wrong", "203.0.113.1")
		}
		hashed.Store(0)
		if r := plain("anna", string(goodPassword), "203.0.113.1"); r.Reply.String() != "454 4.7.0 Too many failed logins; wait 60 minutes." || r.Delay != time.Second || hashed.Load() != 0 {
			t.Errorf("where it was guessed at under the alarm: %v after %v and %d hashes", r.Reply, r.Delay, hashed.Load())
		}
		time.Sleep(59*time.Minute + 30*time.Second)
		if r := plain("anna", "wrong", "203.0.113.1"); r.Reply.String() != "454 4.7.0 Too many failed logins; wait 1 minute." {
			t.Errorf("just before its turn: %v", r.Reply)
		}
		for _, from := range []string{"203.0.114.1", "192.0.2.1"} {
			if r := plain("anna", string(goodPassword), from); r.Identity != "anna" {
				t.Errorf("from %s meanwhile: %v", from, r.Reply)
			}
		}
	})
}

// What is typed into the wrong field is not told to whoever reads the log.
func TestUnknownNamesAreShownInPart(t *testing.T) {
	s := newStore(t)
	l, _ := newLogin(Options{Store: s, Guesses: unlimited()})
	const typed = "Zq7-plover-Kettle-81-umber"
	for _, c := range []struct{ mechanism, initial string }{
		{"PLAIN", "\x00" + typed + "\x00" + typed},
		{"PLAIN", "\x00" + typed + "\x00x"},
		{"PLAIN", typed + "\x00anna\x00x"},
		{"PLAIN", "\x00anna/" + typed + "\x00x"},
		{"PLAIN", "\x00" + typed + "\x00" + strings.Repeat("x", 2000)},
		{"LOGIN", typed},
		{"SCRAM-SHA-256", "n,,n=" + typed + ",r=abc"},
		{"SCRAM-SHA-256", "n,a=" + typed + ",n=anna,r=abc"},
	} {
		r := l.Authenticate(t.Context(), overTLS, c.mechanism, []byte(c.initial), says("c=biws,r=abc,p=AAAA", ""))
		if r.Identity != "" || strings.Contains(r.Reason, "plover") {
			t.Errorf("%s %q: %s", c.mechanism, c.initial, r.Reason)
		}
	}
	for name, want := range map[string]string{"anna": "anna", "ANNA": "ANNA", "annab": "an...", "ann": "...", "grüße-aus": "gr...", "": ""} {
		if got := s.shown(name); got != want {
			t.Errorf("%q is shown as %q, want %q", name, got, want)
		}
	}
}

func TestChangedPasswordCountsAtOnce(t *testing.T) {
	s := newStore(t)
	l, _ := newLogin(Options{Store: s, Guesses: unlimited()})
	plain := func(password Secret) string {
		return l.Authenticate(t.Context(), overTLS, "PLAIN", []byte("\x00anna\x00"+string(password)), says()).Identity
	}
	for range 2 { // hashed, and remembered
		if plain(goodPassword) != "anna" {
			t.Fatal("the right password is refused")
		}
	}
	const other = Secret("violet-harbor-zebra-12")
	if err := s.SetPassword("anna", other); err != nil {
		t.Fatal(err)
	}
	if plain(goodPassword) != "" || plain(other) != "anna" {
		t.Error("the old password is taken, or the new one is not")
	}
	if err := s.Disable("anna"); err != nil {
		t.Fatal(err)
	}
	if plain(other) != "" {
		t.Error("a disabled user logs in with a password that was proven before")
	}
}

func TestImportedUserIsMadeStronger(t *testing.T) {
	s := openStore(t, t.TempDir())
	if _, err := s.Import("passwd", strings.NewReader("bert:"+bcryptVector)); err != nil {
		t.Fatal(err)
	}
	l, hashed := newLogin(Options{Store: s, Guesses: unlimited()})
	plain := func(password string) Result {
		return l.Authenticate(t.Context(), overTLS, "PLAIN", []byte("\x00bert\x00"+password), says())
	}
	if r := plain("wrong"); r.Identity != "" || s.List()[0].Password != "blf-crypt" {
		t.Errorf("a wrong password: %v, kept as %s", r.Reply, s.List()[0].Password)
	}
	if r := plain("sesame-42-lane"); r.Identity != "bert" {
		t.Fatalf("the right password: %v", r.Reply)
	}
	if u := s.List()[0]; u.Password != "argon2id" || u.SCRAM == 0 {
		t.Errorf("after the first login: %+v", u)
	}
	if a := openStore(t, s.dir).account("bert"); !a.current(fewRounds) || !a.password.matches("sesame-42-lane") {
		t.Error("the file does not have the new verifier")
	}
	hashed.Store(0)
	if r := plain("sesame-42-lane"); r.Identity != "bert" || hashed.Load() != 0 {
		t.Errorf("the second login: %v and %d hashes", r.Reply, hashed.Load())
	}
}

func TestUpgradeLeavesWhatChangedMeanwhile(t *testing.T) {
	s := openStore(t, t.TempDir())
	if _, err := s.Import("passwd", strings.NewReader("bert:"+bcryptVector)); err != nil {
		t.Fatal(err)
	}
	proven := s.account("bert")
	if err := s.SetPassword("bert", goodPassword); err != nil {
		t.Fatal(err)
	}
	c, err := newCredential("sesame-42-lane", fewRounds)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.upgrade(proven, c); err != nil {
		t.Fatal(err)
	}
	if !s.account("bert").password.matches(string(goodPassword)) {
		t.Error("the new password was replaced by the old one")
	}
}

func TestUpgradeFailsAndTheLoginHolds(t *testing.T) {
	s := openStore(t, t.TempDir())
	if _, err := s.Import("passwd", strings.NewReader("bert:"+bcryptVector)); err != nil {
		t.Fatal(err)
	}
	s.current()
	good := s.dir
	s.dir += "/gone" // as a disk that fails
	l, _ := newLogin(Options{Store: s})
	s.mu.Lock()
	s.looked = time.Now().Add(time.Hour)
	s.mu.Unlock()
	r := l.Authenticate(t.Context(), overTLS, "PLAIN", []byte("\x00bert\x00sesame-42-lane"), says())
	if r.Identity != "bert" || !strings.Contains(r.Reason, "could not be made stronger") {
		t.Errorf("%v: %s", r.Reply, r.Reason)
	}
	if openStore(t, good).List()[0].Password != "blf-crypt" {
		t.Error("it was made stronger after all")
	}
}

func TestBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool := NewPool(1, 1, time.Second)
		l, _ := newLogin(Options{Store: newStore(t), Pool: pool})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- pool.do(ctx, false, func() { <-ctx.Done() }) }()
		synctest.Wait()
		r := l.Authenticate(t.Context(), overTLS, "PLAIN", []byte("\x00anna\x00"+string(goodPassword)), says())
		if r.Reply.String() != "454 4.7.0 We cannot check passwords just now; try again soon." || r.Identity != "" {
			t.Errorf("%v", r.Reply)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if l.guesses.size() != 0 {
			t.Error("a login that was not checked counts as a failure")
		}
	})
}

func FuzzPlain(f *testing.F) {
	for _, s := range []string{"\x00anna\x00secret", "a\x00b\x00c", "\x00\x00", "a", "\x00a\x00b\x00", "\x00\xff\x00b"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		authzid, authcid, password, err := parsePlain(b)
		if err != nil {
			return
		}
		if authzid+"\x00"+authcid+"\x00"+password != string(b) || authcid == "" || password == "" {
			t.Errorf("%q is %q, %q, %q", b, authzid, authcid, password)
		}
	})
}

// An authority makes certificates that no one else believes.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func (a authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

func newAuthority(tb testing.TB) authority {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	a := authority{key: key}
	a.cert = a.sign(tb, &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, key)
	return a
}

func (a authority) sign(tb testing.TB, c *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	tb.Helper()
	c.SerialNumber = big.NewInt(time.Now().UnixNano())
	c.NotBefore = time.Now().Add(-time.Hour)
	if c.NotAfter.IsZero() {
		c.NotAfter = time.Now().Add(time.Hour)
	}
	parent := a.cert
	if parent == nil {
		parent = c
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, a.key)
	if err != nil {
		tb.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	return cert
}

func (a authority) issue(tb testing.TB, c x509.Certificate) *tls.Certificate {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{a.sign(tb, &c, key).Raw}, PrivateKey: key}
}

// handshake returns what the server and the client know of a real connection.
func handshake(tb testing.TB, version uint16, shown *tls.Certificate) (server, client *tls.ConnectionState) {
	tb.Helper()
	a := newAuthority(tb)
	own := a.issue(tb, x509.Certificate{Subject: pkix.Name{CommonName: "mx.ours.example"}, DNSNames: []string{"mx.ours.example"}})
	x, y := net.Pipe()
	defer x.Close()
	defer y.Close()
	s := tls.Server(x, &tls.Config{Certificates: []tls.Certificate{*own}, ClientAuth: tls.RequestClientCert, MaxVersion: version})
	config := &tls.Config{RootCAs: a.pool(), ServerName: "mx.ours.example", MaxVersion: version}
	if shown != nil {
		config.Certificates = []tls.Certificate{*shown}
	}
	c := tls.Client(y, config)
	done := make(chan error, 1)
	go func() {
		err := s.Handshake()
		if err == nil {
			_, err = s.Write([]byte{1}) // the client reads what follows its own end of the handshake
		}
		done <- err
	}()
	if _, err := c.Read(make([]byte, 1)); err != nil {
		tb.Fatal(err)
	}
	if err := <-done; err != nil {
		tb.Fatal(err)
	}
	ss, cs := s.ConnectionState(), c.ConnectionState()
	return &ss, &cs
}
