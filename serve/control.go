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
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"postern/internal/problem"
	"postern/internal/queue"
	"postern/internal/state"
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
	Destinations []QueuedDestination `json:"destinations,omitempty"`
	Messages     []QueuedMessage     `json:"messages,omitempty"`
	Next         string              `json:"next,omitempty"`
}

func (r *Relay) serveControl(ctx context.Context, l net.Listener) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) { answer(w, r.Status(), nil) })
	mux.HandleFunc("GET /proof", func(w http.ResponseWriter, _ *http.Request) { answer(w, r.Proof(), nil) })
	mux.HandleFunc("POST /reload", func(w http.ResponseWriter, q *http.Request) { answer(w, struct{}{}, r.Reload(q.Context())) })
	mux.HandleFunc("GET /trace", func(w http.ResponseWriter, q *http.Request) {
		page, err := tracesOf(q.Context(), told{r.queue, r.standing(q.Context())}, r.tunnelTraces.dir, r.open.Now, q.URL.Query())
		answer(w, page, err)
	})
	mux.HandleFunc("GET /trace/{id}", func(w http.ResponseWriter, q *http.Request) {
		t, err := trace(q.Context(), r.queue, r.standing(q.Context()), q.PathValue("id"))
		answer(w, t, err)
	})
	mux.HandleFunc("GET /queue", func(w http.ResponseWriter, q *http.Request) {
		page, err := r.page(q)
		answer(w, page, err)
	})
	mux.HandleFunc("GET /queue/{id}", func(w http.ResponseWriter, q *http.Request) {
		m, err := r.show(q.Context(), q.PathValue("id"))
		answer(w, m, err)
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
	for word := range r.verbs(nil) {
		mux.HandleFunc("POST /queue/"+word, func(w http.ResponseWriter, q *http.Request) {
			b, err := r.batch(q.Context(), q.URL.Query(), word)
			answer(w, b, err)
		})
	}
	mux.HandleFunc("POST /queue/flush", func(w http.ResponseWriter, q *http.Request) {
		f, err := r.filterOf(url.Values{"destination": {q.URL.Query().Get("destination")}})
		if err != nil {
			answer(w, nil, err)
			return
		}
		b, err := r.flush(q.Context(), f.Destination, q.URL.Query().Get("after"))
		answer(w, b, err)
	})
	mux.HandleFunc("GET /deliveries", func(w http.ResponseWriter, q *http.Request) {
		answer(w, r.deliver.Snapshot(q.Context()), nil)
	})
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
		for _, d := range list {
			page.Destinations = append(page.Destinations, QueuedDestination{
				Destination: d.Name, Messages: d.Messages, Active: d.Active, Held: d.Held, OldestID: d.Oldest,
				Oldest: queue.TimeOf(d.Oldest), Next: d.Next, Reply: d.Reply, ReplyAt: d.ReplyAt,
			})
		}
		return page, err
	}
	f, err := r.filterOf(v)
	if err != nil {
		return page, err
	}
	most, _ := strconv.Atoi(v.Get("max")) // 0: as many as a page has
	list, next, err := r.list(q.Context(), f, queue.Page{After: v.Get("after"), Max: min(most, 1000)})
	page.Next = next
	s, now := r.standing(q.Context()), time.Now()
	for i := range list {
		page.Messages = append(page.Messages, view(&list[i], s, now))
	}
	return page, err
}

// show returns one message of the queue.
func (r *Relay) show(ctx context.Context, id string) (QueuedMessage, error) {
	if _, err := queue.ParseID(id); err != nil {
		return QueuedMessage{}, usage(fmt.Errorf("%q is %w", id, err))
	}
	m, err := r.queue.Show(ctx, id)
	if errors.Is(err, queue.ErrNoSuchID) {
		return QueuedMessage{}, &Refusal{Code: http.StatusNotFound, Err: fmt.Errorf("message %s is not in the queue; it may have left: postern trace %[1]s", id)}
	}
	return view(&m, r.standing(ctx), time.Now()), err
}

// A Refusal is an error that says whose affair it is, by a status of HTTP.
type Refusal struct {
	Code int // 400: the question was wrong; 404: there is no such message
	Err  error
}

func (e *Refusal) Error() string { return e.Err.Error() }
func (e *Refusal) Unwrap() error { return e.Err }

// usage says that whoever asked has asked wrongly.
func usage(err error) error { return &Refusal{Code: http.StatusBadRequest, Err: err} }

// refused is how an error travels.
type refused struct {
	Problems []*problem.Problem `json:"problems"`
}

func answer(w http.ResponseWriter, v any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		code := http.StatusUnprocessableEntity
		var r *Refusal
		if errors.As(err, &r) {
			code, err = r.Code, r.Err
		}
		w.WriteHeader(code)
		v = refused{problem.All(err)}
	}
	_ = json.NewEncoder(w).Encode(v) // who asked is gone when it fails
}

// A Control speaks to the relay that holds a state folder.
type Control struct {
	client *http.Client
	folder string
}

// ErrNotRunning is what a NotRunningError is.
var ErrNotRunning = errors.New("no relay runs")

// NotRunningError is returned when no relay answers on the state folder.
type NotRunningError struct {
	Folder string
	Starts int // the process that holds the folder, and does not answer yet; 0: there is none
}

func (e *NotRunningError) Error() string {
	if e.Starts != 0 {
		return fmt.Sprintf("process %d holds the state folder %s and does not answer yet: it starts, or it ends; ask again in some seconds", e.Starts, e.Folder)
	}
	return fmt.Sprintf("no relay runs on the state folder %s; name the folder of the one that runs with --state, or its configuration with --config, or start it with: postern serve", e.Folder)
}

// Is reports that it is ErrNotRunning.
func (e *NotRunningError) Is(target error) bool { return target == ErrNotRunning }

func notRunning(folder string) error {
	return &NotRunningError{Folder: folder, Starts: state.HeldBy(folder)}
}

// Dial makes a Control; the relay is asked at the first call.
func Dial(folder string) *Control {
	path := filepath.Join(folder, controlSocket)
	return &Control{&http.Client{Timeout: 2 * time.Minute, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		},
	}}, folder}
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
			return notRunning(c.folder)
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
	err = errors.Join(errs...)
	if resp.StatusCode == http.StatusBadRequest || resp.StatusCode == http.StatusNotFound {
		err = &Refusal{Code: resp.StatusCode, Err: err}
	}
	return err
}
