package probe

import (
	"net"
	"testing"

	"postern/door"
)

// The law: in whatever pieces an answer comes, it is taken for the same, and
// nobody waits for more than tells.
func FuzzFirstOctets(f *testing.F) {
	for _, seed := range []string{
		"\x05\x00", "\x05\xff", "\x00\x5a\x00\x00", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 400 Bad Request\r\n", "HTTP", "220 mx.example ESMTP\r\n",
		"22", "2", "\x15\x03\x01\x00\x02\x02\x46", "SSH-2.0-x\r\n", "H", "",
	} {
		f.Add([]byte(seed), uint8(1))
	}
	words := []struct {
		d  door.Door
		is func([]byte) bool
	}{{door.SOCKS, isSOCKS5}, {door.SOCKS, isSOCKS4}, {door.Connect, isHTTP}}
	f.Fuzz(func(t *testing.T, answer []byte, cut uint8) {
		answer = answer[:min(len(answer), 64)]
		near, far := net.Pipe()
		go func() {
			for rest := answer; len(rest) > 0; {
				n := min(max(1, int(cut)), len(rest))
				if _, err := far.Write(rest[:n]); err != nil {
					break
				}
				rest = rest[n:]
			}
			far.Close()
		}()
		got, _ := firstOctets(near)
		near.Close()
		for _, w := range words {
			var whole, part Heard
			whole.take(answer, w.d, w.is)
			part.take(got, w.d, w.is)
			if whole.Door != part.Door || whole.Login != part.Login || whole.TLS != part.TLS {
				t.Errorf("%q in pieces of %d is taken for %+v by its first octets %q, and for %+v as a whole", answer, cut, part, got, whole)
			}
		}
	})
}
