package machine

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io/fs"
	"iter"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
)

// A Socket is a TCP socket that listens.
type Socket struct {
	Addr    netip.AddrPort
	Process string // the name of who holds it; "" when this process may not see that
	PID     int    // 0 likewise
}

// Listening returns the listening TCP sockets of root's network and their
// holders. Whose processes this one may not look into stay without a name.
func Listening(root fs.FS) ([]Socket, error) {
	four, err := read(root, "proc/net/tcp")
	if err != nil {
		return nil, fmt.Errorf("listening sockets: %w; let this process read /proc", err)
	}
	byInode := map[uint64]int{}
	var list []Socket
	for _, b := range [][]byte{four, text(root, "proc/net/tcp6")} {
		for _, s := range parseSockets(b) {
			if s.inode != 0 {
				byInode[s.inode] = len(list)
			}
			list = append(list, Socket{Addr: s.addr})
		}
	}
	for pid := range processes(root) {
		for inode := range inodes(root, pid) {
			if i, ok := byInode[inode]; ok && list[i].PID == 0 {
				list[i].PID, list[i].Process = pid, comm(root, pid)
			}
		}
	}
	return list, nil
}

type socket struct {
	addr  netip.AddrPort
	inode uint64
}

// listening is TCP_LISTEN of include/net/tcp_states.h.
const listening = "0A"

// parseSockets reads /proc/net/tcp or tcp6: number, local address, remote
// address, state, and at the tenth place the inode.
func parseSockets(b []byte) []socket {
	var list []socket
	for w := range fields(b) {
		if len(w) < 10 || w[3] != listening {
			continue
		}
		address, port, _ := strings.Cut(w[1], ":")
		a, ok := hexWords(address)
		p, err := strconv.ParseUint(port, 16, 16)
		inode, err2 := strconv.ParseUint(w[9], 10, 64)
		if ok && err == nil && err2 == nil {
			list = append(list, socket{netip.AddrPortFrom(a, uint16(p)), inode})
		}
	}
	return list
}

// hexWords reads an address that is printed as one or four numbers of 32 bits
// in the machine's own order of bytes.
func hexWords(s string) (netip.Addr, bool) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != 4 && len(b) != 16 {
		return netip.Addr{}, false
	}
	for i := 0; i < len(b); i += 4 {
		binary.NativeEndian.PutUint32(b[i:], binary.BigEndian.Uint32(b[i:]))
	}
	return netip.AddrFromSlice(b)
}

// processes yields the numbers of the processes that proc shows.
func processes(root fs.FS) iter.Seq[int] {
	return func(yield func(int) bool) {
		entries, err := fs.ReadDir(root, "proc")
		if err != nil {
			return
		}
		for _, e := range entries {
			if pid, err := strconv.Atoi(e.Name()); err == nil && pid > 0 && !yield(pid) {
				return
			}
		}
	}
}

// comm is the name of a process, of 15 bytes at most, which it can set itself.
func comm(root fs.FS, pid int) string {
	return printable(strings.TrimSuffix(string(text(root, path.Join("proc", strconv.Itoa(pid), "comm"))), "\n"))
}

// inodes yields the sockets that a process holds.
func inodes(root fs.FS, pid int) iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		folder := path.Join("proc", strconv.Itoa(pid), "fd")
		entries, err := fs.ReadDir(root, folder)
		if err != nil {
			return
		}
		for _, e := range entries {
			target, err := fs.ReadLink(root, path.Join(folder, e.Name()))
			if err != nil {
				continue
			}
			number, ok := strings.CutPrefix(target, "socket:[")
			if inode, err := strconv.ParseUint(strings.TrimSuffix(number, "]"), 10, 64); ok && err == nil && !yield(inode) {
				return
			}
		}
	}
}

// Holder returns the socket that stands in the way of listening on a: one of
// the same port on the same address, or on all of them.
func Holder(list []Socket, a netip.AddrPort) (Socket, bool) {
	i := slices.IndexFunc(list, func(s Socket) bool {
		if s.Addr.Port() != a.Port() {
			return false
		}
		there, here := s.Addr.Addr().Unmap(), a.Addr().Unmap()
		if there.IsUnspecified() || here.IsUnspecified() {
			// A socket on [::] takes IPv4 as well, unless it says otherwise.
			return there.Is4() == here.Is4() || there.Is6() && there.IsUnspecified() || here.Is6() && here.IsUnspecified()
		}
		return there == here
	})
	if i < 0 {
		return Socket{}, false
	}
	return list[i], true
}
