package collect

import (
	"context"
	"net/netip"
	"time"
)

// ptrPatience is how long an arrival waits to be told its peer's name. The
// peer has its reply by then.
const ptrPatience = 3 * time.Second

// A ptr is the name of a peer, being looked up.
type ptr struct {
	done chan struct{} // closed when name is set
	name string
}

// lookUp begins to look for the name of a peer that gave a live token, for no
// stranger shall make us ask the DNS.
func (l *Local) lookUp(a netip.Addr) *ptr {
	p := &ptr{done: make(chan struct{})}
	if l.c.Resolver == nil || !a.IsValid() {
		close(p.done)
		return p
	}
	l.pending.Go(func() {
		defer close(p.done)
		ctx, cancel := context.WithTimeout(context.Background(), ptrPatience)
		defer cancel()
		if names, err := l.c.Resolver.Names(ctx, a.Unmap()); err == nil && len(names) > 0 {
			p.name = names[0]
		}
	})
	return p
}
