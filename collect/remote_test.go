package collect

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"postern/plan"
	"postern/smtp"
)

const apiSecret = "a secret that is shared"

// serveAPI serves the API of a collector over TLS.
func serveAPI(t *testing.T, l *Local, about About) (*httptest.Server, *API) {
	t.Helper()
	api, err := NewAPI(l, apiSecret, about)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(api)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s, api
}

func clientTLS(s *httptest.Server) *tls.Config {
	t, _ := s.Client().Transport.(*http.Transport)
	return t.TLSClientConfig
}

func newRemote(t *testing.T, s *httptest.Server, change func(*RemoteConfig)) *Remote {
	t.Helper()
	c := RemoteConfig{URL: s.URL, Secret: apiSecret, TLS: clientTLS(s)}
	if change != nil {
		change(&c)
	}
	r, err := NewRemote(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func TestRemoteSeesWhatArrivesAtTheCollector(t *testing.T) {
	l := newTestLocal(t, testConfig())
	s, _ := serveAPI(t, l, About{})
	old := mintOne(t, l)
	if r := hand(t, l, "<a@b.example>", "<"+string(old)+"@probe.example>", "A: b\n\nold\n"); r.Code != 250 {
		t.Fatal(r)
	}
	latest(t, l, 0)

	r := newRemote(t, s, nil)
	if r.Domain() != "probe.example" || r.About().Zone != "zone.example" || len(r.About().Addresses) != 1 {
		t.Errorf("about %+v", r.About())
	}
	tokens, err := r.Tokens(t.Context(), MaxTokens+1, time.Hour)
	if err != nil || len(tokens) != MaxTokens+1 {
		t.Fatalf("%d tokens, %v", len(tokens), err)
	}
	to := r.Recipient(tokens[MaxTokens])
	if to.String() != string(tokens[MaxTokens])+"@probe.example" {
		t.Errorf("recipient %s", to)
	}
	type result struct {
		tokens string
		next   uint64
		err    error
	}
	got := make(chan result, 1)
	go func() { // waits before there is anything
		list, next, err := r.Arrivals(t.Context(), 0)
		got <- result{tokensOf(list), next, err}
	}()
	if reply := hand(t, l, "<a@b.example>", "<"+to.String()+">", "A: b\n\nnew\n"); reply.Code != 250 {
		t.Fatal(reply)
	}
	first := <-got
	if first.err != nil || first.tokens != string(tokens[MaxTokens]) {
		t.Fatalf("arrivals %+v, want the new one alone", first)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	go cancel(errors.New("enough"))
	if list, next, err := r.Arrivals(ctx, first.next); err == nil || next != first.next {
		t.Errorf("afterwards %v, %d, %v, want nothing but the end of the context", list, next, err)
	}
}

func TestAPIRefuses(t *testing.T) {
	l := newTestLocal(t, testConfig())
	s, api := serveAPI(t, l, About{})
	api.wrong = newLimiter(0, 1000)
	for _, c := range []struct{ name, method, path, secret, body, want string }{
		{"no secret", "GET", "/v1/about", "", "", "401"},
		{"a wrong secret", "GET", "/v1/about", "Bearer " + apiSecret + "x", "", "401"},
		{"the secret in the URL", "GET", "/v1/about?secret=" + strings.ReplaceAll(apiSecret, " ", "+"), "", "", "401"},
		{"the right secret", "GET", "/v1/about", "Bearer " + apiSecret, "", "200"},
		{"another path", "GET", "/", "Bearer " + apiSecret, "", "404"},
		{"another method", "GET", "/v1/tokens", "Bearer " + apiSecret, "", "405"},
		{"too many tokens", "POST", "/v1/tokens", "Bearer " + apiSecret, `{"count":1001,"ttl_seconds":60}`, "400"},
		{"a life that overflows", "POST", "/v1/tokens", "Bearer " + apiSecret, `{"count":1,"ttl_seconds":9223372036854775807}`, "400"},
		{"no life", "POST", "/v1/tokens", "Bearer " + apiSecret, `{"count":1}`, "400"},
		{"less than none", "POST", "/v1/tokens", "Bearer " + apiSecret, `{"count":-1,"ttl_seconds":60}`, "400"},
		{"not JSON", "POST", "/v1/tokens", "Bearer " + apiSecret, `count=1`, "400"},
		{"unknown words", "POST", "/v1/tokens", "Bearer " + apiSecret, `{"count":1,"ttl_seconds":60,"for":"x"}`, "400"},
		{"something behind", "POST", "/v1/tokens", "Bearer " + apiSecret, `{"count":1,"ttl_seconds":60}{}`, "400"},
		{"endless", "POST", "/v1/tokens", "Bearer " + apiSecret, `{"count":` + strings.Repeat(" ", 2*apiBody) + `1}`, "400"},
		{"no number", "GET", "/v1/arrivals?after=x", "Bearer " + apiSecret, "", "400"},
		{"no wait", "GET", "/v1/arrivals?after=0&wait=0", "Bearer " + apiSecret, "", "200"},
	} {
		req := must(http.NewRequestWithContext(t.Context(), c.method, s.URL+c.path, strings.NewReader(c.body)))
		if c.secret != "" {
			req.Header.Set("Authorization", c.secret)
		}
		resp, err := s.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body := string(must(io.ReadAll(resp.Body)))
		resp.Body.Close()
		if !strings.HasPrefix(resp.Status, c.want) {
			t.Errorf("%s: %s %s answers %s %s, want %s", c.name, c.method, c.path, resp.Status, body, c.want)
		}
		if strings.Contains(body, apiSecret) || strings.Contains(body, string(testSecret)) {
			t.Errorf("%s: the answer tells a secret: %s", c.name, body)
		}
	}
}

func TestAPILimitsWhoGuesses(t *testing.T) {
	api, err := NewAPI(newTestLocal(t, testConfig()), apiSecret, About{})
	if err != nil {
		t.Fatal(err)
	}
	ask := func(from, secret string) int {
		r := httptest.NewRequest("GET", "/v1/about", nil)
		r.RemoteAddr = from
		r.Header.Set("Authorization", "Bearer "+secret)
		w := httptest.NewRecorder()
		api.ServeHTTP(w, r)
		return w.Code
	}
	counts := map[int]int{}
	for i := range 30 {
		counts[ask("203.0.113.5:1000", fmt.Sprint("guess ", i))]++
	}
	if counts[401] != authBurst || counts[429] != 30-authBurst {
		t.Errorf("30 guesses are answered %v, want %d times 401 and then 429", counts, authBurst)
	}
	if got := ask("203.0.113.6:1000", apiSecret); got != 429 {
		t.Errorf("after wrong secrets the right one is answered %d: it tells that it was right", got)
	}
	for range 100 {
		if got := ask("198.51.100.7:1000", apiSecret); got != 200 {
			t.Fatalf("another network is answered %d", got)
		}
	}
}

func TestNewAPIAndRemoteRefuseWhatShowsTheSecret(t *testing.T) {
	l := newTestLocal(t, testConfig())
	if _, err := NewAPI(l, "short", About{}); err == nil {
		t.Error("a short secret is taken")
	}
	for _, url := range []string{"http://collector.example:8443", "collector.example", "https://user:pass@collector.example", "https://x.example/?secret=y", "ftp://127.0.0.1", "://"} {
		if _, err := NewRemote(t.Context(), RemoteConfig{URL: url, Secret: apiSecret}); err == nil || strings.Contains(err.Error(), "dial") {
			t.Errorf("NewRemote(%q): %v, want it refused before anything is sent", url, err)
		}
	}
	api := must(NewAPI(l, apiSecret, About{}))
	listener := placedListener{must(net.Listen("tcp", "127.0.0.1:0"))}
	if err := api.Run(t.Context(), listener, nil); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("the API beyond loopback without TLS: %v", err)
	}
}

// placedListener says that it listens on a public address.
type placedListener struct{ net.Listener }

func (placedListener) Addr() net.Addr { return net.TCPAddrFromAddrPort(ownAddr) }

func TestRemoteTellsWhatIsWrong(t *testing.T) {
	l := newTestLocal(t, testConfig())
	s, _ := serveAPI(t, l, About{})
	elsewhere := httptest.NewTLSServer(http.RedirectHandler(s.URL+"/v1/about", http.StatusTemporaryRedirect))
	defer elsewhere.Close()
	page := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }))
	defer page.Close()
	for _, c := range []struct {
		name   string
		config RemoteConfig
		want   string
	}{
		{"a wrong secret", RemoteConfig{URL: s.URL, Secret: "wrong", TLS: clientTLS(s)}, "does not know our secret"},
		{"a redirection, not followed", RemoteConfig{URL: elsewhere.URL, Secret: apiSecret, TLS: clientTLS(elsewhere)}, "307"},
		{"a web page", RemoteConfig{URL: page.URL, Secret: apiSecret, TLS: clientTLS(page)}, "not that of a Postern collector"},
		{"a certificate of nobody's", RemoteConfig{URL: s.URL, Secret: apiSecret}, "certificate"},
	} {
		if _, err := NewRemote(t.Context(), c.config); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q in it", c.name, err, c.want)
		}
	}
}

// serveMail runs a collector on loopback, over real sockets.
func serveMail(t *testing.T, change func(*Config)) *Local {
	t.Helper()
	c := testConfig()
	c.Listeners = []net.Listener{must(net.Listen("tcp", "127.0.0.1:0"))}
	if change != nil {
		change(&c)
	}
	l := newTestLocal(t, c)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l
}

// fixed is a Resolver that knows one exchanger.
type fixed struct {
	hosts []string
	addrs []netip.Addr
	err   error
}

func (f fixed) Names(context.Context, netip.Addr) ([]string, error)     { return nil, f.err }
func (f fixed) Exchangers(context.Context, string) ([]string, error)    { return f.hosts, f.err }
func (f fixed) Addresses(context.Context, string) ([]netip.Addr, error) { return f.addrs, f.err }

func TestPreflight(t *testing.T) {
	ours := serveMail(t, nil)
	other := serveMail(t, func(c *Config) { c.Secret = []byte("another collector") })
	at := func(l *Local) string { return l.c.Listeners[0].Addr().String() }
	shut := must(net.Listen("tcp", "127.0.0.1:0"))
	shut.Close()
	a, b := netip.MustParseAddr("192.0.2.66"), netip.MustParseAddr("192.0.2.67")
	for _, c := range []struct {
		name     string
		resolver Resolver
		to       map[string]string // what answers at an address
		want     string            // in the error; "" for none
	}{
		{"ours", fixed{hosts: []string{"mx"}, addrs: []netip.Addr{a}}, map[string]string{"192.0.2.66:25": at(ours)}, ""},
		{"ours, and one that is shut", fixed{hosts: []string{"mx"}, addrs: []netip.Addr{b, a}}, map[string]string{"192.0.2.66:25": at(ours), "192.0.2.67:25": shut.Addr().String()}, ""},
		{"shut", fixed{hosts: []string{"mx"}, addrs: []netip.Addr{a}}, map[string]string{"192.0.2.66:25": shut.Addr().String()}, "port is open"},
		{"another server", fixed{hosts: []string{"mx"}, addrs: []netip.Addr{a}}, map[string]string{"192.0.2.66:25": at(other)}, "another server answers"},
		{"ours and another", fixed{hosts: []string{"mx"}, addrs: []netip.Addr{a, b}}, map[string]string{"192.0.2.66:25": at(ours), "192.0.2.67:25": at(other)}, "another server answers"},
		{"no such domain", fixed{err: errors.New("NXDOMAIN")}, nil, "NXDOMAIN"},
		{"no resolver: its own listener", nil, nil, ""},
	} {
		dial := func(ctx context.Context, network, address string) (net.Conn, error) {
			if to, ok := c.to[address]; ok {
				address = to
			}
			return new(net.Dialer).DialContext(ctx, network, address)
		}
		check := func(source string, err error) {
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%s, %s: %v, want %q", c.name, source, err, c.want)
			}
		}
		config := testConfig()
		config.Resolver, config.Dial, config.Listeners = c.resolver, dial, ours.c.Listeners
		check("local", newTestLocal(t, config).Preflight(t.Context()))
		if c.resolver != nil {
			s, _ := serveAPI(t, ours, About{})
			check("remote", newRemote(t, s, func(rc *RemoteConfig) { rc.Resolver, rc.Dial = c.resolver, dial }).Preflight(t.Context()))
		}
	}
}

func TestPreflightOfASilentPort(t *testing.T) {
	silent := must(net.Listen("tcp", "127.0.0.1:0"))
	defer silent.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("no time"))
	c := testConfig()
	c.Reach = []netip.AddrPort{netip.MustParseAddrPort(silent.Addr().String())}
	if err := newTestLocal(t, c).Preflight(ctx); err == nil {
		t.Error("a port that says nothing passes")
	}
}

func TestOverRealSockets(t *testing.T) {
	told := make(chan plan.Token, 1)
	l := serveMail(t, nil)
	conn := must(net.Dial("tcp", l.c.Listeners[0].Addr().String()))
	r := smtp.NewRaw(conn, nil)
	defer func() { _ = r.Close() }()
	if text := banner(t, r); !l.keys.ours(text, time.Now()) || !strings.Contains(text, "[127.0.0.1]") {
		t.Errorf("banner %q", text)
	}
	token := mintOne(t, l)
	go func() {
		list, _, err := l.Arrivals(t.Context(), 0)
		if err == nil {
			told <- list[0].Tokens[0]
		}
		close(told)
	}()
	say(t, r, "HELO x.example", "MAIL FROM:<>", "RCPT TO:<"+string(token)+"@[127.0.0.1]>", "DATA", "A: b\r\n\r\n.", "QUIT")
	if got := <-told; got != token {
		t.Errorf("arrival of %q, want %q", got, token)
	}
}

func TestAPIRunEndsWhileSomebodyWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := must(NewAPI(newTestLocal(t, testConfig()), apiSecret, About{}))
		listener := newPipes()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- api.Run(ctx, listener, nil) }()
		r, err := NewRemote(t.Context(), RemoteConfig{URL: "http://127.0.0.1:8443", Secret: apiSecret, Dial: listener.dial})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = r.Close() }()
		waiting := make(chan error, 1)
		go func() {
			_, _, err := r.Arrivals(t.Context(), 0)
			waiting <- err
		}()
		synctest.Wait() // the poll has come in
		start := time.Now()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if err := <-waiting; err == nil {
			t.Error("the collector is gone, and whoever waits is not told")
		}
		if d := time.Since(start); d > 5*time.Second {
			t.Errorf("the end took %v", d)
		}
	})
}

// pipes is a listener in memory.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case p.conns <- placed{ours, netip.MustParseAddrPort("127.0.0.1:8443"), netip.MustParseAddrPort("127.0.0.1:40000")}:
		return theirs, nil
	case <-p.closed:
		return nil, errors.New("connection refused")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:8443"))
}

func FuzzDecodeTokens(f *testing.F) {
	f.Add(`{"count":1,"ttl_seconds":60}`)
	f.Add(`{"count":1}{}`)
	f.Add(`[`)
	f.Fuzz(func(t *testing.T, text string) {
		v, err := decode[wantTokens](strings.NewReader(text))
		if err != nil {
			return
		}
		again, err := decode[wantTokens](strings.NewReader(fmt.Sprintf(`{"count":%d,"ttl_seconds":%d}`, v.Count, v.TTL)))
		if err != nil || again != v {
			t.Fatalf("%q decodes to %+v, and that to %+v, %v", text, v, again, err)
		}
	})
}
