package forward

import (
	"net"
	"time"
)

// Linger ends our half of conn and reads for a moment what the peer still
// sends: a connection that is closed with octets unread is reset, and the
// last answer would be lost with it. The caller closes conn after.
func Linger(conn net.Conn) {
	if closeWrite(conn) != nil {
		return
	}
	conn.SetReadDeadline(time.Now().Add(lingerTime))
	b := make([]byte, 4<<10)
	for n := 0; n < lingerSize; {
		m, err := conn.Read(b)
		if err != nil {
			return
		}
		n += m
	}
}

const (
	lingerTime = time.Second
	lingerSize = 256 << 10
)
