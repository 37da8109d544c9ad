package machine

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// Waiting returns how many clients have connected to a listening TCP socket
// and were not taken from it yet (tcp(7): of a listener, TCP_INFO counts them
// as unacknowledged).
func Waiting(listener syscall.Conn) (clients int, err error) {
	raw, err := listener.SyscallConn()
	if err != nil {
		return 0, err
	}
	err = raw.Control(func(fd uintptr) {
		info, e := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		switch {
		case e != nil:
			err = e
		case info.State != unix.BPF_TCP_LISTEN:
			err = fmt.Errorf("the socket does not listen any more (state %d)", info.State)
		default:
			clients = int(info.Unacked)
		}
	})
	return clients, err
}
