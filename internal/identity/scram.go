package identity

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/xdg-go/scram"
)

// bindings returns what a connection can be bound to: the exporter (RFC 9266),
// and with TLS 1.2 what older clients use (RFC 5929 section 3). The handshake
// has to be complete.
func bindings(state *tls.ConnectionState) []scram.ChannelBinding {
	if state == nil || !state.HandshakeComplete {
		return nil
	}
	var all []scram.ChannelBinding
	if b, err := scram.NewTLSExporterBinding(state); err == nil {
		all = append(all, b)
	}
	if state.Version <= tls.VersionTLS12 && len(state.TLSUnique) > 0 {
		all = append(all, scram.NewTLSUniqueBinding(state.TLSUnique))
	}
	return all
}

func offersPlus(_ *Login, state *tls.ConnectionState) bool { return len(bindings(state)) > 0 }

// scram is SCRAM-SHA-256 (RFC 5802, RFC 7677).
func (l *Login) scram(ctx context.Context, a *attempt) Result {
	return l.exchange(ctx, a, "SCRAM-SHA-256")
}

// scramPlus is SCRAM-SHA-256-PLUS: whoever sits between does not get far.
func (l *Login) scramPlus(ctx context.Context, a *attempt) Result {
	return l.exchange(ctx, a, "SCRAM-SHA-256-PLUS")
}

// conversation makes the server's half for one connection. A client that
// binds without having chosen PLUS, or says that we offer no PLUS where we do
// ("y": somebody took it off the list), is refused (RFC 5802 section 6).
func (l *Login) conversation(a *attempt, first, how string, find scram.CredentialLookup) (*scram.ServerConversation, error) {
	server, err := scram.SHA256.NewServer(find)
	if err != nil {
		return nil, err
	}
	var have scram.ChannelBinding
	if all := bindings(a.client.TLS); len(all) > 0 && l.allows("SCRAM-SHA-256-PLUS") {
		have = all[0]
		for _, b := range all {
			if strings.HasPrefix(first, "p="+string(b.Type)+",") {
				have = b
			}
		}
	}
	if how == "SCRAM-SHA-256-PLUS" {
		return server.NewConversationWithChannelBindingRequired(have), nil
	}
	return server.NewConversationWithChannelBinding(have), nil
}

// exchange is one conversation. A user that does not exist, may not log in or
// has no keys yet gets one like any other, whose proof cannot be right.
func (l *Login) exchange(ctx context.Context, a *attempt, how string) Result {
	first, err := a.first()
	if err != nil {
		return gone(err)
	}
	var acc *account
	var t try
	c, err := l.conversation(a, string(first), how, func(name string) (scram.StoredCredentials, error) {
		if acc, t = l.find(a.client, name); acc.usable(a.began) && acc.keys != nil {
			return acc.keys.credentials(), nil
		}
		return l.nobody(name), nil
	})
	if err != nil {
		return busy(l.name(""), err)
	}
	if how == "SCRAM-SHA-256" && strings.HasPrefix(string(first), "p=") {
		return malformed("channel binding belongs to SCRAM-SHA-256-PLUS")
	}
	challenge, err := c.Step(string(first))
	switch {
	case err != nil && strings.HasPrefix(challenge, "e="):
		return refused(a, l.name(c.Username())+": "+err.Error())
	case err != nil:
		return malformed(how + ": " + quote(err.Error()))
	case c.Username() == "":
		return refused(a, "an empty name")
	case c.AuthzID() != "" && !sameName(c.AuthzID(), c.Username()):
		return refused(a, l.name(c.Username())+" wants to act for "+l.name(c.AuthzID()))
	}
	proof, err := a.ask([]byte(challenge))
	if err != nil {
		return gone(err)
	}
	return l.prove(ctx, a, c, acc, t, proof, how)
}

// prove judges the client's proof. Only now there is a guess: whoever stops
// before has learned nothing, and holds no place that others wait for.
func (l *Login) prove(ctx context.Context, a *attempt, c *scram.ServerConversation, acc *account, t try, proof []byte, how string) Result {
	a.began = time.Now() // the client's own time is not part of the delay
	deadline, cancel := context.WithTimeoutCause(ctx, l.pool.wait, errBusy)
	defer cancel()
	g, wait, err := l.guesses.begin(deadline, t)
	switch {
	case err != nil:
		return busy(l.name(c.Username()), err)
	case wait > 0:
		return tooMany(l.name(c.Username()), wait)
	}
	final, err := c.Step(string(proof))
	if err != nil || !c.Valid() || acc == nil || !l.stands(acc) {
		return denied(a, g.fail(), l.name(c.Username())+": "+unproven(acc))
	}
	g.succeed()
	// RFC 4954 section 4: the server's own proof is one more challenge, and
	// the response to it is empty.
	rest, err := a.ask([]byte(final))
	switch {
	case err != nil:
		return gone(err)
	case len(rest) > 0:
		return malformed(how + ": the last response is not empty")
	}
	return l.accepted(a.client, acc.Identity, how)
}

// stands reports whether an account is still what it was when the
// conversation began, which can be minutes ago.
func (l *Login) stands(acc *account) bool {
	is := l.store.account(acc.Identity)
	return is.usable(time.Now()) && is.keys != nil && acc.keys != nil && is.keys.String() == acc.keys.String()
}

func unproven(acc *account) string {
	switch {
	case acc == nil:
		return "no such user"
	case acc.keys == nil:
		return "no SCRAM keys yet; they are made at the first PLAIN login"
	case !acc.usable(time.Now()):
		return "disabled or expired"
	}
	return "wrong password, or another connection than the client meant"
}

// nobody returns keys that no password fits, with a salt that is the same each
// time a name is tried, as it is with users that exist (RFC 5802 section 9), and
// with as many rounds as one of them has.
func (l *Login) nobody(name string) scram.StoredCredentials {
	if user, token, err := parseIdentity(name); err == nil {
		name = join(user, token)
	}
	mark := func(text string) []byte {
		h := hmac.New(sha256.New, l.store.salt)
		h.Write([]byte(text))
		return h.Sum(nil)
	}
	sum := mark(name)
	rounds := l.store.roundsLike(binary.BigEndian.Uint64(sum[16:]))
	if rounds != formerRounds { // keys that are made anew have another salt
		sum = mark(fmt.Sprintf("%s\x00%d", name, rounds))
	}
	k := scramKeys{rounds, sum[:16], random(sha256.Size), random(sha256.Size)}
	return k.credentials()
}
