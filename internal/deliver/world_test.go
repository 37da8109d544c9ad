package deliver

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"postern/internal/problem"
	"postern/internal/queue"
	"postern/internal/queue/pebble"
	"postern/internal/resolve"
	"postern/mail"
	"postern/policy"
	"postern/smtp"
)

// A world is a DNS, a net of servers, a queue and a deliverer, in a bubble.
type world struct {
	*testing.T
	queue *pebble.Queue
	d     *Deliverer
	mu    sync.Mutex
	dns   map[string][]resolve.MX
	addrs map[string][]string
	nodes map[string]*node // by address and port
	ways  *Routes
	rules *policy.Policy
	seen  []Event
	dials []string
	stop  func()
	unix  map[string]*lmtp
	text  string // of messages; "": the usual one

	fronts map[string]func(net.Conn)
}

// A node is one server of the net.
type node struct {
	w       *world
	refuse  bool          // the connection
	silent  bool          // never answers a SYN
	slow    time.Duration // before each reply to DATA
	hangup  string        // at this recipient
	banner  mail.Reply
	mail    mail.Reply
	rcpt    func(to string) mail.Reply
	data    func() mail.Reply
	without []string
	tls     *tls.Config
	limits  smtp.Limits

	mu       sync.Mutex
	got      []string // "from to size", of messages that were taken
	bodies   []string
	wishes   []string // of each recipient: ENVID, RET, NOTIFY, ORCPT, or "none"
	sessions int
	open     int
	most     int
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// bubble runs a test in a bubble with a world that delivers until the test ends.
func bubble(t *testing.T, set func(*Options), test func(*world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{T: t, dns: map[string][]resolve.MX{}, addrs: map[string][]string{}, nodes: map[string]*node{}}
		w.ways = &Routes{Hostname: must(mail.ParseDomain("mx.ours.example")), Ours: map[string]Route{}, Others: map[string]Route{}, Default: Route{Name: "default", Kind: ToMX}}
		p, err := policy.Compile(policy.Source{
			Hash: "test", Hostname: w.ways.Hostname,
			Listeners: []policy.Listener{{Name: "mx", Role: policy.MX}, {Name: "submission", Role: policy.Submission}},
			Domains: []policy.Domain{{Name: must(mail.ParseDomain("ours.example")), Mailboxes: []string{"anna", "ben", "owner"}, Aliases: []policy.Alias{{
				Name: "both", To: []mail.Address{must(mail.ParseAddress("x@far.example")), must(mail.ParseAddress("y@far.example"))},
				Sender: must(mail.ParseReversePath("<owner@ours.example>")),
			}}}},
			Users: []policy.User{{Name: "anna", MaySendAs: []policy.Senders{must(policy.ParseSenders("*")), must(policy.ParseSenders("<>"))}}},
		})
		if fatal, _ := problem.Split(err); fatal != nil {
			t.Fatal(fatal)
		}
		w.rules = p
		w.queue = must(pebble.Open(pebble.Options{Dir: "queue", FS: vfs.NewMem(), Usage: func() (uint64, uint64, error) { return 1 << 40, 1 << 40, nil }}))
		o := Options{
			Queue: w.queue, Policy: func() *policy.Policy { w.mu.Lock(); defer w.mu.Unlock(); return w.rules }, Routes: func() *Routes { w.mu.Lock(); defer w.mu.Unlock(); return w.ways },
			Resolver: w, Dial: w.dial, Watch: w.watch, Report: func(err error) { t.Log("reported:", err) },
			Own: func(a netip.Addr) bool { return a.String() == "203.0.113.1" },
		}
		if set != nil {
			set(&o)
		}
		w.d = New(o)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- w.d.Run(ctx, 30*time.Second) }()
		w.stop = sync.OnceFunc(func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
		defer func() {
			w.stop()
			if err := w.queue.Close(); err != nil {
				t.Error(err)
			}
		}()
		test(w)
	})
}

func (w *world) MX(_ context.Context, domain string) ([]resolve.MX, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	list, ok := w.dns[domain]
	switch {
	case !ok && w.addrs[domain] != nil:
		return nil, &resolve.Error{Name: domain, Type: "MX", Err: resolve.ErrNoData}
	case !ok:
		return nil, &resolve.Error{Name: domain, Type: "MX", Err: resolve.ErrNoName}
	case len(list) == 1 && list[0].Host == "":
		return nil, &resolve.Error{Name: domain, Type: "MX", Err: resolve.ErrNullMX}
	case len(list) == 0:
		return nil, &resolve.Error{Name: domain, Type: "MX", Err: resolve.ErrServer}
	}
	return list, nil
}

func (w *world) Addresses(_ context.Context, name string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(name); err == nil {
		return []netip.Addr{a}, nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []netip.Addr
	for _, a := range w.addrs[name] {
		list = append(list, netip.MustParseAddr(a))
	}
	if len(list) == 0 {
		return nil, &resolve.Error{Name: name, Type: "A", Err: resolve.ErrNoName}
	}
	return list, nil
}

// host gives a name to a node, which is at each of the addresses.
func (w *world) host(name string, n *node, addrs ...string) *node {
	w.mu.Lock()
	defer w.mu.Unlock()
	n.w = w
	for _, a := range addrs {
		at := netip.MustParseAddrPort(a)
		w.addrs[name] = append(w.addrs[name], at.Addr().String())
		w.nodes[a] = n
	}
	return n
}

// mx makes a domain whose exchangers are named "preference host".
func (w *world) mx(domain string, list ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dns[domain] = []resolve.MX{}
	for _, s := range list {
		var m resolve.MX
		_, _ = fmt.Sscan(s, &m.Preference, &m.Host)
		w.dns[domain] = append(w.dns[domain], m)
	}
}

func (w *world) watch(e Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = append(w.seen, e)
}

// events returns what happened to deliveries, as "to state text".
func (w *world) events() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []string
	for _, e := range w.seen {
		text := e.Reply.String()
		if text == "" {
			text = e.Note
		}
		list = append(list, fmt.Sprintf("%s %s %s", e.To, e.State, text))
	}
	w.seen = nil
	return list
}

type addressed struct {
	net.Conn
	remote net.Addr
}

func (a addressed) RemoteAddr() net.Addr { return a.remote }

var errRefused = errors.New("connection refused")

func (w *world) dial(ctx context.Context, _ netip.Addr, _, address string) (net.Conn, error) {
	w.mu.Lock()
	n, local, front := w.nodes[address], w.unix[address], w.fronts[address]
	w.dials = append(w.dials, address)
	w.mu.Unlock()
	switch {
	case front != nil:
		ours, theirs := net.Pipe()
		ended := make(chan struct{})
		go func() { defer close(ended); front(theirs) }()
		w.Cleanup(func() { ours.Close(); <-ended })
		return ours, nil
	case local != nil:
		ours, theirs := net.Pipe()
		ended := make(chan struct{})
		go func() { defer close(ended); local.serve(theirs) }()
		w.Cleanup(func() { ours.Close(); <-ended })
		return ours, nil
	case n == nil || n.refuse:
		return nil, fmt.Errorf("dial %s: %w", address, errRefused)
	case n.silent:
		<-ctx.Done()
		return nil, ctx.Err()
	}
	ours, theirs := net.Pipe()
	to := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(address))
	l := &once{conn: theirs, over: make(chan struct{})}
	s := &smtp.Server{Name: "peer.example", Handler: n, Without: n.without, TLS: n.tls, Limits: n.limits}
	ended := make(chan struct{})
	run, cancel := context.WithCancel(context.Background())
	go func() {
		defer close(ended)
		_ = s.Run(run, l)
	}()
	w.Cleanup(func() { cancel(); ours.Close(); <-ended })
	return addressed{ours, to}, nil
}

// once is a listener of one connection.
type once struct {
	mu   sync.Mutex
	conn net.Conn
	over chan struct{}
	shut sync.Once
}

func (l *once) Accept() (net.Conn, error) {
	l.mu.Lock()
	c := l.conn
	l.conn = nil
	l.mu.Unlock()
	if c != nil {
		return c, nil
	}
	<-l.over
	return nil, net.ErrClosed
}

func (l *once) Close() error   { l.shut.Do(func() { close(l.over) }); return nil }
func (l *once) Addr() net.Addr { return &net.TCPAddr{} }

// Connect begins a session at a node.
func (n *node) Connect(context.Context, *smtp.Peer) (smtp.Session, mail.Reply) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sessions++
	n.open++
	n.most = max(n.most, n.open)
	return &visit{n: n}, n.banner
}

// greets changes the banner and returns how many sessions there were.
func (n *node) greets(banner mail.Reply) (sessions int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.banner = banner
	return n.sessions
}

type visit struct {
	n      *node
	from   string
	params mail.SenderParams
	to     []string
}

func (v *visit) Hello(context.Context, string, bool) mail.Reply { return mail.Reply{} }
func (v *visit) Mail(_ context.Context, from mail.ReversePath, p mail.SenderParams) mail.Reply {
	v.from, v.params = from.String(), p
	return v.n.mail
}

func (v *visit) Rcpt(_ context.Context, to mail.ForwardPath, p mail.RecipientParams) mail.Reply {
	v.n.wish(v.params, p)
	if v.n.hangup == to.String() {
		return smtp.Hangup
	}
	r := mail.NewReply(250, "2.1.5", "yes")
	if v.n.rcpt != nil {
		if said := v.n.rcpt(to.String()); !said.IsZero() {
			r = said
		}
	}
	if r.Positive() {
		v.to = append(v.to, to.String())
	}
	return r
}

func (v *visit) Data(_ context.Context, body io.Reader) mail.Reply {
	text, err := io.ReadAll(body)
	if err != nil {
		return mail.Reply{}
	}
	time.Sleep(v.n.slow)
	r := mail.NewReply(250, "2.0.0", "taken")
	v.n.mu.Lock()
	defer v.n.mu.Unlock()
	if v.n.data != nil {
		r = v.n.data()
	}
	if r.Positive() {
		v.n.got = append(v.n.got, v.from+" "+strings.Join(v.to, ","))
		v.n.bodies = append(v.n.bodies, string(text))
	}
	return r
}

func (v *visit) Reset() { v.from, v.to = "", nil }
func (v *visit) Close(error) {
	v.n.mu.Lock()
	defer v.n.mu.Unlock()
	v.n.open--
}

func (n *node) wish(s mail.SenderParams, r mail.RecipientParams) {
	text := "none"
	if s.EnvID != "" || s.Ret != "" || r != (mail.RecipientParams{}) {
		text = fmt.Sprint(s.EnvID, " ", s.Ret, " ", r.Notify, " ", r.ORcpt)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.wishes = append(n.wishes, text)
}

// messages returns what a node has taken, as "from to,to".
func (n *node) messages() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.got)
}

// send queues a message from anna, and returns its id.
func (w *world) send(from string, to ...string) string { return w.sendWith(nil, from, to...) }

const text = "Received: from nobody\r\nFrom: anna@ours.example\r\nMessage-ID: <1@ours.example>\r\nSubject: hello\r\n\r\n.hello\r\n"

func (w *world) sendWith(change func(*queue.Letter), from string, to ...string) string {
	w.Helper()
	l := queue.Letter{ID: queue.NewID(), From: must(mail.ParseReversePath(from)), Origin: queue.Origin{At: time.Now(), Listener: "submission", Identity: "anna"}}
	for _, s := range to {
		path := must(mail.ParseForwardPath(s))
		c := policy.Client{Listener: "submission", Addr: netip.MustParseAddr("192.0.2.7"), TLS: true, Identity: "anna"}
		if strings.HasSuffix(s, "@ours.example>") && change == nil {
			c = policy.Client{Listener: "mx", Addr: netip.MustParseAddr("192.0.2.7")}
		}
		g, refusal := w.rules.Decide(c, l.From, path)
		if refusal != nil {
			w.Fatal(refusal)
		}
		l.To = append(l.To, policy.Accepted{Grant: g})
	}
	if change != nil {
		change(&l)
	}
	if _, err := w.queue.Put(w.Context(), l, strings.NewReader(cmp.Or(w.text, text))); err != nil {
		w.Fatal(err)
	}
	return l.ID
}

// left returns what is in the queue, as "to state".
func (w *world) left() (list []string) {
	w.Helper()
	messages, _, err := w.queue.List(w.Context(), queue.Filter{}, queue.Page{})
	if err != nil {
		w.Fatal(err)
	}
	for _, m := range messages {
		for _, to := range m.To {
			for _, d := range to.Goes {
				list = append(list, d.To.String()+" "+d.State.String())
			}
		}
	}
	return list
}

// after lets time pass, and all that it brings happen.
func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// An lmtp is a server that speaks LMTP as simply as can be.
type lmtp struct {
	mu      sync.Mutex
	replies map[string]string // to a message, by recipient
	got     map[string]int
	bodies  []string
}

func (w *world) lmtp(path string, replies map[string]string) *lmtp {
	l := &lmtp{replies: replies, got: map[string]int{}}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.unix = map[string]*lmtp{path: l}
	return l
}

// says sets the reply to messages for a recipient.
func (l *lmtp) says(path, reply string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.replies[path] = reply
}

func (l *lmtp) take(path, text string) (reply string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if reply = l.replies[path]; strings.HasPrefix(reply, "250") {
		l.got[path]++
		l.bodies = append(l.bodies, text)
	}
	return reply
}

func (l *lmtp) serve(c net.Conn) {
	defer c.Close()
	in := bufio.NewReader(c)
	var to []string
	say := func(s string) { _, _ = io.WriteString(c, s+"\r\n") }
	say("220 lmtp")
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		verb, arg, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch verb {
		case "LHLO":
			say("250-lmtp\r\n250-PIPELINING\r\n250 8BITMIME")
		case "RCPT":
			path, _, _ := strings.Cut(strings.TrimPrefix(arg, "TO:"), " ")
			to = append(to, path)
			say("250 2.1.5 ok")
		case "DATA":
			say("354 go on")
			text := ""
			for line != ".\r\n" {
				if line, err = in.ReadString('\n'); err != nil {
					return
				}
				text += line
			}
			for _, path := range to {
				say(l.take(path, text))
			}
			to = nil
		case "QUIT":
			say("221 bye")
			return
		default:
			say("250 2.0.0 ok")
		}
	}
}

// says is a server without extensions that answers each line as it is told,
// "." for a message. It closes after "" and after 221 and 421.
func says(answer func(line string) string) func(net.Conn) {
	return func(c net.Conn) {
		defer c.Close()
		in := bufio.NewReader(c)
		for line := "banner"; ; {
			r := answer(line)
			if r == "" {
				return
			}
			if _, err := io.WriteString(c, r+"\r\n"); err != nil || strings.HasPrefix(r, "221") || strings.HasPrefix(r, "421") {
				return
			}
			got, err := in.ReadString('\n')
			for strings.HasPrefix(r, "354") && err == nil && got != ".\r\n" {
				got, err = in.ReadString('\n')
			}
			if err != nil {
				return
			}
			line = strings.TrimSpace(got)
		}
	}
}
