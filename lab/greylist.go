package lab

import (
	"context"
	"sync"
	"time"

	"postern/mail"
	"postern/open"
)

// greylisted puts off each new tuple of client, sender and recipient until it
// comes again after delay (RFC 6647 section 2.1), and then asks rule.
func greylisted(rule open.Rule, delay time.Duration) open.Rule {
	list := &greylist{delay: delay, seen: map[tuple]time.Time{}}
	return func(ctx context.Context, a open.Asked) open.Answer {
		if !list.passes(tuple{a.Client.Addr.String(), a.From.String(), a.To.String()}) {
			return open.Answer{Reply: mail.NewReply(451, "4.7.1", "greylisted, try again later")}
		}
		return rule(ctx, a)
	}
}

type tuple struct{ client, from, to string }

type greylist struct {
	delay time.Duration

	mu   sync.Mutex
	seen map[tuple]time.Time
}

// maxTuples bounds what strangers can make the lab remember.
const maxTuples = 100_000

func (g *greylist) passes(t tuple) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	first, known := g.seen[t]
	if !known {
		if len(g.seen) < maxTuples {
			g.seen[t] = time.Now()
		}
		return false
	}
	return time.Since(first) >= g.delay
}
