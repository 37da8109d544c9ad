package serve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"postern/internal/problem"
	"postern/internal/queue"
)

// controlSocket is the file in the state folder by which a running relay is
// spoken to. The folder is its owner's alone, and so is the socket.
const controlSocket = "control"

// listenControl binds the socket. One that a dead process left is replaced:
// the folder's lock says that nobody else listens.
func (r *Relay) listenControl() (net.Listener, error) {
	path := r.o.State.Join(controlSocket)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w; a shorter path for the state folder may help", err)
	}
	return l, os.Chmod(path, 0o600)
}

// A QueuePage is one page of the queue.
type QueuePage struct {
	Hold         string              `json:"hold,omitempty"`
	Destinations []queue.Destination `json:"destinations,omitempty"`
	Messages     []QueuedMessage     `json:"messages,omitempty"`
	Next         string              `json:"next,omitempty"`
}

func (r *Relay) serveControl(ctx context.Context, l net.Listener) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) { answer(w, r.Status(), nil) })
	mux.HandleFunc("GET /proof", func(w http.ResponseWriter, _ *http.Request) { answer(w, r.Proof(), nil) })
	mux.HandleFunc("POST /reload", func(w http.ResponseWriter, q *http.Request) { answer(w, struct{}{}, r.Reload(q.Context())) })
	mux.HandleFunc("GET /trace", func(w http.ResponseWriter, q *http.Request) {
		page, err := tracesOf(q.Context(), r.queue, r.tunnelTraces.dir, r.open.Now, q.URL.Query())
		answer(w, page, err)
	})
	mux.HandleFunc("GET /trace/{id}", func(w http.ResponseWriter, q *http.Request) {
		t, err := trace(q.Context(), r.queue, q.PathValue("id"))
		answer(w, t, err)
	})
	mux.HandleFunc("GET /queue", func(w http.ResponseWriter, q *http.Request) {
		page, err := r.page(q)
		answer(w, page, err)
	})
	mux.HandleFunc("GET /queue/{id}", func(w http.ResponseWriter, q *http.Request) {
		m, err := r.queue.Show(q.Context(), q.PathValue("id"))
		answer(w, view(&m), err)
	})
	mux.HandleFunc("GET /queue/{id}/body", func(w http.ResponseWriter, q *http.Request) {
		body, err := r.queue.Open(q.Context(), q.PathValue("id"))
		if err != nil {
			answer(w, nil, err)
			return
		}
		defer body.Close()
		_, _ = io.Copy(w, body) // who asked is gone when it fails
	})
	for verb, do := range r.verbs() {
		mux.HandleFunc("POST /queue/"+verb, func(w http.ResponseWriter, q *http.Request) {
			if ids := q.URL.Query()["id"]; len(ids) > 0 {
				n, err := do(q.Context(), ids...)
				answer(w, Batch{Messages: n}, err)
				return
			}
			b, err := r.batch(q.Context(), q.URL.Query(), do)
			answer(w, b, err)
		})
	}
	r.handleBackups(mux)
	r.handleTraffic(mux)
	r.handleUsers(mux)
	// curl --unix-socket STATE/control http://postern/debug/pprof/profile
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return r.serveHTTP(ctx, l, mux)
}

func (r *Relay) page(q *http.Request) (QueuePage, error) {
	v := q.URL.Query()
	page := QueuePage{Hold: r.current.Load().settings.Hold}
	if v.Get("messages") == "" {
		list, err := r.queue.Destinations(q.Context())
		page.Destinations = list
		return page, err
	}
	f, err := filterOf(v)
	if err != nil {
		return page, err
	}
	most, _ := strconv.Atoi(v.Get("max")) // 0: as many as a page has
	list, next, err := r.list(q.Context(), f, queue.Page{After: v.Get("after"), Max: min(most, 1000)})
	page.Next = next
	for i := range list {
		page.Messages = append(page.Messages, view(&list[i]))
	}
	return page, err
}

// refused is how an error travels.
type refused struct {
	Problems []*problem.Problem `json:"problems"`
}

func answer(w http.ResponseWriter, v any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		w.WriteHeader(http.StatusUnprocessableEntity)
		v = refused{problem.All(err)}
	}
	_ = json.NewEncoder(w).Encode(v) // who asked is gone when it fails
}

// A Control speaks to the relay that holds a state folder.
type Control struct{ client *http.Client }

// ErrNotRunning is returned when no relay holds the state folder.
var ErrNotRunning = errors.New("no relay runs on this state folder; start it with: postern serve")

// Dial makes a Control; the relay is asked at the first call.
func Dial(state string) *Control {
	path := filepath.Join(state, controlSocket)
	return &Control{&http.Client{Timeout: 2 * time.Minute, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		},
	}}}
}

// Get asks for path and reads the answer into v.
func (c *Control) Get(ctx context.Context, path string, v any) error {
	return c.call(ctx, http.MethodGet, path, v)
}

// Post does what path says and reads the answer into v.
func (c *Control) Post(ctx context.Context, path string, v any) error {
	return c.call(ctx, http.MethodPost, path, v)
}

func (c *Control) call(ctx context.Context, method, path string, v any) error {
	q, err := http.NewRequestWithContext(ctx, method, "http://postern"+path, nil)
	if err != nil {
		return err
	}
	resp, err := c.client.Do(q)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) && op.Op == "dial" {
			return ErrNotRunning
		}
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		if w, ok := v.(io.Writer); ok {
			_, err := io.Copy(w, resp.Body)
			return err
		}
		return json.NewDecoder(resp.Body).Decode(v)
	}
	var r refused
	if err := json.NewDecoder(resp.Body).Decode(&r); err != nil || len(r.Problems) == 0 {
		return fmt.Errorf("the relay answered %s", resp.Status)
	}
	errs := make([]error, 0, len(r.Problems))
	for _, p := range r.Problems {
		errs = append(errs, p)
	}
	return errors.Join(errs...)
}
