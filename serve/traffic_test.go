package serve

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"postern/guard"
	"postern/internal/deliver"
	"postern/internal/identity"
	"postern/internal/meter"
	"postern/internal/problem"
	"postern/internal/queue"
	"postern/internal/queue/pebble"
	"postern/internal/queue/queuetest"
	"postern/internal/state"
	"postern/mail"
	"postern/policy"
	"postern/smtp"
)

func (r *running) login(name string) *smtp.Client {
	r.t.Helper()
	c := r.dial("submission")
	if err := c.StartTLS(r.t.Context(), &tls.Config{InsecureSkipVerify: true}); err != nil {
		r.t.Fatal(err)
	}
	if err := c.Auth(r.t.Context(), name, password); err != nil {
		r.t.Fatal(err)
	}
	return c
}

func (r *running) get(path string, v any) {
	r.t.Helper()
	if err := Dial(r.state).Get(r.t.Context(), path, v); err != nil {
		r.t.Fatal(err)
	}
}

// until asks again and again until it is true.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

// A password is stolen: what goes out with it is held, with what went in just
// before, until the operator decides; through a restart.
func TestStolenPassword(t *testing.T) {
	s := only(loopback(ordinary()), "submission")
	s.Metrics = free(t)
	r := run(t, s)
	if err := r.users.Add(identity.NewUser{Name: "anna", Password: password}); err != nil {
		t.Fatal(err)
	}
	c := r.login("anna")
	first := 0
	for i := range 80 {
		reply := r.send(c, "<anna@example.org>", fmt.Sprintf("<victim%d@far.example>", i))
		if !reply.Positive() {
			t.Fatal(reply)
		}
		if strings.Contains(reply.String(), "and held: breakout: ") && first == 0 {
			first = i + 1
		}
	}
	if first != 51 {
		t.Errorf("the first that was held is message %d, want 51", first)
	}
	batch := func() HeldBatch {
		t.Helper()
		var list []HeldBatch
		r.get("/breakouts", &list)
		if len(list) != 1 || list[0].Who != "anna" {
			t.Fatalf("breakouts: %+v", list)
		}
		return list[0]
	}
	until(t, "those that waited are held as well", func() bool { return batch().Messages == 80 })
	if b := batch(); b.Recipients != 80 || !slices.Equal(b.To, []HeldDest{{"far.example", 80}}) {
		t.Errorf("the batch: %+v", b)
	}
	if _, text := get(t, "http://"+s.Metrics.String()+"/metrics"); !strings.Contains(text, "postern_breakouts_total 1\n") {
		t.Error("no breakout in the metrics")
	}
	if b := r.Status().Breakouts; len(b) != 1 || !strings.Contains(r.Summary(t.Context()), "breakouts held: 1") {
		t.Errorf("status: %+v, %s", b, r.Summary(t.Context()))
	}
	var page TrafficPage
	for _, by := range []string{"identity", "client"} {
		r.get("/traffic?by="+by+"&since="+time.Now().Add(-time.Hour).UTC().Format("2006-01-02T15:04:05Z"), &page)
		if len(page.Rows) != 1 || page.Rows[0].Messages != 80 || page.Total.Messages != 80 || page.Total.Held < 30 {
			t.Errorf("by %s: %+v", by, page)
		}
	}
	r.end()
	r.start()
	if reply := r.send(r.login("anna"), "<anna@example.org>", "<one.more@far.example>"); !strings.Contains(reply.String(), "held: breakout: 51 messages") {
		t.Errorf("after a restart: %s", reply)
	}
	var done Batch // the breakout lets all of it go, and the route of this relay leads nowhere
	if err := Dial(r.state).Post(t.Context(), "/breakouts/release?who=anna", &done); err != nil || done.Messages != 0 || done.Stay != 81 || done.Next != "" {
		t.Errorf("released %+v, %v", done, err)
	}
	c = r.login("anna")
	for range 20 { // more than the floor of this hour, and not more than twice what was released
		if reply := r.send(c, "<anna@example.org>", "<b@far.example>"); strings.Contains(reply.String(), "held") {
			t.Fatalf("after the release: %s", reply)
		}
	}
	if n := len(r.Status().Breakouts); n != 0 {
		t.Errorf("%d breakouts after the release", n)
	}
}

// A log that tests read.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *lines) count(part string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.buf.String(), part)
}

func TestBudgets(t *testing.T) {
	s := only(loopback(ordinary()), "submission")
	r := run(t, s)
	r.traffic.Accepted(time.Now(), meter.Message{Who: "ben", To: []meter.Address{{Destination: "far.example", Leaves: true}}, Size: 1000})
	log := &lines{}
	r.o.Log = slog.New(slog.NewTextHandler(log, nil))
	letter := queuetest.NewLetter(time.Now(), "<anna@example.org>", "<b@far.example>")
	for _, c := range []struct {
		name       string
		all, each  Budget
		want       string
		warns      int
		identities []string // of the status
	}{
		{"none", Budget{}, Budget{}, "", 0, nil},
		{"enough", Budget{10_000, meter.Monthly, "10KB/month"}, Budget{10_000, meter.Daily, "10KB/day"}, "", 0, []string{""}},
		{"soft", Budget{1200, meter.Monthly, "1200B/month"}, Budget{}, "", 1, []string{""}},
		{"at its end", Budget{1000, meter.Daily, "1000B/day"}, Budget{}, "the budget of 1000B/day for all that leaves is used up", 1, []string{""}},
		{"of one", Budget{}, Budget{1000, meter.Monthly, "1000B/month"}, "the budget of 1000B/month for ben is used up", 1, []string{"ben"}},
	} {
		settings := s
		settings.Traffic.All, settings.Traffic.Each = c.all, c.each
		g := *r.current.Load() //nolint:govet // of a generation that nobody else changes
		g.settings = settings
		r.current.Store(&g)
		before := log.count("a budget comes to its end")
		if got := r.withhold("ben", &letter); got != c.want {
			t.Errorf("%s: held because %q, want %q", c.name, got, c.want)
		}
		r.alert(time.Now(), "ben", 1000)
		r.alert(time.Now(), "ben", 0) // what was told is not told again
		if got := log.count("a budget comes to its end") - before; got != c.warns {
			t.Errorf("%s: %d warnings, want %d", c.name, got, c.warns)
		}
		var names []string
		for _, b := range r.budgets(time.Now()) {
			names = append(names, b.Who)
		}
		if !slices.Equal(names, c.identities) {
			t.Errorf("%s: the status names %q, want %q", c.name, names, c.identities)
		}
	}
}

func TestFloors(t *testing.T) {
	s := Settings{Guard: guard.Limits{Clients: map[string]guard.Rate{
		"app": {N: 3000, Per: time.Hour}, "daily": {N: 24_000, Per: 24 * time.Hour}, "burst": {N: 10, Per: time.Second}, "small": {N: 5, Per: time.Hour}, "newsletter": {N: 9000, Per: time.Hour},
	}}}
	for _, name := range []string{"app", "daily", "burst", "small"} {
		s.Policy.Trusted = append(s.Policy.Trusted, policy.TrustedClient{Name: name})
	}
	for who, want := range map[string]meter.Habit{
		"anna": {Messages: 50, Recipients: 100}, "newsletter": {Messages: 50, Recipients: 100}, "app": {Messages: 3000, Recipients: 3000}, "daily": {Messages: 24_000, Recipients: 24_000},
		"burst": {Messages: 36_000, Recipients: 36_000}, "small": {Messages: 50, Recipients: 100},
	} {
		if got := floorOf(&s, who); got != want {
			t.Errorf("%s: %+v, want %+v", who, got, want)
		}
	}
}

// Numbers that cannot be read stop nobody's mail.
func TestDamagedTraffic(t *testing.T) {
	s := only(loopback(ordinary()), "mx")
	r := &running{t: t, settings: s, state: filepath.Join(t.TempDir(), "s"), ended: make(chan error, 1)}
	if err := os.MkdirAll(filepath.Join(r.state, "traffic"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(r.state, "traffic", "months.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.start()
	defer r.end()
	r.send(r.dial("mx"), "<a@far.example>", "<anna@example.org>")
	var page TrafficPage
	r.get("/traffic?month="+time.Now().UTC().Format("2006-01"), &page)
	if page.Total.Messages != 1 {
		t.Errorf("%+v", page)
	}
}

// filled is a relay that does not run, over a queue of so many messages, every
// third of which is held, and every other for one domain.
func filled(t testing.TB, n int) *Relay {
	t.Helper()
	folder := must(state.Open(filepath.Join(t.TempDir(), "s")))
	q := must(pebble.Open(pebble.Options{Dir: folder.Join("queue")}))
	t.Cleanup(func() {
		if err := errors.Join(q.Close(), folder.Close()); err != nil {
			t.Error(err)
		}
	})
	var g sync.WaitGroup
	for worker := range 32 {
		g.Go(func() {
			for i := worker; i < n; i += 32 {
				to := "<b@far.example>"
				if i%2 == 0 {
					to = "<c@slow.example>"
				}
				l := queuetest.NewLetter(time.Unix(int64(1_790_000_000+i), 0), "<a@ours.example>", to)
				if i%3 == 0 {
					l.Hold = "to be looked at"
				}
				if _, err := q.Put(context.Background(), l, strings.NewReader("text")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	g.Wait()
	r := &Relay{o: Options{State: folder}, queue: q, users: must(identity.Open(folder.Path)), deliver: deliver.New(deliver.Options{}), traffic: must(openTraffic(folder.Join("traffic"), func(err error) { t.Error(err) }))}
	r.current.Store(&generation{policy: compiled(t, []policy.User{{Name: "anna", MaySendAs: []policy.Senders{must(policy.ParseSenders("*"))}}}), ways: &deliver.Routes{Default: deliver.Route{Kind: deliver.ToMX}}})
	return r
}

// compiled is a policy with these users.
func compiled(t testing.TB, users []policy.User) *policy.Policy {
	t.Helper()
	p, err := policy.Compile(policy.Source{
		Hostname:  must(mail.ParseDomain("mx.ours.example")),
		Listeners: []policy.Listener{{Name: "submission", Role: policy.Submission}},
		Users:     users,
	})
	if fatal, _ := problem.Split(err); fatal != nil {
		t.Fatal(fatal)
	}
	return p
}

// However many pass, pages are those of the queue's own list.
func TestListOfMany(t *testing.T) {
	r := filled(t, 3000)
	for _, f := range []queue.Filter{
		{},
		{State: queue.Held},
		{State: queue.Active},
		{Destination: "far.example"},
		{Destination: "slow.example", State: queue.Held},
		{Destination: "none.example"},
		{State: queue.Held, Before: time.Unix(1_790_000_500, 0)},
	} {
		want, _, err := r.queue.List(t.Context(), f, queue.Page{Max: 20_000})
		if err != nil {
			t.Fatal(err)
		}
		for _, size := range []int{100, 777, 1000} {
			var got []string
			for after := ""; ; {
				list, next, err := r.listBy(t.Context(), f, queue.Page{After: after, Max: size}, 500)
				if err != nil {
					t.Fatal(err)
				}
				for i := range list {
					got = append(got, list[i].ID)
				}
				if after = next; next == "" {
					break
				}
				if len(list) != size {
					t.Fatalf("%+v: a page of %d, want %d", f, len(list), size)
				}
			}
			if !slices.EqualFunc(got, want, func(id string, m queue.Message) bool { return id == m.ID }) {
				t.Errorf("%+v in pages of %d: %d messages, want %d", f, size, len(got), len(want))
			}
		}
	}
}

func TestBatch(t *testing.T) {
	r := filled(t, 300)
	do := func(verb, query string) (int, error) {
		b, err := r.batch(t.Context(), must(url.ParseQuery(query)), verb)
		return b.Messages, err
	}
	for _, c := range []struct {
		verb, query string
		want        int
	}{
		{"count", "all=1", 300},
		{"count", "state=held", 100},
		{"count", "destination=SLOW.example", 150},
		{"release", "state=held&destination=slow.example", 50},
		{"count", "state=held", 50},
		{"hold", "to=@slow.example", 150},
		{"count", "state=held", 200},
		{"retry", "state=fresh", 100},
		{"delete", "before=2026-09-21T14:15:00Z", 100}, // the first hundred seconds
		{"delete", "all=1&before=2026-09-21T14:15:00Z", 0},
		{"count", "all=1", 200},
	} {
		if got, err := do(c.verb, c.query); err != nil || got != c.want {
			t.Errorf("%s %s: %d, %v, want %d", c.verb, c.query, got, err, c.want)
		}
	}
	for query, want := range map[string]string{
		"": "say all=1", "state=lost": "no state is called", "before=soon": "no time of RFC 3339",
		"state=helt": `did you mean "held"?`, "grant=inbuond": `did you mean "inbound"?`, "who=ana": `did you mean "anna"?`, "to=notanaddr": "write anna@example.org",
		"from=a@": "write anna@example.org", "destination=-": "is no domain",
	} {
		var r *Refusal
		n, err := do("delete", query)
		if n != 0 || err == nil || !strings.Contains(err.Error(), want) || query != "" && (!errors.As(err, &r) || r.Code != http.StatusBadRequest) {
			t.Errorf("delete %q: %d, %v, want %q", query, n, err, want)
		}
	}
}

func BenchmarkSweep(b *testing.B) {
	r := filled(b, 100_000)
	for _, c := range []struct {
		name string
		f    queue.Filter
	}{{"all", queue.Filter{}}, {"held", queue.Filter{State: queue.Held}}, {"destination", queue.Filter{Destination: "far.example"}}} {
		b.Run(c.name, func(b *testing.B) {
			n := 0
			for b.Loop() {
				after := ""
				for n = 0; ; {
					done, err := r.sweep(b.Context(), c.f, after, nil, r.verbs(nil)["count"])
					if err != nil {
						b.Fatal(err)
					}
					if n, after = n+done.Messages, done.Next; after == "" {
						break
					}
				}
			}
			b.ReportMetric(float64(n), "messages")
		})
	}
}

func TestDeliveriesAreCounted(t *testing.T) {
	r := run(t, only(loopback(ordinary()), "mx"))
	to := func(s string) mail.Address { return must(mail.ParseForwardPath("<" + s + ">")).Address() }
	event := func(message, address string, state queue.DeliveryState, took time.Duration) deliver.Event {
		return deliver.Event{
			Message: message, To: to(address), Destination: to(address).Domain().ASCII(), Size: 1000, From: must(mail.ParseReversePath("<anna@example.org>")),
			Origin:  queue.Origin{Identity: "anna", Listener: "submission", Peer: netip.MustParseAddr("192.0.2.20")},
			Outcome: queue.Outcome{State: state, Via: queue.Via{Host: "mx.far.example", Addr: netip.MustParseAddrPort("198.51.100.9:25"), Took: took}},
		}
	}
	notice := event("N", "anna@example.org", queue.Delivered, 9)
	notice.From, notice.Origin = must(mail.ParseReversePath("<>")), queue.Origin{}
	untried := event("U", "a@far.example", queue.Waiting, 0)
	untried.Untried = true
	for _, e := range []deliver.Event{
		event("A", "a@far.example", queue.Delivered, 5), event("A", "b@far.example", queue.Delivered, 5), // one transaction
		event("A", "c@far.example", queue.Delivered, 6),    // another: the server took two at once
		event("B", "a@far.example", queue.Delivered, 5),    // another message
		event("C", "anna@example.org", queue.Delivered, 7), // ours: it does not leave
		event("D", "a@far.example", queue.Waiting, 7), event("D", "b@far.example", queue.Failed, 7), event("D", "c@far.example", queue.Withheld, 0),
		untried, notice,
	} {
		r.delivered(e)
	}
	now := time.Now()
	report := r.traffic.Since(now, now.Add(-time.Hour), meter.Identity)
	want := []meter.Row{
		{Name: "anna", Sums: meter.Sums{Delivered: 5, Out: 3000, Deferred: 1, Failed: 1}},
		{Name: meter.Ourselves, Sums: meter.Sums{Delivered: 1}},
	}
	if diff := cmp.Diff(want, report.Rows); diff != "" {
		t.Error(diff)
	}
	for _, row := range r.traffic.Since(now, now.Add(-time.Hour), meter.Destination).Rows {
		if row.Name == "example.org" && (row.Delivered != 2 || row.Out != 0) {
			t.Errorf("to ourselves: %+v", row)
		}
	}
}

// Who sent what is rejected is told where a notice may go, a hundred times at
// most; what was deleted is deleted all the same.
func TestRejectWithNotices(t *testing.T) {
	r := run(t, only(loopback(ordinary()), "submission"))
	if err := r.users.Add(identity.NewUser{Name: "anna", Password: password}); err != nil {
		t.Fatal(err)
	}
	why, _ := r.traffic.Judge(time.Now(), "anna", 1000, meter.Floor)
	for _, c := range []struct {
		name     string
		from     string
		n        int
		notices  int
		identity string
	}{
		{"its own mailbox", "<anna@example.org>", 130, 100, "anna"},
		{"a mailbox that is not there", "<nobody@example.org>", 3, 0, "anna"},
		{"a notice", "<>", 2, 0, "anna"},
	} {
		for range c.n {
			g, refusal := r.policy().Decide(policy.Client{Listener: "submission", Addr: netip.MustParseAddr("192.0.2.20"), TLS: true, Identity: "anna"},
				must(mail.ParseReversePath("<anna@example.org>")), must(mail.ParseForwardPath("<b@far.example>")))
			if refusal != nil {
				t.Fatal(refusal)
			}
			l := policy.Letter{
				ID: queue.NewID(), From: must(mail.ParseReversePath(c.from)), To: []policy.Accepted{{Grant: g}}, Hold: why,
				Origin: policy.Origin{Identity: c.identity, Listener: "submission", At: time.Now()},
			}
			must(r.queue.Put(t.Context(), l, strings.NewReader("Subject: offer\r\n\r\ntext\r\n")))
		}
		got, err := r.decide(t.Context(), Decision{Who: "anna", Notify: true})
		if err != nil || got.Messages != c.n || got.Notices != c.notices {
			t.Errorf("%s: %+v, %v, want %d notices of %d", c.name, got, err, c.notices, c.n)
		}
		list, _, err := r.queue.List(t.Context(), queue.Filter{}, queue.Page{Max: 1000})
		if err != nil || len(list) != c.notices {
			t.Errorf("%s: %d messages left, %v", c.name, len(list), err)
		}
		for i := range list {
			m := &list[i]
			body := must(r.queue.Open(t.Context(), m.ID))
			text := string(must(io.ReadAll(body)))
			if err := body.Close(); err != nil || !m.From.Null() || m.To[0].Grant.To != "<anna@example.org>" ||
				!strings.Contains(text, "rejected by the administrator of mx.example.org") || !strings.Contains(text, "Status: 5.7.1\r\n") || !strings.Contains(text, "Subject: offer\r\n") {
				t.Fatalf("%s: from %s to %s\n%s", c.name, m.From, m.To[0].Grant.To, text)
			}
			must(r.queue.Delete(t.Context(), m.ID))
		}
	}
}

// What strangers send on through an alias is counted as the alias's, not as
// everybody's, and no budget of our people pays for it.
func TestTrafficNamesTheAlias(t *testing.T) {
	s := only(loopback(ordinary()), "mx")
	d := &s.Policy.Domains[0]
	d.Aliases = append(d.Aliases, policy.Alias{
		Name: "away", To: []mail.Address{must(mail.ParseAddress("x@far.example"))}, Sender: mail.ReverseTo(must(mail.ParseAddress("anna@example.org"))),
	})
	s.Traffic.All = Budget{Octets: 1 << 20, Per: meter.Daily, Text: "1MiB/day"}
	r := run(t, s)
	from, to := must(mail.ParseReversePath("<a@elsewhere.example>")), must(mail.ParseForwardPath("<Away@example.org>"))
	g, refusal := r.policy().Decide(policy.Client{Listener: "mx", Addr: netip.MustParseAddr("198.51.100.7")}, from, to)
	if refusal != nil {
		t.Fatal(refusal)
	}
	r.note(guard.Event{Kind: guard.Accepted, Role: policy.MX, Listener: "mx", Size: 1000, Grants: []policy.Grant{g}})
	r.delivered(deliver.Event{
		Message: "A", To: must(mail.ParseAddress("x@far.example")), Destination: "far.example", Size: 1000, From: from,
		Origin: queue.Origin{Listener: "mx"}, Grant: g.Record(),
		Outcome: queue.Outcome{State: queue.Delivered, Via: queue.Via{Host: "mx.far.example", Took: 5}},
	})
	now := time.Now()
	want := []meter.Row{{Name: "(alias away@example.org)", Sums: meter.Sums{Messages: 1, Recipients: 1, In: 1000, Delivered: 1, Out: 1000}}}
	if diff := cmp.Diff(want, r.traffic.Since(now, now.Add(-time.Hour), meter.Identity).Rows); diff != "" {
		t.Error(diff)
	}
	if n := r.traffic.Leaves(now, meter.Daily, ""); n != 0 {
		t.Errorf("%d octets of the budget for all were taken", n)
	}
	for name, want := range map[string]float64{"postern_alias_forwards_total": 1, "postern_stranger_grants_total": 0} {
		if got := gathered(t, r.Relay, name); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
}

// gathered returns the value of a counter without labels.
func gathered(t *testing.T, r *Relay, name string) float64 {
	t.Helper()
	for _, family := range must(r.metrics.registry.Gather()) {
		if family.GetName() == name {
			return family.GetMetric()[0].GetCounter().GetValue()
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}
