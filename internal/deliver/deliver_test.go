package deliver

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"postern/internal/queue"
	"postern/mail"
	"postern/policy"
)

func TestDelivers(t *testing.T) {
	for _, c := range []struct {
		name  string
		world func(w *world) (takes *node)
		to    []string
		got   []string // by the node
		said  []string // of deliveries, within ten seconds
		left  []string
	}{
		{
			name: "to the exchanger",
			world: func(w *world) *node {
				w.mx("far.example", "10 mx.far.example")
				return w.host("mx.far.example", &node{}, "198.51.100.1:25")
			},
			to: []string{"<b@far.example>"}, got: []string{"<anna@ours.example> <b@far.example>"}, said: []string{"b@far.example delivered 250 2.0.0 taken"},
		},
		{
			name: "without MX records, to the domain itself",
			world: func(w *world) *node {
				return w.host("far.example", &node{}, "198.51.100.1:25")
			},
			to: []string{"<b@far.example>"}, got: []string{"<anna@ours.example> <b@far.example>"}, said: []string{"b@far.example delivered 250 2.0.0 taken"},
		},
		{
			name: "recipients of one domain together, each with its own reply",
			world: func(w *world) *node {
				w.mx("far.example", "10 mx.far.example")
				return w.host("mx.far.example", &node{rcpt: func(to string) mail.Reply {
					return map[string]mail.Reply{"<c@far.example>": mail.NewReply(451, "4.7.1", "later"), "<d@far.example>": mail.NewReply(550, "5.1.1", "no")}[to]
				}}, "198.51.100.1:25")
			},
			to: []string{"<b@far.example>", "<c@far.example>", "<d@far.example>"}, got: []string{"<anna@ours.example> <b@far.example>"},
			said: []string{"b@far.example delivered 250 2.0.0 taken", "c@far.example waiting 451 4.7.1 later", "d@far.example failed 550 5.1.1 no"},
			left: []string{"b@far.example delivered", "c@far.example waiting", "d@far.example failed"},
		},
		{
			name: "the next exchanger when the first does not answer",
			world: func(w *world) *node {
				w.mx("far.example", "10 dead.far.example", "20 mx.far.example")
				w.host("dead.far.example", &node{refuse: true}, "198.51.100.9:25")
				return w.host("mx.far.example", &node{}, "198.51.100.1:25")
			},
			to: []string{"<b@far.example>"}, got: []string{"<anna@ours.example> <b@far.example>"}, said: []string{"b@far.example delivered 250 2.0.0 taken"},
		},
		{
			name: "the next exchanger when the first turns everybody away",
			world: func(w *world) *node {
				w.mx("far.example", "10 full.far.example", "20 mx.far.example")
				w.host("full.far.example", &node{banner: mail.NewReply(421, "4.3.2", "full")}, "198.51.100.9:25")
				return w.host("mx.far.example", &node{}, "198.51.100.1:25")
			},
			to: []string{"<b@far.example>"}, got: []string{"<anna@ours.example> <b@far.example>"}, said: []string{"b@far.example delivered 250 2.0.0 taken"},
		},
		{
			name: "IPv4 soon when IPv6 is silent",
			world: func(w *world) *node {
				w.mx("far.example", "10 mx.far.example")
				w.host("mx.far.example", &node{silent: true}, "[2001:db8::1]:25")
				return w.host("mx.far.example", &node{}, "198.51.100.1:25")
			},
			to: []string{"<b@far.example>"}, got: []string{"<anna@ours.example> <b@far.example>"}, said: []string{"b@far.example delivered 250 2.0.0 taken"},
		},
		{
			name:  "a domain that takes no mail",
			world: func(w *world) *node { w.mx("far.example", "0 "); return nil },
			to:    []string{"<b@far.example>"}, said: []string{"b@far.example failed 556 5.1.10 far.example says that it takes no mail (null MX)"},
		},
		{
			name:  "a domain that does not exist",
			world: func(*world) *node { return nil },
			to:    []string{"<b@far.example>"}, said: []string{"b@far.example failed 550 5.1.2 far.example does not exist (NXDOMAIN)"},
		},
		{
			name:  "a DNS that fails is asked again",
			world: func(w *world) *node { w.mx("far.example"); return nil },
			to:    []string{"<b@far.example>"}, said: []string{"b@far.example waiting 4.4.3 MX of far.example: no server gave an answer"}, left: []string{"b@far.example waiting"},
		},
		{
			name: "an exchanger that points to ourselves",
			world: func(w *world) *node {
				w.mx("far.example", "10 mx.far.example")
				return w.host("mx.far.example", &node{}, "127.0.0.1:25")
			},
			to:   []string{"<b@far.example>"},
			said: []string{"b@far.example failed 550 5.4.4 mx.far.example points to 127.0.0.1, an address of this machine itself, to which nobody's mail is delivered by name"},
		},
		{
			name: "an exchanger that is an address of ours",
			world: func(w *world) *node {
				w.mx("far.example", "10 mx.far.example")
				return w.host("mx.far.example", &node{}, "203.0.113.1:25")
			},
			to:   []string{"<b@far.example>"},
			said: []string{"b@far.example failed 550 5.4.4 mx.far.example points to 203.0.113.1, an address of this machine, to which nobody's mail is delivered by name"},
		},
		{
			name: "we are the best exchanger of a domain that is not ours",
			world: func(w *world) *node {
				w.mx("far.example", "10 mx.ours.example", "20 mx.far.example")
				return w.host("mx.far.example", &node{}, "198.51.100.1:25")
			},
			to:   []string{"<b@far.example>"},
			said: []string{"b@far.example failed 550 5.4.6 the best exchanger of far.example is this host, and far.example is not one of its domains"},
		},
		{
			name: "we are the second exchanger: only the better ones are asked",
			world: func(w *world) *node {
				w.mx("far.example", "10 mx.far.example", "20 mx.ours.example", "30 worse.far.example")
				w.host("worse.far.example", &node{}, "198.51.100.9:25")
				return w.host("mx.far.example", &node{}, "198.51.100.1:25")
			},
			to: []string{"<b@far.example>"}, got: []string{"<anna@ours.example> <b@far.example>"}, said: []string{"b@far.example delivered 250 2.0.0 taken"},
		},
		{
			name: "by the smarthost, on this machine, since the operator wrote so",
			world: func(w *world) *node {
				w.ways.Default = Route{Name: "default", Kind: ToSmarthost, Hosts: []Host{{"tcp", "127.0.0.1", 2626}}}
				return w.host("", &node{}, "127.0.0.1:2626")
			},
			to: []string{"<b@far.example>"}, got: []string{"<anna@ours.example> <b@far.example>"}, said: []string{"b@far.example delivered 250 2.0.0 taken"},
		},
		{
			name:  "nowhere: the route holds it",
			world: func(w *world) *node { w.ways.Default = Route{Kind: ToNobody, Why: "not yet"}; return nil },
			to:    []string{"<b@far.example>"}, said: []string{"b@far.example withheld held by its route: not yet"}, left: []string{"b@far.example withheld"},
		},
		{
			name: "an alias goes with the reverse-path of its own",
			world: func(w *world) *node {
				w.mx("far.example", "10 mx.far.example")
				return w.host("mx.far.example", &node{}, "198.51.100.1:25")
			},
			to: []string{"<both@ours.example>"}, got: []string{"<owner@ours.example> <x@far.example>,<y@far.example>"},
			said: []string{"x@far.example delivered 250 2.0.0 taken", "y@far.example delivered 250 2.0.0 taken"},
		},
		{
			name: "a server with no room beside the first gets the others after it",
			world: func(w *world) *node {
				w.mx("far.example", "10 mx.far.example")
				return w.host("mx.far.example", &node{limits: smtp1()}, "198.51.100.1:25")
			},
			to:  []string{"<b@far.example>", "<c@far.example>"},
			got: []string{"<anna@ours.example> <b@far.example>", "<anna@ours.example> <c@far.example>"}, said: []string{"b@far.example delivered 250 2.0.0 taken", "c@far.example delivered 250 2.0.0 taken"},
		},
		{
			name: "a banner of 554 is tried again: it may be about today",
			world: func(w *world) *node {
				w.mx("far.example", "10 mx.far.example")
				return w.host("mx.far.example", &node{banner: mail.NewReply(554, "5.7.1", "not you")}, "198.51.100.1:25")
			},
			to: []string{"<b@far.example>"}, said: []string{"b@far.example waiting 554 5.7.1 not you"}, left: []string{"b@far.example waiting"},
		},
		{
			name: "the message is refused after all of it was sent",
			world: func(w *world) *node {
				w.mx("far.example", "10 mx.far.example")
				return w.host("mx.far.example", &node{data: func() mail.Reply { return mail.NewReply(554, "5.7.1", "spam") }}, "198.51.100.1:25")
			},
			to: []string{"<b@far.example>"}, said: []string{"b@far.example failed 554 5.7.1 spam"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, nil, func(w *world) {
				n := c.world(w)
				w.sendWith(silently, "<anna@ours.example>", c.to...)
				after(10 * time.Second)
				if n != nil {
					if diff := cmp.Diff(c.got, n.messages()); diff != "" {
						t.Errorf("the node has (-want +got):\n%s", diff)
					}
				}
				said := w.events()
				for i, s := range said {
					if strings.Contains(s, " delivered ") {
						said[i] = strings.TrimSpace(s)
					}
				}
				if diff := cmp.Diff(c.said, said); diff != "" {
					t.Errorf("deliveries (-want +got):\n%s", diff)
				}
				if diff := cmp.Diff(c.left, w.left()); diff != "" {
					t.Errorf("the queue has (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// silently wants no notice.
func silently(l *queue.Letter) {
	for i := range l.To {
		l.To[i].Params.Notify = mail.NotifyNever
	}
}

func TestBodyArrivesAsItWas(t *testing.T) {
	for _, without := range [][]string{nil, {"CHUNKING"}, {"CHUNKING", "PIPELINING"}} {
		bubble(t, nil, func(w *world) {
			w.mx("far.example", "10 mx.far.example")
			n := w.host("mx.far.example", &node{without: without}, "198.51.100.1:25")
			w.send("<anna@ours.example>", "<b@far.example>")
			after(time.Second)
			if len(n.bodies) != 1 || n.bodies[0] != text {
				t.Errorf("without %v: %q", without, n.bodies)
			}
		})
	}
}

func TestDeadDestinationDelaysNoOther(t *testing.T) {
	bubble(t, nil, func(w *world) {
		w.mx("dead.example", "10 mx.dead.example")
		w.host("mx.dead.example", &node{silent: true}, "198.51.100.9:25")
		w.mx("far.example", "10 mx.far.example")
		n := w.host("mx.far.example", &node{}, "198.51.100.1:25")
		for i := range 600 {
			w.send("<anna@ours.example>", fmt.Sprintf("<b%d@dead.example>", i))
		}
		after(time.Second)
		began := time.Now()
		w.send("<anna@ours.example>", "<b@far.example>")
		after(50 * time.Millisecond)
		if len(n.messages()) != 1 {
			t.Errorf("after %s the other domain has %d messages", time.Since(began), len(n.messages()))
		}
		after(10 * time.Minute)
		w.mu.Lock()
		dials := len(w.dials)
		w.mu.Unlock()
		if dials > 20 {
			t.Errorf("a server that does not answer was called %d times in ten minutes", dials)
		}
		if left := len(w.left()); left != 100 { // one page
			t.Errorf("%d messages on the first page", left)
		}
		// When it is back, all of them arrive.
		w.nodes["198.51.100.9:25"].silent = false
		after(3 * time.Hour)
		if left := w.left(); len(left) != 0 {
			t.Errorf("%d messages are left: %v", len(left), left[0])
		}
		if n := len(w.nodes["198.51.100.9:25"].messages()); n != 600 {
			t.Errorf("it has got %d messages", n)
		}
	})
}

func TestConnectionsAreUsedAgainAndBounded(t *testing.T) {
	bubble(t, nil, func(w *world) {
		w.mx("far.example", "10 mx.far.example")
		n := w.host("mx.far.example", &node{slow: 100 * time.Millisecond}, "198.51.100.1:25")
		for i := range 300 {
			w.send("<anna@ours.example>", fmt.Sprintf("<b%d@far.example>", i))
		}
		after(time.Minute)
		if got := len(n.messages()); got != 300 {
			t.Fatalf("%d messages arrived", got)
		}
		if n.most > DefaultEach || n.most < 10 {
			t.Errorf("%d connections at once", n.most)
		}
		if n.sessions > 2*DefaultEach {
			t.Errorf("%d sessions for 300 messages", n.sessions)
		}
		if n.open != 0 {
			t.Errorf("%d connections are open a minute later", n.open)
		}
	})
}

func TestTooFastIsHeard(t *testing.T) {
	bubble(t, nil, func(w *world) {
		w.mx("far.example", "10 mx.far.example")
		n := &node{}
		taken, since := 0, time.Now()
		n.data = func() mail.Reply { // ten a minute, as some providers have it
			if time.Since(since) > time.Minute {
				taken, since = 0, time.Now()
			}
			if taken++; taken > 10 {
				return mail.NewReply(421, "4.7.28", "too many messages from your address; slow down")
			}
			return mail.NewReply(250, "2.0.0", "taken")
		}
		w.host("mx.far.example", n, "198.51.100.1:25")
		for i := range 100 {
			w.send("<anna@ours.example>", fmt.Sprintf("<b%d@far.example>", i))
		}
		after(3 * time.Hour)
		refused := 0
		for _, e := range w.events() {
			if strings.Contains(e, "4.7.28") {
				refused++
			}
		}
		if got := len(n.messages()); got != 100 || refused > 150 {
			t.Errorf("%d of 100 arrived, %d attempts were refused", got, refused)
		}
	})
}

func TestClosedWhileIdle(t *testing.T) {
	bubble(t, nil, func(w *world) {
		w.mx("far.example", "10 mx.far.example")
		n := w.host("mx.far.example", &node{}, "198.51.100.1:25")
		w.send("<anna@ours.example>", "<b@far.example>")
		after(time.Second)
		w.mu.Lock()
		for _, list := range w.d.pool.idle {
			for _, l := range list {
				l.close()
			}
		}
		w.mu.Unlock()
		w.send("<anna@ours.example>", "<c@far.example>")
		after(time.Second)
		if got := n.messages(); len(got) != 2 || n.sessions != 2 {
			t.Errorf("%v in %d sessions; %v", got, n.sessions, w.events())
		}
	})
}

func TestGrantIsDecidedAgainBeforeItLeaves(t *testing.T) {
	bubble(t, nil, func(w *world) {
		w.mx("far.example") // not now
		n := w.host("mx.far.example", &node{}, "198.51.100.1:25")
		w.send("<anna@ours.example>", "<b@far.example>")
		after(time.Second)
		source := w.rules.Source()
		source.Users = nil
		w.mu.Lock()
		w.rules = compiled(t, source)
		w.mu.Unlock()
		w.mx("far.example", "10 mx.far.example")
		after(2 * time.Hour)
		if len(n.messages()) != 0 || !slices.Equal(w.left(), []string{"b@far.example withheld"}) {
			t.Errorf("it left without a grant: %v, %v", n.messages(), w.left())
		}
		if e := w.events(); !strings.Contains(e[len(e)-1], "was withdrawn: this user is disabled") {
			t.Errorf("%v", e)
		}
	})
}

func TestStopsWithWhatIsUnderWay(t *testing.T) {
	bubble(t, nil, func(w *world) {
		w.mx("far.example", "10 mx.far.example")
		n := w.host("mx.far.example", &node{slow: 20 * time.Second}, "198.51.100.1:25")
		for i := range 40 {
			w.send("<anna@ours.example>", fmt.Sprintf("<b%d@far.example>", i))
		}
		after(time.Second)
		w.stop()
		got := len(n.messages())
		if left := len(w.left()); got == 0 || got+left != 40 {
			t.Errorf("%d arrived and %d are left", got, left)
		}
		if list, err := w.queue.Lease(t.Context(), queue.Ask{Owner: "another", Now: time.Now(), Until: time.Now().Add(time.Hour), Max: 100}); err != nil || len(list) != 40-got {
			t.Errorf("%d of those are to be had (%v)", len(list), err)
		}
	})
}

// A server that takes one recipient at a time is spoken to by one message at a
// time on each connection.
func TestAConnectionBelongsToOneMessageUntilItsLastRecipient(t *testing.T) {
	bubble(t, nil, func(w *world) {
		w.mx("far.example", "10 mx.far.example")
		n := w.host("mx.far.example", &node{limits: smtp1(), slow: time.Second}, "198.51.100.1:25")
		w.sendWith(silently, "<anna@ours.example>", "<b@far.example>", "<c@far.example>", "<d@far.example>")
		after(1500 * time.Millisecond) // the first was taken, the second is under way
		w.sendWith(silently, "<anna@ours.example>", "<e@far.example>")
		after(3 * time.Second)
		got := n.messages()
		slices.Sort(got)
		want := []string{"<anna@ours.example> <b@far.example>", "<anna@ours.example> <c@far.example>", "<anna@ours.example> <d@far.example>", "<anna@ours.example> <e@far.example>"}
		if !slices.Equal(got, want) {
			t.Errorf("it has %q; %q", got, w.events())
		}
		seen := map[*link]bool{}
		w.d.pool.mu.Lock()
		defer w.d.pool.mu.Unlock()
		for _, list := range w.d.pool.idle {
			for _, l := range list {
				if seen[l] {
					t.Error("a connection is idle twice: two messages will use it at once")
				}
				seen[l] = true
			}
		}
	})
}

// A lease that waited here until it was over belongs to somebody else by then.
func TestWhatWaitedLongIsSentOnce(t *testing.T) {
	bubble(t, nil, func(w *world) {
		w.ways.Default.Most = 1
		w.mx("far.example", "10 mx.far.example")
		n := w.host("mx.far.example", &node{slow: 9 * time.Minute}, "198.51.100.1:25")
		for i := range 25 {
			w.sendWith(silently, "<anna@ours.example>", fmt.Sprintf("<b%d@far.example>", i))
		}
		after(8 * time.Hour)
		got := n.messages()
		slices.Sort(got)
		if once := slices.Compact(slices.Clone(got)); len(once) != 25 || len(got) != 25 {
			t.Errorf("%d messages arrived %d times", len(once), len(got))
		}
		if left := w.left(); len(left) != 0 {
			t.Errorf("left: %v", left)
		}
	})
}

// A server that has had enough of a connection says so to the next message on
// it: that is no word about the message, nor about how fast we are.
func TestEnoughOfAConnectionIsNotTooFast(t *testing.T) {
	bubble(t, nil, func(w *world) {
		w.mx("far.example", "10 mx.far.example")
		w.host("mx.far.example", &node{}, "198.51.100.1:25")
		taken := 0
		w.fronts = map[string]func(net.Conn){"198.51.100.1:25": func(c net.Conn) {
			here := 0
			says(func(line string) string {
				switch {
				case line == "banner":
					return "220 mx.far.example"
				case line == "DATA":
					return "354 go on"
				case line == ".":
					here++
					taken++
				case here == 1 && strings.HasPrefix(line, "MAIL"):
					return "421 4.7.0 one message for each connection"
				}
				return "250 2.0.0 ok"
			})(c)
		}}
		for i := range 3 {
			w.sendWith(silently, "<anna@ours.example>", fmt.Sprintf("<b%d@far.example>", i))
			after(time.Second)
		}
		if s := w.d.Snapshot(w.Context()); taken != 3 || len(w.left()) != 0 || s[0].Gap != "" {
			t.Errorf("%d of 3 are there after as many seconds: %q, %+v", taken, w.events(), s)
		}
	})
}

func TestDestinationsAreForgottenByABusyRelay(t *testing.T) {
	bubble(t, nil, func(w *world) {
		for i := range 20 {
			domain := fmt.Sprintf("d%d.example", i)
			w.mx(domain, "10 mx.far.example")
			w.sendWith(silently, "<anna@ours.example>", "<b@"+domain+">")
		}
		w.host("mx.far.example", &node{}, "198.51.100.1:25")
		known := 0
		for range 120 { // something happens twice a minute
			after(30 * time.Second)
			known = len(w.d.Snapshot(w.Context()))
		}
		if known != 0 {
			t.Errorf("%d destinations are known an hour later", known)
		}
	})
}

// A server that is too fast for some and full for others has taken what it has
// taken, and is not dead.
func TestFullForSomeAndTooFastForOthers(t *testing.T) {
	bubble(t, nil, func(w *world) {
		w.mx("far.example", "10 mx.far.example")
		n := w.host("mx.far.example", &node{rcpt: func(to string) mail.Reply {
			return map[string]mail.Reply{
				"<c@far.example>": mail.NewReply(450, "4.7.1", "too many messages from your address; slow down"),
				"<d@far.example>": mail.NewReply(452, "4.5.3", "too many recipients"),
			}[to]
		}}, "198.51.100.1:25")
		w.sendWith(silently, "<anna@ours.example>", "<b@far.example>", "<c@far.example>", "<d@far.example>")
		after(time.Second)
		if s := w.d.Snapshot(w.Context()); len(n.messages()) != 1 || len(s) != 1 || s[0].Why != "" || s[0].Gap == "" {
			t.Errorf("%q, %+v", w.events(), s)
		}
	})
}

// Many domains that do not answer, or answer slowly, fill neither the places
// nor the leases that one needs which does well.
func TestManyDeadDestinationsDelayNoneThatDoesWell(t *testing.T) {
	for _, c := range []struct {
		name          string
		domains, each int
		node          *node
		minutes       int
	}{
		{"silent", 1500, 1, &node{silent: true}, 5},
		{"slow", 50, 40, &node{slow: 9 * time.Minute}, 5},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, nil, func(w *world) {
				w.mx("far.example", "10 mx.far.example")
				n := w.host("mx.far.example", &node{}, "198.51.100.1:25")
				w.sendWith(silently, "<anna@ours.example>", "<b@far.example>")
				after(time.Second)
				for i := range c.domains {
					domain := fmt.Sprintf("d%d.example", i)
					w.host(domain, c.node, fmt.Sprintf("198.51.%d.%d:25", 101+i/250, i%250))
				}
				for j := range c.each {
					for i := range c.domains {
						w.sendWith(silently, "<anna@ours.example>", fmt.Sprintf("<b%d@d%d.example>", j, i))
					}
				}
				for k := range c.minutes {
					after(time.Minute)
					w.sendWith(silently, "<anna@ours.example>", "<b@far.example>")
					after(2 * time.Second)
					if got := len(n.messages()); got != k+2 {
						t.Fatalf("after %d minutes %d of %d messages have arrived where all is well", k+1, got, k+2)
					}
				}
			})
		})
	}
}

// A destination that has all the places gives them to those that wait, one by one.
func TestPlacesGoAround(t *testing.T) {
	bubble(t, func(o *Options) { o.Limits = Limits{Total: 50, Each: 50, Start: 50, NewOnes: 50} }, func(w *world) {
		w.mx("slow.example", "10 mx.slow.example")
		w.host("mx.slow.example", &node{slow: 10 * time.Second}, "198.51.100.9:25")
		w.mx("far.example", "10 mx.far.example")
		n := w.host("mx.far.example", &node{}, "198.51.100.1:25")
		for i := range 500 {
			w.sendWith(silently, "<anna@ours.example>", fmt.Sprintf("<b%d@slow.example>", i))
			if i < 50 {
				after(200 * time.Millisecond) // so that one place is free at a time
			}
		}
		w.sendWith(silently, "<anna@ours.example>", "<b@far.example>")
		after(2 * time.Second)
		if got := n.messages(); len(got) != 1 {
			t.Errorf("the other domain has %q", got)
		}
	})
}

// A domain may name as many exchangers as it likes: an attempt comes to its end.
func TestManyDeadExchangersAreNotAllWaitedFor(t *testing.T) {
	bubble(t, nil, func(w *world) {
		var list []string
		for i := range 200 {
			name := fmt.Sprintf("mx%d.far.example", i)
			list = append(list, fmt.Sprintf("%d %s", i, name))
			w.host(name, &node{silent: true}, fmt.Sprintf("198.51.100.%d:25", i))
		}
		w.mx("far.example", list...)
		w.sendWith(silently, "<anna@ours.example>", "<b@far.example>")
		after(6 * time.Minute)
		if said := w.events(); len(said) != 1 || !strings.Contains(said[0], "waiting 4.4.1") {
			t.Errorf("after six minutes: %q", said)
		}
	})
}

// A server that hangs up on one message is not dead for the others.
func TestHangingUpOnOneIsNotTheEndOfAll(t *testing.T) {
	bubble(t, nil, func(w *world) {
		w.mx("far.example", "10 mx.far.example")
		n := w.host("mx.far.example", &node{hangup: "<b@far.example>"}, "198.51.100.1:25")
		w.send("<anna@ours.example>", "<b@far.example>")
		after(2 * time.Second)
		w.send("<anna@ours.example>", "<c@far.example>")
		after(2 * time.Second)
		if got := n.messages(); len(got) != 1 || got[0] != "<anna@ours.example> <c@far.example>" {
			t.Errorf("%v; %v", got, w.events())
		}
	})
}

func TestTrustThatWasWithdrawnSendsNoMore(t *testing.T) {
	bubble(t, func(o *Options) {
		o.Suspended = func(client string) string {
			if client == "scanner" {
				return "it greeted with three names"
			}
			return ""
		}
	}, func(w *world) {
		n := w.host("far.example", &node{}, "198.51.100.1:25")
		source := w.rules.Source()
		source.Listeners = append(slices.Clone(source.Listeners), policy.Listener{Name: "trusted", Role: policy.Trusted})
		source.Trusted = []policy.TrustedClient{{
			Name: "scanner", Networks: []policy.Network{{Prefix: netip.MustParsePrefix("192.0.2.40/32")}}, MaySendAs: []policy.Senders{must(policy.ParseSenders("*"))},
		}}
		w.mu.Lock()
		w.rules = compiled(t, source)
		w.mu.Unlock()
		w.sendWith(func(l *queue.Letter) {
			g, refusal := w.rules.Decide(policy.Client{Listener: "trusted", Addr: netip.MustParseAddr("192.0.2.40")}, l.From, must(mail.ParseForwardPath("<b@far.example>")))
			if refusal != nil {
				t.Fatal(refusal)
			}
			l.To[0].Grant = g
		}, "<anna@ours.example>", "<b@far.example>")
		after(time.Second)
		if got, left := n.messages(), w.left(); len(got) != 0 || !slices.Equal(left, []string{"b@far.example withheld"}) {
			t.Errorf("%v, %v, %v", got, left, w.events())
		}
	})
}

// A pause that is lifted is over at once, of the address too that did not answer.
func TestLift(t *testing.T) {
	for _, c := range []struct {
		name  string
		names []string
		want  int // messages that arrive at once
	}{
		{"of all", nil, 40},
		{"of the domain", []string{"dead.example"}, 40},
		{"of another", []string{"other.example"}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, nil, func(w *world) {
				w.mx("dead.example", "10 mx.dead.example")
				n := w.host("mx.dead.example", &node{refuse: true}, "198.51.100.9:25")
				var ids []string
				for i := range 40 {
					ids = append(ids, w.send("<anna@ours.example>", fmt.Sprintf("<b%d@dead.example>", i)))
				}
				after(3 * time.Second)
				n.refuse = false
				lifted := w.d.Lift(w.Context(), c.names...)
				if (len(lifted) == 1 && lifted[0].Destination == "dead.example" && lifted[0].Why != "") != (c.want > 0) {
					t.Errorf("lifted %+v", lifted)
				}
				if _, err := w.queue.Retry(w.Context(), ids...); err != nil {
					t.Fatal(err)
				}
				after(3 * time.Second)
				if got := len(n.messages()); got != c.want {
					t.Errorf("%d messages arrived, want %d", got, c.want)
				}
			})
		})
	}
}

// A server that has too many connections is asked again in seconds, not after a
// minute; one that goes on saying so, less and less often.
func TestTooManyConnections(t *testing.T) {
	bubble(t, nil, func(w *world) {
		w.mx("far.example", "10 mx.far.example")
		n := w.host("mx.far.example", &node{banner: mail.NewReply(421, "4.7.0", "mx.far.example Error: too many connections from 192.0.2.1")}, "198.51.100.1:25")
		w.send("<anna@ours.example>", "<b@far.example>")
		after(time.Second)
		n.greets(mail.Reply{})
		after(4 * time.Second)
		if got := n.messages(); len(got) != 1 {
			t.Errorf("after 5 s: %v, left %v", got, w.left())
		}
		after(time.Minute) // no connection is kept for so long
		before := n.greets(mail.NewReply(421, "4.3.2", "Too many open sessions"))
		w.send("<anna@ours.example>", "<c@far.example>")
		after(12 * time.Hour)
		if tries := n.greets(mail.Reply{}) - before; tries < 5 || tries > 20 {
			t.Errorf("it was asked %d times in twelve hours", tries)
		}
	})
}
