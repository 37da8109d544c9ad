package systemd

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// A Socket is a listening TCP socket that the manager holds open, also while
// this process is replaced by the next (systemd.socket(5), sd_listen_fds(3)).
type Socket struct {
	Name     string // FileDescriptorName, else that of the socket unit
	Listener *net.TCPListener
	Both     bool // of IPv6, and takes IPv4 as well
}

// Addr returns where the socket listens.
func (s Socket) Addr() netip.AddrPort {
	a, ok := s.Listener.Addr().(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := a.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// firstPassed is the first descriptor that is passed: SD_LISTEN_FDS_START.
const firstPassed = 3

// mostPassed bounds what a broken variable makes us look at.
const mostPassed = 1024

// Sockets returns the sockets that were passed to this process; the caller
// closes them. It may be called once: the variables are taken away, so that
// no child believes to be meant.
func Sockets() ([]Socket, error) {
	pid, fds, names := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS"), os.Getenv("LISTEN_FDNAMES")
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID"} {
		_ = os.Unsetenv(name) // fails for a bad name only
	}
	if fds == "" || pid != strconv.Itoa(os.Getpid()) {
		return nil, nil
	}
	n, err := strconv.Atoi(fds)
	if err != nil || n < 0 || n > mostPassed {
		return nil, fmt.Errorf("LISTEN_FDS=%q is no number of sockets; start this from a socket unit, or unset it", fds)
	}
	called := strings.Split(names, ":")
	var all []Socket
	var errs []error
	for i := range n {
		name := "descriptor " + strconv.Itoa(firstPassed+i)
		if i < len(called) && called[i] != "" {
			name = called[i]
		}
		s, err := passed(firstPassed+i, name)
		if err != nil {
			errs = append(errs, fmt.Errorf("passed socket %q: %w", name, err))
			continue
		}
		all = append(all, s)
	}
	if len(errs) == 0 {
		return all, nil
	}
	for _, s := range all {
		errs = append(errs, s.Listener.Close())
	}
	return nil, errors.Join(errs...)
}

var errNoListener = errors.New("it is no TCP socket that listens; write ListenStream=PORT and Accept=no in the unit")

// passed takes one descriptor.
func passed(fd int, name string) (Socket, error) {
	syscall.CloseOnExec(fd)
	kind, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_TYPE)
	if err != nil {
		return Socket{}, fmt.Errorf("descriptor %d: %w", fd, errors.Join(errNoListener, os.NewSyscallError("getsockopt", err)))
	}
	listens, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_ACCEPTCONN)
	if err != nil || kind != syscall.SOCK_STREAM || listens == 0 {
		return Socket{}, errNoListener
	}
	at, err := syscall.Getsockname(fd)
	if err != nil {
		return Socket{}, os.NewSyscallError("getsockname", err)
	}
	s := Socket{Name: name}
	switch at := at.(type) {
	case *syscall.SockaddrInet4:
	case *syscall.SockaddrInet6:
		only, err := syscall.GetsockoptInt(fd, syscall.IPPROTO_IPV6, syscall.IPV6_V6ONLY)
		s.Both = err == nil && only == 0 && netip.AddrFrom16(at.Addr).IsUnspecified()
	default:
		return Socket{}, errNoListener
	}
	file := os.NewFile(uintptr(fd), name)
	defer file.Close() // the listener has a copy
	l, err := net.FileListener(file)
	if err != nil {
		return Socket{}, err
	}
	tcp, ok := l.(*net.TCPListener)
	if !ok {
		return Socket{}, errors.Join(errNoListener, l.Close())
	}
	s.Listener = tcp
	return s, nil
}
