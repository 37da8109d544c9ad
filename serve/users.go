package serve

import (
	"context"
	"crypto/tls"
	"slices"
	"strings"

	"postern/guard"
	"postern/internal/identity"
	"postern/internal/machine"
	"postern/policy"
)

// storedUsers returns the users and tokens of the store as the policy wants
// them, and the names of those who are disabled. A right that the policy
// cannot read is none: the command line has checked them.
func storedUsers(store *identity.Store) (users []policy.User, disabled []string) {
	for _, u := range store.List() {
		if u.Disabled {
			disabled = append(disabled, u.Name)
			continue
		}
		users = append(users, policy.User{Name: u.Name, MaySendAs: senders(u.MaySendAs)})
		for _, t := range u.Tokens {
			name := u.Name + "/" + t.Name
			if account, ok := store.Lookup(name); ok {
				users = append(users, policy.User{Name: name, MaySendAs: senders(account.MaySendAs)})
			}
		}
	}
	return users, disabled
}

func senders(words []string) []policy.Senders {
	var list []policy.Senders
	for _, w := range words {
		if s, err := policy.ParseSenders(w); err == nil {
			list = append(list, s)
		}
	}
	return list
}

func without(users []policy.User, names []string) []policy.User {
	return slices.DeleteFunc(slices.Clone(users), func(u policy.User) bool {
		return slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, u.Name) })
	})
}

// rate returns the budget of a user, a token or a trusted client that has one
// of its own. A token's is that of the store, as it is now.
func (r *Relay) rate(who string) (guard.Rate, bool) {
	if account, ok := r.users.Lookup(who); ok && account.Rate != "" {
		if rate, err := guard.ParseRate(account.Rate); err == nil {
			return rate, true
		}
	}
	rate, ok := r.current.Load().settings.Guard.Clients[who]
	return rate, ok
}

// Around returns what the machine knows of itself, as the relay takes it into
// account.
func Around() policy.Surroundings { return surroundings(func(error) {}) }

// surroundings reads what the machine knows of itself. What cannot be read is
// reported: the policy then knows of no gateway.
func surroundings(report func(error)) policy.Surroundings {
	facts, err := machine.Here()
	report(err)
	around := policy.Surroundings{Gateways: facts.Gateways, Bridges: facts.Bridges()}
	for _, a := range facts.Roads() {
		if !slices.Contains(around.Gateways, a) && !slices.Contains(around.Bridges, a) {
			around.Own = append(around.Own, a)
		}
	}
	return around
}

// logins is the store as the guard knows it.
type logins struct{ of *identity.Login }

func (l logins) Mechanisms(state *tls.ConnectionState) []string { return l.of.Mechanisms(state) }

func (l logins) Login(ctx context.Context, c guard.LoginClient, mechanism string, initial []byte, challenge func([]byte) ([]byte, error)) guard.LoginResult {
	r := l.of.Authenticate(ctx, identity.Client{Addr: c.Addr, TLS: c.TLS, Shared: c.Shared, Private: c.Private}, mechanism, initial, challenge)
	return guard.LoginResult{Identity: r.Identity, Reply: r.Reply, Wait: r.Delay, Why: r.Reason}
}

// WithStored returns the users of a configuration and those of the store, as
// the relay puts them in force.
func WithStored(written []policy.User, store *identity.Store) []policy.User {
	stored, disabled := storedUsers(store)
	return merge(without(written, disabled), stored)
}
