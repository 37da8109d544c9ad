// Package meter sums what passes: who sends how much, from where, to whom.
//
// The invariant: each thing that is counted is counted once in the totals,
// once for an identity and once for a client network, so the three agree, for
// an hour as for a month; what there is no room for goes into Others. Time
// comes in as values, and counting neither waits for a disk nor allocates for
// a name that it has.
package meter

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// A Dimension is by what sums are told apart.
type Dimension uint8

// The dimensions.
const (
	Identity    Dimension = iota // who logged in, or the trusted client
	Client                       // the /24 of an IPv4 client, the /64 of another
	Destination                  // the domain that it goes to
	dimensions
)

var dimensionNames = [dimensions]string{Identity: "identity", Client: "client", Destination: "destination"}

// String returns the dimension as commands write it.
func (d Dimension) String() string { return dimensionNames[d] }

// ParseDimension reads a dimension as String writes it.
func ParseDimension(s string) (Dimension, bool) {
	i := slices.Index(dimensionNames[:], s)
	return Dimension(max(i, 0)), i >= 0
}

// Names that are no identity, no network and no domain.
const (
	Others    = "(others)"    // all for which there was no room
	Strangers = "(strangers)" // who sent without a login
	Ourselves = "(postern)"   // notices, which the relay writes
	Nowhere   = "(none)"      // a client without an address, the bare <postmaster>
)

// Alias is the name under which strangers' mail is counted that an alias, as
// name@domain, forwards to foreign addresses.
func Alias(name string) string { return "(alias " + name + ")" }

// How many names an hour or a month holds while it lasts. Strangers choose
// their networks, and the domains that our people write to are many: 4,096 of
// each cost a megabyte. Identities are the operator's own, and budgets are
// counted by them.
var mostNames = [dimensions]int{Identity: 20_000, Client: 4096, Destination: 4096}

// How many names are kept of an hour that is over, those that moved most. 840
// hours are kept; with these numbers full in each they hold some 150 MB, and a
// relay of a hundred people holds three.
var keptNames = [dimensions]int{Identity: 1000, Client: 100, Destination: 200}

// How long sums are kept.
const (
	keptHours  = 35 * 24 // what happens once a month is known when it happens again
	keptMonths = 24
)

// Sums are of what passed.
type Sums struct {
	Messages   int64 `json:"messages,omitzero"`   // accepted
	Recipients int64 `json:"recipients,omitzero"` // addresses that these go to
	In         int64 `json:"octets_in,omitzero"`  // of these messages, and Down
	Leaves     int64 `json:"leaves,omitzero"`     // octets that our people want to leave: of each message, once for each destination that is not ours; of tunnels, Up and Down
	Held       int64 `json:"held,omitzero"`       // of these messages, those that wait for the operator
	HeldTo     int64 `json:"held_to,omitzero"`    // addresses that these would go to
	Refused    int64 `json:"refused,omitzero"`    // commands that were answered with a refusal
	Delivered  int64 `json:"delivered,omitzero"`  // addresses whose next hop took a message
	Out        int64 `json:"octets_out,omitzero"` // of what left with these, to destinations that are not ours, and Up
	Deferred   int64 `json:"deferred,omitzero"`   // attempts that were put off
	Failed     int64 `json:"failed,omitzero"`     // addresses that were given up
	Tunnels    int64 `json:"tunnels,omitzero"`    // that gateways opened
	Up         int64 `json:"octets_up,omitzero"`  // that these carried away
	Down       int64 `json:"octets_down,omitzero"`
}

// Costs returns the octets that are paid for: what left, and what tunnels
// brought, which leaves once more on its way to the client.
func (s *Sums) Costs() int64 { return s.Out + s.Down }

// Add adds each sum of o.
func (s *Sums) Add(o *Sums) {
	s.Messages += o.Messages
	s.Recipients += o.Recipients
	s.In += o.In
	s.Leaves += o.Leaves
	s.Held += o.Held
	s.HeldTo += o.HeldTo
	s.Refused += o.Refused
	s.Delivered += o.Delivered
	s.Out += o.Out
	s.Deferred += o.Deferred
	s.Failed += o.Failed
	s.Tunnels += o.Tunnels
	s.Up += o.Up
	s.Down += o.Down
}

// A span is the sums of an hour or a month.
type span struct {
	total Sums
	by    [dimensions]map[string]*Sums
}

func newSpan() *span {
	s := &span{}
	for d := range s.by {
		s.by[d] = map[string]*Sums{}
	}
	return s
}

// at returns the sums of a name, those of Others when there is no room.
func (s *span) at(d Dimension, name string, most int) *Sums {
	if sums := s.by[d][name]; sums != nil {
		return sums
	}
	if len(s.by[d]) >= most {
		name = Others
		if sums := s.by[d][name]; sums != nil {
			return sums
		}
	}
	sums := &Sums{}
	s.by[d][strings.Clone(name)] = sums
	return sums
}

func (s *span) clone() *span {
	c := newSpan()
	c.total = s.total
	for d := range s.by {
		for name, sums := range s.by[d] {
			copied := *sums
			c.by[d][name] = &copied
		}
	}
	return c
}

// fold adds all of o.
func (s *span) fold(o *span, most [dimensions]int) {
	s.total.Add(&o.total)
	for d := range Dimension(len(s.by)) {
		for name, sums := range o.by[d] {
			s.at(d, name, most[d]).Add(sums)
		}
	}
}

// cut leaves the names that moved most, and gives the rest to Others.
func (s *span) cut(kept [dimensions]int) {
	for d := range s.by {
		if len(s.by[d]) <= kept[d] {
			continue
		}
		rows := rowsOf(s.by[d], func(a, b Row) int {
			return cmp.Compare(b.Recipients+b.Delivered+b.Tunnels, a.Recipients+a.Delivered+a.Tunnels)
		})
		rows = slices.DeleteFunc(rows, func(r Row) bool { return r.Name == Others })
		for _, r := range rows[max(0, kept[d]-1):] {
			delete(s.by[d], r.Name)
			s.at(Dimension(d), Others, kept[d]).Add(&r.Sums)
		}
	}
}

// A Meter counts. It is safe for concurrent use.
type Meter struct {
	most, kept [dimensions]int

	mu      sync.Mutex
	now     int64           // the hour that lasts, in hours of Unix time
	current *span           // of that hour
	hours   map[int64]*span // those that are over; they do not change any more
	months  map[int]*span   // without the current hour
	nets    map[netip.Prefix]string
	through int64            // the last hour that is in the months
	habits  map[string]Habit // of this hour, as far as somebody asked
	watch   watch
	seconds [ring]second
	dirty   map[string]bool // files that are to be written
	counted bool            // something, within the hour, since it was written
}

// New returns a Meter that has counted nothing.
func New() *Meter {
	return &Meter{
		most: mostNames, kept: keptNames, current: newSpan(), hours: map[int64]*span{}, months: map[int]*span{},
		nets: map[netip.Prefix]string{}, habits: map[string]Habit{}, watch: newWatch(), dirty: map[string]bool{},
	}
}

func hourOf(t time.Time) int64 { return t.Unix() / 3600 }
func startOf(h int64) time.Time {
	return time.Unix(h*3600, 0).UTC()
}

func monthOf(t time.Time) int {
	t = t.UTC()
	return t.Year()*12 + int(t.Month()) - 1
}

func monthStart(m int) time.Time { return time.Date(m/12, time.Month(m%12+1), 1, 0, 0, 0, 0, time.UTC) }

// roll ends the hour when it is over. A clock that goes back a little makes
// the hour last longer. One that was wrong, and was set, does not: what was
// counted with it is of the hour that it is now.
func (m *Meter) roll(now time.Time) {
	h := hourOf(now)
	if h == m.now || h == m.now-1 {
		return
	}
	clear(m.nets)
	clear(m.habits)
	if h < m.now {
		m.now = h
		return
	}
	if m.current.total != (Sums{}) {
		m.end()
	}
	m.now, m.current = h, newSpan()
	for old := range m.hours {
		if old < h-keptHours {
			delete(m.hours, old)
		}
	}
	for old := range m.months {
		if old <= monthOf(now)-keptMonths {
			delete(m.months, old)
		}
	}
}

// end enters the current hour among those that are over, and in its month.
func (m *Meter) end() {
	at := startOf(m.now)
	month := m.months[monthOf(at)]
	if month == nil {
		month = newSpan()
		m.months[monthOf(at)] = month
	}
	month.fold(m.current, m.most)
	m.through = max(m.through, m.now)
	over := m.hour()
	over.cut(m.kept)
	m.hours[m.now] = over
	m.dirty[dayFile(m.now)], m.dirty[monthsFile] = true, true
}

// hour returns a copy of what was counted in the hour that lasts: with what was
// counted before, if it was over once by a clock that was wrong.
func (m *Meter) hour() *span {
	s := m.current.clone()
	if before := m.hours[m.now]; before != nil {
		s.fold(before, m.most)
	}
	return s
}

// Network returns the name of the network of a client.
func (m *Meter) Network(a netip.Addr) string {
	if !a.IsValid() {
		return Nowhere
	}
	a = a.Unmap().WithZone("")
	bits := 24
	if a.Is6() {
		bits = 64
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return Nowhere
	}
	name, ok := m.nets[p]
	if !ok {
		name = p.String()
		if len(m.nets) < m.most[Client] {
			m.nets[p] = name
		}
	}
	return name
}

// add counts for who and where. The caller holds the lock.
func (m *Meter) add(now time.Time, who string, from netip.Addr, s *Sums) {
	m.roll(now)
	m.counted = true
	m.current.total.Add(s)
	m.current.at(Identity, who, m.most[Identity]).Add(s)
	m.current.at(Client, m.Network(from), m.most[Client]).Add(s)
	m.second(now, s)
}

func (m *Meter) addTo(to string, s *Sums) {
	if to == "" {
		to = Nowhere
	}
	m.current.at(Destination, to, m.most[Destination]).Add(s)
}

// A Message is one that was accepted.
type Message struct {
	Who   string     // the identity or trusted client; "": a stranger
	Alias string     // the name of the alias that forwards a stranger's message, as Alias makes it, or ""
	From  netip.Addr // the client
	To    []Address  // those that it goes to; they are sorted
	Size  int64      // in octets
	Held  bool
}

// An Address is one of the addresses that a message goes to.
type Address struct {
	Destination string
	Leaves      bool // it is not one of ours
}

// Accepted counts a message. By destination it is counted for each that it
// goes to. It returns how many octets are to leave: what is held does not.
func (m *Meter) Accepted(now time.Time, a Message) (leaves int64) {
	slices.SortFunc(a.To, func(x, y Address) int { return cmp.Compare(x.Destination, y.Destination) })
	all := Sums{Messages: 1, In: a.Size, Recipients: int64(len(a.To))}
	if a.Held {
		all.Held, all.HeldTo = 1, all.Recipients
	}
	each := all
	m.mu.Lock()
	defer m.mu.Unlock()
	m.roll(now)
	for rest := a.To; len(rest) > 0; {
		n := 1
		for n < len(rest) && rest[n].Destination == rest[0].Destination {
			n++
		}
		each.Recipients, each.HeldTo, each.Leaves = int64(n), 0, 0
		if a.Held {
			each.HeldTo = int64(n)
		} else if rest[0].Leaves && a.Who != "" {
			each.Leaves = a.Size
		}
		all.Leaves += each.Leaves
		m.addTo(rest[0].Destination, &each)
		rest = rest[n:]
	}
	m.add(now, cmp.Or(a.Who, a.Alias, Strangers), a.From, &all)
	return all.Leaves
}

// Refused counts a refusal. It has no destination: that would be a name that a
// stranger chose.
func (m *Meter) Refused(now time.Time, who string, from netip.Addr) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.add(now, cmp.Or(who, Strangers), from, &Sums{Refused: 1})
}

// Delivery counts what became of one delivery: Delivered, Out, Deferred and
// Failed of s. Where there is nothing, nobody is named.
func (m *Meter) Delivery(now time.Time, who string, from netip.Addr, to string, s Sums) {
	if s == (Sums{}) {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.add(now, cmp.Or(who, Strangers), from, &s)
	m.addTo(to, &s)
}

// Opened counts a tunnel to a place.
func (m *Meter) Opened(now time.Time, who string, from netip.Addr, to string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tunnel(now, who, from, to, Sums{Tunnels: 1})
}

// Carried counts what a tunnel has carried since it was last counted, up to
// the place and down from it. It returns how many octets left the machine.
func (m *Meter) Carried(now time.Time, who string, from netip.Addr, to string, up, down int64) (leaves int64) {
	if up == 0 && down == 0 {
		return 0
	}
	s := Sums{Up: up, Out: up, Down: down, In: down, Leaves: up + down}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tunnel(now, who, from, to, s)
	return s.Leaves
}

func (m *Meter) tunnel(now time.Time, who string, from netip.Addr, to string, s Sums) {
	m.add(now, cmp.Or(who, Strangers), from, &s)
	m.addTo(to, &s)
}

// A Row is the sums of one name.
type Row struct {
	Name string `json:"name"`
	Sums
}

// A Report is the sums of a time.
type Report struct {
	From  time.Time `json:"from"`
	Until time.Time `json:"until"`
	Rows  []Row     `json:"rows"` // that which costs most first
	Total Sums      `json:"total"`
}

func rowsOf(by map[string]*Sums, compare func(a, b Row) int) []Row {
	rows := make([]Row, 0, len(by))
	for name, sums := range by {
		rows = append(rows, Row{name, *sums})
	}
	slices.SortFunc(rows, func(a, b Row) int { return cmp.Or(compare(a, b), cmp.Compare(a.Name, b.Name)) })
	return rows
}

func (s *span) report(d Dimension, from, until time.Time) Report {
	return Report{From: from, Until: until, Total: s.total, Rows: rowsOf(s.by[d], func(a, b Row) int {
		return cmp.Or(cmp.Compare(b.Costs(), a.Costs()), cmp.Compare(b.In, a.In), cmp.Compare(b.Messages, a.Messages), cmp.Compare(b.Refused, a.Refused))
	})}
}

// Since returns the sums of the hour of from and those after it.
func (m *Meter) Since(now, from time.Time, d Dimension) Report {
	first := hourOf(from)
	m.mu.Lock()
	sum := m.current.clone()
	if m.now < first {
		sum = newSpan()
	}
	var over []*span
	for h, s := range m.hours {
		if h >= first {
			over = append(over, s)
		}
	}
	m.mu.Unlock()
	for _, s := range over {
		sum.fold(s, [dimensions]int{1 << 30, 1 << 30, 1 << 30})
	}
	return sum.report(d, startOf(max(first, hourOf(now)-keptHours)), now)
}

// Month returns the sums of the month of at, in UTC.
func (m *Meter) Month(now, at time.Time, d Dimension) Report {
	month := monthOf(at)
	m.mu.Lock()
	sum := newSpan()
	if s := m.months[month]; s != nil {
		sum = s.clone()
	}
	if monthOf(startOf(m.now)) == month {
		sum.fold(m.current, m.most)
	}
	m.mu.Unlock()
	until := monthStart(month + 1)
	if now.Before(until) {
		until = now
	}
	return sum.report(d, monthStart(month), until)
}

// A Period is over what a budget is.
type Period uint8

// The periods, of UTC.
const (
	Daily Period = iota + 1
	Monthly
)

// Begins returns when the period that now is in began.
func (p Period) Begins(now time.Time) time.Time {
	if p == Monthly {
		return monthStart(monthOf(now))
	}
	return now.UTC().Truncate(24 * time.Hour)
}

// Leaves returns how many octets of who were to leave in the period that now is
// in; of all of our people, if who is "".
func (m *Meter) Leaves(now time.Time, p Period, who string) (n int64) {
	count := func(s *span) {
		switch sums := s.by[Identity][who]; {
		case who == "":
			n += s.total.Leaves
		case sums != nil:
			n += sums.Leaves
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.roll(now)
	count(m.current)
	if p == Monthly {
		if s := m.months[monthOf(now)]; s != nil {
			count(s)
		}
		return n
	}
	for h := hourOf(p.Begins(now)); h < m.now; h++ {
		if s := m.hours[h]; s != nil {
			count(s)
		}
	}
	return n
}
