package deliver

import (
	"net/netip"
	"sync"
	"time"
)

const (
	failedFor = 30 * time.Second
	plainFor  = time.Hour
	wholeFor  = time.Hour // how long no chunks go to a host that did not know them
	mostPeers = 10_000
)

// peers remember what was learned of addresses and hosts, so that a dead
// exchanger of a thousand domains is waited for once. The zero value is ready.
type peers struct {
	mu      sync.Mutex
	failing map[netip.AddrPort]failure
	clear   spells          // hosts whose TLS failed, and for how long it is not tried
	had     map[string]bool // hosts with which TLS was made
	whole   spells          // hosts that offer CHUNKING and do not know BDAT, and for how long it is not tried
}

type failure struct {
	err   error
	until time.Time
}

// failed remembers that nothing answered at an address.
func (p *peers) failed(a netip.AddrPort, err error, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failing == nil || len(p.failing) >= mostPeers {
		p.failing = map[netip.AddrPort]failure{}
	}
	p.failing[a] = failure{err, now.Add(failedFor)}
}

// down returns how an address failed a moment ago, or nil.
func (p *peers) down(a netip.AddrPort, now time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	f, ok := p.failing[a]
	if !ok {
		return nil
	}
	if now.After(f.until) {
		delete(p.failing, a)
		return nil
	}
	return f.err
}

// forget has every address asked again.
func (p *peers) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failing = nil
}

// hadTLS remembers that TLS was made with a host.
func (p *peers) hadTLS(key string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.had == nil || len(p.had) >= mostPeers {
		p.had = map[string]bool{}
	}
	p.had[key] = true
	delete(p.clear, key)
}

// onlyPlain remembers that a host's TLS failed; not of a host that had TLS
// before: whoever sits on the line needs one broken handshake, and it shall not
// be worth an hour of mail in clear.
func (p *peers) onlyPlain(key string, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.had[key] {
		return
	}
	p.clear.begin(key, now.Add(plainFor))
}

// plain reports that a host's TLS failed within the hour, and that it never had
// any.
func (p *peers) plain(key string, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.clear.lasts(key, now)
}

// noChunks remembers that a host, or what stands before it, does not know BDAT.
func (p *peers) noChunks(key string, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.whole.begin(key, now.Add(wholeFor))
}

// chunkless reports that a host did not know BDAT within the hour.
func (p *peers) chunkless(key string, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.whole.lasts(key, now)
}

// spells are what holds of hosts until a time. The zero value is ready.
type spells map[string]time.Time

func (s *spells) begin(key string, until time.Time) {
	if *s == nil || len(*s) >= mostPeers {
		*s = spells{}
	}
	(*s)[key] = until
}

func (s spells) lasts(key string, now time.Time) bool {
	until, ok := s[key]
	if ok && now.After(until) {
		delete(s, key)
		ok = false
	}
	return ok
}
