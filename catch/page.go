package catch

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"net"
	"net/http"
	"net/netip"
	"time"
)

//go:embed page.html
var pageText string

//go:embed style.css
var style []byte

var pages = template.Must(template.New("page").Funcs(template.FuncMap{
	"when": func(t time.Time) string { return t.Local().Format("15:04:05") },
}).Parse(pageText))

// How long a test may wait for a message, and how many at once.
const (
	usualWait = 5 * time.Second
	mostWait  = time.Minute
	mostAsk   = 100
)

// policy lets a page load our style and nothing else: what a message brings
// is text, whatever it says.
const policy = "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// handler is the page and what tests ask. It ends waiting when ctx ends.
func (c *Catcher) handler(ctx context.Context) http.Handler {
	mux := http.NewServeMux()
	waiting := make(chan struct{}, mostAsk)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Refresh", "5")
		render(w, "list", struct {
			Messages []Message
			SMTP     []netip.AddrPort
		}{c.store.find(asked(r)), c.SMTP})
	})
	mux.HandleFunc("GET /messages/{id}", func(w http.ResponseWriter, r *http.Request) {
		if m, ok := c.one(w, r); ok {
			render(w, "message", m.show())
		}
	})
	mux.HandleFunc("POST /clear", func(w http.ResponseWriter, r *http.Request) {
		if _, err := c.store.remove(all); err != nil {
			fail(w, http.StatusInternalServerError, err)
			return
		}
		http.Redirect(w, r, "/", http.StatusSeeOther)
	})
	mux.HandleFunc("GET /style.css", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/css; charset=utf-8")
		_, _ = w.Write(style) // who asked is gone when it fails
	})
	mux.HandleFunc("GET /api/messages", func(w http.ResponseWriter, r *http.Request) { answer(w, c.store.find(asked(r))) })
	mux.HandleFunc("GET /api/messages/wait", func(w http.ResponseWriter, r *http.Request) {
		select {
		case waiting <- struct{}{}:
			defer func() { <-waiting }()
			c.await(ctx, w, r)
		default:
			fail(w, http.StatusServiceUnavailable, fmt.Errorf("%d wait already; let some of them end", mostAsk))
		}
	})
	mux.HandleFunc("GET /api/messages/{id}", func(w http.ResponseWriter, r *http.Request) {
		if m, ok := c.one(w, r); ok {
			answer(w, m.show())
		}
	})
	mux.HandleFunc("GET /api/messages/{id}/raw", func(w http.ResponseWriter, r *http.Request) {
		if m, ok := c.one(w, r); ok {
			w.Header().Set("Content-Type", "message/rfc822")
			w.Header().Set("Content-Disposition", `attachment; filename="`+m.ID+`.eml"`)
			_, _ = w.Write(m.raw) // who asked is gone when it fails
		}
	})
	mux.HandleFunc("DELETE /api/messages", func(w http.ResponseWriter, _ *http.Request) { removed(w, c.store, all) })
	mux.HandleFunc("DELETE /api/messages/{id}", func(w http.ResponseWriter, r *http.Request) {
		removed(w, c.store, func(m Message) bool { return m.ID == r.PathValue("id") })
	})
	return guarded(http.NewCrossOriginProtection().Handler(mux))
}

// guarded turns away what a page of somebody else's makes the browser ask: a
// name that was made to lead to loopback is not one of ours.
func guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		if !isOurs(r.Host) {
			fail(w, http.StatusMisdirectedRequest, errors.New("this page has no such name; ask for it as localhost or by its loopback address"))
			return
		}
		next.ServeHTTP(w, r)
	})
}

func isOurs(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if len(host) > 1 && host[0] == '[' {
		host = host[1 : len(host)-1]
	}
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}

func all(Message) bool { return true }

func asked(r *http.Request) filter {
	q := r.URL.Query()
	return filter{from: q.Get("from"), to: q.Get("to"), subject: q.Get("subject"), after: q.Get("after")}
}

func (c *Catcher) one(w http.ResponseWriter, r *http.Request) (Message, bool) {
	m, ok := c.store.get(r.PathValue("id"))
	if !ok {
		fail(w, http.StatusNotFound, errors.New("there is no such message; it may have been one of the oldest"))
	}
	return m, ok
}

// await answers with a message once it is there.
func (c *Catcher) await(ctx context.Context, w http.ResponseWriter, r *http.Request) {
	limit := usualWait
	if text := r.URL.Query().Get("timeout"); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil || d < 0 || d > mostWait {
			fail(w, http.StatusBadRequest, fmt.Errorf("timeout=%.20q is no time up to %v; write it as 5s", text, mostWait))
			return
		}
		limit = d
	}
	until, cancel := context.WithTimeout(r.Context(), limit)
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	m, err := c.store.wait(until, asked(r))
	if err != nil {
		fail(w, http.StatusGatewayTimeout, fmt.Errorf("no such message within %v", limit))
		return
	}
	answer(w, m.show())
}

func removed(w http.ResponseWriter, s *store, wanted func(Message) bool) {
	n, err := s.remove(wanted)
	if err != nil {
		fail(w, http.StatusInternalServerError, err)
		return
	}
	answer(w, struct {
		Deleted int `json:"deleted"`
	}{n})
}

func render(w http.ResponseWriter, name string, v any) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_ = pages.ExecuteTemplate(w, name, v) // who asked is gone when it fails
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // who asked is gone when it fails
}

func fail(w http.ResponseWriter, code int, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(struct { // who asked is gone when it fails
		Error string `json:"error"`
	}{err.Error()})
}
