package serve

import (
	"context"
	"crypto/tls"
	"slices"
	"strings"
	"time"

	"postern/guard"
	"postern/internal/identity"
	"postern/internal/machine"
	"postern/mail"
	"postern/policy"
)

// storedUsers returns the users and the tokens of the store as the policy wants
// them, and the names of those who are disabled. A right that the policy cannot
// read is none: the command line has checked them.
func storedUsers(store *identity.Store) (users, tokens []policy.User, disabled []string) {
	for _, u := range store.List() {
		if u.Disabled {
			disabled = append(disabled, u.Name)
			continue
		}
		users = append(users, policy.User{Name: u.Name, MaySendAs: senders(u.MaySendAs)})
		for _, t := range u.Tokens {
			name := u.Name + "/" + t.Name
			if account, ok := store.Lookup(name); ok {
				tokens = append(tokens, policy.User{Name: name, MaySendAs: senders(account.MaySendAs), MailOnly: !account.Gateway})
			}
		}
	}
	return users, tokens, disabled
}

// WithStored returns the users of a configuration and those of the store, as
// the relay puts them in force. A token has no more rights than its user has
// now, wherever they are written.
func WithStored(written []policy.User, store *identity.Store) []policy.User {
	users, tokens, disabled := storedUsers(store)
	all := merge(without(written, disabled), users)
	for _, t := range tokens {
		owner, _, _ := strings.Cut(t.Name, "/")
		i := slices.IndexFunc(all, func(u policy.User) bool { return strings.EqualFold(u.Name, owner) })
		if i < 0 {
			continue
		}
		if t.MaySendAs, t.At = held(all[i].MaySendAs, t.MaySendAs), all[i].At; len(t.MaySendAs) == 0 {
			t.MaySendAs = nil
		}
		all = append(all, t)
	}
	return all
}

// held returns what a token may send as. What it has of its user names the line
// that gave it to the user.
func held(user, token []policy.Senders) []policy.Senders {
	if len(token) == 0 {
		return user
	}
	return senders(identity.Held(Words(user), Words(token)))
}

// Words returns senders as they are written.
func Words(list []policy.Senders) []string {
	words := make([]string, 0, len(list))
	for _, s := range list {
		words = append(words, s.String())
	}
	return words
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

// logins is the store as the guard knows it, beside the policy in force.
type logins struct {
	of     *identity.Login
	policy func() *policy.Policy
}

func (l logins) Mechanisms(state *tls.ConnectionState) []string { return l.of.Mechanisms(state) }

func (l logins) Login(ctx context.Context, c guard.LoginClient, mechanism string, initial []byte, challenge func([]byte) ([]byte, error)) guard.LoginResult {
	r := l.of.Authenticate(ctx, identity.Client{Addr: c.Addr, TLS: c.TLS, Shared: c.Shared, Private: c.Private}, mechanism, initial, challenge)
	if r.Identity != "" && !l.policy().Knows(r.Identity) {
		// The store has somebody whom the policy in force does not know yet; it is
		// judged with them now. What they send would be refused for good.
		return guard.LoginResult{
			Reply: mail.NewReply(454, "4.7.0", "This login is new and not in force yet; try again in some seconds"), Wait: time.Second,
			Why: r.Reason + ", whom the policy in force does not know yet",
		}
	}
	return guard.LoginResult{Identity: r.Identity, Reply: r.Reply, Wait: r.Delay, Why: r.Reason}
}
