package serve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"postern/guard"
	"postern/internal/attr"
	"postern/internal/problem"
	"postern/internal/state"
)

// A Suspension is a trusted client that is trusted no more, until a reload: the
// operator has looked then.
type Suspension struct {
	Client string    `json:"client"`
	Why    string    `json:"why"`
	Since  time.Time `json:"since"`
}

// suspendedFile keeps suspensions through a restart, in the state folder.
const suspendedFile = "suspended.json"

type suspendedText struct {
	Version   int          `json:"version"`
	Suspended []Suspension `json:"suspended"`
}

// Suspended reads which trusted clients are suspended by the relay of a state
// folder.
func Suspended(folder string) ([]Suspension, error) {
	path := filepath.Join(folder, suspendedFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var s suspendedText
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err == nil && s.Version != 1 {
		err = fmt.Errorf("it is of version %d, and this postern writes 1", s.Version)
	}
	if err != nil {
		return nil, problem.At(problem.Pos{File: path}, fmt.Sprintf("who is suspended cannot be read: %v", err), "look at your trusted clients, and move the file away: they are trusted again then")
	}
	return s.Suspended, nil
}

// suspensions are those that last.
type suspensions struct {
	path string
	mu   sync.Mutex
	list []Suspension
}

// resumeSuspensions withdraws the trust again that was withdrawn when the relay
// ended.
func (r *Relay) resumeSuspensions() error {
	list, err := Suspended(r.o.State.Path)
	if err != nil {
		return err
	}
	r.suspended.path, r.suspended.list = r.o.State.Join(suspendedFile), list
	for _, s := range list {
		r.guard.Witness.Withdraw(s.Client, s.Why)
		r.o.Log.LogAttrs(context.Background(), slog.LevelError, suspendedSays, attr.Identity(s.Client), slog.String("why", s.Why), slog.Time("since", s.Since))
	}
	r.metrics.suspended.Set(float64(len(list)))
	return nil
}

const suspendedSays = "trust withdrawn: mail from this trusted client is refused, and what waits of it is held; when it is right again: postern reload, then postern queue release --who with its name"

// suspend takes that trust in a client was withdrawn: everybody who looks is
// told, and it lasts.
func (r *Relay) suspend(client, why string, more ...slog.Attr) {
	r.metrics.withdrawn.Inc()
	r.o.Log.LogAttrs(context.Background(), slog.LevelError, suspendedSays, append([]slog.Attr{attr.Identity(client), slog.String("why", why)}, more...)...)
	r.complain(r.suspended.change(func(list []Suspension) []Suspension {
		if r.guard.Witness.Suspended(client) == "" {
			return list // a reload came between
		}
		return append(list, Suspension{Client: client, Why: why, Since: time.Now().UTC().Truncate(time.Second)})
	}))
	r.metrics.suspended.Set(float64(len(r.suspended.now())))
	r.recheckTunnels(context.Background(), r.policy()) // those that the client opened
}

// restore trusts everybody again that the configuration trusts.
func (r *Relay) restore() error {
	for _, s := range r.suspended.now() {
		r.o.Log.LogAttrs(context.Background(), slog.LevelWarn, "trust restored by the reload", attr.Identity(s.Client), slog.Time("since", s.Since))
	}
	r.guard.Witness.Restore()
	err := r.suspended.change(func([]Suspension) []Suspension { return nil })
	r.metrics.suspended.Set(0)
	return err
}

func (s *suspensions) now() []Suspension {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.list)
}

func (s *suspensions) change(f func([]Suspension) []Suspension) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := len(s.list)
	if s.list = f(s.list); before == 0 && len(s.list) == 0 {
		return nil
	}
	if len(s.list) == 0 {
		return os.Remove(s.path)
	}
	text, err := json.Marshal(suspendedText{1, s.list})
	if err != nil {
		return err
	}
	return state.WriteFile(s.path, append(text, '\n'))
}

// Headerless is a balancer that passed on connections without a PROXY header:
// they were closed.
type Headerless struct {
	Listener    string     `json:"listener"`
	Balancer    netip.Addr `json:"balancer"`
	Connections int64      `json:"connections"`
	Last        time.Time  `json:"last"`
}

// headerless counts them. Only named balancers get here; a network of them is
// not told apart without end.
type headerless struct {
	mu   sync.Mutex
	list []Headerless
}

const mostHeaderless = 64

// add counts one, and reports whether it is time to tell of it.
func (h *headerless) add(listener string, a netip.Addr, now time.Time) (tell bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	i := slices.IndexFunc(h.list, func(e Headerless) bool { return e.Listener == listener && e.Balancer == a })
	if i < 0 {
		if len(h.list) >= mostHeaderless {
			return false
		}
		h.list = append(h.list, Headerless{Listener: listener, Balancer: a})
		i = len(h.list) - 1
	}
	e := &h.list[i]
	e.Connections++
	tell = now.Sub(e.Last) >= lookAround
	e.Last = now.UTC()
	return tell
}

func (h *headerless) now() []Headerless {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := slices.Clone(h.list)
	slices.SortFunc(list, func(a, b Headerless) int {
		return strings.Compare(a.Listener+a.Balancer.String(), b.Listener+b.Balancer.String())
	})
	return list
}

// noHeader is told of a connection that a balancer passed on without a header.
func (r *Relay) noHeader(listener string, a netip.Addr) {
	r.metrics.refused.WithLabelValues("no_proxy_header").Inc()
	now := time.Now()
	if r.headerless.add(listener, a, now) {
		r.o.Log.LogAttrs(context.Background(), slog.LevelWarn, "closed: a balancer passed on a connection without a PROXY header; let it send one (send-proxy-v2 in HAProxy)", attr.Listener(listener), attr.Peer(a))
	}
	client := r.policy().TrustedBy(a)
	if client == "" {
		return
	}
	if why, now := r.guard.Witness.Sees(guard.Sighting{Client: client, Addr: a, At: now}, guard.NoHeader, ""); now {
		r.suspend(client, why, attr.Peer(a))
	}
}
