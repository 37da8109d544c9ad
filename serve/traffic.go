package serve

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"postern/guard"
	"postern/internal/attr"
	"postern/internal/deliver"
	"postern/internal/meter"
	"postern/internal/queue"
	"postern/mail"
	"postern/policy"
)

// Traffic says what mail that leaves costs, and how much may leave.
type Traffic struct {
	Price    float64 // of a GiB that leaves
	Currency string  // "": no price is said
	All      Budget  // of all identities and trusted clients together
	Each     Budget  // of one
	Soft     float64 // the share of a budget at which the operator is told; 0: 0.8
	Floor    meter.Habit
	Loose    bool // nobody breaks out
}

// A Budget is how many octets may leave in a day or month of UTC; beyond, what
// leaves is held. The zero Budget has no end.
type Budget struct {
	Octets int64
	Per    meter.Period
	Text   string // as it was written: "100GiB/month"
}

// A BudgetStatus is how much of a budget was taken.
type BudgetStatus struct {
	Who    string  `json:"who,omitempty"` // "": all
	Budget string  `json:"budget"`
	Leaves int64   `json:"leaves"` // octets in the period
	Share  float64 `json:"share"`
}

// traffic is what the relay counts.
type traffic struct {
	*meter.Meter
	dir   string
	broke chan struct{} // somebody has broken out

	saving sync.Mutex

	mu   sync.Mutex
	sent map[transaction]struct{}

	counted struct { // destinations of the queue
		mu    sync.Mutex
		list  []queue.Destination
		until time.Time
	}
}

// A transaction is one message given to one server, once: attempts at two
// recipients of it have taken the same time to the nanosecond.
type transaction struct {
	message string
	to      netip.AddrPort
	took    time.Duration
}

func openTraffic(dir string, report func(error)) (*traffic, error) {
	m, err := meter.Open(dir, time.Now(), report)
	if err != nil {
		return nil, err
	}
	return &traffic{Meter: m, dir: dir, broke: make(chan struct{}, 1), sent: map[transaction]struct{}{}}, nil
}

// save writes what has changed. An older copy of a file must not be written
// after a newer one.
func (t *traffic) save() error {
	t.saving.Lock()
	defer t.saving.Unlock()
	return t.Save(t.dir)
}

// maxSent bounds how many transactions are remembered: the outcomes of one come
// one right after the other, between those of at most some hundred others.
const maxSent = 4096

// out returns the octets that a delivery has cost: none if the message went
// with that to another recipient.
func (t *traffic) out(e *deliver.Event) int64 {
	key := transaction{e.Message, e.Via.Addr, e.Via.Took}
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, again := t.sent[key]; again && e.Via.Took > 0 {
		return 0
	}
	if len(t.sent) >= maxSent {
		clear(t.sent)
	}
	t.sent[key] = struct{}{}
	return e.Size
}

// sender returns the identity or trusted client of an event; "": a stranger.
func (r *Relay) sender(e *guard.Event) string {
	if e.Role == policy.Trusted {
		return r.policy().TrustedBy(e.Peer)
	}
	return e.Identity
}

// others reports a destination that is not ours: what goes there leaves.
func (r *Relay) others(d mail.Domain) bool { return !d.IsZero() && !r.policy().Ours(d) }

// count takes what the guard saw, and tells of a budget that comes to its end.
func (r *Relay) count(e guard.Event) {
	now := time.Now()
	switch e.Kind {
	case guard.Refused:
		r.traffic.Refused(now, r.sender(&e), e.Peer)
	case guard.Accepted:
		who := r.sender(&e)
		to := make([]meter.Address, 0, 8)
		alias := ""
		for _, g := range e.Grants {
			if g.Leaves() > 0 {
				alias = meter.Alias(g.Alias())
			}
			for _, d := range g.Goes() {
				to = append(to, meter.Address{Destination: d.To.Domain().ASCII(), Leaves: r.others(d.To.Domain())})
			}
		}
		leaves := r.traffic.Accepted(now, meter.Message{Who: who, Alias: alias, From: e.Peer, To: to, Size: e.Size, Held: e.Why != ""})
		if who != "" {
			r.alert(now, who, leaves)
		}
	case guard.Connected, guard.NotStored, guard.LoggedIn, guard.LoginFailed, guard.Withdrawn, guard.Held, guard.OverBudget, guard.Carried, guard.Closed:
	}
}

// countTunnel takes what a gateway did.
func (r *Relay) countTunnel(e guard.TunnelEvent) {
	now := time.Now()
	switch e.Kind {
	case guard.Refused:
		r.traffic.Refused(now, e.Identity, e.Peer)
	case guard.Accepted:
		r.traffic.Opened(now, e.Identity, e.Peer, e.Place)
	case guard.Carried, guard.Closed:
		if leaves := r.traffic.Carried(now, e.Identity, e.Peer, e.Place, e.Fresh.Up, e.Fresh.Down); leaves > 0 {
			r.alert(now, e.Identity, leaves)
		}
	case guard.Connected, guard.NotStored, guard.LoggedIn, guard.LoginFailed, guard.Withdrawn, guard.Held, guard.OverBudget:
	}
}

// countDelivery takes what became of a delivery.
func (r *Relay) countDelivery(e deliver.Event) {
	var s meter.Sums
	switch e.State {
	case queue.Delivered:
		if s.Delivered = 1; r.others(e.To.Domain()) {
			s.Out = r.traffic.out(&e)
		}
	case queue.Waiting:
		s.Deferred = 1
	case queue.Failed:
		s.Failed = 1
	case queue.Withheld:
		return
	}
	who := e.Origin.Identity
	switch to, err := mail.ParseForwardPath(e.Grant.To); {
	case e.From.Null() && e.Origin.Listener == "":
		who = meter.Ourselves
	case who == "" && err == nil && r.others(e.To.Domain()):
		if alias := r.policy().Alias(to); alias != "" {
			who = meter.Alias(alias)
		}
	}
	r.traffic.Delivery(time.Now(), who, e.Origin.Peer, e.Destination, s)
}

// An account is a budget and whose it is; "": all of our people's.
type account struct {
	who string
	Budget
}

// accounts are the budgets that a message of who is taken from.
func (t *Traffic) accounts(who string) []account {
	list := make([]account, 0, 2)
	if t.All.Octets > 0 {
		list = append(list, account{"", t.All})
	}
	if t.Each.Octets > 0 && who != "" {
		list = append(list, account{who, t.Each})
	}
	return list
}

func (t *Traffic) soft() float64 { return cmp.Or(t.Soft, 0.8) }

func (a account) status(leaves int64) BudgetStatus {
	return BudgetStatus{Who: a.who, Budget: a.Text, Leaves: leaves, Share: float64(leaves) / float64(a.Octets)}
}

// alert tells the operator when a message that is to leave has brought a budget
// to the share that was asked for, or to its end.
func (r *Relay) alert(now time.Time, who string, leaves int64) {
	t := &r.current.Load().settings.Traffic
	for _, a := range t.accounts(who) {
		after := r.traffic.Leaves(now, a.Per, a.who)
		b, before := a.status(after), a.status(after-leaves)
		for _, at := range []float64{1, t.soft()} {
			if before.Share < at && b.Share >= at {
				r.o.Log.LogAttrs(context.Background(), slog.LevelWarn, "a budget comes to its end; what leaves beyond it is held",
					attr.Identity(cmp.Or(b.Who, "all")), slog.String("budget", b.Budget), slog.Float64("share", b.Share))
				break
			}
		}
	}
}

// spent says which budget of who has come to its end; "": none.
func (r *Relay) spent(now time.Time, who string, t *Traffic) string {
	for _, a := range t.accounts(who) {
		if r.traffic.Leaves(now, a.Per, a.who) >= a.Octets {
			return fmt.Sprintf("the budget of %s for %s is used up", a.Text, cmp.Or(a.who, "all that leaves"))
		}
	}
	return ""
}

// spentNow says the same of who wants a tunnel.
func (r *Relay) spentNow(who string) string {
	return r.spent(time.Now(), who, &r.current.Load().settings.Traffic)
}

// mostBudgets is how many identities that are near their budget a status
// names: people read it.
const mostBudgets = 10

// budgets are the one of all, and those of identities past the soft share.
func (r *Relay) budgets(now time.Time) (list []BudgetStatus) {
	t := &r.current.Load().settings.Traffic
	for _, a := range t.accounts("") {
		list = append(list, a.status(r.traffic.Leaves(now, a.Per, "")))
	}
	if t.Each.Octets == 0 {
		return list
	}
	report := r.traffic.Since(now, t.Each.Per.Begins(now), meter.Identity)
	if t.Each.Per == meter.Monthly {
		report = r.traffic.Month(now, now, meter.Identity)
	}
	for _, row := range report.Rows {
		if b := (account{row.Name, t.Each}).status(row.Leaves); b.Share >= t.soft() && len(list) < mostBudgets {
			list = append(list, b)
		}
	}
	return list
}

// A TrafficPage is who costs what.
type TrafficPage struct {
	By string `json:"by"`
	meter.Report
	More      int              `json:"more,omitempty"` // rows that were left off
	Price     float64          `json:"price_per_gib,omitempty"`
	Currency  string           `json:"currency,omitempty"`
	Budgets   []BudgetStatus   `json:"budgets,omitempty"`
	Breakouts []meter.Breakout `json:"breakouts,omitempty"`
	Suspended []Suspension     `json:"suspended,omitempty"`
}

// page of traffic: by a dimension, since a time or of a month.
func (r *Relay) trafficPage(ctx context.Context, v url.Values) (TrafficPage, error) {
	now := time.Now()
	d, ok := meter.ParseDimension(cmp.Or(v.Get("by"), meter.Identity.String()))
	if !ok {
		return TrafficPage{}, fmt.Errorf("by %q: write identity, client or destination", v.Get("by"))
	}
	t := &r.current.Load().settings.Traffic
	page := TrafficPage{By: d.String(), Price: t.Price, Currency: t.Currency, Budgets: r.budgets(now), Breakouts: r.traffic.Breakouts(), Suspended: r.suspended.now()}
	if s := v.Get("month"); s != "" {
		month, err := time.Parse("2006-01", s)
		if err != nil {
			return page, fmt.Errorf("month %q: write it as 2026-11", s)
		}
		page.Report = r.traffic.Month(now, month, d)
	} else {
		from, err := time.Parse(time.RFC3339, v.Get("since"))
		if err != nil {
			return page, fmt.Errorf("since %q is no time of RFC 3339", v.Get("since"))
		}
		page.Report = r.traffic.Since(now, from, d)
	}
	if err := r.countHeld(ctx, &page.Report, d); err != nil {
		return page, err
	}
	most, _ := strconv.Atoi(v.Get("max")) // 0: all
	if most > 0 && len(page.Rows) > most {
		page.More, page.Rows = len(page.Rows)-most, page.Rows[:most]
	}
	return page, nil
}

// mostHeld is how many held messages are looked at for one page: beyond, the
// rows have what was seen until then, and the total is right.
const mostHeld = 100_000

// countHeld puts into a report what is held now, whatever holds it: what was
// held once and was released waits for nobody.
func (r *Relay) countHeld(ctx context.Context, report *meter.Report, d meter.Dimension) error {
	stats, err := r.queue.Stats(ctx)
	if err != nil {
		return err
	}
	held, seen := map[string]int64{}, 0
	for after := ""; seen < mostHeld; {
		list, next, err := r.list(ctx, queue.Filter{State: queue.Held}, queue.Page{After: after, Max: batchPage})
		if err != nil {
			return err
		}
		for i := range list {
			for _, name := range r.rowsOf(&list[i], d) {
				held[name]++
			}
		}
		if seen, after = seen+len(list), next; next == "" {
			break
		}
	}
	for i := range report.Rows {
		row := &report.Rows[i]
		row.Held = held[row.Name]
		delete(held, row.Name)
	}
	for _, name := range slices.Sorted(maps.Keys(held)) {
		report.Rows = append(report.Rows, meter.Row{Name: name, Sums: meter.Sums{Held: held[name]}})
	}
	report.Total.Held = int64(stats.Messages[queue.Held])
	return nil
}

// rowsOf returns by which rows of a dimension a message is counted.
func (r *Relay) rowsOf(m *queue.Message, d meter.Dimension) (names []string) {
	switch d {
	case meter.Identity:
		who := cmp.Or(m.Origin.Identity, meter.Strangers)
		if m.From.Null() && m.Origin.Listener == "" {
			who = meter.Ourselves
		}
		return []string{who}
	case meter.Client:
		return []string{r.traffic.Network(m.Origin.Peer)}
	case meter.Destination:
		for _, to := range m.To {
			for i := range to.Goes {
				if g := &to.Goes[i]; !g.State.Settled() && !slices.Contains(names, g.Destination()) {
					names = append(names, g.Destination())
				}
			}
		}
	}
	return names
}

func (r *Relay) handleTraffic(mux *http.ServeMux) {
	mux.HandleFunc("GET /traffic", func(w http.ResponseWriter, q *http.Request) {
		page, err := r.trafficPage(q.Context(), q.URL.Query())
		answer(w, page, err)
	})
	mux.HandleFunc("GET /top", func(w http.ResponseWriter, q *http.Request) {
		top, err := r.top(q.Context())
		answer(w, top, err)
	})
	mux.HandleFunc("GET /breakouts", func(w http.ResponseWriter, q *http.Request) {
		list, err := r.heldBatches(q.Context(), q.URL.Query().Get("who"))
		answer(w, list, err)
	})
	for _, word := range []string{"release", "reject"} {
		mux.HandleFunc("POST /breakouts/"+word, func(w http.ResponseWriter, q *http.Request) {
			v := q.URL.Query()
			b, err := r.decide(q.Context(), Decision{v.Get("who"), word == "release", v.Get("notify") != "", v.Get("after")})
			answer(w, b, err)
		})
	}
}
