package guard

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"postern/mail"
)

// A Witness watches trusted clients for the signs of a lost client address:
// behind a forwarded port, a proxy or a translator every stranger comes from
// the client's address. When the signs of one address add up to Enough, trust
// in its client is withdrawn until the operator has looked. The zero Witness
// is ready, and safe for concurrent use.
type Witness struct {
	mu   sync.Mutex
	seen map[string]*record // by trusted client and address
	why  map[string]string  // by trusted client: why trust was withdrawn
}

// MaxHeloNames is how many EHLO names one trusted address may use. A device
// has one, and a second one after it was renamed; the third is somebody else.
const MaxHeloNames = 2

// Enough is how many points withdraw trust.
const Enough = 3

// How long a sign counts. An address of a trusted network is handed from one
// device to the next, which then greets with a name of its own.
const (
	signsCount       = 24 * time.Hour
	signsCountShared = time.Hour
)

// maxWitnessed bounds how many addresses of trusted networks are remembered.
const maxWitnessed = 10_000

// A Sign is something that a stranger does, and a trusted client hardly ever.
type Sign uint8

// The signs.
const (
	ManyNames Sign = iota // it greets with many names
	TheirAddress
	OurName
	LogsIn
	Passwords
	TheirSenders
	Routes
	Guesses
	NoHeader
	signs
)

// A sign weighs by how many different values of it were seen.
var weights = [signs]struct {
	says   string // in a sentence that begins with the address
	most   int    // values that are remembered
	points func(n int) int
}{
	ManyNames:    {"greeted with more than 2 names", 3, func(n int) int { return 3 * atLeast(n, MaxHeloNames+1) }},
	TheirAddress: {"greeted with a public address that is not its own", 2, func(n int) int { return atLeast(n, 1) + 2*atLeast(n, 2) }},
	OurName:      {"greeted with our own name or address", 1, func(n int) int { return 2 * atLeast(n, 1) }},
	LogsIn:       {"tried to log in where nobody can", 3, func(n int) int { return atLeast(n, 1) + atLeast(n, 3) }},
	Passwords:    {"failed to log in as 5 users", 5, func(n int) int { return atLeast(n, 5) }},
	TheirSenders: {"tried senders of 3 foreign domains, not by the name under which it sends", 8, func(n int) int { return atLeast(n, 3) }},
	Routes:       {"asked for 3 recipients that are written as routes", 8, func(n int) int { return atLeast(n, 3) }},
	Guesses:      {"guessed at mailboxes", 4, func(n int) int { return atLeast(n, 1) }},
	NoHeader:     {"is a balancer of ours, and passed on a connection without a PROXY header", 1, func(n int) int { return atLeast(n, 1) }},
}

func atLeast(n, least int) int {
	if n >= least {
		return 1
	}
	return 0
}

// A Sighting is a session of a trusted client, as far as it came.
type Sighting struct {
	Client string // the trusted client
	Addr   netip.Addr
	Helo   string
	Shared bool // the client is a network
	At     time.Time
}

// A record is what was seen of one address.
type record struct {
	marks  map[mark]time.Time
	voices []voice
}

type mark struct {
	sign  Sign
	value string
}

// A voice is one server or device that sends, told from others by its name in
// EHLO.
type voice struct {
	name  string // "": none that tells it from others
	by    string // who wrote the topmost Received field of its messages, if it was not itself
	wrote trace
	sent  int
	at    time.Time
}

// A trace says who wrote the topmost Received fields of what came. A server
// that relays adds its own (RFC 5321 section 4.4), a device that sends has none.
type trace uint8

const (
	traceOwn trace = 1 << iota
	traceForeign
	traceNone
)

// mostVoices bounds how many are told apart: beyond two there is no doubt left.
const mostVoices = 8

// Sees notes a sign; different values of it add up.
func (w *Witness) Sees(s Sighting, sign Sign, value string) (why string, now bool) {
	return w.note(s, func(r *record) { r.mark(s, sign, value) })
}

// Submits notes a message, by its topmost Received field; "": it has none.
func (w *Witness) Submits(s Sighting, top string) (why string, now bool) {
	return w.note(s, func(r *record) { r.hear(s, top) })
}

// note lets something be noted, and says whether trust was withdrawn just now.
func (w *Witness) note(s Sighting, do func(*record)) (why string, now bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.why[s.Client] != "" {
		return w.why[s.Client], false
	}
	if w.seen == nil {
		w.seen = map[string]*record{}
	}
	key := s.Client + " " + s.Addr.String()
	r := w.seen[key]
	if r == nil {
		if len(w.seen) >= maxWitnessed {
			clear(w.seen)
		}
		r = &record{marks: map[mark]time.Time{}}
		w.seen[key] = r
	}
	r.forget(s)
	do(r)
	points, said := r.weigh()
	if points < Enough {
		return "", false
	}
	why = fmt.Sprintf("%s %s: other clients hide behind that address", s.Addr, strings.Join(said, "; "))
	w.withdraw(s.Client, why)
	return why, true
}

// forget drops what is too old to count.
func (r *record) forget(s Sighting) {
	first := s.At.Add(-signsCount)
	if s.Shared {
		first = s.At.Add(-signsCountShared)
	}
	for m, at := range r.marks {
		if at.Before(first) {
			delete(r.marks, m)
		}
	}
	r.voices = slices.DeleteFunc(r.voices, func(v voice) bool { return v.at.Before(first) })
}

func (r *record) mark(s Sighting, sign Sign, value string) {
	m := mark{sign, strings.ToLower(value)}
	if len(m.value) > 255 { // longer than a name; what follows tells nothing apart that matters
		m.value = m.value[:255]
	}
	if _, again := r.marks[m]; !again && r.count(sign) >= weights[sign].most {
		return
	}
	r.marks[m] = s.At
}

func (r *record) count(sign Sign) (n int) {
	for m := range r.marks {
		if m.sign == sign {
			n++
		}
	}
	return n
}

// weigh adds up the signs, and says them, the heaviest first.
func (r *record) weigh() (points int, said []string) {
	type one struct {
		points int
		says   string
	}
	var all []one
	for sign, each := range weights {
		n := r.count(Sign(sign))
		if s := Sign(sign); s == TheirSenders || s == Routes || s == Guesses {
			n = r.besideHome(s)
		}
		all = append(all, one{each.points(n), each.says})
	}
	mixed, says := r.mixed()
	all = append(all, one{mixed, says})
	slices.SortStableFunc(all, func(a, b one) int { return cmp.Compare(b.points, a.points) })
	for _, each := range all {
		if each.points > 0 {
			points += each.points
			said = append(said, each.says)
		}
	}
	return points, said
}

// besideHome counts the values of a sign that came by another name than the one
// under which most is sent. Strangers can make an honest server do these: it
// forwards their mail, and bounces it to whatever sender they forged. Before
// anything was sent nobody knows whose name that is, and senders say nothing.
func (r *record) besideHome(sign Sign) int {
	var home voice
	for _, v := range r.voices {
		if v.sent > home.sent {
			home = v
		}
	}
	values := map[string]bool{}
	for m := range r.marks {
		name, value, _ := strings.Cut(m.value, " ")
		beside := name != home.name && !related(name, home.name)
		if home.sent == 0 {
			beside = sign != TheirSenders
		}
		if m.sign == sign && beside {
			values[value] = true
		}
	}
	return len(values)
}

// hear notes a message of the voice that its session greeted with.
func (r *record) hear(s Sighting, top string) {
	name := voiceOf(s.Helo)
	by := ""
	if top != "" {
		by = strings.ToLower(mail.ParseReceived(top).By)
	}
	i := slices.IndexFunc(r.voices, func(v voice) bool {
		return v.name == name || related(v.name, name) || v.wrote&traceOwn != 0 && related(v.name, by) // its other name
	})
	if i < 0 {
		if len(r.voices) >= mostVoices {
			r.voices = slices.Delete(r.voices, 0, 1)
		}
		r.voices = append(r.voices, voice{name: name})
		i = len(r.voices) - 1
	}
	v := &r.voices[i]
	v.at = s.At
	v.sent++
	switch {
	case top == "":
		v.wrote |= traceNone
	case related(v.name, by) || related(name, by):
		v.wrote |= traceOwn
	default:
		v.wrote |= traceForeign
		v.by = by
	}
}

// mixed weighs whether one address speaks with the voices of several servers:
// one that writes its own name above what it relays, and others beside it.
func (r *record) mixed() (points int, says string) {
	for _, a := range r.voices {
		if a.wrote&traceOwn == 0 {
			continue
		}
		for _, b := range r.voices {
			n, text := 0, ""
			switch {
			case a.name == b.name || b.by != "" && related(a.name, b.by):
			case b.wrote&traceForeign != 0 && b.name != "":
				n, text = 3, "sent mail of its own, and mail that came through other servers and by another name"
			case b.wrote&traceForeign != 0:
				n, text = 2, "sent mail of its own, and mail that came through other servers"
			case b.wrote&traceOwn != 0:
				n, text = 2, "sent mail as two servers of different domains"
			case b.name != "":
				n, text = 2, "sent mail that it relayed, and mail that nobody relayed by another name"
			}
			if n > points {
				points, says = n, text
			}
		}
	}
	return points, says
}

// voiceOf is the name that a greeting tells a client from others by. Programs
// on one host greet with localhost or with a literal of a private address, each
// as it likes.
func voiceOf(helo string) string {
	name := strings.TrimSuffix(strings.ToLower(helo), ".")
	if name == "localhost" || strings.HasPrefix(name, "localhost.") || literal(name).IsValid() {
		return ""
	}
	return name
}

// literal returns the address of an address literal in EHLO (RFC 5321 section
// 4.1.3), also of one without its brackets, as many write it.
func literal(helo string) netip.Addr {
	s := strings.TrimSuffix(strings.TrimPrefix(strings.ToLower(helo), "["), "]")
	a, err := netip.ParseAddr(strings.TrimPrefix(s, "ipv6:"))
	if err != nil {
		return netip.Addr{}
	}
	return a.Unmap().WithZone("")
}

// related reports whether two names may be those of one host: a host calls
// itself by its short name here and by its full one there, or by two names of
// its domain.
func related(a, b string) bool {
	a, b = strings.TrimSuffix(strings.ToLower(a), "."), strings.TrimSuffix(strings.ToLower(b), ".")
	switch {
	case a == "" || b == "":
		return false
	case a == b:
		return true
	}
	firstA, restA, longA := strings.Cut(a, ".")
	firstB, restB, longB := strings.Cut(b, ".")
	if !longA || !longB {
		return firstA == firstB
	}
	within := func(name, domain string) bool {
		return strings.Contains(domain, ".") && (name == domain || strings.HasSuffix(name, "."+domain))
	}
	return within(b, restA) || within(a, restB) || within(a, b) || within(b, a)
}

// Withdraw withdraws trust in a client; it reports whether it was trusted so far.
func (w *Witness) Withdraw(client, why string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.why[client] != "" {
		return false
	}
	w.withdraw(client, why)
	return true
}

func (w *Witness) withdraw(client, why string) {
	if w.why == nil {
		w.why = map[string]string{}
	}
	w.why[client] = why
}

// Suspended returns why trust in a client was withdrawn, or "".
func (w *Witness) Suspended(client string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.why[client]
}

// Restore trusts everybody again that the configuration trusts: the operator
// has looked.
func (w *Witness) Restore() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.why)
	clear(w.seen)
}
