package collect

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"postern/plan"
	"postern/verdict"
)

// Bounds of the API.
const (
	apiBody    = 64 << 10
	apiWait    = 50 * time.Second // of one poll; less than what proxies on the way bear
	apiPolls   = 256              // at once
	apiRate    = 20               // requests a second of one network
	apiBurst   = 200
	authRate   = 0.2 // wrong secrets a second of one network
	authBurst  = 10
	tokenRate  = 200 // minted a second for one network
	tokenBurst = 50000
)

// About is what a collector tells those who hold its secret.
type About struct {
	Domain    string           `json:"domain"`
	Zone      string           `json:"zone,omitempty"`      // where the names of tests are, when there is one
	Addresses []netip.Addr     `json:"addresses,omitempty"` // of the collector
	SMTP      []netip.AddrPort `json:"smtp,omitempty"`      // where it takes mail, when that is not port 25 of its exchangers

	// Ports are its further ports, each for the one that it stands for.
	Ports map[uint16]uint16 `json:"ports,omitempty"`
}

// An API lets checks on other machines use a Local collector, over HTTPS with
// a shared secret. Whoever has the secret sees all arrivals: give one
// collector to those who may know of each other's servers.
type API struct {
	local *Local
	about About
	hash  [sha256.Size]byte

	requests, wrong, tokens *limiter
	polls                   chan struct{}
	mux                     *http.ServeMux
}

// NewAPI makes the API of a collector. The secret is what clients send.
func NewAPI(l *Local, secret string, about About) (*API, error) {
	if len(secret) < minSecret {
		return nil, fmt.Errorf("the API's secret has %d octets; give it %d or more", len(secret), minSecret)
	}
	about.Domain = l.Domain()
	if about.Zone == "" {
		about.Zone = l.c.Zone.ASCII()
	}
	if about.Addresses == nil {
		about.Addresses = l.c.Addresses
	}
	if about.Ports == nil {
		about.Ports = l.c.Ports
	}
	a := &API{
		local: l, about: about, hash: sha256.Sum256([]byte(secret)),
		requests: newLimiter(apiRate, apiBurst), wrong: newLimiter(authRate, authBurst), tokens: newLimiter(tokenRate, tokenBurst),
		polls: make(chan struct{}, apiPolls), mux: http.NewServeMux(),
	}
	a.mux.HandleFunc("GET /v1/about", func(w http.ResponseWriter, _ *http.Request) { answer(w, a.about) })
	a.mux.HandleFunc("POST /v1/tokens", a.mint)
	a.mux.HandleFunc("GET /v1/arrivals", a.arrivals)
	a.mux.HandleFunc("POST /v1/banner", a.banner)
	return a, nil
}

// Run serves the API until ctx ends. Without a certificate the listener must
// be on loopback, for the secret would be read on the way.
func (a *API) Run(ctx context.Context, l net.Listener, certificate *tls.Config) error {
	if certificate == nil && !loopback(l.Addr().String()) {
		l.Close()
		return fmt.Errorf("the API on %s would show its secret to all on the way; give it a certificate, or a loopback address", l.Addr())
	}
	if certificate != nil {
		l = tls.NewListener(l, certificate)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := &http.Server{
		Handler: a, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, WriteTimeout: apiWait + 30*time.Second,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10, BaseContext: func(net.Listener) context.Context { return ctx },
		// What clients do wrong is theirs to know.
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	cancel() // lets polls answer
	bounded, done := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer done()
	err := s.Shutdown(bounded)
	if err != nil {
		err = s.Close()
	}
	if ended := <-ended; !errors.Is(ended, http.ErrServerClosed) {
		return ended
	}
	return err
}

// ServeHTTP answers one request: first who asks, then what.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	peer, _ := netip.ParseAddrPort(r.RemoteAddr)
	from, now := peer.Addr(), time.Now()
	w.Header().Set("Cache-Control", "no-store")
	if !a.requests.allow(from, 1, now) {
		refuse(w, http.StatusTooManyRequests, "too many requests; ask more slowly")
		return
	}
	// A network that tried wrong secrets is not told whether the next is right.
	if !a.wrong.allow(from, 0.5, now) {
		refuse(w, http.StatusTooManyRequests, "too many wrong secrets; wait a minute")
		return
	}
	secret, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	hash := sha256.Sum256([]byte(secret))
	if subtle.ConstantTimeCompare(hash[:], a.hash[:]) != 1 {
		a.wrong.allow(from, 0.5, now)
		w.Header().Set("WWW-Authenticate", "Bearer")
		refuse(w, http.StatusUnauthorized, "the secret is missing or wrong; send it as a bearer token")
		return
	}
	a.wrong.giveBack(from, 0.5)
	r.Body = http.MaxBytesReader(w, r.Body, apiBody)
	a.mux.ServeHTTP(w, r)
}

// wantTokens is what a client asks to have minted.
type wantTokens struct {
	Count int   `json:"count"`
	TTL   int64 `json:"ttl_seconds"`
}

// minted is what it gets. Cursor is the number of the latest arrival of before.
type minted struct {
	Tokens []plan.Token `json:"tokens"`
	Cursor uint64       `json:"cursor"`
}

func (a *API) mint(w http.ResponseWriter, r *http.Request) {
	want, err := decode[wantTokens](r.Body)
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	if want.TTL < 0 || want.TTL > int64(MaxTTL/time.Second) || want.Count < 0 || want.Count > MaxTokens {
		refuse(w, http.StatusBadRequest, fmt.Sprintf("up to %d tokens at once, for up to %d seconds", MaxTokens, int64(MaxTTL/time.Second)))
		return
	}
	peer, _ := netip.ParseAddrPort(r.RemoteAddr)
	if !a.tokens.allow(peer.Addr(), float64(want.Count), time.Now()) {
		refuse(w, http.StatusTooManyRequests, "too many tokens; wait a minute")
		return
	}
	cursor := a.local.store.last()
	list, err := a.local.Tokens(r.Context(), want.Count, time.Duration(want.TTL)*time.Second)
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	answer(w, minted{Tokens: list, Cursor: cursor})
}

// arrived is a page of arrivals; Next is the number to ask after.
type arrived struct {
	Arrivals []verdict.Arrival `json:"arrivals"`
	Next     uint64            `json:"next"`
}

func (a *API) arrivals(w http.ResponseWriter, r *http.Request) {
	after, err := number(r.FormValue("after"))
	wait, err2 := number(r.FormValue("wait"))
	if err := errors.Join(err, err2); err != nil {
		refuse(w, http.StatusBadRequest, "after and wait are numbers: "+err.Error())
		return
	}
	select {
	case a.polls <- struct{}{}:
		defer func() { <-a.polls }()
	default:
		refuse(w, http.StatusServiceUnavailable, "too many are waiting; come again in a minute")
		return
	}
	patience := apiWait
	if wait < uint64(apiWait/time.Second) {
		patience = time.Duration(wait) * time.Second
	}
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	// That time is up is an answer here: an empty page.
	list, next, _ := a.local.store.wait(ctx, after)
	answer(w, arrived{Arrivals: list, Next: next})
}

func number(s string) (uint64, error) {
	if s == "" {
		return 0, nil
	}
	return strconv.ParseUint(s, 10, 64)
}

// sawBanner is a banner that a client saw, and ownBanner what we say to it.
type sawBanner struct {
	Banner string `json:"banner"`
}

type ownBanner struct {
	Ours bool `json:"ours"`
}

func (a *API) banner(w http.ResponseWriter, r *http.Request) {
	saw, err := decode[sawBanner](r.Body)
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	answer(w, ownBanner{Ours: a.local.keys.ours(saw.Banner, time.Now())})
}

// decode reads one JSON object and nothing after it.
func decode[T any](r io.Reader) (T, error) {
	var v T
	d := json.NewDecoder(r)
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		return v, fmt.Errorf("not the JSON that is wanted: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return v, errors.New("something follows the JSON")
	}
	return v, nil
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // whoever went away does not miss it
}

// problem is the body of a refusal.
type problem struct {
	Error string `json:"error"`
}

func refuse(w http.ResponseWriter, code int, text string) {
	if code == http.StatusTooManyRequests || code == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "60")
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(problem{text})
}

// loopback reports whether an address or name with a port is this machine's own loopback.
func loopback(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = hostport
	}
	if a, err := netip.ParseAddr(host); err == nil {
		return a.Unmap().IsLoopback()
	}
	return host == "localhost"
}
