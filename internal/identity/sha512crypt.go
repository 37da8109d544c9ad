package identity

import (
	"crypto/sha512"
	"crypto/subtle"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// sha512Crypt is a verifier of the kind $6$ of crypt(3), after the public
// specification of Ulrich Drepper, "Unix crypt using SHA-256 and SHA-512".
type sha512Crypt struct {
	rounds int
	told   bool // rounds stand in the text
	salt   string
	hash   [sha512.Size]byte
}

// maxCryptRounds bounds the work of one login, about a second; the
// specification allows a thousand times as many.
const (
	minCryptRounds     = 1000
	defaultCryptRounds = 5000
	maxCryptRounds     = 1_000_000
)

var errSHA512Crypt = errors.New("not a SHA512-CRYPT hash as in $6$rounds=5000$salt$hash")

func parseSHA512Crypt(s string) (verifier, error) {
	c := sha512Crypt{rounds: defaultCryptRounds}
	rest, ok := strings.CutPrefix(s, "$6$")
	if !ok {
		return nil, errSHA512Crypt
	}
	if r, ok := strings.CutPrefix(rest, "rounds="); ok {
		digits, after, _ := strings.Cut(r, "$")
		n, err := strconv.Atoi(digits)
		if err != nil {
			return nil, errSHA512Crypt
		}
		if n < minCryptRounds || n > maxCryptRounds {
			return nil, fmt.Errorf("SHA512-CRYPT has %d to %d rounds here", minCryptRounds, maxCryptRounds)
		}
		c.rounds, c.told, rest = n, true, after
	}
	salt, hash, ok := strings.Cut(rest, "$")
	if !ok || salt == "" || len(salt) > 16 {
		return nil, errSHA512Crypt
	}
	for i := range len(salt) {
		if salt[i] <= ' ' || salt[i] > '~' || salt[i] == ':' {
			return nil, errSHA512Crypt
		}
	}
	c.salt = salt
	if !c.decode(hash) || c.String() != s {
		return nil, errSHA512Crypt
	}
	return c, nil
}

func (c sha512Crypt) matches(password string) bool {
	got := cryptSHA512([]byte(password), []byte(c.salt), c.rounds)
	return subtle.ConstantTimeCompare(got[:], c.hash[:]) == 1
}

func (c sha512Crypt) String() string {
	rounds := ""
	if c.told {
		rounds = "rounds=" + strconv.Itoa(c.rounds) + "$"
	}
	return "$6$" + rounds + c.salt + "$" + c.encode()
}

const cryptAlphabet = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// cryptGroup returns which octets of the hash make the i-th group of four
// characters, the most significant first. The specification lists them: three
// octets a third of the hash apart, one place further round each time.
func cryptGroup(i int) [3]int {
	g := [3]int{i, i + 21, i + 42}
	return [3]int{g[i%3], g[(i+1)%3], g[(i+2)%3]}
}

func (c sha512Crypt) encode() string {
	b := make([]byte, 0, 86)
	put := func(w, n int) {
		for range n {
			b = append(b, cryptAlphabet[w&63])
			w >>= 6
		}
	}
	for i := range 21 {
		g := cryptGroup(i)
		put(int(c.hash[g[0]])<<16|int(c.hash[g[1]])<<8|int(c.hash[g[2]]), 4)
	}
	put(int(c.hash[63]), 2)
	return string(b)
}

// decode is the inverse of encode; unused bits are not looked at.
func (c *sha512Crypt) decode(s string) bool {
	if len(s) != 86 {
		return false
	}
	take := func(n int) int {
		w := 0
		for i := range n {
			v := strings.IndexByte(cryptAlphabet, s[i])
			if v < 0 {
				return -1
			}
			w |= v << (6 * i)
		}
		s = s[n:]
		return w
	}
	for i := range 21 {
		w := take(4)
		if w < 0 {
			return false
		}
		g := cryptGroup(i)
		c.hash[g[0]], c.hash[g[1]], c.hash[g[2]] = byte(w>>16), byte(w>>8), byte(w)
	}
	w := take(2)
	c.hash[63] = byte(w & 255)
	return w >= 0
}

// cryptSHA512 is the algorithm, with the numbers of the specification's steps.
func cryptSHA512(password, salt []byte, rounds int) [sha512.Size]byte {
	b := sha512.New() // 4 to 8
	b.Write(password)
	b.Write(salt)
	b.Write(password)
	digestB := b.Sum(nil)

	a := sha512.New() // 1 to 3, 9 to 12
	a.Write(password)
	a.Write(salt)
	a.Write(stretch(digestB, len(password)))
	for n := len(password); n > 0; n >>= 1 {
		if n&1 == 1 {
			a.Write(digestB)
		} else {
			a.Write(password)
		}
	}
	digest := a.Sum(nil)

	dp := sha512.New() // 13 to 16
	for range len(password) {
		dp.Write(password)
	}
	p := stretch(dp.Sum(nil), len(password))

	ds := sha512.New() // 17 to 20
	for range 16 + int(digest[0]) {
		ds.Write(salt)
	}
	s := stretch(ds.Sum(nil), len(salt))

	c := sha512.New() // 21
	for i := range rounds {
		c.Reset()
		if i%2 == 1 {
			c.Write(p)
		} else {
			c.Write(digest)
		}
		if i%3 != 0 {
			c.Write(s)
		}
		if i%7 != 0 {
			c.Write(p)
		}
		if i%2 == 1 {
			c.Write(digest)
		} else {
			c.Write(p)
		}
		digest = c.Sum(digest[:0])
	}
	return [sha512.Size]byte(digest)
}

// stretch repeats a digest to a length.
func stretch(digest []byte, n int) []byte {
	out := make([]byte, 0, n+len(digest))
	for len(out) < n {
		out = append(out, digest...)
	}
	return out[:n]
}
