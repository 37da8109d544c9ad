package connect

import (
	"errors"
	"net"
	"sync"
	"time"
)

// A calm connection of HTTP/2 ends when its client sends frame after frame that
// asks for nothing and carries nothing: SETTINGS, PING, PRIORITY, CONTINUATION
// without a field, DATA without an octet. The library reads and answers them,
// and nobody need have logged in to keep a core of the machine busy.
//
// Each frame takes one of a number that grows with time and with what tunnels
// carry: a frame of a tunnel carries an octet at least, and so pays for itself.
type calm struct {
	net.Conn
	frames frames

	mu    sync.Mutex
	left  int
	since time.Time // when left was last added to
}

const (
	calmFrames = 2000 // at once; a browser begins with some ten, and may have much to say of what a slow destination has not read
	calmEach   = 5 * time.Millisecond
)

var errRestless = errors.New("too many frames that ask nothing")

func newCalm(c net.Conn) *calm {
	return &calm{Conn: c, frames: frames{skip: len(preface)}, left: calmFrames, since: time.Now()}
}

// Read reads what the client sends, and counts its frames.
func (c *calm) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.take(c.frames.count(p[:n])) {
		return n, err
	}
	c.Conn.Close()
	return 0, errRestless
}

// take takes n frames of those that are left.
func (c *calm) take(n int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if past := time.Since(c.since); past >= calmEach {
		c.since = c.since.Add(past.Truncate(calmEach))
		c.left = min(calmFrames, c.left+int(min(past/calmEach, calmFrames)))
	}
	c.left -= n
	return c.left >= 0
}

// carried tells of octets that a tunnel has carried.
func (c *calm) carried(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left = min(calmFrames, c.left+min(n, calmFrames))
}

func (c *calm) isRestless() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.left < 0
}

// frames finds the frames in what a client sends (RFC 9113 section 4.1).
type frames struct {
	skip int // octets until the next head
	head [9]byte
	have int // octets of it
}

// count returns how many heads of frames end in p.
func (f *frames) count(p []byte) (n int) {
	for len(p) > 0 {
		if f.skip > 0 {
			k := min(f.skip, len(p))
			f.skip -= k
			p = p[k:]
			continue
		}
		k := copy(f.head[f.have:], p)
		f.have += k
		p = p[k:]
		if f.have == len(f.head) {
			f.have = 0
			f.skip = int(f.head[0])<<16 | int(f.head[1])<<8 | int(f.head[2])
			n++
		}
	}
	return n
}
