package collect

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"postern/mail"
	"postern/plan"
	"postern/verdict"
)

// RemoteConfig says where a collector's API is.
type RemoteConfig struct {
	URL      string      // https://collector.example.net:8443; http to loopback only
	Secret   string      // shared with the collector
	TLS      *tls.Config // nil: the system's certificates
	Resolver Resolver    // nil: the collector's own word on where its mail goes is taken
	Dial     func(ctx context.Context, network, address string) (net.Conn, error)
}

// A Remote is a collector on another machine. It is safe for concurrent use.
type Remote struct {
	c      RemoteConfig
	base   *url.URL
	client *http.Client
	about  About
	domain mail.Domain

	mu    sync.Mutex
	floor uint64 // the latest arrival before the first token of ours was minted
}

// answerLimit is more than a page of arrivals can take.
const answerLimit = 16 << 20

// NewRemote asks a collector who it is.
func NewRemote(ctx context.Context, c RemoteConfig) (*Remote, error) {
	base, err := url.Parse(c.URL)
	switch {
	case err != nil:
		return nil, fmt.Errorf("the collector's address %q: %w", c.URL, err)
	case base.Host == "" || base.User != nil || base.RawQuery != "" || base.Fragment != "":
		return nil, fmt.Errorf("the collector's address %q is none; write it as https://collector.example.net:8443", c.URL)
	case base.Scheme == "https", base.Scheme == "http" && loopback(base.Host):
	default:
		return nil, fmt.Errorf("the collector's address %q would show its secret to all on the way; use https", c.URL)
	}
	if c.Dial == nil {
		c.Dial = new(net.Dialer).DialContext
	}
	r := &Remote{c: c, base: base}
	r.client = &http.Client{
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, DialContext: c.Dial, TLSClientConfig: c.TLS, ForceAttemptHTTP2: true,
			TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: apiWait + 15*time.Second, IdleConnTimeout: time.Minute,
			MaxResponseHeaderBytes: 64 << 10,
		},
		// A redirection would take the secret elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	if err := r.ask(ctx, "GET", "/v1/about", nil, &r.about); err != nil {
		return nil, err
	}
	if r.domain, err = mail.ParseDomain(r.about.Domain); err != nil {
		return nil, fmt.Errorf("the collector at %s says that its domain is %q: %w", base.Host, r.about.Domain, err)
	}
	return r, nil
}

// About is what the collector said of itself.
func (r *Remote) About() About { return r.about }

// Close lets the connections to the collector go.
func (r *Remote) Close() error {
	r.client.CloseIdleConnections()
	return nil
}

// Domain is where probes are sent to.
func (r *Remote) Domain() string { return r.domain.ASCII() }

// Recipient is the address of a token.
func (r *Remote) Recipient(t plan.Token) mail.Address { return recipientAt(t, r.domain) }

// Tokens has the collector mint n tokens that live for ttl.
func (r *Remote) Tokens(ctx context.Context, n int, ttl time.Duration) ([]plan.Token, error) {
	var list []plan.Token
	for len(list) < n {
		var got minted
		want := wantTokens{Count: min(n-len(list), MaxTokens), TTL: int64(ttl / time.Second)}
		if err := r.ask(ctx, "POST", "/v1/tokens", want, &got); err != nil {
			return nil, err
		}
		if len(got.Tokens) != want.Count {
			return nil, fmt.Errorf("the collector at %s was asked for %d tokens and gave %d", r.base.Host, want.Count, len(got.Tokens))
		}
		r.mu.Lock()
		if r.floor == 0 {
			r.floor = got.Cursor
		}
		r.mu.Unlock()
		list = append(list, got.Tokens...)
	}
	return list, nil
}

// Arrivals blocks until the collector has something newer than after, or ctx
// ends. What came before the first token was minted here is left out.
func (r *Remote) Arrivals(ctx context.Context, after uint64) ([]verdict.Arrival, uint64, error) {
	for {
		r.mu.Lock()
		if after == 0 {
			after = r.floor
		}
		r.mu.Unlock()
		var got arrived
		query := url.Values{"after": {strconv.FormatUint(after, 10)}, "wait": {strconv.Itoa(int(apiWait / time.Second))}}
		if err := r.ask(ctx, "GET", "/v1/arrivals?"+query.Encode(), nil, &got); err != nil {
			return nil, after, err
		}
		if len(got.Arrivals) > 0 {
			return got.Arrivals, got.Next, nil
		}
		after = got.Next
		if ctx.Err() != nil {
			return nil, after, context.Cause(ctx)
		}
	}
}

// Preflight sees whether mail for the domain reaches the collector from here.
func (r *Remote) Preflight(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, preflightAll)
	defer cancel()
	where, err := r.reach(ctx)
	if err != nil {
		return fmt.Errorf("mail for %s does not find its way to the collector: %w", r.Domain(), err)
	}
	return preflight(ctx, r.c.Dial, r.Domain(), where, r.Ours)
}

// Ours asks the collector whether a banner is one that it gave within the
// last hour.
func (r *Remote) Ours(ctx context.Context, banner string) (bool, error) {
	var got ownBanner
	err := r.ask(ctx, "POST", "/v1/banner", sawBanner{Banner: banner}, &got)
	return got.Ours, err
}

// Front returns where a proxy can be led to: the addresses and the port at
// which mail reaches the collector.
func (r *Remote) Front(ctx context.Context) (plan.Front, error) {
	where, err := r.reach(ctx)
	if err != nil {
		return plan.Front{}, err
	}
	return frontOf(ctx, r.c.Resolver, r.Domain(), where, r.about.Ports), nil
}

func (r *Remote) reach(ctx context.Context) ([]netip.AddrPort, error) {
	if len(r.about.SMTP) > 0 {
		return r.about.SMTP[:min(len(r.about.SMTP), maxReach)], nil
	}
	if r.c.Resolver != nil {
		return exchangersOf(ctx, r.c.Resolver, r.Domain())
	}
	var list []netip.AddrPort
	for _, a := range r.about.Addresses[:min(len(r.about.Addresses), maxReach)] {
		list = append(list, netip.AddrPortFrom(a, 25))
	}
	if len(list) == 0 {
		return nil, errors.New("it does not say where it takes mail, and there is no resolver to ask")
	}
	return list, nil
}

// ask sends one request and reads its answer into v.
func (r *Remote) ask(ctx context.Context, method, path string, body, v any) error {
	err := r.exchange(ctx, method, path, body, v)
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("the collector at %s: %w", r.base.Host, err)
	}
	return nil
}

func (r *Remote) exchange(ctx context.Context, method, path string, body, v any) error {
	var payload io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return err
		}
		payload = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(r.base.String(), "/")+path, payload)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+r.c.Secret)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, answerLimit+1))
	switch {
	case err != nil:
		return err
	case len(raw) > answerLimit:
		return fmt.Errorf("its answer is longer than %d octets", answerLimit)
	case resp.StatusCode == http.StatusUnauthorized:
		return errors.New("it does not know our secret; give the one of its --secret-file")
	case resp.StatusCode != http.StatusOK:
		return said(resp.Status, raw)
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("its answer is not that of a Postern collector: %w", err)
	}
	return nil
}

func said(status string, raw []byte) error {
	var p problem
	if json.Unmarshal(raw, &p) == nil && p.Error != "" {
		return fmt.Errorf("it answers %s: %.200q", status, p.Error)
	}
	return fmt.Errorf("it answers %s; is this a Postern collector?", status)
}
