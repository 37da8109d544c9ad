//go:build !linux

package forward

import (
	"net"
	"sync/atomic"
)

func (s *splice) pour(dst net.Conn, src *net.TCPConn, n *atomic.Int64) error {
	return s.copy(dst, src, n)
}
