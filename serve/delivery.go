package serve

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"

	"postern/internal/attr"
	"postern/internal/deliver"
	"postern/internal/machine"
	"postern/internal/maildir"
	"postern/internal/plaintext"
	"postern/internal/problem"
	"postern/internal/queue"
	"postern/internal/resolve"
)

// Ways returns the ways out that a configuration says, with the passwords of
// its smarthosts read from their files.
func Ways(s Settings) (*deliver.Routes, error) {
	r := &deliver.Routes{Hostname: s.Policy.Hostname, Ours: map[string]deliver.Route{}, Others: map[string]deliver.Route{}}
	r.Default = deliver.Route{Name: "default", Kind: deliver.ToNobody, Why: s.Hold}
	if s.Hold == "" {
		r.Default.Why = `no route "default" says how mail for others leaves`
	}
	for name, h := range s.Hops {
		way, err := hopWay(name, h)
		if err != nil {
			return nil, err
		}
		r.Ours[name] = way
	}
	for _, route := range s.Routes {
		way, err := routeWay(route)
		if err != nil {
			return nil, err
		}
		if route.Domain == "default" {
			r.Default = way
		} else {
			r.Others[route.Domain] = way
		}
	}
	return r, nil
}

func hopWay(name string, h NextHop) (deliver.Route, error) {
	way := deliver.Route{Name: name, Kind: deliver.ToHop, LMTP: h.LMTP, At: h.At}
	switch {
	case h.Hold:
		way.Kind, way.Why = deliver.ToNobody, "its domain does not say yet where its mailboxes are"
	case h.Maildir != "":
		folder, err := maildir.ParseTemplate(h.Maildir)
		if err != nil {
			return way, problem.At(h.At, err.Error(), `write maildir:/var/mail/{domain}/{local}`)
		}
		way.Kind, way.Folder, way.Separator = deliver.ToMaildir, folder, h.Separator
	case h.Network == "unix":
		way.Hosts = []deliver.Host{{Network: "unix", Name: h.Address}}
	default:
		host, err := deliver.ParseHost(h.Address)
		if err != nil {
			return way, problem.At(h.At, err.Error(), "write host:port")
		}
		way.Hosts = []deliver.Host{host}
	}
	return way, nil
}

func routeWay(route Route) (deliver.Route, error) {
	way := deliver.Route{
		Name: route.Domain, Kind: deliver.ToMX, At: route.At, Source: route.Source, Helo: route.Helo, Most: route.Connections,
	}
	policy, ok := deliver.ParseTLSPolicy(route.TLS)
	if !ok {
		return way, problem.At(route.At, fmt.Sprintf("tls = %q is none of none, may, require, verify", route.TLS), "write one of them")
	}
	way.TLS = policy
	if route.Hold {
		way.Kind, way.Why = deliver.ToNobody, "the route says hold"
	}
	for _, s := range route.Smarthosts {
		host, err := deliver.ParseHost(s)
		if err != nil {
			return way, problem.At(route.At, err.Error(), "write host:port")
		}
		way.Kind, way.Hosts = deliver.ToSmarthost, append(way.Hosts, host)
	}
	var err error
	if way.User, way.Pass, err = login(route.Login, route.At); err != nil {
		return way, err
	}
	if route.Proxy == "" {
		return way, nil
	}
	kind, host, _ := strings.Cut(route.Proxy, "://")
	way.Proxy.SOCKS = kind == "socks5"
	if way.Proxy.Host, err = deliver.ParseHost(host); err != nil || kind != "socks5" && kind != "http" {
		return way, problem.At(route.At, fmt.Sprintf("proxy %q is none", route.Proxy), `write "socks5://10.0.0.1:1080" or "http://10.0.0.1:3128"`)
	}
	way.Proxy.User, way.Proxy.Pass, err = login(route.ProxyLogin, route.At)
	return way, err
}

// login reads a file with a user and a password on two lines; without a file
// there is none.
func login(path string, at problem.Pos) (user string, pass deliver.Secret, err error) {
	if path == "" {
		return "", "", nil
	}
	text, err := plaintext.ReadFile(path)
	if err != nil {
		return "", "", problem.At(at, fmt.Sprintf("the login cannot be read: %v", err), "let the relay's user read it")
	}
	user, word, found := strings.Cut(strings.TrimSpace(strings.ReplaceAll(string(text), "\r\n", "\n")), "\n")
	if !found || user == "" || word == "" || strings.Contains(word, "\n") {
		return "", "", problem.At(at, fmt.Sprintf("%s does not hold a user and a password on two lines", path), "write the user on its first line and the password on its second")
	}
	return user, deliver.Secret(word), nil
}

// resolver returns the DNS as a configuration wants it.
func resolver(s Settings) (deliver.Resolver, error) {
	if s.Resolver.IsValid() {
		return resolve.At(s.Resolver)
	}
	return resolve.System()
}

// lookups asks the DNS of the generation in force.
type lookups struct{ r *Relay }

func (l lookups) MX(ctx context.Context, domain string) ([]resolve.MX, error) {
	return l.r.current.Load().dns.MX(ctx, domain)
}

func (l lookups) Addresses(ctx context.Context, name string) ([]netip.Addr, error) {
	return l.r.current.Load().dns.Addresses(ctx, name)
}

// drainFor is how long attempts that are under way may take once the relay
// was told to stop.
const drainFor = 30 * time.Second

func (r *Relay) newDeliverer(s Settings) *deliver.Deliverer {
	s.Delivery.Total = divide(r.means, &s).deliveries
	return deliver.New(deliver.Options{
		Queue:    r.queue,
		Policy:   r.policy,
		Routes:   func() *deliver.Routes { return r.current.Load().ways },
		Resolver: lookups{r},
		Own: func(a netip.Addr) bool {
			return isOwn(r.current.Load())(a)
		},
		Suspended: r.guard.Witness.Suspended,
		Running:   machine.Running,
		Limits:    s.Delivery.Limits,
		Lifetimes: s.Delivery.Lifetimes,
		Watch:     r.delivered,
		Report:    r.complain,
	})
}

// delivered takes what became of one delivery: a line of the log, the counters.
func (r *Relay) delivered(e deliver.Event) {
	if e.Untried {
		return
	}
	r.metrics.delivered(e)
	r.countDelivery(e)
	level := slog.LevelInfo
	if e.State == queue.Failed || e.State == queue.Withheld {
		level = slog.LevelWarn
	}
	list := []slog.Attr{
		slog.String("event", e.State.String()), attr.Message(e.Message), attr.ReversePath(e.From), attr.ForwardPath(e.To),
		attr.Destination(e.Destination), attr.Attempt(e.Attempts),
	}
	if e.Via.Host != "" {
		list = append(list, slog.String("host", e.Via.Host))
	}
	if e.Via.Addr.IsValid() {
		list = append(list, attr.Peer(e.Via.Addr.Addr()))
	}
	if e.Via.TLS != "" {
		list = append(list, slog.String("tls", e.Via.TLS))
	}
	if !e.Reply.IsZero() {
		list = append(list, attr.Code(e.Reply.Code), slog.String("reply", e.Reply.String()))
	}
	if e.Note != "" {
		list = append(list, slog.String("why", e.Note))
	}
	if e.Class != "" {
		list = append(list, slog.String("class", e.Class))
	}
	if !e.Next.IsZero() {
		list = append(list, slog.Time("next", e.Next))
	}
	if e.Via.Took > 0 {
		list = append(list, attr.Took(e.Via.Took.Round(time.Microsecond)))
	}
	r.o.Log.LogAttrs(context.Background(), level, "delivery", list...)
}

// Explainer returns what can say how mail leaves under a configuration,
// without a relay that runs.
func Explainer(s Settings) (*deliver.Deliverer, error) {
	ways, err := Ways(s)
	if err != nil {
		return nil, err
	}
	dns, err := resolver(s)
	if err != nil {
		return nil, err
	}
	around := Around()
	own := map[netip.Addr]bool{}
	for _, a := range slices.Concat(around.Own, around.Bridges) {
		own[a.WithZone("")] = true
	}
	return deliver.New(deliver.Options{
		Routes: func() *deliver.Routes { return ways }, Resolver: dns, Own: func(a netip.Addr) bool { return own[a] },
	}), nil
}
