package serve

import (
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"postern/guard"
	"postern/internal/deliver"
	"postern/internal/problem"
	"postern/mail"
	"postern/policy"
	"postern/smtp"
)

// A generation is one configuration in force: what a reload replaces as a whole.
type generation struct {
	settings Settings
	policy   *policy.Policy
	proof    *policy.Proof
	tls      *certificates
	ways     *deliver.Routes
	dns      deliver.Resolver
	users    [32]byte // the fingerprint of those of the store, as they were before it was made
	audited  atomic.Pointer[Audited]
	share    share // of the machine
	warnings []*problem.Problem
}

// NotClosedError is returned for a configuration under which a stranger's mail
// would pass. It never comes into force.
type NotClosedError struct{ Found []error }

func (e *NotClosedError) Error() string { return errors.Join(e.Found...).Error() }

// prove compiles a configuration with the users who may log in, and tries
// every class of input. The settings stay as they were written.
func prove(s Settings, users []policy.User, around policy.Surroundings) (*generation, error) {
	g := &generation{settings: s}
	source := s.Policy
	source.Around, source.Users = around, users
	p, err := policy.Compile(source)
	fatal, warnings := problem.Split(err)
	if fatal != nil {
		return nil, fatal
	}
	g.policy, g.warnings = p, append(problem.All(warnings), problem.All(s.Exposed())...)
	g.proof = p.Prove()
	if !g.proof.Closed() {
		e := &NotClosedError{}
		for _, c := range g.proof.Counterexamples {
			e.Found = append(e.Found, c)
		}
		return nil, e
	}
	return g, nil
}

// merge adds the users of the store to those of the configuration. Where both
// name one, what the configuration lets it send as counts.
func merge(written, stored []policy.User) []policy.User {
	all := slices.Clone(written)
	for _, u := range stored {
		if !slices.ContainsFunc(written, func(w policy.User) bool { return strings.EqualFold(w.Name, u.Name) }) {
			all = append(all, u)
		}
	}
	return all
}

// server makes the engine of one listener.
func (g *generation) server(l Listener, s *guard.SMTP) *smtp.Server {
	server := &smtp.Server{Name: g.settings.Policy.Hostname.ASCII(), Handler: s, Limits: g.settings.Engine, Implicit: l.Role == policy.Submissions}
	server.TLS = g.tlsConfig(l)
	server.Limits.Connections = g.share.connections
	switch l.Role {
	case policy.MX:
		// RFC 3461 section 5.2: a notice of success to whoever asks for it goes to
		// a forged address as well.
		server.Without = []string{"DSN"}
	case policy.Submission, policy.Submissions, policy.Trusted:
		if server.Limits.Recipients == 0 {
			server.Limits.Recipients = 1000
		}
		if server.Limits.Messages == 0 {
			server.Limits.Messages = -1 // those whom we know have a budget
		}
	}
	return server
}

func (g *generation) tlsConfig(l Listener) *tls.Config {
	if g.tls == nil {
		return nil
	}
	return g.tls.config(l.Role == policy.Submission || l.Role == policy.Submissions)
}

// hop returns where the mailboxes of a domain are.
func (g *generation) hop(d mail.Domain) (NextHop, error) {
	h, ok := g.settings.Hops[d.ASCII()]
	if !ok {
		return NextHop{}, fmt.Errorf("%s has no next hop", d)
	}
	return h, nil
}
