//go:build unix

package netop

import "syscall"

// A reserve is a descriptor that is held for nothing but to be given up when
// there is no other. The zero reserve holds none.
type reserve struct {
	fd   int
	held bool
}

// take sees that a descriptor is held, and reports that one is.
func (r *reserve) take() bool {
	if !r.held {
		fd, err := syscall.Open("/dev/null", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
		if Exhausted(err) {
			return false
		}
		// One that cannot be opened for another reason, as where there is no such
		// file, is no sign that others could not.
		r.fd, r.held = fd, err == nil
	}
	return true
}

// give gives it up, and reports whether there was one.
func (r *reserve) give() bool {
	if !r.held {
		return false
	}
	r.held = false
	return syscall.Close(r.fd) == nil
}
