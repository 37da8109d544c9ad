package serve

import (
	"context"
	"net/http"
	"net/url"

	"postern/internal/identity"
)

// LockedLogins are the counts of failed logins that have reached their limit.
type LockedLogins struct {
	Locked []identity.Locked `json:"locked"`
}

func (r *Relay) handleUsers(mux *http.ServeMux) {
	mux.HandleFunc("POST /users/changed", func(w http.ResponseWriter, q *http.Request) {
		r.forgive(q.URL.Query()["forgive"])
		answer(w, struct{}{}, r.takeUsers(q.Context()))
	})
	mux.HandleFunc("POST /users/flush", func(w http.ResponseWriter, _ *http.Request) { answer(w, struct{}{}, r.users.Flush()) })
	mux.HandleFunc("GET /users/locked", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, LockedLogins{r.guesses.Locked(r.users)}, nil)
	})
	mux.HandleFunc("POST /users/unlock", func(w http.ResponseWriter, q *http.Request) {
		r.forgive(q.URL.Query()["who"])
		answer(w, struct{}{}, nil)
	})
}

func (r *Relay) forgive(users []string) {
	for _, user := range users {
		r.guesses.Forgive(user)
	}
}

// takeUsers reads the users and returns when they are in force.
func (r *Relay) takeUsers(ctx context.Context) error {
	if err := r.users.Reload(); err != nil {
		return err
	}
	return r.usersChanged(ctx)
}

// UsersChanged tells a running relay that the store was changed, and returns
// when the change is in force; failed logins of some users are forgotten.
func (c *Control) UsersChanged(ctx context.Context, forgive ...string) error {
	return c.Post(ctx, "/users/changed?"+url.Values{"forgive": forgive}.Encode(), &struct{}{})
}
