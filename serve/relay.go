package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"postern/guard"
	"postern/internal/attr"
	"postern/internal/deliver"
	"postern/internal/identity"
	"postern/internal/machine"
	"postern/internal/meter"
	"postern/internal/problem"
	"postern/internal/queue"
	"postern/internal/state"
	"postern/policy"
	"postern/smtp"
)

// Options are what a relay is made of.
type Options struct {
	State *state.Folder            // held by the caller, who closes it after Run
	Load  func() (Settings, error) // reads the configuration; asked at start and at each reload
	Log   *slog.Logger

	Sockets *Sockets      // bound already; nil: none is
	Phase   func(Phase)   // told of each; nil: nobody is
	Ails    func() string // what is wrong around the relay and keeps no mail, as a log that nobody reads; "": nothing; nil: the same
}

// A Relay is `postern serve`. New proves and audits it, Run serves.
type Relay struct {
	o        Options
	users    *identity.Store
	guesses  *identity.Guesses // counted across generations, as is who may hash
	pool     *identity.Pool
	queue    queue.Queue
	runQueue func(context.Context) error
	guard    guard.State
	metrics  *metrics
	wall     *wall
	traffic  *traffic
	sockets  atomic.Pointer[Sockets]
	control  net.Listener
	self     *Control // as others reach it
	since    time.Time
	current  atomic.Pointer[generation]
	deliver  *deliver.Deliverer
	open     guard.Tunnels

	around  func(report func(error)) policy.Surroundings // what the machine knows of itself; a test's own
	means   machine.Means                                // of this machine, as they were at the start
	places  map[string]*smtp.Census                      // of each listener, across generations; r.mu
	life    life
	ears    atomic.Pointer[[]*ear] // of the generation in force
	knocks  knocks
	unheard seldom
	fail    func(error) // ends the relay, and says why; set by Run
	ending  chan struct{}

	tunnelTraces *tunnelTraces
	suspended    suspensions
	headerless   headerless

	mu      sync.Mutex      // one reload at a time
	serving *serving        // the listeners of the generation in force; nil before Run
	root    context.Context //nolint:containedctx // that of Run: listeners outlive the reload that starts them
	first   string          // the password of the user that was made at the first start

	draining sync.WaitGroup // listeners of generations that were replaced
}

// FirstUser is the user that a relay without configuration has.
const FirstUser = "postern"

// New opens the state, makes the configuration a generation that is proved
// and audited, and binds its sockets. Nothing is served before Run.
func New(ctx context.Context, o Options) (_ *Relay, err error) {
	r := &Relay{o: o, since: time.Now(), around: surroundings, ending: make(chan struct{}), self: Dial(o.State.Path), metrics: newMetrics(), guesses: identity.NewGuesses(identity.GuessLimits{}), pool: identity.NewPool(0, 0, 0)}
	defer func() {
		if err != nil && r.first != "" { // nobody was told the password
			err = errors.Join(err, r.users.Remove(FirstUser))
		}
	}()
	settings, err := o.Load()
	if err != nil {
		return nil, err
	}
	if r.users, err = identity.Open(o.State.Path); err != nil {
		return nil, err
	}
	if settings.Local {
		if err := r.firstUser(); err != nil {
			return nil, err
		}
	}
	r.means = machine.MeansHere(os.DirFS("/"))
	share := divide(r.means, &settings)
	r.guard.Flight.Most = share.flight
	g, err := r.build(ctx, settings)
	if err != nil {
		return nil, err
	}
	if err = r.resumeSuspensions(); err != nil {
		return nil, err
	}
	if r.wall, err = openWall(o.State.Join("wall.json")); err != nil {
		return nil, err
	}
	if r.traffic, err = openTraffic(o.State.Join("traffic"), r.complain); err != nil {
		return nil, err
	}
	if r.tunnelTraces, err = openTunnelTraces(o.State.Join(tunnelFolder)); err != nil {
		return nil, err
	}
	if r.queue, r.runQueue, err = openQueue(o.State.Join("queue"), settings, share.store, r.complain); err != nil {
		return nil, err
	}
	bound, err := bind(settings.Ports(), o.Sockets)
	if err != nil {
		return nil, errors.Join(err, r.queue.Close())
	}
	if o.Sockets != nil {
		r.complain(o.Sockets.closeExcept(bound))
	}
	r.sockets.Store(bound)
	if r.control, err = r.listenControl(); err != nil {
		return nil, errors.Join(err, bound.close(), r.queue.Close())
	}
	r.put(g)
	r.metrics.registry.MustRegister(newQueueCollector(r.queue))
	r.deliver = r.newDeliverer(settings)
	return r, nil
}

// policy returns the one in force.
func (r *Relay) policy() *policy.Policy { return r.current.Load().policy }

// firstUser makes the one user of a relay that nobody has configured.
func (r *Relay) firstUser() error {
	if len(r.users.List()) > 0 {
		return nil
	}
	password := identity.Generate()
	err := r.users.Add(identity.NewUser{Name: FirstUser, Password: password, MaySendAs: []string{"*"}})
	r.first = string(password)
	return err
}

// build makes a generation of settings, with the certificate that they name.
func (r *Relay) build(ctx context.Context, s Settings) (*generation, error) {
	from := s.TLS
	if from.File == "" {
		made, err := selfSigned(r.o.State, s.Policy.Hostname.ASCII())
		if err != nil {
			return nil, fmt.Errorf("make a certificate: %w", err)
		}
		from = made
	}
	certificates, err := loadCertificates(from, s.ClientCAs)
	if err != nil {
		return nil, err
	}
	return r.judge(ctx, s, certificates)
}

// judge compiles, proves and audits settings with the users of the store as
// they are now.
func (r *Relay) judge(ctx context.Context, s Settings, c *certificates) (*generation, error) {
	seen := r.fingerprint() // who is changed from now on is seen by watch
	g, err := prove(s, WithStored(s.Policy.Users, r.users), r.around(r.complain))
	if err != nil {
		return nil, err
	}
	g.tls, g.users, g.share = c, seen, divide(r.means, &s)
	g.warnings = append(g.warnings, problem.All(g.share.short(r.means, &s))...)
	if g.ways, err = Ways(s); err != nil {
		return nil, err
	}
	if g.dns, err = resolver(s); err != nil {
		return nil, err
	}
	return g, r.selfAudit(ctx, g)
}

// selfAudit audits a generation and refuses one that is not closed.
func (r *Relay) selfAudit(ctx context.Context, g *generation) error {
	a, err := g.audit(ctx)
	if err != nil {
		return err
	}
	r.metrics.audited(a)
	if !a.Closed() {
		e := &NotClosedError{}
		for _, b := range a.Breaches {
			e.Found = append(e.Found, b)
		}
		return e
	}
	g.audited.Store(a)
	return nil
}

// put makes a generation the one in force.
func (r *Relay) put(g *generation) {
	r.current.Store(g)
	r.metrics.generation(g)
}

// Run serves until ctx ends, lets messages that are under way come to their
// end, and closes the queue.
func (r *Relay) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r.root = ctx
	var g sync.WaitGroup
	var failed error
	var once sync.Once
	r.fail = func(err error) {
		once.Do(func() {
			failed = err
			r.o.Log.LogAttrs(ctx, slog.LevelError, "the relay ends: a part of it has failed", attr.Err(err))
		})
		cancel()
	}
	defer context.AfterFunc(ctx, func() { close(r.ending) })()
	// A part that ends before the relay does ends it, even where it found
	// nothing wrong: it would be missing from now on.
	start := func(name string, run func(context.Context) error) {
		g.Go(func() { r.left(ctx, name, run(ctx)) })
	}
	r.life.begin()
	r.mu.Lock()
	s, err := r.listen(r.sockets.Load())
	if err == nil {
		r.serve(r.current.Load(), s)
	}
	r.mu.Unlock()
	if err != nil {
		return errors.Join(err, r.sockets.Load().close(), r.queue.Close())
	}
	start("users", func(ctx context.Context) error { return r.users.Run(ctx, r.complain) })
	start("queue", r.runQueue)
	start("delivery", func(ctx context.Context) error { return r.deliver.Run(ctx, drainFor) })
	start("control socket", func(ctx context.Context) error { return r.serveControl(ctx, r.control) })
	start("watch", r.watch)
	start("traffic", r.watchTraffic)
	start("life", r.watchLife)
	r.tell(Serving)
	<-ctx.Done()
	r.tell(Stopping)
	r.mu.Lock()
	last := r.serving
	r.mu.Unlock()
	last.deafen()
	last.stop()
	r.draining.Wait()
	g.Wait()
	return errors.Join(failed, r.sockets.Load().close(), r.wall.save(time.Now()), r.traffic.save(), r.tunnelTraces.close(), r.queue.Close())
}

// Ending is closed when Run begins to end, also where nobody told it to.
func (r *Relay) Ending() <-chan struct{} { return r.ending }

// Reload puts the configuration in force as it is written now. When it is
// refused, the old one stays in force and the error says why.
func (r *Relay) Reload(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.serving != nil {
		r.tell(Reloading)
		defer r.tell(Serving)
	}
	settings, err := r.o.Load()
	if err == nil {
		err = r.users.Reload()
	}
	if err == nil {
		err = r.replace(ctx, settings)
	}
	r.metrics.reloaded(err)
	if err != nil {
		r.o.Log.LogAttrs(ctx, slog.LevelError, "reload refused; the running policy stays in force", attr.Err(err))
		return err
	}
	r.complain(r.restore()) // the operator has looked
	r.o.Log.LogAttrs(ctx, slog.LevelInfo, "reloaded", slog.String("policy", r.current.Load().policy.Hash()))
	return nil
}

// replace makes a new generation and swaps it for the old one. Until the swap
// nothing has changed.
func (r *Relay) replace(ctx context.Context, s Settings) error {
	g, err := r.build(ctx, s)
	if err != nil {
		return err
	}
	old, closing := r.serving, r.sockets.Load()
	fresh, err := bind(s.Ports(), closing)
	if err != nil {
		return err
	}
	if old == nil { // not yet running
		r.sockets.Store(fresh)
		r.put(g)
		return closing.closeExcept(fresh)
	}
	next, err := r.listen(fresh)
	if err != nil {
		return errors.Join(err, fresh.closeExcept(closing))
	}
	r.sockets.Store(fresh)
	r.put(g)
	old.retire(g)
	r.serve(g, next)
	r.draining.Go(old.end) // sessions end in their own time
	return errors.Join(closing.closeExcept(fresh), r.recheck(ctx))
}

// Status is what a relay says of itself.
type Status struct {
	Policy     string             `json:"policy"`
	File       string             `json:"file,omitempty"`
	Listeners  []ListenerStatus   `json:"listeners"`
	Audited    *Audited           `json:"audited"`
	Proof      string             `json:"proof"`
	Wall       Wall               `json:"wall"`
	Hold       string             `json:"hold,omitempty"`
	State      string             `json:"state"`
	Suspended  []Suspension       `json:"suspended,omitempty"`
	Headerless []Headerless       `json:"headerless,omitempty"`
	Warnings   []*problem.Problem `json:"warnings,omitempty"`
	Budgets    []BudgetStatus     `json:"budgets,omitempty"`
	Breakouts  []meter.Breakout   `json:"breakouts,omitempty"`
	Ails       string             `json:"ails,omitempty"` // what is wrong around the relay and stops no mail
	First      string             `json:"-"`              // the password of the first user, once
}

// A ListenerStatus is one way in and where it is.
type ListenerStatus struct {
	Name  string   `json:"name"`
	Role  string   `json:"role"`
	Addrs []string `json:"addresses"`
}

// Status returns what the relay is now.
func (r *Relay) Status() Status {
	g := r.current.Load()
	s := Status{
		Policy: g.policy.Hash(), File: g.settings.File, Audited: g.audited.Load(), Proof: g.proof.Summary(), Wall: r.wall.now(time.Now()),
		Hold: g.settings.Hold, State: r.o.State.Path, Warnings: g.warnings, First: r.first, Suspended: r.suspended.now(), Headerless: r.headerless.now(),
	}
	s.Ails = r.ails()
	s.Budgets, s.Breakouts = r.budgets(time.Now()), r.traffic.Breakouts()
	for _, l := range g.settings.Listeners {
		s.Listeners = append(s.Listeners, ListenerStatus{Name: l.Name, Role: l.Role.String(), Addrs: r.sockets.Load().addrs(l.Name)})
	}
	for _, w := range g.settings.Gateways {
		s.Listeners = append(s.Listeners, ListenerStatus{Name: w.Name, Role: "gateway", Addrs: r.sockets.Load().addrs(w.Name)})
	}
	return s
}

// Proof returns the proof of the policy in force.
func (r *Relay) Proof() *policy.Proof { return r.current.Load().proof }

func (r *Relay) complain(err error) {
	if err != nil {
		r.o.Log.LogAttrs(context.Background(), slog.LevelError, "trouble", attr.Err(err))
	}
}
