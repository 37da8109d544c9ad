package identity

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"time"
)

// How long a password that was right needs no hashing, and how many are
// remembered (some 150 octets each). An application that logs in for each
// message is hashed once in five minutes.
const (
	provenFor   = 5 * time.Minute
	provenLimit = 10000
)

// proven remembers passwords that were right, under a key of this process. A
// password that was wrong is never in it. The verifier is a part of what is
// remembered, so a changed password is not found.
type proven struct {
	key []byte

	mu     sync.Mutex
	recent *recent[[sha256.Size]byte, time.Time] // until when
}

func newProven() *proven {
	return &proven{key: random(32), recent: newRecent[[sha256.Size]byte, time.Time](provenLimit, nil)}
}

// mark is what is kept of a proof. Lengths stand before the parts, so that no
// two proofs run into the same text.
func (p *proven) mark(identity, verifier, password string) (m [sha256.Size]byte) {
	h := hmac.New(sha256.New, p.key)
	for _, part := range []string{identity, verifier, password} {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(part))))
		h.Write([]byte(part))
	}
	h.Sum(m[:0])
	return m
}

func (p *proven) has(identity string, v verifier, password string, now time.Time) bool {
	m := p.mark(identity, v.String(), password)
	p.mu.Lock()
	defer p.mu.Unlock()
	until := p.recent.at(m)
	if until == nil {
		return false
	}
	if !now.Before(*until) {
		p.recent.drop(m)
		return false
	}
	return true
}

func (p *proven) add(identity string, v verifier, password string, now time.Time) {
	m := p.mark(identity, v.String(), password)
	p.mu.Lock()
	defer p.mu.Unlock()
	*p.recent.touch(m) = now.Add(provenFor)
}
