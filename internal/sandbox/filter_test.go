package sandbox

import (
	"encoding/binary"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// call is struct seccomp_data as the machine of package bpf reads it: each
// half of a word where a little-endian kernel has it, its octets in network
// order.
func call(number, arch uint32, args ...uint64) []byte {
	b := make([]byte, 64)
	binary.BigEndian.PutUint32(b[offNumber:], number)
	binary.BigEndian.PutUint32(b[offArch:], arch)
	for i, a := range args {
		binary.BigEndian.PutUint32(b[offArg+8*i:], uint32(a))
		binary.BigEndian.PutUint32(b[offArg+8*i+4:], uint32(a>>32))
	}
	return b
}

func TestFilter(t *testing.T) {
	const arch, i386 = unix.AUDIT_ARCH_X86_64, unix.AUDIT_ARCH_I386
	const high = 1 << 32 // an int argument's upper half, which the kernel ignores
	vm, err := bpf.NewVM(program(arch))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		data []byte
		want uint32
	}{
		{"read", call(unix.SYS_READ, arch), unix.SECCOMP_RET_ALLOW},
		{"a thread", call(unix.SYS_CLONE, arch), unix.SECCOMP_RET_ALLOW},
		{"a program", call(unix.SYS_EXECVE, arch), deny},
		{"the last of the list", call(denied[len(denied)-1], arch), deny},
		{"read, as x32", call(unix.SYS_READ|numberX32, arch), deny},
		{"a program, as 32 bit", call(11, i386), unix.SECCOMP_RET_KILL_PROCESS},
		{"TCP", call(unix.SYS_SOCKET, arch, unix.AF_INET6, unix.SOCK_STREAM, unix.IPPROTO_TCP), unix.SECCOMP_RET_ALLOW},
		{"UDP", call(unix.SYS_SOCKET, arch, unix.AF_INET, unix.SOCK_DGRAM, 0), unix.SECCOMP_RET_ALLOW},
		{"a unix socket", call(unix.SYS_SOCKET, arch, unix.AF_UNIX, unix.SOCK_STREAM, 0), unix.SECCOMP_RET_ALLOW},
		{"netlink", call(unix.SYS_SOCKET, arch, unix.AF_NETLINK, unix.SOCK_RAW, 0), unix.SECCOMP_RET_ALLOW},
		{"MPTCP", call(unix.SYS_SOCKET, arch, unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP), deny},
		{"MPTCP, with more in the upper half", call(unix.SYS_SOCKET, arch, unix.AF_INET, unix.SOCK_STREAM, high|unix.IPPROTO_MPTCP), deny},
		{"TCP, with more in the upper half", call(unix.SYS_SOCKET, arch, high|unix.AF_INET, unix.SOCK_STREAM, high|unix.IPPROTO_TCP), unix.SECCOMP_RET_ALLOW},
		{"packets", call(unix.SYS_SOCKET, arch, unix.AF_PACKET, unix.SOCK_RAW, 0), deny},
		{"a family below none", call(unix.SYS_SOCKET, arch, 1<<64-1, unix.SOCK_STREAM, 0), deny},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := vm.Run(c.data)
			if err != nil || uint32(got) != c.want {
				t.Errorf("got %#x, %v; want %#x", got, err, c.want)
			}
		})
	}
}
