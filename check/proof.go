package check

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"net/netip"
	"strings"
	"time"

	"postern/plan"
)

// A TextResolver finds the TXT records by which an owner proves a target.
type TextResolver interface {
	TXT(ctx context.Context, name string) ([]string, error)
}

// ProofName is the label under which a TXT record proves ownership.
const ProofName = "_postern-check."

// ProofText returns the TXT record that proves a target to whoever holds the
// secret: it names the target and the month, so that a copied or forgotten
// record proves nothing for long.
func ProofText(secret []byte, target string, now time.Time) string {
	h := hmac.New(sha256.New, secret)
	h.Write([]byte("postern ownership 1\x00" + strings.ToLower(target) + "\x00" + now.UTC().Format("2006-01")))
	sum := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(h.Sum(nil)[:15])
	return "postern-check=" + strings.ToLower(sum)
}

// proved reports whether the target's owner has published the proof: for a
// name under the name itself, for an address under the name that its PTR
// record gives, provided that this name leads back to the address. A proof
// holds for the month that it names and the one before.
func (c *Checker) proved(ctx context.Context, t plan.Target, a netip.Addr) bool {
	texts, ok := c.o.Resolver.(TextResolver)
	if !ok || len(c.o.ProofSecret) == 0 {
		return false
	}
	for _, name := range c.provable(ctx, t, a) {
		list, err := texts.TXT(ctx, ProofName+name)
		if err != nil {
			continue
		}
		now := time.Now().UTC()
		before := time.Date(now.Year(), now.Month(), 0, 0, 0, 0, 0, time.UTC) // the last day of the month before
		for _, text := range list {
			for _, at := range []time.Time{now, before} {
				if hmac.Equal([]byte(text), []byte(ProofText(c.o.ProofSecret, t.Host, at))) {
					return true
				}
			}
		}
	}
	return false
}

// provable returns the names whose zone speaks for the address.
func (c *Checker) provable(ctx context.Context, t plan.Target, a netip.Addr) []string {
	var names []string
	var candidates []string
	if !c.o.Listed {
		candidates = append(candidates, t.Host)
	}
	if ptr, err := c.o.Resolver.Names(ctx, a); err == nil {
		candidates = append(candidates, ptr...)
	}
	for _, name := range candidates {
		addrs, err := c.o.Resolver.Addresses(ctx, name)
		if err != nil {
			continue
		}
		for _, b := range addrs {
			if b.Unmap() == a.Unmap() {
				names = append(names, name)
				break
			}
		}
	}
	return names
}
