package collect

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"strings"
	"time"

	"postern/plan"
)

// A banner's nonce is chance, the time, and a MAC over both: a collector knows
// its own without having to remember those that it gave to every scanner.
const (
	nonceChance = 6
	nonceMAC    = 10
	nonceLife   = time.Hour
)

var nonceEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

func (k keys) newNonce(now time.Time) string {
	raw := make([]byte, nonceChance, nonceChance+4+nonceMAC)
	rand.Read(raw)
	raw = binary.BigEndian.AppendUint32(raw, uint32(now.Unix()))
	return plan.NonceMark + nonceEncoding.EncodeToString(append(raw, k.nonceMAC(raw)...))
}

func (k keys) nonceMAC(raw []byte) []byte {
	h := hmac.New(sha256.New, k.banner)
	h.Write(raw)
	return h.Sum(nil)[:nonceMAC]
}

// ours reports whether the text of a banner holds a nonce that this collector
// made within the last hour.
func (k keys) ours(banner string, now time.Time) bool {
	for _, word := range strings.Fields(banner) {
		text, ok := strings.CutPrefix(word, plan.NonceMark)
		if !ok {
			continue
		}
		raw, err := nonceEncoding.DecodeString(text)
		if err != nil || len(raw) != nonceChance+4+nonceMAC {
			continue
		}
		body, mac := raw[:nonceChance+4], raw[nonceChance+4:]
		if !hmac.Equal(mac, k.nonceMAC(body)) {
			continue
		}
		made := time.Unix(int64(binary.BigEndian.Uint32(body[nonceChance:])), 0)
		return now.Sub(made) < nonceLife && made.Sub(now) < nonceLife
	}
	return false
}
